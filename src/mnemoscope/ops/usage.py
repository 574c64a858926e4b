"""Which slots of an external memory are free, and in which order slots were written.

    usage       u <- (u + w - u w) psi, psi = prod_h (1 - f_h r_h)
    allocation  a_j = (1 - u_j) times the product of all usages below u_j
    links       L_ij <- (1 - w_i - w_j) L_ij + w_i p_j, L_ii = 0; p <- (1 - sum w) p + w
                followed forwards L r, backwards L^T r

w are the weights of the write, r those of the reads, f says what was read for the last time.

Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory" (Nature 538, 471),
methods; least used slots, Santoro et al. 2016 (arXiv 1605.06065), equation 6.
Differs: equally used slots are taken from the left.
"""

from functools import reduce
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mnemoscope.ops.addressing import in_own_precision


def retained(weights: Float[Tensor, "b h m"], free: Float[Tensor, "b h"]) -> Float[Tensor, "b m"]:
    """psi: how much of every slot no head has freed after reading it."""
    # A chain of products, because the gradient of `prod` looks at the data.
    return reduce(torch.mul, (1 - free.unsqueeze(-1) * weights).unbind(1))


def by_usage(usage: Float[Tensor, "b m"]) -> Int[Tensor, "b m"]:
    """Slots, the least used first; of equals, such as slots that nobody has touched, the left one first."""
    return usage.detach().sort(dim=-1, stable=True).indices


def least_used(usage: Float[Tensor, "b m"], n: int) -> Float[Tensor, "b m"]:
    """Ones at the n least used slots, zeros elsewhere; no gradient."""
    return torch.zeros_like(usage).scatter(-1, by_usage(usage)[:, :n], 1.0)


