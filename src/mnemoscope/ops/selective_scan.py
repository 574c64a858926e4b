"""The selective scan: one diagonal linear recurrence per channel and state entry, with steps that depend on the input.

    h_t = exp(s_t A) h_{t-1} + s_t k_t v_t          r_t = sum over the order of q_t h_t

for a channel d and an entry n of its state: step s_t (d), rate A (d, n) < 0, key k_t (n), value v_t (d), query q_t (n).

Source: Gu and Dao 2023, "Mamba" (arXiv 2312.00752), algorithm 2 and equation 4 with the simplified step for B; their
Delta, A, B, C are the step, rate, key and query here.
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mnemoscope.contracts.precision import wide
from mnemoscope.ops.diagonal_scan import diagonal_scan
from mnemoscope.ops.precision import exact, exact_read

CHUNK_VALUES = 1 << 18
"""Values of one scratch tensor: a quarter to four times as many were slower on a busy CPU; for speed alone."""

MIN_CHUNK, MAX_CHUNK = 8, 64
"""One state in MIN_CHUNK is kept for the gradient at most; beyond MAX_CHUNK tokens nothing is gained."""


class Writes(NamedTuple):
    """What is written, token by token, and how fast the state decays.

    Args:
        k: keys, shared by all channels.
        v: values.
        step: s_t, positive: how far each channel's clock advances.
        rate: A, negative: decay per unit of step.
    """

    k: Float[Tensor, "b t order"]
    v: Float[Tensor, "b t d"]
    step: Float[Tensor, "b t d"]
    rate: Float[Tensor, "d order"]

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        return Writes(self.k[:, tokens], self.v[:, tokens], self.step[:, tokens], self.rate)

    def to(self, dtype: torch.dtype) -> "Writes":
        """The same in another dtype."""
        return Writes(*(tensor.to(dtype) for tensor in self))


@exact_read
def selective_scan_recurrent(
    q: Float[Tensor, "b t order"], writes: Writes, state: Float[Tensor, "b d order"]
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d order"]]:
    """Read after each write, one token at a time: the slow twin."""
    states = []
    for t in range(q.shape[1]):
        state = selective_scan_step(state, writes.at(slice(t, t + 1)))
        states.append(state)
    return torch.einsum("btn,btdn->btd", q, torch.stack(states, dim=1)), state


@exact
def selective_scan_step(state: Float[Tensor, "b d order"], write: Writes) -> Float[Tensor, "b d order"]:
    """The state after one more token; `write` has a time axis of length 1."""
    k, step = write.k[:, 0], write.step[:, 0]
    retention = (step.unsqueeze(-1) * write.rate).exp()
    return retention * state + torch.einsum("bd,bn->bdn", step * write.v[:, 0], k)


@exact
def selective_scan_states(writes: Writes, state: Float[Tensor, "b d order"]) -> Float[Tensor, "b t d order"]:
    """The state after every token; O(b t d order) memory."""
    dtype, writes = state.dtype, writes.to(_wide(state))
    retention = (writes.step.unsqueeze(-1) * writes.rate).exp()
    written = torch.einsum("btd,btn->btdn", writes.step * writes.v, writes.k)
    flat = (rearrange(tensor, "... d n -> ... (d n)") for tensor in (retention, written, state.to(written.dtype)))
    return rearrange(diagonal_scan(*flat), "b t (d n) -> b t d n", d=state.shape[1]).to(dtype)


@exact_read
def selective_scan_chunked(
    q: Float[Tensor, "b t order"],
    writes: Writes,
    state: Float[Tensor, "b d order"],
    chunk_tokens: int | None = None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d order"]]:
    """Read after each write; equals `selective_scan_recurrent`, several times faster and without its states.

    Time advances in chunks whose states live in a scratch tensor that a cache holds. Only the states between chunks
    are kept; the gradient is written by hand and forms the states of a chunk again. Second derivatives are refused.

    Args:
        q: queries.
        writes: keys, values, steps and rates.
        state: the state before the first token.
        chunk_tokens: tokens a chunk; None for as many as `CHUNK_VALUES` allows.

    Returns:
        Reads in the dtype of `q`, and the state after the last token, in float32 at least.

    Cost: O(t d order) operations, O(t d order / chunk_tokens) memory.
    """
    dtype, compute = q.dtype, _wide(q)
    inputs = (tensor.to(compute) for tensor in (q, *writes, state))
    c = chunk_tokens or min(max(CHUNK_VALUES // state.numel(), MIN_CHUNK), MAX_CHUNK)
    read, last, _ = _scan(*inputs, c)
    return read.to(dtype), last.to(dtype)


@exact_read
def selective_scan_windowed(q: Float[Tensor, "b t order"], writes: Writes, window: int) -> Float[Tensor, "b t d"]:
    """Reads with only the last `window` writes in memory, exactly, by subtraction.

    What the last `window` steps left of h_{t-window} is exp(A S) h_{t-window}, with S the sum of these steps, formed in
    float64 since a difference of long sums loses digits.

    Cost: the states of all tokens, and as many exponentials again.
    """
    (b, n_tokens, d), compute = writes.v.shape, _wide(q)
    writes = writes.to(compute)
    states = selective_scan_states(writes, writes.v.new_zeros(b, d, q.shape[-1]))
    if window < n_tokens:
        elapsed = wide(writes.step).cumsum(1)
        elapsed = (elapsed[:, window:] - elapsed[:, :-window]).to(compute)
        left = (elapsed.unsqueeze(-1) * writes.rate).exp() * states[:, :-window]
        states = torch.cat([states[:, :window], states[:, window:] - left], dim=1)
    return torch.einsum("btn,btdn->btd", q.to(compute), states).to(q.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


# The scan and its gradient are operators of their own: a compiled graph then holds one node, not a node per token.
# Inside, chunks are time first and channels last, (c b n d), so that a token's states are one stretch of memory.


def _forward(
    q: Tensor, k: Tensor, v: Tensor, step: Tensor, rate: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Reads (b t d), last state (b d n), and the states before every chunk (chunks b n d)."""
    b, n_tokens, d = v.shape
    scratch = _Scratch(q, k, v, step, rate, min(chunk, n_tokens))
    reads, read = v.new_empty(v.shape), v.new_empty(scratch.c, b, 1, d)
    between = v.new_empty(scratch.n_chunks + 1, b, *rate.mT.shape)
    between[0] = state.mT
    for i in range(scratch.n_chunks):
        now = scratch.load(i, between[i])
        between[i + 1] = now.h[-1]
        torch.bmm(_rows(now.q).mT, _rows(now.h), out=_rows(read[: now.m]))
        _time_first(reads[:, now.tokens]).copy_(read[: now.m])
    return reads, between[-1].mT.clone(memory_format=torch.contiguous_format), between


