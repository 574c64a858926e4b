"""Kernel-smoothing reads of what was stored before: each query reads the pairs of earlier tokens, never its own.

    softmax     f(q) = sum_i exp(q . k_i) v_i / sum_i exp(q . k_i)
    gaussian    f(q) = sum_i exp(-|q - k_i|^2 / 2) v_i / sum_i exp(-|q - k_i|^2 / 2)

Inverse temperatures are in the lengths of queries and keys: both scaled by s give beta = s^2, or b = s^2 / 2 for the
Gaussian. On keys of one length the two are the same. The other kernels are those of `ops.smoothing`.

No mask is needed: the queries of tokens 2..t on the pairs of tokens 1..t-1 are ordinary causal attention. The Gaussian
needs none of its distances: |q|^2 cancels in the fraction, and -|k_i|^2 / 2 is one more channel of the key, met by a
one in the query.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), equations 2, 3 and 8.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.smoothing import smoothing_weights

ReadKernel = Literal["softmax", "gaussian", "epanechnikov", "biweight", "triweight", "top_k"]
"""Form of the weights; the first two are fused, the others form all weights."""

LENGTH_EPSILON = 1e-6
"""Vectors much shorter than this stay near zero instead of being drawn out to full length."""


def smoothing_read(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h s k"],
    v: Float[Tensor, "b h s v"],
    kernel: ReadKernel = "softmax",
    top_k: int | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b h t v"]:
    """Read, query by query: the first sees the first s - t + 1 pairs, each further one pair more.

    A query that sees nothing reads zeros. For the Gaussian, keys and values must have one width.

    Args:
        q: queries of t tokens in a row.
        k: keys of the pairs in memory, oldest first; the last query sees them all.
        v: their values.
        kernel: form of the weights.
        top_k: for "top_k" alone, how many pairs count.
        dropout: share of the weights that are dropped, the others being raised; 0 outside training.

    Cost: that of causal attention for "softmax" and "gaussian" from an empty memory or one with a single pair; a mask
    of t s truths otherwise, and all weights for the other kernels.
    """
    if kernel == "gaussian":
        length = _length_channels(k)
        n_more = length.shape[-1]
        q, k, v = F.pad(q, (0, n_more), value=1.0), torch.cat([k, length], dim=-1), F.pad(v, (0, n_more))
        return _fused(q, k, v, dropout)[..., :-n_more]
    if kernel == "softmax":
        return _fused(q, k, v, dropout)
    return F.dropout(read_weights(q, k, kernel, top_k), dropout) @ v


def read_weights(
    q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h s k"], kernel: ReadKernel, top_k: int | None = None
) -> Float[Tensor, "b h t s"]:
    """The weights of `smoothing_read`, as the fused forms never have them; rows that see nothing are zeros.

    Half precision is computed in float32, as the fused forms do: rounded logits would be wrong by their own size / 256.
    """
    dtype = q.dtype
    q, k = q.to(_compute(dtype)), k.to(_compute(dtype))
    logits = q @ k.mT
    if kernel == "gaussian":
        logits = logits + _length_channels(k).mT
    visible = visible_pairs(q.shape[2], k)
    return smoothing_weights(logits, visible, "softmax" if kernel == "gaussian" else kernel, top_k).to(dtype)


def visible_pairs(n_queries: int, k: Float[Tensor, "b h s k"]) -> Bool[Tensor, "t s"]:
    """Which pairs each query sees."""
    n_pairs = k.shape[2]
    query = torch.arange(n_pairs - n_queries + 1, n_pairs + 1, device=k.device).unsqueeze(1)
    return torch.arange(n_pairs, device=k.device) < query


def of_length(x: Float[Tensor, "*b h d"], length: Float[Tensor, "h"] | None = None) -> Float[Tensor, "*b h d"]:
    """Vectors drawn to unit length, or to the length of their head; zero stays zero, with a finite gradient.

    Half precision is computed in float32, where the square of epsilon does not vanish.
    """
    wide = x.to(_compute(x.dtype))
    factor = (wide.square().sum(-1, keepdim=True) + LENGTH_EPSILON**2).rsqrt()
    if length is not None:
        factor = factor * length.unsqueeze(-1)
    return (wide * factor).to(x.dtype)


def _compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _length_channels(k: Float[Tensor, "b h s k"]) -> Float[Tensor, "b h s lengths"]:
    """-|k|^2 / 2, in half precision as two numbers that add up to it: what is rounded off the first is the second."""
    exact = -k.to(_compute(k.dtype)).square().sum(-1, keepdim=True) / 2
    rounded = exact.to(k.dtype)
    return rounded if rounded.dtype == exact.dtype else torch.cat([rounded, (exact - rounded).to(k.dtype)], dim=-1)


def _fused(
    q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h s k"], v: Float[Tensor, "b h s v"], dropout: float
) -> Float[Tensor, "b h t v"]:
    n_queries, n_pairs = q.shape[2], k.shape[2]
    n_before = n_pairs - n_queries + 1
    if n_pairs == 0:
        return v.new_zeros(*q.shape[:3], v.shape[3])
    if n_before == 0:
        read = F.scaled_dot_product_attention(q[:, :, 1:], k, v, is_causal=True, scale=1.0, dropout_p=dropout)
        return F.pad(read, (0, 0, 1, 0))
    if n_before == 1 or n_queries == 1:
        causal = n_queries > 1
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0, dropout_p=dropout)
    visible = visible_pairs(n_queries, k)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=1.0, dropout_p=dropout)
