"""Causal softmax attention as float64 loops: every position lists what it may look at.

Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps
from tests.oracle.rotary import rotate

EPSILON = 1e-6


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None, slope: float = 0.0) -> Tensor:
    """One sequence, one head: q (t k), k (t k), v (t v); a token costs `slope` for each token of its age."""
    reads = []
    for t in range(q.shape[0]):
        first = 0 if window is None else max(0, t - window + 1)
        scores = torch.stack([q[t] @ k[s] / q.shape[1] ** 0.5 - slope * (t - s) for s in range(first, t + 1)])
        weights = (scores - scores.max()).exp()
        weights = weights / weights.sum()
        reads.append(sum(weights[s - first] * v[s] for s in range(first, t + 1)))
    return torch.stack(reads)


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, *, window: int | None, positions: str) -> Tensor:
    """A whole attention layer for one sequence x (t d), head by head; norms are applied where their weights are."""
    q_all, k_all, v_all = causal_taps(x @ weights["qkv.weight"].T, weights["convolution.weight"]).chunk(3, dim=1)
    width, reads = q_all.shape[1] // n_heads, []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        q, k, v = q_all[:, channels], k_all[:, channels], v_all[:, channels]
        if "q_norm.weight" in weights:
            q, k = _rms(q) * weights["q_norm.weight"], _rms(k) * weights["k_norm.weight"]
        if positions == "rotary":
            q, k = rotate(q, 0), rotate(k, 0)
        slope = 2 ** (-8 * (h + 1) / n_heads) if positions == "alibi" else 0.0
        reads.append(attend(q, k, v, window, slope))
    return torch.cat(reads, dim=1) @ weights["out.weight"].T


def _rms(x: Tensor) -> Tensor:
    return x / ((x**2).mean(1, keepdim=True) + EPSILON).sqrt()