class _Now(NamedTuple):
    """A chunk of m tokens, time first: q, k (m b n 1), v, step, step * v (m b 1 d), a and states h (m b n d)."""

    tokens: slice
    m: int
    q: Tensor
    k: Tensor
    v: Tensor
    step: Tensor
    written: Tensor
    a: Tensor
    h: Tensor


class _Scratch:
    """Scratch tensors that every chunk uses again, views of their tokens, and the inputs by chunk."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, step: Tensor, rate: Tensor, c: int) -> None:
        b, self.n_tokens, d = v.shape
        self.c, self.n_chunks = c, -(-self.n_tokens // c)
        self.q, self.k = (x.transpose(0, 1).contiguous().unsqueeze(3) for x in (q, k))
        self.v, self.step = v, step
        # exp2 is more than twice as fast as exp on a CPU.
        self.rate = (rate.mT * math.log2(math.e)).contiguous()
        self.a, self.h = v.new_empty(c, b, *self.rate.shape), v.new_empty(c + 1, b, *self.rate.shape)
        self.written = v.new_empty(c, b, 1, d)
        self.a_steps, self.h_steps = self.a.unbind(), self.h.unbind()

    def load(self, i: int, state: Tensor) -> _Now:
        """Chunk i from the state before it, which is left in front of its states."""
        tokens = slice(i * self.c, (i + 1) * self.c)
        q, k = self.q[tokens], self.k[tokens]
        v, step = _time_first(self.v[:, tokens]), _time_first(self.step[:, tokens])
        m = q.shape[0]
        a, h, written = self.a[:m], self.h[1 : m + 1], self.written[:m]
        torch.exp2(torch.mul(step, self.rate, out=a), out=a)
        torch.mul(torch.mul(step, v, out=written), k, out=h)
        self.h_steps[0].copy_(state)
        for t in range(m):
            self.h_steps[t + 1].addcmul_(self.a_steps[t], self.h_steps[t])
        return _Now(tokens, m, q, k, v, step, written, a, h)


def _backward(
    grad_read: Tensor,
    grad_last: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Tensor,
    rate: Tensor,
    between: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, step, rate and the first state.

    With g_t the gradient of h_t, g_t = q_t grad_read_t + a_{t+1} g_{t+1}; that of log a_t is g_t a_t h_{t-1}.
    """
    (b, n_tokens, d), n = v.shape, k.shape[2]
    scratch, rate = _Scratch(q, k, v, step, rate, min(chunk, n_tokens)), rate.mT.contiguous()
    grad_q, grad_k = (v.new_empty(n_tokens, b, 1, n) for _ in range(2))
    grad_v, grad_step, grad_rate = v.new_empty(v.shape), v.new_empty(v.shape), v.new_zeros(n, d)
    given_all, grad_written_all = (v.new_empty(scratch.c, b, 1, d) for _ in range(2))
    g_all, later = torch.empty_like(scratch.a), grad_last.mT.contiguous()
    g_steps = g_all.unbind()
    for i in reversed(range(scratch.n_chunks)):
        now = scratch.load(i, between[i])
        given, grad_written, g = given_all[: now.m], grad_written_all[: now.m], g_all[: now.m]
        given.copy_(_time_first(grad_read[:, now.tokens]))
        torch.bmm(_rows(given), _rows(now.h).mT, out=_rows(grad_q[now.tokens]))
        torch.mul(given, now.q, out=g)
        g_steps[now.m - 1].add_(later)
        for t in reversed(range(now.m - 1)):
            g_steps[t].addcmul_(scratch.a_steps[t + 1], g_steps[t + 1])
        torch.bmm(_rows(now.k).mT, _rows(g), out=_rows(grad_written))
        torch.bmm(_rows(now.written), _rows(g).mT, out=_rows(grad_k[now.tokens]))
        carried = now.a.mul_(g)
        later = carried[0].clone()
        along = carried.mul_(scratch.h[: now.m])
        grad_rate += torch.mul(along, now.step, out=g).sum((0, 1))
        along_rate = torch.mul(along, rate, out=g).sum(2, keepdim=True)
        torch.mul(grad_written, now.step, out=_time_first(grad_v[:, now.tokens]))
        torch.addcmul(along_rate, grad_written, now.v, out=_time_first(grad_step[:, now.tokens]))
    grad_q, grad_k = (x.squeeze(2).transpose(0, 1).contiguous() for x in (grad_q, grad_k))
    return grad_q, grad_k, grad_v, grad_step, grad_rate.mT.contiguous(), later.mT.contiguous()


