"""Linear recurrences with a diagonal decay, as a recurrence and in chunked matrix form.

    S_t = Diag(a_t) S_{t-1} + k_t v_t^T          r_t = S_t^T q_t, or S_{t-1}^T q_t where reads come before the write

with retention a_t = exp(log_retention_t) in [0, 1], one per key channel or one per head. With a_t = 1 it is linear
attention.

Source: Yang et al. 2023, "Gated Linear Attention" (arXiv 2312.06635), equation 3 and section 4.
Differs: exponents are taken from the middle of blocks of 8 tokens, so that none can overflow, and blocks are joined in
pairs by products of retentions, never by quotients; the source divides by cumulated retentions within a tile and falls
back on full precision where that overflows.
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import wide
from mnemoscope.ops.precision import exact, exact_read
from mnemoscope.ops.products import between_rows, over_rows

CHUNK_TOKENS = 32
"""Fastest of 16, 32 and 64 on a CPU at 64 channels a head; the result does not depend on it."""

BLOCK_TOKENS = 8
"""Tokens whose retentions are factorised around their middle: exponents stay within 4 * 16 in float32 and 4 * 37 in
float64 for any retention."""


class Writes(NamedTuple):
    """What is written, token by token, and what is retained before it.

    Args:
        k: keys.
        v: values.
        log_retention: log a_t, never positive and finite; one per key channel, or one per head (a last axis of 1).
    """

    k: Float[Tensor, "b t h k"]
    v: Float[Tensor, "b t h v"]
    log_retention: Float[Tensor, "b t h #k"]

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        return Writes(*(tensor[:, tokens] for tensor in self))


class Chunks(NamedTuple):
    """Chunks without the state they begin with: `m` counts chunks, sequences and heads."""

    scores: Float[Tensor, "m c c"]
    lookup: Float[Tensor, "m c k"]
    k_end: Float[Tensor, "m c k"]
    kept: Float[Tensor, "m 1 r"]


@exact_read
def diagonal_decay_recurrent(
    q: Float[Tensor, "b t h k"], writes: Writes, state: Float[Tensor, "b h k v"], *, before_write: bool = False
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """One token at a time: the slow twin, and the form in which states can be seen."""
    states = diagonal_decay_states(writes, state)
    seen = torch.cat([state.unsqueeze(1), states[:, :-1]], dim=1) if before_write else states
    return torch.einsum("bthk,bthkv->bthv", q, seen), states[:, -1]


@exact
def diagonal_decay_states(writes: Writes, state: Float[Tensor, "b h k v"]) -> Float[Tensor, "b t h k v"]:
    """The state after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.k.shape[1]):
        state = diagonal_decay_step(state, writes.at(slice(t, t + 1)))
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def diagonal_decay_step(state: Float[Tensor, "b h k v"], write: Writes) -> Float[Tensor, "b h k v"]:
    """The state after one more token; `write` has a time axis of length 1."""
    k, v, log_retention = (tensor[:, 0] for tensor in write)
    return log_retention.exp().unsqueeze(-1) * state + k.unsqueeze(-1) * v.unsqueeze(-2)


