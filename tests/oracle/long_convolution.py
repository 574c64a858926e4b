"""Hyena as float64 loops over stages, tokens and lags.

Source: Poli et al. 2023 (arXiv 2302.10866), definition 3.1.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps


def convolve(u: Tensor, filters: Tensor) -> Tensor:
    """y_t = sum_l filters[l] u_{t - l} for u (t d), filters (l d), zeros before u."""
    rows = []
    for t in range(u.shape[0]):
        row = torch.zeros_like(u[0])
        for lag in range(min(t + 1, filters.shape[0])):
            row = row + filters[lag] * u[t - lag]
        rows.append(row)
    return torch.stack(rows)


def filters(
    weights: Mapping[str, Tensor], order: int, max_tokens: int, n_bands: int, depth: int, decays: tuple[float, float]
) -> list[Tensor]:
    """The filters (l d) of all stages, tap by tap."""
    d = weights["filters.skip"].shape[1]
    fastest, slowest = (math.log(100) / share for share in decays)
    decay = torch.tensor([fastest + (slowest - fastest) * c / max(d - 1, 1) for c in range(d)], dtype=torch.float64)
    stages: list[list[Tensor]] = [[] for _ in range(order)]
    for lag in range(max_tokens):
        share = lag / max_tokens
        waves = [2 * math.pi * k * share for k in range(1, n_bands + 1)]
        e = [share, *(math.cos(wave) for wave in waves), *(-math.sin(wave) for wave in waves)]
        hidden = torch.tensor(e, dtype=torch.float64)
        for i in range(depth + 1):
            hidden = weights[f"filters.weights.{i}"] @ hidden + weights[f"filters.biases.{i}"]
            hidden = torch.sin(weights["filters.frequency"] * hidden)
        taps = weights["filters.last.weight"] @ hidden
        for n in range(order):
            tap = taps[n * d : (n + 1) * d] * torch.exp(-decay * share)
            stages[n].append(tap + weights["filters.skip"][n] if lag == 0 else tap)
    return [torch.stack(taps) for taps in stages]


def hyena(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    order: int,
    max_tokens: int,
    n_bands: int,
    depth: int,
    decays: tuple[float, float],
) -> Tensor:
    """A whole Hyena layer for one sequence x (t d)."""
    projected = causal_taps(x @ weights["projection.weight"].T, weights["convolution.weight"])
    z, *gates = projected.chunk(order + 1, dim=1)
    for h, gate in zip(filters(weights, order, max_tokens, n_bands, depth, decays), gates, strict=True):
        z = gate * convolve(z, h)
    return z @ weights["out.weight"].T
