"""State-space duality: a matrix per head that decays by one number a token, as a recurrence and in chunks.

    S_t = a_t S_{t-1} + b_t k_t v_t^T          r_t = S_t^T q_t

with retention a_t = exp(log_retention_t) and write strength b_t per head; queries and keys are shared by the heads of a
group.

Source: Dao and Gu 2024, "Transformers are SSMs" (arXiv 2405.21060), equation 3 and section 6; their C, B, X, Delta are
the query, key, value and write strength here.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import wide
from mnemoscope.ops.decayed_reads import Scales, chunks, decayed_reads, joined
from mnemoscope.ops.precision import exact, exact_read

CHUNK_TOKENS = 32
"""Fastest of 16, 32, 64 and 128 on a busy CPU at 64 channels a head; the result does not depend on it."""


class Writes(NamedTuple):
    """What is written, token by token, and how the state decays.

    Args:
        k: keys, one per group of heads.
        v: values.
        write_strength: b_t, per head.
        log_retention: log a_t, per head, never positive.
    """

    k: Float[Tensor, "b t g k"]
    v: Float[Tensor, "b t h v"]
    write_strength: Float[Tensor, "b t h"]
    log_retention: Float[Tensor, "b t h"]

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        return Writes(*(tensor[:, tokens] for tensor in self))


@exact_read
def ssd_recurrent(
    q: Float[Tensor, "b t g k"], writes: Writes, state: Float[Tensor, "b h k v"]
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Read after each write, one token at a time: the slow twin."""
    states = ssd_states(writes, state)
    return ssd_read(q, states), states[:, -1]


@exact_read
def ssd_read(q: Float[Tensor, "b t g k"], states: Float[Tensor, "b t h k v"]) -> Float[Tensor, "b t h v"]:
    """Read given states; the heads of a group ask the same question."""
    return (_for_heads(q, states.shape[2]).unsqueeze(-2) @ states).squeeze(-2)


@exact
def ssd_states(writes: Writes, state: Float[Tensor, "b h k v"]) -> Float[Tensor, "b t h k v"]:
    """The state after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.k.shape[1]):
        state = ssd_step(state, writes.at(slice(t, t + 1)))
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def ssd_step(state: Float[Tensor, "b h k v"], write: Writes) -> Float[Tensor, "b h k v"]:
    """The state after one more token; `write` has a time axis of length 1."""
    k = _for_heads(write.k, state.shape[1])[:, 0]
    v = write.write_strength[:, 0].unsqueeze(-1) * write.v[:, 0]
    retained = write.log_retention[:, 0, :, None, None].exp() * state
    return torch.addcmul(retained, k.unsqueeze(-1), v.unsqueeze(-2))


def _for_heads(x: Float[Tensor, "b t g k"], n_heads: int) -> Float[Tensor, "b t _ k"]:
    """The keys or queries of each head; one group alone is left to broadcasting."""
    n_groups = x.shape[2]
    return x if n_groups in (1, n_heads) else x.repeat_interleave(n_heads // n_groups, dim=2)


@exact_read
def ssd_chunked(
    q: Float[Tensor, "b t g k"],
    writes: Writes,
    state: Float[Tensor, "b h k v"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Read after each write, in matrix products over chunks; equals `ssd_recurrent`.

    Half precision is computed in float32. Second derivatives are refused.

    Returns:
        Reads in the dtype of `q`, and the state after the last token, in float32 at least.

    Cost: per head O(t (c v + k v)) multiply-adds for chunks of c tokens, per group O(t c k) more.
    """
    dtype, n_tokens = q.dtype, q.shape[1]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    c = min(chunk_tokens, n_tokens)
    decay = chunks(wide(writes.log_retention), c).cumsum(2)
    end = decay[:, :, -1]
    scales = Scales(decay, decay, torch.zeros_like(end), end)
    q, k, v, write_strength = (chunks(x.to(compute), c) for x in (q, writes.k, writes.v, writes.write_strength))
    read, last = decayed_reads(q, k, v, write_strength, scales, state.to(compute))
    return joined(read, n_tokens).to(dtype), last.to(dtype)


@exact_read
def ssd_windowed(q: Float[Tensor, "b t g k"], writes: Writes, window: int) -> Float[Tensor, "b t h v"]:
    """Reads with only the last `window` writes in memory, exactly, by subtraction.

    What the last `window` steps left of S_{t-window} is that state times the product of their retentions, so the part
    to be subtracted is an ordinary read at t - window, scaled. The product comes from one cumulative sum, in float64
    since a difference of long sums loses digits.

    Cost: two reads; no state is formed.
    """
    (b, n_tokens), h = q.shape[:2], writes.v.shape[2]
    empty = q.new_zeros(b, h, q.shape[-1], writes.v.shape[-1])
    reads, _ = ssd_chunked(q, writes, empty)
    if window >= n_tokens:
        return reads
    older, _ = ssd_chunked(q[:, window:], writes.at(slice(n_tokens - window)), empty)
    decay = wide(writes.log_retention).cumsum(1)
    left = (decay[:, window:] - decay[:, :-window]).exp().to(reads.dtype).unsqueeze(-1)
    return torch.cat([reads[:, :window], reads[:, window:] - left * older], dim=1)