def _rows(x: Tensor) -> Tensor:
    """(c b ...) as (c*b ...)."""
    return x.view(-1, *x.shape[2:])


def _time_first(x: Tensor) -> Tensor:
    """(b c d) as (c b 1 d), without a copy."""
    return x.transpose(0, 1).unsqueeze(2)


_scan = torch.library.custom_op(
    "mnemoscope::selective_scan",
    _forward,
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor step, Tensor rate, Tensor state, int chunk)"
    " -> (Tensor, Tensor, Tensor)",
)
_scan_backward = torch.library.custom_op(
    "mnemoscope::selective_scan_backward",
    _backward,
    mutates_args=(),
    schema="(Tensor grad_read, Tensor grad_last, Tensor q, Tensor k, Tensor v, Tensor step, Tensor rate,"
    " Tensor between, int chunk) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@_scan.register_fake
def _(q, k, v, step, rate, state, chunk):
    b, n_tokens, d = v.shape
    return v.new_empty(v.shape), state.new_empty(state.shape), v.new_empty(-(-n_tokens // chunk) + 1, b, k.shape[2], d)


@_scan_backward.register_fake
def _(grad_read, grad_last, q, k, v, step, rate, between, chunk):
    return tuple(x.new_empty(x.shape) for x in (q, k, v, step, rate, grad_last))


def _save(ctx, inputs, output):
    *tensors, _, ctx.chunk = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_read, grad_last, _):
    q, k, v, step, rate, between = ctx.saved_tensors
    grad_read = torch.zeros_like(v) if grad_read is None else grad_read
    grad_last = v.new_zeros(v.shape[0], *rate.shape) if grad_last is None else grad_last
    return *_scan_backward(grad_read, grad_last, q, k, v, step, rate, between, ctx.chunk), None


_scan.register_autograd(_differentiate, setup_context=_save)
for device in ("cpu", "cuda"):
    # Inside, nothing is cast: what a product rounds, the recurrence would carry on.
    _scan.register_autocast(device, torch.float32)


@register_flop_formula(torch.ops.mnemoscope.selective_scan)
def _flops(q: tuple[int, ...], k: object, v: tuple[int, ...], *_: object, **_shapes: object) -> int:
    """The reads; what moves the states on is no matrix product."""
    return 2 * q[0] * q[1] * q[2] * v[2]


@register_flop_formula(torch.ops.mnemoscope.selective_scan_backward)
def _backward_flops(
    _read: object, _last: object, q: tuple[int, ...], k: object, v: tuple[int, ...], *_: object, **_shapes: object
) -> int:
    return 6 * q[0] * q[1] * q[2] * v[2]
