"""RWKV-6 time mixing as float64 loops, written from the equations; nothing of the package is used.

wkv_t = diag(u) k_t^T v_t + sum_{i < t} diag(w_{i+1} ... w_{t-1}) k_i^T v_i          o_t = r_t wkv_t

Source: Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892), the time mixing of Finch.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

EPSILON = 64e-5


def wkv(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
    """One sequence, one head: r, k, w (t k), v (t v), u (k); returns outputs (t v), pair by pair."""
    outputs = []
    for t in range(r.shape[0]):
        matrix = torch.outer(u * k[t], v[t])
        for i in range(t):
            matrix = matrix + torch.outer(w[i + 1 : t].prod(0) * k[i], v[i])
        outputs.append(r[t] @ matrix)
    return torch.stack(outputs)


def group_norm(x: Tensor, n_heads: int, weight: Tensor, bias: Tensor) -> Tensor:
    """x (t d), one group per head."""
    groups = []
    for group in x.chunk(n_heads, dim=1):
        centred = group - group.mean(1, keepdim=True)
        groups.append(centred / ((centred**2).mean(1, keepdim=True) + EPSILON).sqrt())
    return torch.cat(groups, dim=1) * weight + bias


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int) -> Tensor:
    """A whole memory for one sequence x (t d)."""
    d = x.shape[1]
    width, rank = d // n_heads, weights["shift_up"].shape[1]
    blends = {name: [] for name in "rkvgd"}
    for t in range(x.shape[0]):
        difference = (x[t - 1] if t else torch.zeros_like(x[0])) - x[t]
        low = ((x[t] + difference * weights["mix"]) @ weights["shift_down.weight"].T).tanh()
        for j, name in enumerate(blends):
            shift = weights["mixes"][j] + low[j * rank : (j + 1) * rank] @ weights["shift_up"][j]
            blends[name].append(x[t] + difference * shift)
    of = {name: torch.stack(rows) for name, rows in blends.items()}
    r, k, v, g = (of[name] @ weights[f"{name}.weight"].T for name in "rkvg")
    low = (of["d"] @ weights["decay_down.weight"].T).tanh()
    w = (-(low @ weights["decay_up.weight"].T + weights["decay_up.bias"]).exp()).exp()
    heads = []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        heads.append(wkv(*(tensor[:, channels] for tensor in (r, k, v, w)), weights["bonus"][h]))
    normed = group_norm(torch.cat(heads, dim=1), n_heads, weights["norm.weight"], weights["norm.bias"])
    return (normed * g * g.sigmoid()) @ weights["out.weight"].T
