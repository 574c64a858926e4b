"""How heads find their places in an external memory, and what they write there.

A memory is a matrix M (slots by words) per sequence; a place is a weight per slot. All functions work on all sequences
and heads at once.

    content     w_i = softmax_i(strength cos(k, M_i)); with a mask m in (0, 1)^word, cos(m * k, m * M_i)
    shift       w_i <- sum_j w_j s(i - j), indices modulo the number of slots
    sharpening  w_i <- w_i^g / sum_j w_j^g
    writing     M_i <- M_i * prod_h (1 - w_hi e_h) + sum_h w_hi a_h

Source: Graves, Wayne, Danihelka 2014, "Neural Turing Machines" (arXiv 1410.5401), section 3; the mask, Csordás &
Schmidhuber 2019 (arXiv 1904.10278), section 3.1.
Differs: `LENGTH_FLOOR`.
"""

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

LENGTH_FLOOR = 1e-6
"""Added to squared lengths: an empty slot or key is like nothing, and its gradient is bounded."""


def content_weights(
    memory: Float[Tensor, "b m word"],
    keys: Float[Tensor, "b h word"],
    strengths: Float[Tensor, "b h"],
    mask: Float[Tensor, "b h word"] | None = None,
) -> Float[Tensor, "b h m"]:
    """Softmax over slots of the cosine similarity times the strength; equals `content_weights_plain`.

    Its gradient is written by hand: half the operations, and no sum of a matrix with a transposed one.

    Cost: one product of keys with the memory, and one more with a mask.
    """
    return _Content.apply(memory, keys, strengths, mask)  # pyright: ignore[reportReturnType]


def content_weights_plain(
    memory: Float[Tensor, "b m word"],
    keys: Float[Tensor, "b h word"],
    strengths: Float[Tensor, "b h"],
    mask: Float[Tensor, "b h word"] | None = None,
) -> Float[Tensor, "b h m"]:
    """The slow twin of `content_weights`."""
    seen, wanted = memory.unsqueeze(1), keys.unsqueeze(2)
    if mask is not None:
        seen, wanted = seen * mask.unsqueeze(2), wanted * mask.unsqueeze(2)
    squares = (seen.square().sum(-1) + LENGTH_FLOOR) * (wanted.square().sum(-1) + LENGTH_FLOOR)
    return (strengths.unsqueeze(-1) * (seen * wanted).sum(-1) / squares.sqrt()).softmax(-1)


def in_own_precision(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A gradient that ignores autocast, under which `backward()` may be called: mixed dtypes do not mix."""

    @wraps(backward)
    def exact(ctx: Any, *grads: Tensor) -> Any:
        with torch.autocast(device_type=grads[0].device.type, enabled=False):
            return backward(ctx, *grads)

    return exact


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Gradient to the logits of a softmax over the last axis."""
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)


class Sought(NamedTuple):
    """Keys made ready: q = m * k, u = q / |q|, and what is compared with the slots, m * u."""

    unit: Tensor
    scale: Tensor
    compared: Tensor


class Found(NamedTuple):
    """Content weights, the cosines they come from, and the inverse lengths of the slots."""

    weights: Tensor
    cosine: Tensor
    scale: Tensor


def seek(keys: Tensor, mask: Tensor | None) -> Sought:
    """Keys made ready, without a record for autograd."""
    masked = keys if mask is None else mask * keys
    scale = (masked * masked).sum(-1, keepdim=True).add_(LENGTH_FLOOR).rsqrt_()
    unit = scale * masked
    return Sought(unit, scale, unit if mask is None else mask * unit)


def find(
    memory: Tensor, compared: Tensor, strengths: Tensor, mask: Tensor | None, scale: Tensor | None = None
) -> Found:
    """Content weights without a record for autograd; `scale` saves measuring the slots once more."""
    if scale is None:
        squares = memory * memory
        squares = squares.sum(-1).unsqueeze(1) if mask is None else torch.bmm(mask * mask, squares.mT)
        scale = squares.add_(LENGTH_FLOOR).rsqrt_()
    cosine = torch.bmm(compared, memory.mT).mul_(scale)
    return Found((strengths.unsqueeze(-1) * cosine).softmax(-1), cosine, scale)


