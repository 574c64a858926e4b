"""Causal softmax attention over all or the last `window` tokens, with and without the weights in sight.

With `slopes`, each head subtracts slope times the age of a token from its score (ALiBi).

Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1; sliding windows,
Beltagy et al. 2020 (arXiv 2004.05150); ALiBi, Press, Smith, Lewis 2022 (arXiv 2108.12409), section 3.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


class Past(NamedTuple):
    """Keys and values of earlier tokens, oldest first, and how many of them (the newest) are real."""

    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s v"]
    n_tokens: Int[Tensor, ""]


def alibi_slopes(n_heads: int, like: Tensor) -> Float[Tensor, "h"]:
    """2^(-8 i / h) for heads i = 1..h, in the dtype and on the device of a tensor."""
    return torch.exp2(-8 * torch.arange(1, n_heads + 1, dtype=like.dtype, device=like.device) / n_heads)


def attention_weights(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h s k"],
    visible: Bool[Tensor, "t s"],
    slopes: Float[Tensor, "h"] | None = None,
) -> Float[Tensor, "b h t s"]:
    """The distribution over positions that fused attention never forms: the slow twin's half."""
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    if slopes is not None:
        scores = scores - slopes[:, None, None] * _ages(visible)
    return scores.masked_fill(~visible, -torch.inf).softmax(-1)


def _ages(visible: Bool[Tensor, "t s"]) -> Int[Tensor, "t s"]:
    """How many tokens ago each position was, for new tokens that stand at the end of all positions."""
    n_new, n_all = visible.shape
    query = torch.arange(n_all - n_new, n_all, device=visible.device).unsqueeze(1)
    return query - torch.arange(n_all, device=visible.device)


def _mask(visible: Bool[Tensor, "t s"], slopes: Float[Tensor, "h"] | None) -> Tensor:
    """What fused attention adds to the scores: nothing but the truth of `visible` without slopes."""
    if slopes is None:
        return visible
    return (-slopes[:, None, None] * _ages(visible)).masked_fill(~visible, -torch.inf)


def visible_positions(n_new: int, past: Past, window: int | None) -> Bool[Tensor, "t s"]:
    """Which of the past and new positions each new token may look at: causal, real, and within the window."""
    n_past, device = past.k.shape[2], past.k.device
    query = torch.arange(n_past, n_past + n_new, device=device).unsqueeze(1)
    key = torch.arange(n_past + n_new, device=device)
    visible = (key <= query) & (key >= n_past - past.n_tokens)
    return visible if window is None else visible & (key > query - window)


def attend(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    v: Float[Tensor, "b h t v"],
    past: Past,
    window: int | None,
    slopes: Float[Tensor, "h"] | None = None,
) -> Float[Tensor, "b h t v"]:
    """Fused attention of new tokens to the past and to each other; O(t window) for windows shorter than t."""
    n_new, n_past = k.shape[2], past.k.shape[2]
    if window is not None and n_past == window and n_new > window:
        return _attend_in_blocks(q, k, v, past, window, slopes)
    if n_past == 0 and slopes is None and (window is None or window >= n_new):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    k, v = torch.cat([past.k, k], dim=2), torch.cat([past.v, v], dim=2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_mask(visible_positions(n_new, past, window), slopes))


def _attend_in_blocks(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    v: Float[Tensor, "b h t v"],
    past: Past,
    window: int,
    slopes: Float[Tensor, "h"] | None,
) -> Float[Tensor, "b h t v"]:
    """Blocks of `window` tokens look at themselves and the block before; the past is the block before the first."""
    h, n_new = q.shape[1:3]
    pad = (0, 0, 0, -n_new % window)
    k = torch.cat([past.k, F.pad(k, pad)], dim=2)
    v = torch.cat([past.v, F.pad(v, pad)], dim=2)
    # unfold puts the block axis before, and the position in the pair of blocks after, the channels.
    pairs_k = rearrange(k.unfold(2, 2 * window, window), "b h n k s -> b (h n) s k")
    pairs_v = rearrange(v.unfold(2, 2 * window, window), "b h n v s -> b (h n) s v")
    blocks_q = rearrange(F.pad(q, pad), "b h (n c) k -> b (h n) c k", c=window)

    query = torch.arange(window, 2 * window, device=q.device).unsqueeze(1)
    key = torch.arange(2 * window, device=q.device)
    band = (key <= query) & (key > query - window)
    first = band & (key >= window - past.n_tokens)
    later = (blocks_q.shape[1] // h - 1,)
    if slopes is None:
        mask = torch.cat([first.unsqueeze(0), band.expand(*later, -1, -1)]).repeat(h, 1, 1)
    else:
        heads = [_mask(first, slopes).unsqueeze(1), _mask(band, slopes).unsqueeze(1).expand(-1, *later, -1, -1)]
        mask = torch.cat(heads, dim=1).flatten(0, 1)
    read = F.scaled_dot_product_attention(blocks_q, pairs_k, pairs_v, attn_mask=mask)
    return rearrange(read, "b (h n) c v -> b h (n c) v", h=h)[:, :, :n_new]