@exact_read
def diagonal_decay_chunked(
    q: Float[Tensor, "b t h k"],
    writes: Writes,
    state: Float[Tensor, "b h k v"],
    *,
    before_write: bool = False,
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """All tokens in matrix products over chunks; equals `diagonal_decay_recurrent`.

    Half-precision inputs are computed in float32. A retention below the rounding of the dtype (exp(-16) in float32,
    exp(-36) in float64) counts as one at the rounding.

    Args:
        q: queries.
        writes: keys, values and retentions.
        state: what was in memory before the first token.
        before_write: read what the tokens before the present one left.
        chunk_tokens: 8 times a power of two.

    Returns:
        Reads in the dtype of `q`, and the state after the last token, in float32 at least.

    Cost: O(t (c (k + v) + k v)) multiply-adds a head for chunks of c tokens; t / c element-wise steps in sequence.
    """
    dtype, (b, n_tokens, h, _) = q.dtype, q.shape
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    c = _chunk_of(n_tokens, chunk_tokens)
    q, k, v, log_retention = (cut_chunks(tensor.to(compute), c) for tensor in (q, *writes))
    form = _decayed_by_channel if log_retention.shape[-1] > 1 else _decayed_by_head
    scores, lookup, k_end, kept = form(q, k, log_retention, before_write)

    written = rearrange(over_rows(k_end, v), "(n bh) k v -> n bh k v", bh=b * h).unbind()
    retained = rearrange(kept, "(n bh) one k -> n bh k one", bh=b * h).unbind()
    state = rearrange(state.to(compute), "b h k v -> (b h) k v")
    states = []
    for written_n, retained_n in zip(written, retained, strict=True):
        states.append(state)
        state = torch.addcmul(written_n, retained_n, state)
    read = torch.baddbmm(scores @ v, lookup, torch.cat(states))
    read = rearrange(read, "(n b h) c v -> b (n c) h v", b=b, h=h)[:, :n_tokens]
    return read.to(dtype), rearrange(state, "(b h) k v -> b h k v", b=b).to(dtype)


@exact_read
def diagonal_decay_windowed(
    q: Float[Tensor, "b t h k"],
    writes: Writes,
    window: int,
    *,
    before_write: bool = False,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Float[Tensor, "b t h v"]:
    """Reads with only the last `window` tokens (the present one included) in memory, exactly, by subtraction.

    What a state at t still holds of the state at t - window is that state times the retentions since. Instead of the
    states, the queries are multiplied by them: one cumulative sum, in float64 since its differences are wanted.

    Cost: two reads.
    """
    b, n_tokens, h, n_channels = q.shape
    empty = q.new_zeros(b, h, n_channels, writes.v.shape[-1])
    reads, _ = diagonal_decay_chunked(q, writes, empty, before_write=before_write, chunk_tokens=chunk_tokens)
    if window >= n_tokens:
        return reads
    decay = wide(writes.log_retention).cumsum(1)
    last = decay[:, window - before_write : n_tokens - before_write]
    carried = q[:, window:] * (last - decay[:, : n_tokens - window]).exp().to(q.dtype)
    older, _ = diagonal_decay_chunked(carried, writes.at(slice(n_tokens - window)), empty, chunk_tokens=chunk_tokens)
    return torch.cat([reads[:, :window], reads[:, window:] - older], dim=1)


def diagonal_decay_flops(n_tokens: int, k: int, v: int, *, per_channel: bool, chunk_tokens: int = CHUNK_TOKENS) -> int:
    """Floating-point operations of the matrix products of `diagonal_decay_chunked` for one head of one sequence."""
    c = _chunk_of(n_tokens, chunk_tokens)
    decayed = c * BLOCK_TOKENS + c * (c + BLOCK_TOKENS) // 2
    scores = decayed * k if per_channel and k > 1 else decayed + c * c * k
    return 2 * -(-n_tokens // c) * (scores + c * c * v + 2 * c * k * v)


def _decayed_by_head(
    q: Float[Tensor, "m c k"], k: Float[Tensor, "m c k"], log_retention: Float[Tensor, "m c 1"], before_write: bool
) -> Chunks:
    """The decays alone, as if of one channel, then what they scale."""
    ones = torch.ones_like(log_retention)
    decays = _decayed_by_channel(ones, ones, log_retention, before_write)
    return Chunks(between_rows(q, k) * decays.scores, q * decays.lookup, k * decays.k_end, decays.kept)


def _decayed_by_channel(
    q: Float[Tensor, "m c k"], k: Float[Tensor, "m c k"], log_retention: Float[Tensor, "m c k"], before_write: bool
) -> Chunks:
    """Blocks of 8 by factorisation, then pairs of neighbours become one until a block is a chunk."""
    c, half = q.shape[1], BLOCK_TOKENS // 2
    q, k = (rearrange(x, "m (n c) k -> (m n) c k", c=BLOCK_TOKENS) for x in (q, k))
    # Less than the rounding is left of anything either way; without a floor the exponents below would know no bound.
    log_retention = log_retention.clamp(min=math.log(torch.finfo(q.dtype).eps))
    log_retention = rearrange(log_retention, "m (n c) k -> (m n) c k", c=BLOCK_TOKENS)
    # Sums from the middle outwards, as a product with ones and minus ones: differences of longer sums lose digits.
    until = torch.ones(BLOCK_TOKENS, BLOCK_TOKENS, dtype=q.dtype, device=q.device).tril()
    decay = (until - until[half - 1]) @ log_retention
    start, end = log_retention[:, :half].sum(1, keepdim=True), decay[:, -1:]
    seen = torch.cat([-start, decay[:, :-1]], dim=1) if before_write else decay
    from_middle, to_middle = q * seen.exp(), k * (-decay).exp()
    blocks = Chunks(
        between_rows(from_middle, to_middle).tril(-int(before_write)),
        from_middle * start.exp(),
        to_middle * end.exp(),
        (start + end).exp(),
    )
    while blocks.lookup.shape[1] < c:
        blocks = _joined(blocks)
    return blocks


def _joined(blocks: Chunks) -> Chunks:
    """Every two neighbouring blocks as one."""
    (upper, lower), (lookup, later), (earlier, k_end), (before, after) = (
        rearrange(x, "(m two) c k -> m two c k", two=2).unbind(1) for x in blocks
    )
    c = upper.shape[1]
    scores = torch.cat([F.pad(upper, (0, c)), torch.cat([between_rows(later, earlier), lower], dim=2)], dim=1)
    lookup, k_end = torch.cat([lookup, later * before], dim=1), torch.cat([earlier * after, k_end], dim=1)
    return Chunks(scores, lookup, k_end, before * after)


def _chunk_of(n_tokens: int, chunk_tokens: int) -> int:
    c = BLOCK_TOKENS
    while c < min(n_tokens, chunk_tokens):
        c *= 2
    return c


def cut_chunks(x: Float[Tensor, "b t h k"], c: int) -> Float[Tensor, "m c k"]:
    """Cut time into chunks; the last is filled up with zeros, which write nothing and retain everything."""
    missing = -x.shape[1] % c
    padded = F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
    return rearrange(padded, "b (n c) h k -> (n b h) c k", c=c).contiguous()
