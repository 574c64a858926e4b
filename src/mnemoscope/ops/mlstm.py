"""The matrix memory of xLSTM: exponential input gates, a normaliser, and a running scale that keeps both finite.

    C_t = f_t C_{t-1} + i_t k_t v_t^T      n_t = f_t n_{t-1} + i_t k_t      r_t = C_t^T q_t / max(|n_t . q_t|, 1)

with retention f_t = exp(log_retention_t) and write strength i_t = exp(log_strength_t) of any size. What is kept is
exp(-m_t) C_t and exp(-m_t) n_t for the log scale m_t = max(log f_t + m_{t-1}, log i_t); the bound is then exp(-m_t).

The scale cancels from every read, so it is a constant to the gradient. Where exp(-m_t) overflows, the read is zero.

Source: Beck et al. 2024, "xLSTM" (arXiv 2405.04517), equations 19 to 27 and the stabilised form of its appendix.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import wide, wide_dtype
from mnemoscope.ops.decayed_reads import Scales, chunks, decayed_reads, joined
from mnemoscope.ops.precision import exact, exact_read

CHUNK_TOKENS = 32
"""The result does not depend on it."""


class Writes(NamedTuple):
    """What is written, token by token, and how the state decays.

    Args:
        k: keys.
        v: values.
        log_strength: log i_t, any size.
        log_retention: log f_t.
    """

    k: Float[Tensor, "b t h k"]
    v: Float[Tensor, "b t h v"]
    log_strength: Float[Tensor, "b t h"]
    log_retention: Float[Tensor, "b t h"]

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        return Writes(*(tensor[:, tokens] for tensor in self))

    def to(self, dtype: torch.dtype) -> "Writes":
        """The same in another dtype."""
        return Writes(*(tensor.to(dtype) for tensor in self))


class ScaledState(NamedTuple):
    """exp(-m) C, exp(-m) n and m; of one moment, or with a time axis after the batch."""

    s: Float[Tensor, "b *t h k v"]
    normaliser: Float[Tensor, "b *t h k"]
    log_scale: Float[Tensor, "b *t h"]


@exact_read
def mlstm_recurrent(
    q: Float[Tensor, "b t h k"], writes: Writes, state: ScaledState
) -> tuple[Float[Tensor, "b t h v"], ScaledState]:
    """Read after each write, one token at a time: the slow twin."""
    states = mlstm_states(writes, state)
    return mlstm_read(q, states), ScaledState(*(part[:, -1] for part in states))


@exact
def mlstm_states(writes: Writes, state: ScaledState) -> ScaledState:
    """The state after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.k.shape[1]):
        state = mlstm_step(state, writes.at(slice(t, t + 1)))
        states.append(state)
    return ScaledState(*(torch.stack(parts, dim=1) for parts in zip(*states, strict=True)))


@exact
def mlstm_step(state: ScaledState, write: Writes) -> ScaledState:
    """The state after one more token; `write` has a time axis of length 1."""
    k, v, log_strength, log_retention = (tensor[:, 0] for tensor in write)
    kept = log_retention + state.log_scale
    log_scale = torch.maximum(kept, log_strength).detach()
    retention = (kept - log_scale).exp().unsqueeze(-1)
    k = (log_strength - log_scale).exp().unsqueeze(-1) * k
    s = retention.unsqueeze(-1) * state.s + torch.einsum("bhk,bhv->bhkv", k, v)
    return ScaledState(s, retention * state.normaliser + k, log_scale)


@exact_read
def mlstm_read(q: Float[Tensor, "b t h k"], states: ScaledState) -> Float[Tensor, "b t h v"]:
    """Read given the states of all tokens."""
    whole = torch.cat([states.s, states.normaliser.unsqueeze(-1)], dim=-1)
    return _normalised(torch.einsum("bthk,bthkv->bthv", q, whole), states.log_scale)


@exact_read
def mlstm_chunked(
    q: Float[Tensor, "b t h k"], writes: Writes, state: ScaledState, chunk_tokens: int = CHUNK_TOKENS
) -> tuple[Float[Tensor, "b t h v"], ScaledState]:
    """Read after each write, in matrix products over chunks; equals `mlstm_recurrent`.

    Half precision is computed in float32. Second derivatives are refused.

    Returns:
        Reads in the dtype of `q`, and the state after the last token, in float32 at least.

    Cost: per head O(t (c (k + v) + k v)) multiply-adds for chunks of c tokens.
    """
    dtype = q.dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    state = ScaledState(*(part.to(compute) for part in state))
    reads, log_scale, last = _scaled_reads(q.to(compute), writes.to(compute), state, chunk_tokens)
    read = _normalised(reads, log_scale)
    return read.to(dtype), ScaledState(*(part.to(dtype) for part in last))


