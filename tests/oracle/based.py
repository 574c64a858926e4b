"""Based as float64 loops over pairs of tokens: the Taylor series of the exponential instead of its features.

Source: Arora et al. 2024 (arXiv 2402.18668), section 4.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps
from tests.oracle.linear_attention import kernel_attention


def taylor(q: Tensor, k: Tensor) -> Tensor:
    score = q @ k / q.shape[0] ** 0.5
    return 1 + score + score**2 / 2


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, feature_width: int) -> Tensor:
    """A whole memory for one sequence x (t d), head by head."""
    mixed = causal_taps(x @ weights["qkv.weight"].T, weights["convolution.weight"])
    n_keys, d = n_heads * feature_width, x.shape[1]
    q_all, k_all, v_all = mixed[:, :n_keys], mixed[:, n_keys : 2 * n_keys], mixed[:, 2 * n_keys :]
    reads = []
    for h in range(n_heads):
        keys = slice(h * feature_width, (h + 1) * feature_width)
        values = slice(h * d // n_heads, (h + 1) * d // n_heads)
        pairs = kernel_attention(q_all[:, keys], k_all[:, keys], v_all[:, values], taylor)
        reads.append(torch.stack([total / weight for total, weight in pairs]))
    return torch.cat(reads, dim=1) @ weights["out.weight"].T
