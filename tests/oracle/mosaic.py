"""Memory Mosaics as float64 loops, written from the equations; nothing of the package is used.

k_T = s Norm(kbar_T), kbar_T = W x_T + retention kbar_{T-1}; v_i = u Norm(c p_i + (1 - c) p_{i+1}), p_t = W_v x_t;
y_T = W_z sum_{i < T} w(k_T, k_i) v_i.

Source: Zhang et al. 2024 (arXiv 2405.06394), equations 2, 3, 7 and 8.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle import smoothing
from tests.oracle.convolution import causal_taps

EPSILON = 1e-6


def unit(x: Tensor) -> Tensor:
    """One vector at length one, but for the guard."""
    return x / (x @ x + EPSILON**2).sqrt()


def leaky_average(x: Tensor, retention: Tensor, state: Tensor) -> Tensor:
    """One head: x (t d), one retention, or one a token."""
    rows = []
    for t in range(x.shape[0]):
        state = x[t] + (retention if retention.dim() == 0 else retention[t]) * state
        rows.append(state)
    return torch.stack(rows)


def legendre(x: Tensor, order: int, horizon: int) -> Tensor:
    """One series x (t), each token held for one unit of time: exp and inverse of the system's matrix, (t m)."""
    root = [(2 * i + 1) ** 0.5 for i in range(order)]
    a, b = torch.zeros(order, order, dtype=torch.float64), torch.zeros(order, dtype=torch.float64)
    for i in range(order):
        b[i] = root[i] * (-1) ** i / horizon
        for j in range(order):
            a[i, j] = -root[i] * root[j] * (1 if i < j else (-1) ** (i - j)) / horizon
    transition = torch.linalg.matrix_exp(a)
    response = torch.linalg.inv(a) @ (transition - torch.eye(order, dtype=torch.float64)) @ b
    c, rows = torch.zeros(order, dtype=torch.float64), []
    for value in x:
        c = transition @ c + response * value
        rows.append(c)
    return torch.stack(rows)


def head_keys(weights: Mapping[str, Tensor], name: str, x: Tensor, h: int, n_heads: int, **summary: int) -> Tensor:
    """The keys (t k) of one head before their length is set; the extractor is told by its weights and `summary`."""
    projected = x @ weights[f"{name}.project.weight"].T + weights.get(f"{name}.project.bias", 0)
    width = projected.shape[1] // n_heads
    channels = slice(h * width, (h + 1) * width)
    if f"{name}.leak" in weights:
        retention = (-10 * weights[f"{name}.leak"][h].abs()).exp()
        return leaky_average(projected[:, channels], retention, torch.zeros(width, dtype=torch.float64))
    if f"{name}.convolution.weight" in weights:
        return causal_taps(projected, weights[f"{name}.convolution.weight"])[:, channels]
    return torch.cat([legendre(series, **summary) for series in projected[:, channels].T], dim=1)


def contextual(
    weights: Mapping[str, Tensor],
    x: Tensor,
    n_heads: int,
    *,
    kernel: str = "softmax",
    top_k: int | None = None,
    normalise_keys: bool = True,
    inverse_temperature: float | None = None,
    scale_cap: float = 5.0,
    **summary: int,
) -> Tensor:
    """A contextual memory for one sequence x (t d); parts whose weights are absent are left out."""
    projected = x @ weights["value.weight"].T + weights.get("value.bias", 0)
    width, reads = x.shape[1] // n_heads, []
    for h in range(n_heads):
        k = head_keys(weights, "keys", x, h, n_heads, **summary)
        if inverse_temperature is None:
            scale = torch.exp(torch.minimum(10 * weights["key_scale"][h], torch.tensor(scale_cap, dtype=torch.float64)))
        else:
            scale = torch.tensor(inverse_temperature, dtype=torch.float64).sqrt()
        k = [scale * (unit(row) if normalise_keys else row) for row in k]
        p, values = projected[:, h * width : (h + 1) * width], []
        for i in range(x.shape[0] - 1):
            c = weights["mix"][h] if "mix" in weights else 0
            v = c * p[i] + (1 - c) * p[i + 1]
            values.append((10 * weights["value_scale"][h]).exp() * unit(v) if "value_scale" in weights else v)
        if "null" in weights:
            k, values = [torch.zeros_like(k[0]), *k], [weights["null"][h], *values]
        ahead = len(k) - x.shape[0]
        reads.append(torch.stack([_read(k[ahead + t], k, values, ahead + t, kernel, top_k) for t in range(len(x))]))
    return torch.cat(reads, dim=1) @ weights["out.weight"].T + weights.get("out.bias", 0)


def _read(q: Tensor, k: list[Tensor], v: list[Tensor], n_seen: int, kernel: str, top_k: int | None) -> Tensor:
    """What one query reads from the first `n_seen` pairs."""
    if n_seen == 0:
        return torch.zeros_like(q)
    if kernel == "gaussian":
        logits = torch.stack([-((q - k[i]) ** 2).sum() / 2 for i in range(n_seen)])
    else:
        logits = torch.stack([q @ k[i] for i in range(n_seen)])
    weights = smoothing.row(logits, list(range(n_seen)), kernel, top_k)
    return sum((weights[i] * v[i] for i in range(n_seen)), start=torch.zeros_like(q))


def persistent(weights: Mapping[str, Tensor], x: Tensor, n_heads: int) -> Tensor:
    """A persistent memory for one sequence x (t d)."""
    slot_keys, slot_values, reads = weights["slot_keys"], weights["slot_values"], []
    for h in range(n_heads):
        rows, scale = [], (10 * weights["key_scale"][h]).exp()
        for average in head_keys(weights, "query", x, h, n_heads):
            row = torch.zeros_like(average)
            for bank in range(slot_keys.shape[0]):
                raised = [(scale**2 * unit(average) @ key).exp() for key in slot_keys[bank, h]]
                for weight, value in zip(raised, slot_values[bank, h], strict=True):
                    row = row + weight / sum(raised) * value / slot_keys.shape[0]
            rows.append((10 * weights["value_scale"][h]).exp() * row)
        reads.append(torch.stack(rows))
    return torch.cat(reads, dim=1) @ weights["out.weight"].T + weights.get("out.bias", 0)


def feed_forward(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Two layers for one sequence x (t d); gated where the gate's weights are."""
    inner = x @ weights["inner.weight"].T
    if "gate.weight" in weights:
        gate = x @ weights["gate.weight"].T
        read = gate * gate.sigmoid() * inner
    else:
        read = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    return read @ weights["out.weight"].T
