"""Mamba-2 as float64 loops over heads and time, written from the paper; nothing of the package is used.

H_t = exp(Delta_t A) H_{t-1} + Delta_t B_t x_t^T          y_t = H_t^T C_t

Source: Dao and Gu 2024 (arXiv 2405.21060), equation 3 and section 7, with H transposed (keys by values).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps
from tests.oracle.mamba import silu

EPSILON = 1e-6


def head(a: Tensor, delta: Tensor, b: Tensor, c: Tensor, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One sequence, one head: retentions a, delta (t), b, c (t n), x (t p), state (n p); reads and the last state."""
    reads = []
    for t in range(x.shape[0]):
        state = a[t] * state + delta[t] * torch.outer(b[t], x[t])
        reads.append(state.T @ c[t])
    return torch.stack(reads), state


def all_heads(a: Tensor, delta: Tensor, b: Tensor, c: Tensor, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Every sequence and head: a, delta (b t h), b, c (b t g n), x (b t h p), state (b h n p)."""
    heads_a_group = x.shape[2] // b.shape[2]
    reads, states = torch.zeros_like(x), torch.zeros_like(state)
    for i in range(x.shape[0]):
        for h in range(x.shape[2]):
            g = h // heads_a_group
            reads[i, :, h], states[i, h] = head(
                a[i, :, h], delta[i, :, h], b[i, :, g], c[i, :, g], x[i, :, h], state[i, h]
            )
    return reads, states


def quadratic(a: Tensor, delta: Tensor, b: Tensor, c: Tensor, x: Tensor) -> Tensor:
    """Closed form of one head: a masked matrix of scores times what is written (equation 6 of the source)."""
    rows = []
    for t in range(x.shape[0]):
        weights = [a[s + 1 : t + 1].prod() * (c[t] @ b[s]) * delta[s] for s in range(t + 1)]
        rows.append(torch.stack(weights) @ x[: t + 1])
    return torch.stack(rows)


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, n_groups: int, order: int) -> Tensor:
    """A whole block for one sequence x (t d), head by head."""
    inner = weights["norm_scale"].shape[0]
    width, keys, heads_a_group = inner // n_heads, n_groups * order, n_heads // n_groups
    z, mixed, delta = (x @ weights["inputs.weight"].T).split([inner, inner + 2 * keys, n_heads], dim=1)
    mixed = silu(causal_taps(mixed, weights["convolution.weight"]) + weights["convolution_bias"])
    x, b, c = mixed.split([inner, keys, keys], dim=1)
    delta = (1 + (delta + weights["step_bias"]).exp()).log()
    heads = []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        shared = slice(h // heads_a_group * order, (h // heads_a_group + 1) * order)
        a = (-weights["log_rate"][h].exp() * delta[:, h]).exp()
        empty = x.new_zeros(order, width)
        y, _ = head(a, delta[:, h], b[:, shared], c[:, shared], x[:, channels], empty)
        heads.append(y + weights["skip"][h] * x[:, channels])
    gated = torch.cat(heads, dim=1) * silu(z)
    normed = []
    for group in gated.split(inner // n_groups, dim=1):
        normed.append(group / ((group**2).mean(1, keepdim=True) + EPSILON).sqrt())
    return (torch.cat(normed, dim=1) * weights["norm_scale"]) @ weights["out.weight"].T
