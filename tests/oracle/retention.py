"""Retention in its parallel form, as float64 loops over pairs of tokens; nothing of the package is used.

r_n = sum_{m <= n} g^{n - m} (q_n e^{i n theta} . k_m e^{-i m theta}) v_m

Source: Sun et al. 2023 (arXiv 2307.08621), equation 5 (parallel form, with its decay matrix D) and 8.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.rotary import rotate

EPSILON = 1e-6


def parallel(q: Tensor, k: Tensor, v: Tensor, rate: float) -> Tensor:
    """(Q K^T * D) V of one head, q, k (t k), v (t v)."""
    n = q.shape[0]
    d = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(i + 1):
            d[i, j] = rate ** (i - j)
    return (q @ k.T * d) @ v


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, *, rotary: bool) -> Tensor:
    """A whole memory for one sequence x (t d), head by head."""
    q_all, k_all = (x @ weights["qk.weight"].T).chunk(2, dim=1)
    v_all, reads = x @ weights["v.weight"].T, []
    width, value_width = q_all.shape[1] // n_heads, v_all.shape[1] // n_heads
    for h in range(n_heads):
        q, k = q_all[:, h * width : (h + 1) * width], k_all[:, h * width : (h + 1) * width]
        if rotary:
            q, k = rotate(q, 0), rotate(k, 0)
        v = v_all[:, h * value_width : (h + 1) * value_width]
        read = parallel(q / width**0.5, k, v, 1 - 2.0 ** (-5 - h))
        centred = read - read.mean(1, keepdim=True)
        reads.append(centred / ((centred**2).mean(1, keepdim=True) + EPSILON).sqrt())
    gate = x @ weights["output_gate.weight"].T
    return (gate * gate.sigmoid() * torch.cat(reads, dim=1)) @ weights["out.weight"].T
