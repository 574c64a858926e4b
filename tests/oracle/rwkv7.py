"""RWKV-7 time mixing as float64 loops, written from the equations; nothing of the package is used.

S_t = S_{t-1} (diag(w_t) - p_t (a_t * p_t)^T) + v_t k_t^T          o_t = S_t r_t

with S of values by keys, as in the source.

Source: Peng et al. 2025, "RWKV-7 Goose" (arXiv 2503.14456), section 4; no value residual.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.rwkv6 import group_norm


def rule(r: Tensor, k: Tensor, v: Tensor, p: Tensor, a: Tensor, w: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """One sequence, one head: r, k, p, a, w (t k), v (t v), s (v k); returns reads (t v) and the last state."""
    reads = []
    for t in range(r.shape[0]):
        s = s @ (torch.diag(w[t]) - torch.outer(p[t], a[t] * p[t])) + torch.outer(v[t], k[t])
        reads.append(s @ r[t])
    return torch.stack(reads), s


def rule_of_all_heads(
    r: Tensor, k: Tensor, v: Tensor, p: Tensor, a: Tensor, w: Tensor, s: Tensor
) -> tuple[Tensor, Tensor]:
    """Every sequence and head on its own: r, k, p, a, w (b t h k), v (b t h v), s (b h k v)."""
    reads, states = torch.zeros_like(v), torch.zeros_like(s)
    for i in range(k.shape[0]):
        for h in range(k.shape[2]):
            read, last = rule(*(tensor[i, :, h] for tensor in (r, k, v, p, a, w)), s[i, h].T)
            reads[i, :, h], states[i, h] = read, last.T
    return reads, states


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int) -> Tensor:
    """A whole memory for one sequence x (t d)."""
    d = x.shape[1]
    width, heads = d // n_heads, []
    before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
    of = {name: x + (before - x) * weights["mixes"][j] for j, name in enumerate("rkvwag")}
    r, k, v = (of[name] @ weights[f"{name}.weight"].T for name in "rkv")
    decay = (of["w"] @ weights["decay_down.weight"].T).tanh() @ weights["decay_up.weight"].T
    w = (-math.exp(-0.5) * (decay + weights["decay_up.bias"]).sigmoid()).exp()
    a = (of["a"] @ weights["rate_down.weight"].T @ weights["rate_up.weight"].T + weights["rate_up.bias"]).sigmoid()
    g = (of["g"] @ weights["gate_down.weight"].T).sigmoid() @ weights["gate_up.weight"].T
    removal = k * weights["removal_scale"]
    k = k * (1 - weights["rate_scale"] + a * weights["rate_scale"])
    present = []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        r_h, k_h, v_h, p_h, a_h, w_h = (tensor[:, channels] for tensor in (r, k, v, removal, a, w))
        p_h = p_h / p_h.norm(dim=1, keepdim=True)
        heads.append(rule(r_h, k_h, v_h, p_h, a_h, w_h, torch.zeros(width, width, dtype=torch.float64))[0])
        present.append((r_h * weights["bonus"][h] * k_h).sum(1, keepdim=True) * v_h)
    normed = group_norm(torch.cat(heads, dim=1), n_heads, weights["norm.weight"], weights["norm.bias"])
    return ((normed + torch.cat(present, dim=1)) * g) @ weights["out.weight"].T