def find_backward(
    grad: Tensor,
    found: Found,
    memory: Tensor,
    compared: Tensor,
    strengths: Tensor,
    mask: Tensor | None,
    d_memory: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients to what is compared, strengths, and mask; the one to the memory is added to `d_memory` in place.

    With n the inverse lengths of the slots, c = n x M^T and w = softmax(s c):
    dz = w (dw - <w, dw>)     ds = <dz, c>     e = s n dz     dx = e M
    dM = e^T x - M * (e c n)^T m^2             dm = -m (e c n) M^2
    """
    grad = softmax_backward(grad, found.weights)
    pull = grad * found.cosine
    d_strengths = pull.sum(-1)
    factor = strengths.unsqueeze(-1) * found.scale
    grad, pull = grad.mul_(factor), pull.mul_(factor).mul_(found.scale)
    d_memory.baddbmm_(grad.mT, compared)
    if mask is None:
        d_memory.addcmul_(memory, pull.sum(1).unsqueeze(-1), value=-1)
        return torch.bmm(grad, memory), d_strengths, None
    d_memory.addcmul_(memory, torch.bmm(pull.mT, mask * mask), value=-1)
    return torch.bmm(grad, memory), d_strengths, torch.bmm(pull, memory * memory).mul_(mask).neg_()


def seek_backward(
    grad: Tensor, sought: Sought, keys: Tensor, mask: Tensor | None, d_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients to keys and, added to `d_mask`, to the mask, given that of what is compared.

    du = m dx     dq = (du - u <u, du>) / |q|     dk = m dq     dm = u dx + k dq
    """
    d_unit = grad if mask is None else mask * grad
    along = (sought.unit * d_unit).sum(-1, keepdim=True)
    d_keys = torch.addcmul(d_unit, sought.unit, along, value=-1).mul_(sought.scale)
    if mask is None or d_mask is None:
        return d_keys, None
    return mask * d_keys, d_mask.addcmul(sought.unit, grad).addcmul_(keys, d_keys)


class _Content(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, memory: Tensor, keys: Tensor, strengths: Tensor, mask: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        sought = seek(keys, mask)
        found = find(memory, sought.compared, strengths, mask)
        ctx.save_for_backward(memory, keys, strengths, mask, *sought, *found)
        return found.weights

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        memory, keys, strengths, mask, *saved = ctx.saved_tensors
        sought, found, d_memory = Sought(*saved[:3]), Found(*saved[3:]), torch.zeros_like(memory)
        grad, d_strengths, d_mask = find_backward(grad, found, memory, sought.compared, strengths, mask, d_memory)
        d_keys, d_mask = seek_backward(grad, sought, keys, mask, d_mask)
        return d_memory, d_keys, d_strengths, d_mask


def shifted(weights: Float[Tensor, "b h m"], kernel: Float[Tensor, "b h s"]) -> Float[Tensor, "b h m"]:
    """Circular convolution over slots; `kernel` holds the shares of shifts by -s//2 ... s//2."""
    half = kernel.shape[-1] // 2
    shares = enumerate(kernel.unsqueeze(-1).unbind(-2), start=-half)
    return reduce(torch.add, (share * weights.roll(offset, -1) for offset, share in shares))


def sharpened(
    weights: Float[Tensor, "b h m"], exponent: Float[Tensor, "b h"], floor: float = 1e-30
) -> Float[Tensor, "b h m"]:
    """Weights (plus `floor`) to a power of at least 1, normalised; in logarithms, where nothing under- or overflows."""
    return (exponent.unsqueeze(-1) * (weights + floor).log()).softmax(-1)


def written(
    memory: Float[Tensor, "b m word"],
    weights: Float[Tensor, "b h m"],
    erase: Float[Tensor, "b h word"],
    add: Float[Tensor, "b h word"],
) -> Float[Tensor, "b m word"]:
    """The memory after every head has erased and then every head has added."""
    places = weights.unsqueeze(-1).unbind(1)
    wipes, additions = (part.unsqueeze(2).unbind(1) for part in (erase, add))
    if len(places) == 1:
        return memory.addcmul(places[0], additions[0].addcmul(wipes[0], memory, value=-1))
    for place, wipe in zip(places, wipes, strict=True):
        memory = memory.addcmul(place, wipe * memory, value=-1)
    for place, addition in zip(places, additions, strict=True):
        memory = memory.addcmul(place, addition)
    return memory
