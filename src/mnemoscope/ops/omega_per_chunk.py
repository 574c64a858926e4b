"""The Omega rule whose momentum and retention act once per chunk: a chunk is one step of descent.

    G_j = sum_{i in chunk j} eta_i grad l_i(M)         S_j = theta_j S_{j-1} - G_j         M <- alpha_j M + S_j
    alpha_j, theta_j = sigmoid(mean of the logits of chunk j's tokens)         r_t = phi(q_t) M

with the losses l of `ops.omega` and a window of one token. M changes at the last token of a chunk, which is the first
to read the change: every token reads what complete chunks have left. Without momentum S_j is the last term alone.
Orthogonalised, M <- alpha_j M + eta s NS(S_j), with eta the step size of the chunk's last token. Chunks of one token
are the rule of `ops.omega`.

Source: Behrouz et al. 2024, "Titans" (arXiv 2501.00663), section 3.2, parameters as a function of chunks; Zhang et al.
2025, "Test-Time Training Done Right" (arXiv 2505.23884).
Differs: the first applies momentum and retention to the gradient of every token, with the gates of its chunk.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.newton_schulz import newton_schulz_products
from mnemoscope.ops.omega import Rule, orthogonalised
from mnemoscope.ops.precision import exact, exact_read


class PerChunkWrites(NamedTuple):
    """What is written.

    Args:
        k, v: keys (as features) and values.
        step_size: of every token.
        logits: of the gates that are there, of every token: the retention's first, then the momentum's.
        retains, momentum: which are there.
    """

    k: Float[Tensor, "b t h k"]
    v: Float[Tensor, "b t h v"]
    step_size: Float[Tensor, "b t h"]
    logits: Float[Tensor, "b t gates h"]
    retains: bool
    momentum: bool

    def at(self, start: int, stop: int) -> "PerChunkWrites":
        """The writes of a stretch of the tokens."""
        k, v, step_size, logits = (part[:, start:stop] for part in self[:4])
        return PerChunkWrites(k, v, step_size, logits, self.retains, self.momentum)


class PerChunkStore(NamedTuple):
    """The memory, the momentum (of no rows where there is none), and what the present chunk has gathered.

    Args:
        memory, surprise: M and S, as complete chunks have left them.
        descent: minus the sum of the weighted gradients of the chunk's tokens so far.
        logits: sums of the gates' logits over them.
    """

    memory: Float[Tensor, "b h k v"]
    surprise: Float[Tensor, "b h s v"]
    descent: Float[Tensor, "b h k v"]
    logits: Float[Tensor, "b gates h"]


@exact_read
def per_chunk_recurrent(
    q: Float[Tensor, "b t h k"], writes: PerChunkWrites, store: PerChunkStore, rule: Rule, position: int = 0
) -> tuple[Float[Tensor, "b t h v"], PerChunkStore]:
    """One token at a time: the slow twin, and the form in which states can be seen."""
    states, store = per_chunk_states(writes, store, rule, torch.tensor(position))
    return torch.einsum("bthk,bthkv->bthv", q, states), store


@exact
def per_chunk_states(
    writes: PerChunkWrites, store: PerChunkStore, rule: Rule, position: Int[Tensor, ""]
) -> tuple[Float[Tensor, "b t h k v"], PerChunkStore]:
    """The memory after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.step_size.shape[1]):
        store = per_chunk_step(writes.at(t, t + 1), store, rule, (position + t) % rule.chunk_tokens)
        states.append(store.memory)
    return torch.stack(states, dim=1), store


