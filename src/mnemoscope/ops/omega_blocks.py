"""The Omega rule in matrix products over blocks of chunks, where the update is linear in the memory.

With u_i = v_i - phi(k_i) M* the error of a token at the start of its chunk, B the band of the window, A and Theta the
products of decays, W = A Theta diag(eta) B diag(2 gamma) says how much of every error is in the memory after each
token, and Theta diag(eta) B diag(2 gamma) how much is in the momentum:

    r_t = phi(q_t) (m_t M + s_t S + sum_i W_ti phi(k_i)^T u_i)          m, s: first columns of A and A Theta

Several chunks are made at once. M* of a later chunk holds the errors of the earlier ones, so that the errors of a block
solve a triangular system, (I + T) u = v - phi(k) (m M + s S), and remain linear in the M and S before the block. Hence
the chunk is part of the rule, while the block, chosen for speed, is not.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.decay_products import decay_products
from mnemoscope.ops.omega import Rule, Store, Writes

MOST_ROWS, FEWEST_ROWS = 64, 16
"""Errors computed at once where chunks are shorter: half the features, within these bounds.

A block costs its rows squared and saves steps in sequence. The result does not depend on it.
"""


class Cut(NamedTuple):
    """How a stretch is cut: tokens of a chunk, chunks made at once, and the first token's place in its chunk."""

    chunk_tokens: int
    at_once: int
    position: int


