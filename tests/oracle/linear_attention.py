"""Linear attention as float64 loops, written from the equations; nothing of the package is used.

r_t = sum_{s <= t} (phi(q_t) . phi(k_s)) v_s / sum_{s <= t} phi(q_t) . phi(k_s)

Source: Katharopoulos et al. 2020 (arXiv 2006.16236), equation 4 with a causal sum.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps

EPSILON = 1e-6


def kernel_attention(q: Tensor, k: Tensor, v: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """Pairs (sum of weighted values, sum of weights) of one head, by the kernel of every pair."""
    pairs = []
    for t in range(q.shape[0]):
        weights = torch.stack([kernel(q[t], k[s]) for s in range(t + 1)])
        pairs.append((weights @ v[: t + 1], weights.sum()))
    return pairs


def feature(name: str, x: Tensor) -> Tensor:
    if name == "elu":
        return torch.where(x > 0, x + 1, x.exp())
    return x * (x > 0) if name == "relu" else x / x.shape[0] ** 0.25


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, *, feature_map: str, normaliser: bool) -> Tensor:
    """A whole memory for one sequence x (t d), head by head."""
    q_all, k_all, v_all = causal_taps(x @ weights["qkv.weight"].T, weights["convolution.weight"]).chunk(3, dim=1)
    width, reads = q_all.shape[1] // n_heads, []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        pairs = kernel_attention(
            q_all[:, channels],
            k_all[:, channels],
            v_all[:, channels],
            lambda q, k: feature(feature_map, q) @ feature(feature_map, k),
        )
        reads.append(torch.stack([total / (weight + EPSILON) if normaliser else total for total, weight in pairs]))
    return torch.cat(reads, dim=1) @ weights["out.weight"].T
