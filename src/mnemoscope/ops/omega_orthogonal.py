"""The Omega rule with orthogonalised updates, in matrix products chunk by chunk."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.decay_products import decay_products
from mnemoscope.ops.newton_schulz import newton_schulz_products
from mnemoscope.ops.omega import Rule, Store, orthogonalised
from mnemoscope.ops.omega_blocks import Cut, Flat, band, slopes


class _Ends(NamedTuple):
    """Weights at the ends of the update blocks of a chunk, and at its last token where that is none.

    Args:
        n_updates: ends in the chunk.
        of_error, of_surprise: in the momentum at each row; of_surprise None without momentum.
        of_update: in the memory at each row, of the memory before the chunk and of every update.
        lookup: queries times what is left of the memory at the last end before them, one row of slots per end.
        first_slot: of the first query.
    """

    n_updates: int
    of_error: Float[Tensor, "n bh e r"]
    of_surprise: Float[Tensor, "n bh e one one"] | None
    of_update: Float[Tensor, "n bh e e_before"]
    lookup: Float[Tensor, "n bh e_before u k"]
    first_slot: int


def _ends(q: Float[Tensor, "n bh c k"], flat: Flat, rule: Rule, cut: Cut) -> _Ends:
    c, every, device = cut.chunk_tokens, rule.update_every, q.device
    between, from_start = decay_products(flat.log_retention), flat.log_retention.cumsum(-1).exp()
    ends = [i for i in range(c) if (cut.position + i + 1) % every == 0]
    rows = ends if ends[-1:] == [c - 1] else [*ends, c - 1]
    step_size, of_surprise = flat.step_size.unsqueeze(-2), None
    if flat.log_momentum is None:
        of_error = torch.eye(c, dtype=q.dtype, device=device) * step_size
    else:
        of_error = decay_products(flat.log_momentum)[..., rows, :] * step_size
        of_surprise = flat.log_momentum.cumsum(-1).exp()[..., rows, None, None]
    # What is left, at every token, of the memory before the chunk and of the update at every end.
    left = torch.cat([from_start.unsqueeze(-1), between[..., ends]], dim=-1)
    of_update = torch.cat([left[..., rows, :1], left[..., rows, 1:] * step_size[..., ends]], dim=-1)
    first_slot = cut.position % every + 1
    slots = first_slot + torch.arange(c, device=device)
    newest = slots.unsqueeze(-1) // every == torch.arange(len(ends) + 1, device=device)
    lookup = (left * newest).sum(-1, keepdim=True) * q
    filled = F.pad(lookup, (0, 0, first_slot, (len(ends) + 1) * every - first_slot - c))
    of_error = of_error @ band(c, rule.window, of_error) * slopes(flat, rule)
    return _Ends(len(ends), of_error, of_surprise, of_update, filled.unflatten(-2, (-1, every)), first_slot)


def orthogonalised_chunks(
    q: Float[Tensor, "bh t k"], flat: Flat, held: Store | None, rule: Rule, cut: Cut
) -> tuple[Float[Tensor, "bh t v"], Float[Tensor, "bh k v"], Float[Tensor, "bh s v"]]:
    """One chunk after the other: what Newton-Schulz makes of one is not linear in the errors of the one before.

    The momentum is formed at the end of every update block, nowhere else.
    """
    n_features, n_values, c = q.shape[2], flat.v.shape[2], cut.chunk_tokens
    flat = flat.blocks(cut)
    at = _ends(rearrange(q, "bh (n c) k -> n bh c k", c=c), flat, rule, cut)
    if held is None:
        empty = q.new_zeros(q.shape[0], n_features, n_values)
        held = Store(empty, empty, empty if at.of_surprise is not None else empty[:, :0])
    (anchor, memory, surprise), reads = held, []
    for n, u in enumerate(flat.v.unbind()):
        if rule.objective == "delta":
            u = torch.baddbmm(u, flat.k[n], anchor, alpha=-1)
        weighted = (at.of_error[n].mT.unsqueeze(-1) * u.unsqueeze(-2)).flatten(-2)
        descents = rearrange(flat.k[n].mT @ weighted, "b k (e v) -> b e k v", v=n_values)
        if at.of_surprise is not None:
            descents = descents + at.of_surprise[n] * surprise.unsqueeze(1)
            surprise = descents[:, -1]
        updates = orthogonalised(descents[:, : at.n_updates], rule.orthogonalise)
        parts = torch.cat([memory.unsqueeze(1), updates], dim=1).flatten(2)
        memories = (at.of_update[n] @ parts).unflatten(-1, (n_features, n_values))
        seen = torch.cat([memory.unsqueeze(1), memories[:, : at.n_updates]], dim=1)
        reads.append((at.lookup[n] @ seen).flatten(1, 2)[:, at.first_slot :][:, :c])
        anchor = memory = memories[:, -1]
    return torch.cat(reads, dim=1), memory, surprise


def orthogonalised_products(c: int, k: int, v: int, rule: Rule) -> int:
    """Multiply-adds of one chunk from its start, for one head."""
    n_updates, rows = c // rule.update_every, c + rule.window - 1
    n_ends = n_updates + (c % rule.update_every > 0)
    predicted = rows * k * v if rule.objective == "delta" else 0
    looked_up = (1 + n_updates) * rule.update_every * k * v
    descended = n_ends * (c * rows + rows * k * v + (1 + n_updates) * k * v)
    return predicted + looked_up + descended + n_updates * newton_schulz_products(k, v, rule.orthogonalise)