def pieces(n_tokens: int, n_features: int, rule: Rule, position: int) -> list[tuple[int, int, Cut]]:
    """Stretches to run one after the other: start, stop, and how each is cut.

    What ends a chunk that has begun, whole blocks of chunks, chunks that fill no block, and what begins a chunk: no
    stretch is filled up, since with momentum there is no token that leaves the memory as it is.
    """
    chunk = rule.chunk_tokens
    head = min(-position % chunk, n_tokens)
    n_chunks, tail = divmod(n_tokens - head, chunk)
    rows = min(max(n_features // 2, FEWEST_ROWS), MOST_ROWS)
    at_once = 1 if rule.orthogonalise else max(1, min(rows // (chunk + rule.window - 1), n_chunks))
    n_rest = n_chunks % at_once
    found, start = [], 0
    for length, cut in (
        (head, Cut(head, 1, position)),
        ((n_chunks - n_rest) * chunk, Cut(chunk, at_once, 0)),
        (n_rest * chunk, Cut(chunk, n_rest, 0)),
        (tail, Cut(tail, 1, 0)),
    ):
        if length:
            found.append((start, start + length, cut))
        start += length
    return found


class Flat(NamedTuple):
    """`Writes` with heads as rows of a batch."""

    k: Float[Tensor, "bh s k"]
    v: Float[Tensor, "bh s v"]
    window_weight: Float[Tensor, "bh s one"]
    step_size: Float[Tensor, "bh t"]
    log_retention: Float[Tensor, "bh t"]
    log_momentum: Float[Tensor, "bh t"] | None

    @classmethod
    def of(cls, writes: Writes, dtype: torch.dtype) -> "Flat":
        """Heads into the batch, all in one dtype."""
        k, v = (rearrange(x.to(dtype), "b s h k -> (b h) s k") for x in writes[:2])
        weight, step_size, retention = (rearrange(x.to(dtype), "b t h -> (b h) t") for x in writes[2:5])
        momentum = writes.log_momentum
        momentum = None if momentum is None else rearrange(momentum.to(dtype), "b t h -> (b h) t")
        return cls(k, v, weight.unsqueeze(-1), step_size, retention, momentum)

    def at(self, start: int, stop: int) -> "Flat":
        """A stretch of the tokens, with the window's past."""
        past = self.k.shape[1] - self.step_size.shape[1]
        k, v, weight = (x[:, start : stop + past] for x in self[:3])
        step_size, retention = self.step_size[:, start:stop], self.log_retention[:, start:stop]
        momentum = None if self.log_momentum is None else self.log_momentum[:, start:stop]
        return Flat(k, v, weight, step_size, retention, momentum)

    def blocks(self, cut: Cut) -> "Flat":
        """Blocks first; each chunk gets its window's past."""
        past = self.k.shape[1] - self.step_size.shape[1]
        c = cut.chunk_tokens * cut.at_once
        k, v, weight = (_windows(x, c, cut.chunk_tokens, past) for x in self[:3])
        step_size, retention, momentum = (
            None if x is None else rearrange(x, "bh (n c) -> n bh c", c=c) for x in self[3:]
        )
        assert step_size is not None
        assert retention is not None
        return Flat(k, v, weight, step_size, retention, momentum)


def _windows(x: Float[Tensor, "bh s k"], c: int, chunk_tokens: int, past: int) -> Float[Tensor, "n bh r k"]:
    """Rows of every chunk with its window's past, chunk by chunk within each block."""
    if past:
        starts = torch.arange(0, x.shape[1] - past, chunk_tokens, device=x.device)
        rows = starts.unsqueeze(1) + torch.arange(chunk_tokens + past, device=x.device)
        x = x.index_select(1, rows.flatten())
    n_rows = c // chunk_tokens * (chunk_tokens + past)
    return rearrange(x, "bh (n r) k -> n bh r k", r=n_rows).contiguous()


class _Weights(NamedTuple):
    """What is in the memory after each token, and in the momentum after the last.

    Args:
        of_memory, of_surprise: how much of the memory and of the momentum before the block; None without momentum.
        of_error: how much of every error; with momentum, the row below is what is in the momentum after the last.
        kept: how much of the momentum before the block is in the momentum after the last.
    """

    of_memory: Float[Tensor, "n bh c one"]
    of_surprise: Float[Tensor, "n bh c one"] | None
    of_error: Float[Tensor, "n bh c_more r"]
    kept: Float[Tensor, "n bh one one"] | None


def _weights(flat: Flat, rule: Rule, chunk_tokens: int) -> _Weights:
    between = decay_products(flat.log_retention)
    of_memory = flat.log_retention.cumsum(-1).exp().unsqueeze(-1)
    step_size, of_surprise, kept = flat.step_size.unsqueeze(-2), None, None
    if flat.log_momentum is None:
        of_error = between * step_size
    else:
        carried = decay_products(flat.log_momentum)
        from_start = flat.log_momentum.cumsum(-1).exp().unsqueeze(-1)
        both = between @ torch.cat([from_start, carried * step_size], dim=-1)
        of_surprise, kept = both[..., :1], from_start[..., -1:, :]
        of_error = torch.cat([both[..., 1:], carried[..., -1:, :] * step_size], dim=-2)
    if rule.window > 1:
        by_chunk = of_error.unflatten(-1, (-1, chunk_tokens)) @ band(chunk_tokens, rule.window, of_error)
        of_error = by_chunk.flatten(-2)
    return _Weights(of_memory, of_surprise, of_error * slopes(flat, rule), kept)


def slopes(flat: Flat, rule: Rule) -> Float[Tensor, "n bh one r"]:
    """Minus the derivative of the objective by the prediction, per unit of error."""
    return flat.window_weight.mT * (2 if rule.objective == "delta" else 1)


class _Block(NamedTuple):
    """One block; tuples have an entry for the memory and, with momentum, one for the momentum.

    Args:
        target, by, inverse: errors u = inverse (target + sum of by times states), where they depend on the states.
        local, look: reads = local u + sum of look times states.
        into: what every error adds to each state, into^T u.
        kept: of the memory in the memory; with momentum, of the momentum in the memory and in the momentum.
    """

    target: Float[Tensor, "bh r v"]
    by: tuple[Float[Tensor, "bh r k"], ...]
    inverse: tuple[Float[Tensor, "bh r r"], ...]
    local: Float[Tensor, "bh c r"]
    look: tuple[Float[Tensor, "bh c k"], ...]
    into: tuple[Float[Tensor, "bh r k"], ...]
    kept: tuple[Float[Tensor, "bh one one"], ...]


def _blocks(q: Float[Tensor, "n bh c k"], flat: Flat, rule: Rule, cut: Cut) -> list[_Block]:
    c, w = q.shape[-2], _weights(flat, rule, cut.chunk_tokens)
    by, inverse = _errors(flat, w, rule, cut)
    local = (q @ flat.k.mT) * w.of_error[..., :c, :]
    look, into, kept = [w.of_memory * q], [w.of_error[..., c - 1, :]], [w.of_memory[..., -1:, :]]
    if w.of_surprise is not None and w.kept is not None:
        look.append(w.of_surprise * q)
        into.append(w.of_error[..., c, :])
        kept.extend([w.of_surprise[..., -1:, :], w.kept])
    into = [row.unsqueeze(-1) * flat.k for row in into]
    by_block = (flat.v.unbind(), _unbound(by, q), _unbound(inverse, q), local.unbind())
    by_block = (*by_block, _unbound(look, q), _unbound(into, q), _unbound(kept, q))
    return [_Block(*parts) for parts in zip(*by_block, strict=True)]


def _unbound(parts: list[Tensor], like: Float[Tensor, "n bh c k"]) -> list[tuple[Tensor, ...]]:
    """The parts of each block."""
    # Taken apart at once: the gradient of one index at a time would fill a whole tensor with zeros for each.
    return list(zip(*(part.unbind() for part in parts), strict=True)) if parts else [()] * len(like)


def _errors(
    flat: Flat, w: _Weights, rule: Rule, cut: Cut
) -> tuple[list[Float[Tensor, "n bh r k"]], list[Float[Tensor, "n bh r r"]]]:
    """What each state before a block adds to its targets, and (I + T)^-1; nothing where it does not matter."""
    if rule.objective == "dot":
        return [], []
    if cut.at_once == 1:
        return [-flat.k], []
    starts = slice(cut.chunk_tokens - 1, (cut.at_once - 1) * cut.chunk_tokens, cut.chunk_tokens)

    def at_starts(x: Float[Tensor, "n bh c r"], first: float) -> Float[Tensor, "n bh rows r"]:
        padded = F.pad(x[..., starts, :], (0, 0, 1, 0), value=first)
        return padded.repeat_interleave(flat.k.shape[-2] // cut.at_once, dim=-2)

    by = [-at_starts(w.of_memory, 1) * flat.k]
    if w.of_surprise is not None:
        by.append(-at_starts(w.of_surprise, 0) * flat.k)
    earlier = (flat.k @ flat.k.mT) * at_starts(w.of_error, 0)
    identity = torch.eye(earlier.shape[-1], dtype=earlier.dtype, device=earlier.device)
    # The solver reads only what stands below the diagonal.
    return by, [torch.linalg.solve_triangular(earlier, identity, upper=False, unitriangular=True)]


def chunks(
    q: Float[Tensor, "bh t k"], flat: Flat, held: Store | None, rule: Rule, cut: Cut
) -> tuple[Float[Tensor, "bh t v"], Float[Tensor, "bh k v"], Float[Tensor, "bh s v"]]:
    """Reads, memory and momentum after a stretch of blocks; `held` is None for an empty memory."""
    flat = flat.blocks(cut)
    q = rearrange(q, "bh (n c) k -> n bh c k", c=cut.chunk_tokens * cut.at_once)
    # A chunk that has begun takes its errors at the memory it began with.
    states: tuple[Tensor, ...] = () if held is None else (held.memory, held.surprise)
    met: tuple[Tensor, ...] = () if held is None else (held.anchor, held.surprise)
    reads = []
    for block in _blocks(q, flat, rule, cut):
        u = block.target
        for by, state in zip(block.by, met, strict=False):
            u = torch.baddbmm(u, by, state)
        for inverse in block.inverse:
            u = inverse @ u
        read = block.local @ u
        for look, state in zip(block.look, states, strict=False):
            read = torch.baddbmm(read, look, state)
        reads.append(read)
        states = met = _advanced(block, u, states)
    last = list(states)
    return torch.cat(reads, dim=1), last[0], last[1] if len(last) > 1 else last[0][:, :0]


def _advanced(block: _Block, u: Float[Tensor, "bh r v"], states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The memory, and with momentum the momentum, after a block; no states are an empty memory."""
    if not states:
        return tuple(into.mT @ u for into in block.into)
    kept = [block.kept[0] * states[0]]
    if len(block.kept) > 1:
        surprise = states[1]
        kept = [torch.addcmul(kept[0], block.kept[1], surprise), block.kept[2] * surprise]
    return tuple(torch.baddbmm(state, into.mT, u) for state, into in zip(kept, block.into, strict=True))


def band(c: int, window: int, like: Tensor) -> Float[Tensor, "c r"]:
    """B: which tokens, the window's past first, are in the objective of each."""
    return torch.ones(c, c + window - 1, dtype=like.dtype, device=like.device).triu().tril(window - 1)