def allocation(usage: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """Weights that go to the least used slot first, and to the next as far as that one is used.

    Equals `allocation_plain`; its gradient does not look at the data to tell whether a usage is zero.
    """
    return _Allocation.apply(usage)  # pyright: ignore[reportReturnType]


def allocation_plain(usage: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """The slow twin of `allocation`."""
    order = by_usage(usage)
    ordered = usage.gather(-1, order)
    below = torch.cat([torch.ones_like(ordered[:, :1]), ordered[:, :-1]], dim=-1).cumprod(-1)
    return torch.zeros_like(usage).scatter(-1, order, (1 - ordered) * below)


class Allocated(NamedTuple):
    """Allocation weights, and what their gradient needs, in the order of usage.

    The product of all usages below, u_0 R_j, is kept without its first factor: if any usage is zero, the least is.
    """

    weights: Tensor
    order: Tensor
    ordered: Tensor
    below_but_least: Tensor


def allocate(usage: Tensor) -> Allocated:
    """Allocation weights without a record for autograd."""
    order = by_usage(usage)
    ordered = usage.gather(-1, order)
    first = torch.ones_like(ordered[:, :2])
    rest = torch.cat([first, ordered[:, 1:-1].cumprod(-1)], dim=-1)
    below = rest * ordered[:, :1]
    below[:, 0] = 1
    weights = below.addcmul_(ordered, below, value=-1)
    return Allocated(torch.empty_like(weights).scatter_(-1, order, weights), order, ordered, rest)


def allocate_backward(grad: Tensor, taken: Allocated) -> Tensor:
    """With u in order, R_j the product of all before but the first, and a_j = (1 - u_j) u_0 R_j:

    du_j = u_0 (sum_{i>j} (1 - u_i) R_i da_i / u_j - R_j da_j), for j = 0 without the factor u_0 and the divisor
    """
    _, order, ordered, rest = taken
    grad = grad.gather(-1, order).mul_(rest)
    upto = torch.addcmul(grad, ordered, grad, value=-1).cumsum(-1)
    later = upto[:, -1:] - upto
    d_ordered = (later / ordered.clamp_min(1e-30)).sub_(grad).mul_(ordered[:, :1])
    d_ordered[:, 0] = later[:, 0] - grad[:, 0]
    return torch.empty_like(grad).scatter_(-1, order, d_ordered)


class _Allocation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, usage: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        taken = allocate(usage)
        ctx.save_for_backward(*taken)
        return taken.weights

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return allocate_backward(grad, Allocated(*ctx.saved_tensors))


def preceding(precedence: Float[Tensor, "b m"], weights: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
    """How much each slot was the last to be written."""
    return torch.addcmul(weights, 1 - weights.sum(-1, keepdim=True), precedence)


def follow(
    link: Float[Tensor, "b m m"],
    weights: Float[Tensor, "b m"],
    precedence: Float[Tensor, "b m"],
    read: Float[Tensor, "b h m"],
) -> tuple[Float[Tensor, "b m m"], Float[Tensor, "b h m"], Float[Tensor, "b h m"]]:
    """Update the links after a write with `weights`, then follow them from where was read last.

    Equals `follow_plain` in about a third of the passes over the links and their gradient, on which a step of a
    differentiable neural computer spends most of its time.

    Args:
        link: symmetric in nothing: L_ij says that i was written after j.
        weights: of the write.
        precedence: before the write.
        read: weights of the last reads.

    Returns:
        Links, forward weights, backward weights.
    """
    return _Follow.apply(link, weights, precedence, read)  # pyright: ignore[reportReturnType]


def follow_plain(
    link: Float[Tensor, "b m m"],
    weights: Float[Tensor, "b m"],
    precedence: Float[Tensor, "b m"],
    read: Float[Tensor, "b h m"],
) -> tuple[Float[Tensor, "b m m"], Float[Tensor, "b h m"], Float[Tensor, "b h m"]]:
    """The slow twin of `follow`."""
    after, before = weights.unsqueeze(-1), weights.unsqueeze(-2)
    link = (1 - after - before) * link + after * precedence.unsqueeze(-2)
    link = link * (1 - torch.eye(link.shape[-1], dtype=link.dtype, device=link.device))
    return link, read @ link.mT, read @ link


def relink(link: Tensor, weights: Tensor, precedence: Tensor) -> Tensor:
    """The new links without a record for autograd, in two passes."""
    after, before = weights.unsqueeze(-1), weights.unsqueeze(-2)
    # (1 - w_i) L_ij + w_i p_j in one.
    moved = torch.lerp(link, precedence.unsqueeze(-2), after).addcmul_(link, before, value=-1)
    moved.diagonal(dim1=-2, dim2=-1).zero_()
    return moved


def follow_backward(
    grad: Tensor,
    forwards: Tensor,
    backwards: Tensor,
    link: Tensor,
    weights: Tensor,
    precedence: Tensor,
    read: Tensor,
    moved: Tensor,
    work: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to links, weights, precedence and read, given those of the new links and of both ways of reading.

    With a matrix to `work` in, `grad` is overwritten: fresh matrices cost as much as several passes over old ones.

    With G the gradient of the new links, their own and through both reads, and diag G = 0:
    dL_ij = (1 - w_i - w_j) G_ij      dp = w^T G      dw = G p - rows(G * L) - columns(G * L)
    """
    after, before = weights.unsqueeze(-1), weights.unsqueeze(-2)
    rows, columns = torch.cat([forwards, read], dim=1), torch.cat([read, backwards], dim=1)
    if work is None:
        grad, work = torch.baddbmm(grad, rows.mT, columns), torch.empty_like(grad)
    else:
        grad = grad.baddbmm_(rows.mT, columns)
    grad.diagonal(dim1=-2, dim2=-1).zero_()
    torch.mul(grad, link, out=work)
    d_weights = torch.bmm(precedence.unsqueeze(-2), grad.mT).squeeze(-2).sub_(work.sum(-1)).sub_(work.sum(-2))
    d_precedence = torch.bmm(before, grad).squeeze(-2)
    d_read = torch.bmm(forwards, moved).add_(torch.bmm(backwards, moved.mT))
    torch.sub(1 - after, before, out=work)
    return grad.mul_(work), d_weights, d_precedence, d_read


class _Follow(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, link: Tensor, weights: Tensor, precedence: Tensor, read: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        moved = relink(link, weights, precedence)
        ctx.save_for_backward(link, weights, precedence, read, moved)
        return moved, torch.bmm(read, moved.mT), torch.bmm(read, moved)

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(ctx: Any, grad: Tensor, forwards: Tensor, backwards: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return follow_backward(grad, forwards, backwards, *ctx.saved_tensors)
