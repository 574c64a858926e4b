"""Mamba as float64 loops over time and channels, written from the paper; nothing of the package is used.

h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t          y_t = C_t h_t

Source: Gu and Dao 2023 (arXiv 2312.00752), algorithm 2, section 3.6.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps


def scan(delta: Tensor, a: Tensor, b: Tensor, c: Tensor, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """One sequence: delta, x (t d), a (d n), b, c (t n), h (d n); returns reads (t d) and the last state."""
    reads = []
    for t in range(x.shape[0]):
        rows = []
        for d in range(x.shape[1]):
            rows.append((delta[t, d] * a[d]).exp() * h[d] + delta[t, d] * b[t] * x[t, d])
        h = torch.stack(rows)
        reads.append((h * c[t]).sum(1))
    return torch.stack(reads), h


def scan_of_all(delta: Tensor, a: Tensor, b: Tensor, c: Tensor, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Every sequence on its own."""
    results = [scan(delta[i], a, b[i], c[i], x[i], h[i]) for i in range(x.shape[0])]
    reads, states = zip(*results, strict=True)
    return torch.stack(reads), torch.stack(states)


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def memory(weights: Mapping[str, Tensor], x: Tensor, rank: int, order: int) -> Tensor:
    """A whole block for one sequence x (t d)."""
    inner = weights["skip"].shape[0]
    x, z = (x @ weights["inputs.weight"].T).split(inner, dim=1)
    x = silu(causal_taps(x, weights["convolution.weight"]) + weights["convolution_bias"])
    selected = x @ weights["selection.weight"].T
    low, b, c = selected[:, :rank], selected[:, rank : rank + order], selected[:, rank + order :]
    delta = low @ weights["step_projection.weight"].T + weights["step_projection.bias"]
    delta = (1 + delta.exp()).log()
    y, _ = scan(delta, -weights["log_rate"].exp(), b, c, x, x.new_zeros(inner, order))
    return ((y + weights["skip"] * x) * silu(z)) @ weights["out.weight"].T