@exact
def per_chunk_step(write: PerChunkWrites, store: PerChunkStore, rule: Rule, position: Int[Tensor, ""]) -> PerChunkStore:
    """One more token, which is number `position` of its chunk."""
    k, v, step_size = write.k[:, 0], write.v[:, 0], write.step_size[:, 0, :, None, None]
    error = 2 * (v - torch.einsum("bhk,bhkv->bhv", k, store.memory)) if rule.objective == "delta" else v
    descent = store.descent + step_size * torch.einsum("bhk,bhv->bhkv", k, error)
    logits = store.logits + write.logits[:, 0]
    gates = (logits / rule.chunk_tokens).sigmoid()[..., None, None].unbind(1)
    surprise, memory = descent, store.memory
    if write.momentum:
        surprise = gates[-1] * store.surprise + descent
    if write.retains:
        memory = gates[0] * memory
    update = step_size * orthogonalised(surprise, rule.orthogonalise) if rule.orthogonalise else surprise
    ends = (position + 1) % rule.chunk_tokens == 0
    return PerChunkStore(
        torch.where(ends, memory + update, store.memory),
        torch.where(ends, surprise, store.surprise) if write.momentum else store.surprise,
        torch.where(ends, 0, descent),
        torch.where(ends, 0, logits),
    )


class _Piece(NamedTuple):
    """Tokens of one chunk.

    Args:
        k, into, v: keys, keys times what an error of theirs weighs, values.
        q: queries of the token before and of all but the last: those that read the memory before the last.
        step_size: of the tokens.
        gates: of the chunk, if it ends here.
    """

    k: Float[Tensor, "bh c k"]
    into: Float[Tensor, "bh c k"]
    v: Float[Tensor, "bh c v"]
    q: Float[Tensor, "bh c k"]
    step_size: Float[Tensor, "bh c one"]
    gates: Float[Tensor, "bh gates one one"]


class _Held(NamedTuple):
    """Heads as rows of a batch; None for what is still zero."""

    memory: Float[Tensor, "bh k v"] | None = None
    surprise: Float[Tensor, "bh s v"] | None = None
    descent: Float[Tensor, "bh k v"] | None = None


def _sums(logits: Float[Tensor, "bh t gates"], chunk_tokens: int, position: int) -> Float[Tensor, "bh n gates"]:
    """Over the tokens of each chunk, of which the first may have begun and the last go on."""
    n_missing = -(position + logits.shape[1]) % chunk_tokens
    return F.pad(logits, (0, 0, position, n_missing)).unflatten(1, (-1, chunk_tokens)).sum(2)


def _met(piece: _Piece, memory: Tensor | None, objective: str) -> tuple[Tensor, Tensor]:
    """What the piece reads, and its errors."""
    if memory is None:
        return torch.zeros_like(piece.v), piece.v
    if objective == "dot":
        return piece.q @ memory, piece.v
    predicted, read = (torch.cat([piece.k, piece.q], dim=1) @ memory).chunk(2, dim=1)
    return read, piece.v - predicted


def _ended(piece: _Piece, error: Tensor, held: _Held, writes: PerChunkWrites, rule: Rule) -> _Held:
    """The memory and the momentum after the last token of a chunk."""
    memory, surprise, gathered = held
    if writes.momentum and surprise is not None:
        carried = piece.gates[:, -1] * surprise
        gathered = carried if gathered is None else carried + gathered
    surprise = update = _added(gathered, piece.into, error)
    if rule.orthogonalise:
        update = piece.step_size[:, -1:] * orthogonalised(surprise, rule.orthogonalise)
    if memory is None:
        memory = update
    else:
        memory = torch.addcmul(update, piece.gates[:, 0], memory) if writes.retains else memory + update
    return _Held(memory, surprise if writes.momentum else None)


def _added(to: Tensor | None, into: Tensor, error: Tensor) -> Tensor:
    return into.mT @ error if to is None else torch.baddbmm(to, into.mT, error)


