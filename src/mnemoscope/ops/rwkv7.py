"""The generalised delta rule of RWKV-7, as a recurrence and in chunked matrix form.

    S_t = (Diag(w_t) - (a_t * p_t) p_t^T) S_{t-1} + k_t v_t^T          r_t = S_t^T q_t

with retention w_t = exp(log_retention_t) per key channel, a unit removal key p_t, and a rate a_t in (0, 1) per key
channel: how much of the value under the removal key is taken out, channel by channel.

Source: Peng et al. 2025, "RWKV-7 Goose" (arXiv 2503.14456), section 4, with S transposed (keys by values);
the triangular form within a chunk is that of Yang et al. 2024 (arXiv 2406.06484), extended by the decay.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.diagonal_decay import cut_chunks
from mnemoscope.ops.precision import exact, exact_read
from mnemoscope.ops.products import between_rows, over_rows

CHUNK_TOKENS = 32
"""Fastest of 16, 32 and 64 on a CPU at 64 channels a head; the result does not depend on it."""


class Writes(NamedTuple):
    """What is written and what is removed, token by token.

    Args:
        k: keys that are written.
        v: values.
        removal_key: p_t, L2-normalised.
        rate: a_t, in (0, 1).
        log_retention: log w_t, from -exp(-1/2), the least that the source allows, to 0. The chunked form takes
            exponents of minus their sums over a chunk: below -2.5 a token, 32 tokens overflow float32.
    """

    k: Float[Tensor, "b t h k"]
    v: Float[Tensor, "b t h v"]
    removal_key: Float[Tensor, "b t h k"]
    rate: Float[Tensor, "b t h k"]
    log_retention: Float[Tensor, "b t h k"]

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        return Writes(*(tensor[:, tokens] for tensor in self))


@exact_read
def rwkv7_recurrent(
    q: Float[Tensor, "b t h k"], writes: Writes, state: Float[Tensor, "b h k v"]
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Read after each write, one token at a time: the slow twin, and the form in which states can be seen."""
    states = rwkv7_states(writes, state)
    return torch.einsum("bthk,bthkv->bthv", q, states), states[:, -1]


@exact
def rwkv7_states(writes: Writes, state: Float[Tensor, "b h k v"]) -> Float[Tensor, "b t h k v"]:
    """The state after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.k.shape[1]):
        state = rwkv7_step(state, writes.at(slice(t, t + 1)))
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def rwkv7_step(state: Float[Tensor, "b h k v"], write: Writes) -> Float[Tensor, "b h k v"]:
    """The state after one more token; `write` has a time axis of length 1."""
    k, v, removal_key, rate, log_retention = (tensor[:, 0].unsqueeze(-1) for tensor in write)
    removed = (removal_key * state).sum(2, keepdim=True)
    return log_retention.exp() * state - rate * removal_key * removed + k * v.mT


@exact_read
def rwkv7_chunked(
    q: Float[Tensor, "b t h k"],
    writes: Writes,
    state: Float[Tensor, "b h k v"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Read after each write, in matrix products over chunks; equals `rwkv7_recurrent`.

    What is found under the removal keys of a chunk, U, solves (I + B) U = C V + P S for the state S that the chunk
    begins with, B and C strictly lower triangular. Two products a chunk, for U and the next S, remain in sequence.

    Half-precision inputs are computed in float32: the triangular solve loses the small writes otherwise.

    Returns:
        Reads in the dtype of `q`, and the state after the last token, in float32 at least.

    Cost: O(t (c (k + v) + k v)) multiply-adds a head for chunks of c tokens; t / c products in sequence.
    """
    dtype, (b, n_tokens, h, _) = q.dtype, q.shape
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    c = min(chunk_tokens, n_tokens)
    q, k, v, p, rate, log_retention = (cut_chunks(tensor.to(compute), c) for tensor in (q, *writes))
    decay = log_retention.cumsum(1)
    from_start, to_start = decay.exp(), (-decay).exp()
    q, asked = q * from_start, p * F.pad(from_start[:, :-1], (0, 0, 1, 0), value=1.0)
    k, replaced = k * to_start, rate * p * to_start
    # The solver reads only what stands below the diagonal. One inverse and two products are faster than two solves.
    identity = torch.eye(c, dtype=compute, device=q.device)
    clash = between_rows(asked, replaced)
    inverse = torch.linalg.solve_triangular(clash, identity, upper=False, unitriangular=True)
    own, of_state = inverse @ (between_rows(asked, k).tril(-1) @ v), inverse @ asked
    per_chunk = (own, of_state, replaced, over_rows(k, v), from_start[:, -1:].mT)

    state, states, found = rearrange(state.to(compute), "b h k v -> (b h) k v"), [], []
    chunks = (rearrange(x, "(n bh) k v -> n bh k v", bh=b * h).unbind() for x in per_chunk)
    for own_n, of_state_n, replaced_n, written_n, kept_n in zip(*chunks, strict=True):
        states.append(state)
        found.append(torch.baddbmm(own_n, of_state_n, state))
        state = kept_n * torch.baddbmm(state + written_n, replaced_n.mT, found[-1], alpha=-1)
    local = between_rows(q, k).tril() @ v
    read = torch.baddbmm(local, between_rows(q, replaced).tril(), torch.cat(found), alpha=-1)
    read = torch.baddbmm(read, q, torch.cat(states))
    read = rearrange(read, "(n b h) c v -> b (n c) h v", b=b, h=h)[:, :n_tokens]
    return read.to(dtype), rearrange(state, "(b h) k v -> b h k v", b=b).to(dtype)


@exact_read
def rwkv7_windowed(q: Float[Tensor, "b t h k"], writes: Writes, window: int) -> Float[Tensor, "b t h v"]:
    """Reads with only the last `window` writes in memory, exactly, by subtraction.

    The part to be subtracted is an ordinary read at t - window with the query carried back through the window.

    Cost: two reads and `window` vector operations; no state is formed.
    """
    b, n_tokens, h, n_channels = q.shape
    empty = q.new_zeros(b, h, n_channels, writes.v.shape[-1])
    reads, _ = rwkv7_chunked(q, writes, empty)
    if window >= n_tokens:
        return reads
    carried = q[:, window:]
    for lag in range(window):
        _, _, p, rate, log_retention = writes.at(slice(window - lag, n_tokens - lag))
        carried = log_retention.exp() * carried - p * (rate * p * carried).sum(-1, keepdim=True)
    older, _ = rwkv7_chunked(carried, writes.at(slice(n_tokens - window)), empty)
    return torch.cat([reads[:, :window], reads[:, window:] - older], dim=1)


def rwkv7_flops(n_tokens: int, k: int, v: int) -> int:
    """Floating-point operations of the matrix products of `rwkv7_chunked` for one head of one sequence."""
    c = min(CHUNK_TOKENS, n_tokens)
    within, between = c * c * (5 * k + 4 * v), 4 * c * k * v
    return 2 * -(-n_tokens // c) * (within + between)