@exact_read
def mlstm_windowed(q: Float[Tensor, "b t h k"], writes: Writes, window: int) -> Float[Tensor, "b t h v"]:
    """Reads with only the last `window` writes in memory, by subtraction from numerator and normaliser.

    What the last `window` steps left of the state at t - window is that state times the product of their retentions.
    The strengths of writes may lie orders of magnitude apart, so the difference is taken in float64: it is exact as
    long as what came before the window outweighs it by less than some 10 orders.

    Cost: two reads; no state is formed.
    """
    (b, n_tokens, h, k), v = q.shape, writes.v.shape[-1]
    query, writes = wide(q), writes.to(wide_dtype(q.device))
    empty = ScaledState(query.new_zeros(b, h, k, v), query.new_zeros(b, h, k), query.new_zeros(b, h))
    reads, log_scale, _ = _scaled_reads(query, writes, empty, CHUNK_TOKENS)
    if window < n_tokens:
        older, scale_before, _ = _scaled_reads(
            query[:, window:], writes.at(slice(n_tokens - window)), empty, CHUNK_TOKENS
        )
        decay = writes.log_retention.cumsum(1)
        left = (decay[:, window:] - decay[:, :-window] + scale_before - log_scale[:, window:]).exp()
        reads = torch.cat([reads[:, :window], reads[:, window:] - left.unsqueeze(-1) * older], dim=1)
    return _normalised(reads, log_scale).to(q.dtype)


def _normalised(reads: Float[Tensor, "b t h v1"], log_scale: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h v"]:
    """Divide C^T q by the bounded n . q, which is the last channel."""
    total, weight = reads.split([reads.shape[-1] - 1, 1], dim=-1)
    return total * torch.maximum(weight.abs(), (-log_scale).exp().unsqueeze(-1)).reciprocal()


def _scaled_reads(
    q: Float[Tensor, "b t h k"], writes: Writes, state: ScaledState, chunk_tokens: int
) -> tuple[Float[Tensor, "b t h v1"], Float[Tensor, "b t h"], ScaledState]:
    """C^T q and, as one more channel, n . q, both divided by the exponential of the log scale; log scales; last state.

    The normaliser is the column of the matrix under which every token writes a one.
    """
    n_tokens = q.shape[1]
    c = min(chunk_tokens, n_tokens)
    decay = chunks(wide(writes.log_retention), c).cumsum(2)
    log_strength = chunks(wide(writes.log_strength), c, fill=-torch.inf)
    log_scale, starts = _log_scales(decay.detach(), log_strength.detach(), wide(state.log_scale.detach()))
    last_scale = log_scale[:, -1, -1]
    ends = torch.cat([starts[:, 1:], last_scale.unsqueeze(1)], dim=1)
    scales = Scales(decay - log_scale, decay - log_strength, starts, decay[:, :, -1] - ends)
    v = torch.cat([writes.v, torch.ones_like(writes.v[..., :1])], dim=-1)
    q, k, v = (chunks(tensor, c) for tensor in (q, writes.k, v))
    whole = torch.cat([state.s, state.normaliser.unsqueeze(-1)], dim=-1)
    reads, last = decayed_reads(q, k, v, torch.ones_like(v[..., 0]), scales, whole)
    last_state = ScaledState(last[..., :-1].clone(), last[..., -1].clone(), last_scale.to(q.dtype, copy=True))
    return joined(reads, n_tokens), joined(log_scale, n_tokens).to(q.dtype), last_state


def _log_scales(
    decay: Float[Tensor, "b n c h"], log_strength: Float[Tensor, "b n c h"], before: Float[Tensor, "b h"]
) -> tuple[Float[Tensor, "b n c h"], Float[Tensor, "b n h"]]:
    """m at every position, and before every chunk: the running maximum, with the decays taken out of it."""
    highest = (log_strength - decay).cummax(2).values
    starts = []
    for n in range(decay.shape[1]):
        starts.append(before)
        before = decay[:, n, -1] + torch.maximum(before, highest[:, n, -1])
    starts = torch.stack(starts, dim=1)
    return decay + torch.maximum(highest, starts.unsqueeze(2)), starts
