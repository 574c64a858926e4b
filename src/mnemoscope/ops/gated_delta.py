"""The gated delta rule and its special cases, as a recurrence and in chunked matrix form.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T          r_t = S_t^T q_t

with retention a_t = exp(log_retention_t) in (0, 1] and write strength b_t. Without the erase term -b_t k_t k_t^T this
is gated linear attention, with a_t = 1 besides it is linear attention, with a_t = 1 and the erase term the delta rule.

Source: Yang, Kautz, Hatamizadeh 2024, "Gated Delta Networks" (arXiv 2412.06464), equation 10; the triangular form
within a chunk is that of Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule" (arXiv 2406.06484).
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact, exact_read

CHUNK_TOKENS = 32
"""Fastest of 16, 32 and 64 on a CPU at 32 to 64 channels a head; the result does not depend on it."""


class Writes(NamedTuple):
    """What is written, token by token, and how the state changes by it.

    Args:
        k: keys; L2-normalised wherever `erase` is on and stability matters.
        v: values.
        write_strength: b_t, in (0, 1), or (0, 2) if negative eigenvalues are allowed.
        log_retention: log a_t, never positive.
        erase: whether the old value under the key is taken out first (the delta rule).
    """

    k: Float[Tensor, "b t h k"]
    v: Float[Tensor, "b t h v"]
    write_strength: Float[Tensor, "b t h"]
    log_retention: Float[Tensor, "b t h"]
    erase: bool = True

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        k, v, write_strength, log_retention = (tensor[:, tokens] for tensor in self[:4])
        return Writes(k, v, write_strength, log_retention, self.erase)


@exact_read
def gated_delta_recurrent(
    q: Float[Tensor, "b t h k"], writes: Writes, state: Float[Tensor, "b h k v"]
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Read after each write, one token at a time: the slow twin, and the form in which states can be seen."""
    states = gated_delta_states(writes, state)
    return torch.einsum("bthk,bthkv->bthv", q, states), states[:, -1]


@exact
def gated_delta_states(writes: Writes, state: Float[Tensor, "b h k v"]) -> Float[Tensor, "b t h k v"]:
    """The state after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.k.shape[1]):
        state = gated_delta_step(state, writes.at(slice(t, t + 1)))
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def gated_delta_step(state: Float[Tensor, "b h k v"], write: Writes) -> Float[Tensor, "b h k v"]:
    """The state after one more token; `write` has a time axis of length 1."""
    k, v = write.k[:, 0], write.v[:, 0]
    retained = write.log_retention[:, 0, :, None, None].exp() * state
    target = v - (k.unsqueeze(-2) @ retained).squeeze(-2) if write.erase else v
    return torch.addcmul(retained, k.unsqueeze(-1), (write.write_strength[:, 0, :, None] * target).unsqueeze(-2))


@exact_read
def gated_delta_chunked(
    q: Float[Tensor, "b t h k"],
    writes: Writes,
    state: Float[Tensor, "b h k v"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Read after each write, in matrix products over chunks; equals `gated_delta_recurrent`.

    Within a chunk the writes U that the erase term leaves solve (I + A) U = b (V - decay K S), A strictly lower
    triangular: U = U_0 - W S. What remains in sequence is a few products per chunk.

    Half-precision inputs are computed in float32: the triangular solve loses the small writes otherwise.

    Returns:
        Reads in the dtype of `q`, and the state after the last token, in float32 at least.

    Cost: O(t (c (k + v) + k v)) multiply-adds a head for chunks of c tokens; t / c steps in sequence.
    """
    dtype, (b, n_tokens) = q.dtype, q.shape[:2]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    c = min(chunk_tokens, n_tokens)
    q, k, v = (_chunks(tensor.to(compute), c) for tensor in (q, writes.k, writes.v))
    beta = _chunks(writes.write_strength.to(compute).unsqueeze(-1), c)
    decay = _chunks(writes.log_retention.to(compute).unsqueeze(-1), c).cumsum(-2)

    from_start, to_end = decay.exp(), (decay[..., -1:, :] - decay).exp()
    future = torch.ones(c, c, dtype=torch.bool, device=q.device).triu(1)
    between = (decay - decay.mT).masked_fill(future, -torch.inf).exp()
    local, erased = (q @ k.mT) * between, None
    u = beta * v
    if writes.erase:
        # The solver reads only what stands below the diagonal. One inverse and two products are faster than two solves.
        clash = ((beta * k) @ k.mT) * between
        identity = torch.eye(c, dtype=compute, device=q.device)
        inverse = torch.linalg.solve_triangular(clash, identity, upper=False, unitriangular=True)
        u, erased = inverse @ u, (inverse @ (beta * from_start * k)).unbind()
    kept = from_start[..., -1:, :].unbind()
    chunks = zip(local.unbind(), (q * from_start).unbind(), (k * to_end).mT.unbind(), u.unbind(), strict=True)

    state = rearrange(state.to(compute), "b h k v -> (b h) k v")
    reads = []
    for n, (local_n, lookup, k_end, u_n) in enumerate(chunks):
        if erased is not None:
            u_n = torch.baddbmm(u_n, erased[n], state, alpha=-1)
        reads.append(torch.baddbmm(lookup @ state, local_n, u_n))
        state = torch.baddbmm(kept[n] * state, k_end, u_n)
    read = rearrange(torch.stack(reads), "n (b h) c v -> b (n c) h v", b=b)[:, :n_tokens]
    return read.to(dtype), rearrange(state, "(b h) k v -> b h k v", b=b).to(dtype)


@exact_read
def gated_delta_windowed(q: Float[Tensor, "b t h k"], writes: Writes, window: int) -> Float[Tensor, "b t h v"]:
    """Reads with only the last `window` writes in memory, exactly, by subtraction.

    The state is linear in what was written, so S_t minus what the last `window` steps left of S_{t-window} is the
    state that only these steps wrote. Instead of states, queries are carried back through the window: the part to be
    subtracted is an ordinary read at t - window with the carried query.

    Cost: two reads and `window` vector operations; no state is formed.
    """
    b, n_tokens, h, _ = q.shape
    empty = q.new_zeros(b, h, q.shape[-1], writes.v.shape[-1])
    reads, _ = gated_delta_chunked(q, writes, empty)
    if window >= n_tokens:
        return reads
    carried = q[:, window:]
    for lag in range(window):
        seen = slice(window - lag, n_tokens - lag)
        k, beta = writes.k[:, seen], writes.write_strength[:, seen].unsqueeze(-1)
        if writes.erase:
            carried = carried - beta * k * (k * carried).sum(-1, keepdim=True)
        carried = carried * writes.log_retention[:, seen].exp().unsqueeze(-1)
    older, _ = gated_delta_chunked(carried, writes.at(slice(n_tokens - window)), empty)
    return torch.cat([reads[:, :window], reads[:, window:] - older], dim=1)


def _chunks(x: Float[Tensor, "b t h k"], c: int) -> Float[Tensor, "n bh c k"]:
    """Cut time into chunks; the last is filled up with zeros, which write nothing and retain everything."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % c))
    return rearrange(padded, "b (n c) h k -> n (b h) c k", c=c).contiguous()
