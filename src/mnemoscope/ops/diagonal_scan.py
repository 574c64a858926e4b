"""A diagonal linear recurrence: h_t = a_t h_{t-1} + b_t, entry by entry."""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import wide
from mnemoscope.ops.precision import exact

DIRECT_VALUES = 1 << 12
"""Values of one time step from which a plain loop is fastest; below it, the overhead of an operation a token is."""


@exact
def diagonal_scan_recurrent(
    a: Float[Tensor, "b t d"], b: Float[Tensor, "b t d"], state: Float[Tensor, "b d"]
) -> Float[Tensor, "b t d"]:
    """One token at a time: the slow twin."""
    states = []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        state = a_t * state + b_t
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def diagonal_scan(
    a: Float[Tensor, "b t d"], b: Float[Tensor, "b t d"], state: Float[Tensor, "b d"]
) -> Float[Tensor, "b t d"]:
    """The state after every token; equals `diagonal_scan_recurrent`.

    Nothing is divided and no logarithm is taken, so a may be zero or one. The gradient is another scan, backwards, and
    can be differentiated again. Half precision is computed in float32.

    Cost: O(b t d); t operations in sequence, or 3 sqrt(t) where one token has few values.
    """
    dtype = b.dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    return _scan(a.to(compute), b.to(compute), state.to(compute), False).to(dtype)


@exact
def diagonal_scan_windowed(
    log_a: Float[Tensor, "b t d"], b: Float[Tensor, "b t d"], window: int
) -> Float[Tensor, "b t d"]:
    """The states with only the last `window` writes in them, exactly, by subtraction.

    What the last `window` steps left of h_{t-window} is the product of their a, whose logarithms are summed in float64
    since a difference of long sums loses digits.

    Cost: a scan and one cumulative sum.
    """
    h = diagonal_scan(log_a.exp(), b, torch.zeros_like(b[:, 0]))
    if window >= b.shape[1]:
        return h
    decay = wide(log_a).cumsum(1)
    left = (decay[:, window:] - decay[:, :-window]).exp().to(h.dtype)
    return torch.cat([h[:, :window], h[:, window:] - left * h[:, :-window]], dim=1)


# The scan is an operator of its own: a compiled graph then holds one node, not a node per token.


def _forward(a: Tensor, b: Tensor, state: Tensor, reverse: bool) -> Tensor:
    """All states (b t d); from the last token to the first if `reverse`."""
    n_tokens, slice_values = a.shape[1], state.numel()
    c = 1 if slice_values >= DIRECT_VALUES else max(1, round(n_tokens**0.5))
    if c == 1:
        h = b.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        _advance(a.transpose(0, 1).contiguous(), h, state, reverse)
        return h.transpose(0, 1).contiguous()
    return _in_chunks(a, b, state, c, reverse)


def _advance(a: Tensor, h: Tensor, state: Tensor, reverse: bool) -> None:
    """Turn h (t ...) from what is written into the states, in place."""
    steps = list(zip(a.unbind(), h.unbind(), strict=True))
    for a_t, h_t in reversed(steps) if reverse else steps:
        state = h_t.addcmul_(a_t, state)


def _in_chunks(a: Tensor, b: Tensor, state: Tensor, c: int, reverse: bool) -> Tensor:
    """Every chunk from an empty state at once; then what each got from those before it, scaled by its products of a."""
    batch, n_tokens, d = a.shape
    n = -(-n_tokens // c)
    gap = n * c - n_tokens
    # Tokens that fill the last chunk retain everything and write nothing; backwards they come first.
    a = torch.cat([a, a.new_ones(batch, gap, d)], dim=1)
    b = torch.cat([b, b.new_zeros(batch, gap, d)], dim=1)
    a, h = (x.view(batch, n, c, d).permute(2, 1, 0, 3).contiguous() for x in (a, b))
    _advance(a, h, torch.zeros_like(h[0]), reverse)
    product = a.flip(0).cumprod(0).flip(0) if reverse else a.cumprod(0)
    end = 0 if reverse else -1
    carried = torch.empty_like(h[0])
    ends = list(zip(product[end].unbind(), h[end].unbind(), carried.unbind(), strict=True))
    for product_n, h_n, carried_n in reversed(ends) if reverse else ends:
        carried_n.copy_(state)
        state = torch.addcmul(h_n, product_n, state)
    h.addcmul_(product, carried)
    return h.permute(2, 1, 0, 3).reshape(batch, n * c, d)[:, :n_tokens].contiguous()


_scan = torch.library.custom_op(
    "mnemoscope::diagonal_scan",
    _forward,
    mutates_args=(),
    schema="(Tensor a, Tensor b, Tensor state, bool reverse) -> Tensor",
)


@_scan.register_fake
def _(a, b, state, reverse):
    return b.new_empty(b.shape)


def _save(ctx, inputs, output):
    a, _, state, ctx.reverse = inputs
    ctx.save_for_backward(a, state, output)


def _differentiate(ctx, grad):
    """With g_t the gradient of h_t: g_t = grad_t + a_{t+1} g_{t+1}; that of b_t is g_t, that of a_t is g_t h_{t-1}."""
    a, state, h = ctx.saved_tensors
    if ctx.reverse:
        earlier = torch.cat([h[:, 1:], state.unsqueeze(1)], dim=1)
        next_a = torch.cat([torch.zeros_like(a[:, :1]), a[:, :-1]], dim=1)
    else:
        earlier = torch.cat([state.unsqueeze(1), h[:, :-1]], dim=1)
        next_a = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    g = _scan(next_a, grad, torch.zeros_like(state), not ctx.reverse)
    first = -1 if ctx.reverse else 0
    return g * earlier, g, a[:, first] * g[:, first], None


_scan.register_autograd(_differentiate, setup_context=_save)
for device in ("cpu", "cuda"):
    _scan.register_autocast(device, torch.float32)
