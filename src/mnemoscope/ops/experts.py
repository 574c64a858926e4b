"""Many feed-forward nets, of which each token uses a few, in products of one shape whatever the routing.

    E_e(x) = W2_e gelu(W1_e x)

Tokens are brought together by expert, so that one product serves all tokens of a block. Every size follows from the
numbers of tokens and experts alone, never from what was chosen.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

BLOCK_ROWS = 32
"""Most rows that are multiplied by one copy of an expert; the result does not depend on it."""


def expert_rows(
    x: Float[Tensor, "p d"], chosen: Int[Tensor, "p"], inner: Float[Tensor, "e d w"], outer: Float[Tensor, "e w d"]
) -> Float[Tensor, "p d"]:
    """Row p through expert chosen[p].

    Rows are sorted by expert and laid out in blocks of one expert each, the last of an expert filled up with zeros.

    Cost: 2 d w multiply-adds for each of `expert_block_rows` rows, and a copy of an expert's weights a block.
    """
    (n_pairs, d), n_experts = x.shape, inner.shape[0]
    rows = _block_rows(n_pairs, n_experts)
    n_blocks = expert_block_rows(n_pairs, n_experts) // rows
    counts = chosen.new_zeros(n_experts).scatter_add(0, chosen, torch.ones_like(chosen))
    blocks = (counts + rows - 1) // rows
    ends = blocks.cumsum(0)
    # Where an expert's first block starts, less the place of its first row in sorted order.
    offset = rows * (ends - blocks) - (counts.cumsum(0) - counts)
    order = chosen.argsort(stable=True)
    place = offset[chosen[order]] + torch.arange(n_pairs, device=x.device)
    filled = x.new_zeros(n_blocks * rows, d).index_copy(0, place, x.index_select(0, order))
    owner = torch.searchsorted(ends, torch.arange(n_blocks, device=x.device), right=True).clamp(max=n_experts - 1)
    weights = (layer.index_select(0, owner) for layer in (inner, outer))
    y = _feed_forward(filled.view(n_blocks, rows, d), *weights).flatten(0, 1)
    return torch.zeros_like(x).index_copy(0, order, y.index_select(0, place))


def expert_block_rows(n_pairs: int, n_experts: int) -> int:
    """Rows that `expert_rows` multiplies, those of zeros included: enough for any choice."""
    rows = _block_rows(n_pairs, n_experts)
    # Each expert leaves at most rows - 1 unused.
    return (n_pairs + n_experts * (rows - 1)) // rows * rows


def expert_picks(
    x: Float[Tensor, "g c d"],
    weight: Float[Tensor, "g c e"],
    taken: Bool[Tensor, "g c e"],
    n_picked: int,
    inner: Float[Tensor, "e d w"],
    outer: Float[Tensor, "e w d"],
) -> Float[Tensor, "g c d"]:
    """The weighted sum of the experts that took each token, of groups of tokens.

    Args:
        x: groups of tokens.
        weight: of each expert's output.
        taken: which tokens an expert takes; at most `n_picked` of a group.
        n_picked: rows that each expert has for a group; those that it does not need are multiplied and dropped.
        inner: first layers.
        outer: second layers.

    Cost: 2 g e n_picked d w multiply-adds.
    """
    n_groups, c, d = x.shape
    # What is taken comes first, in the order of time, and what is not gets no weight.
    rank = torch.where(taken, c, 0) - torch.arange(c, device=x.device).unsqueeze(-1)
    token = rank.mT.topk(n_picked, dim=-1).indices
    kept = (weight * taken).mT.gather(-1, token)
    group = torch.arange(n_groups, device=x.device).view(-1, 1, 1)
    at = (c * group + token).transpose(0, 1).flatten(1)
    rows = _feed_forward(x.flatten(0, 1)[at], inner, outer) * kept.transpose(0, 1).flatten(1).unsqueeze(-1)
    return torch.zeros_like(x).flatten(0, 1).index_add(0, at.flatten(), rows.flatten(0, 1)).view(n_groups, c, d)


def _block_rows(n_pairs: int, n_experts: int) -> int:
    """Rows of a block: no more than an expert gets on average."""
    return max(1, min(BLOCK_ROWS, n_pairs // n_experts))


def _feed_forward(
    x: Float[Tensor, "n r d"], inner: Float[Tensor, "n d w"], outer: Float[Tensor, "n w d"]
) -> Float[Tensor, "n r d"]:
    return F.gelu(x @ inner) @ outer