@exact_read
def omega_per_chunk(
    q: Float[Tensor, "b t h k"], writes: PerChunkWrites, store: PerChunkStore | None, rule: Rule, position: int = 0
) -> tuple[Float[Tensor, "b t h v"], PerChunkStore]:
    """Read what complete chunks have left, in matrix products chunk by chunk; equals `per_chunk_recurrent`.

    Half-precision inputs are computed in float32.

    Args:
        q: features of the queries.
        writes: see `PerChunkWrites`.
        store: where to go on from; None for an empty memory, at position 0.
        rule: see `Rule`; its window is one token.
        position: of the first token in its chunk.

    Returns:
        Reads in the dtype of `q`, and the store after the last token, in float32 at least.

    Cost: 3 K V multiply-adds a token and head; three products in sequence per chunk.
    """
    dtype, (b, t), chunk = q.dtype, q.shape[:2], rule.chunk_tokens
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    q, k, v, step_size, logits = _flat(q, writes, compute)
    held, sums = _Held(), _sums(logits, chunk, position)
    if store is not None:
        held = _Held(*(rearrange(x.to(compute), "b h k v -> (b h) k v") for x in store[:3]))
        begun = rearrange(store.logits.to(compute), "b g h -> (b h) 1 g")
        sums = torch.cat([sums[:, :1] + begun, sums[:, 1:]], dim=1)
    into = (2 if rule.objective == "delta" else 1) * step_size * k
    ends = list(range(chunk - position, t + 1, chunk))
    lengths = [stop - start for start, stop in pairwise([0, *ends, t]) if stop > start]
    # The last token of a chunk reads what the chunk has made of the memory: with the next chunk.
    cut = (x.split(lengths, dim=1) for x in (k, into, v, F.pad(q[:, :-1], (0, 0, 1, 0)), step_size))
    gates, reads = (sums / chunk).sigmoid()[..., None, None].unbind(1), []
    for n, parts in enumerate(zip(*cut, gates, strict=True)):
        piece = _Piece(*parts)
        read, error = _met(piece, held.memory, rule.objective)
        if n < len(ends):
            held = _ended(piece, error, held, writes, rule)
        else:
            held = held._replace(descent=_added(held.descent, piece.into, error))
        reads.append(read)
    reads.append(torch.zeros_like(v[:, :1]) if held.memory is None else q[:, -1:] @ held.memory)
    nothing = q.new_zeros(q.shape[0], q.shape[2], v.shape[2])
    memory, surprise, descent = (nothing if x is None else x for x in held)
    surprise = surprise if writes.momentum else nothing[:, :0]
    memory, surprise, descent = (
        _own(rearrange(x, "(b h) k v -> b h k v", b=b), dtype) for x in (memory, surprise, descent)
    )
    begun = sums[:, -1] if len(lengths) > len(ends) else torch.zeros_like(sums[:, -1])
    after = PerChunkStore(memory, surprise, descent, _own(rearrange(begun, "(b h) g -> b g h", b=b), dtype))
    return rearrange(torch.cat(reads, dim=1)[:, 1:], "(b h) t v -> b t h v", b=b).to(dtype), after


def _flat(q: Tensor, writes: PerChunkWrites, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Heads into the batch, all in one dtype."""
    wide = (x.to(dtype) for x in (q, writes.k, writes.v, writes.step_size.unsqueeze(-1), writes.logits.mT))
    return tuple(rearrange(x, "b t h k -> (b h) t k") for x in wide)


def _own(x: Tensor, dtype: torch.dtype) -> Tensor:
    # Copies: parts of a joined tensor would keep the whole of it alive.
    return x.to(dtype).clone(memory_format=torch.contiguous_format)


def omega_per_chunk_products(n_tokens: int, k: int, v: int, rule: Rule) -> int:
    """Multiply-adds of the matrix products of `omega_per_chunk` from an empty memory, for one head."""
    c = rule.chunk_tokens
    n_met = max(0, n_tokens - c)
    # Nothing is read from an empty memory.
    rows = n_tokens + n_met * (1 + (rule.objective == "delta")) + (n_tokens >= c)
    return rows * k * v + n_tokens // c * newton_schulz_products(k, v, rule.orthogonalise)
