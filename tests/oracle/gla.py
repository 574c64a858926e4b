"""Gated linear attention as float64 loops, written from the equations; nothing of the package is used.

S_t = Diag(a_t) S_{t-1} + k_t v_t^T          r_t = S_t^T q_t

Source: Yang et al. 2023 (arXiv 2312.06635), equation 3 and section 4.4.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps

EPSILON = 1e-6


def rule(q: Tensor, k: Tensor, v: Tensor, a: Tensor, s: Tensor, before_write: bool = False) -> tuple[Tensor, Tensor]:
    """One sequence and head: q, k (t k), v (t v), a (t k) or (t 1), s (k v); returns reads (t v) and the last state."""
    reads = []
    for t in range(k.shape[0]):
        written = torch.diag(a[t].expand(k.shape[1])) @ s + torch.outer(k[t], v[t])
        reads.append((s if before_write else written).T @ q[t])
        s = written
    return torch.stack(reads), s


def rule_of_all_heads(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, s: Tensor, before_write: bool = False
) -> tuple[Tensor, Tensor]:
    """Every sequence and head on its own: q, k (b t h k), v (b t h v), a (b t h k) or (b t h 1), s (b h k v)."""
    reads, states = torch.zeros_like(v), torch.zeros_like(s)
    for i in range(k.shape[0]):
        for h in range(k.shape[2]):
            head = (tensor[i, :, h] for tensor in (q, k, v, a))
            reads[i, :, h], states[i, h] = rule(*head, s[i, h], before_write)
    return reads, states


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, key_width: int, temperature: float) -> Tensor:
    """A whole memory for one sequence x (t d), head by head."""
    d, n_keys, reads = x.shape[1], n_heads * key_width, []
    mixed = causal_taps(x @ weights["qkv.weight"].T, weights["convolution.weight"])
    low = x @ weights["retention_down.weight"].T
    logits = low @ weights["retention_up.weight"].T + weights["retention_up.bias"]
    a_all = logits.sigmoid() ** (1 / temperature)
    for h in range(n_heads):
        keys, values = slice(h * key_width, (h + 1) * key_width), slice(h * d // n_heads, (h + 1) * d // n_heads)
        q, k, v = mixed[:, :n_keys][:, keys], mixed[:, n_keys : 2 * n_keys][:, keys], mixed[:, 2 * n_keys :][:, values]
        empty = torch.zeros(key_width, d // n_heads, dtype=torch.float64)
        read, _ = rule(q / key_width**0.5, k, v, a_all[:, keys], empty)
        reads.append(read / ((read**2).mean(1, keepdim=True) + EPSILON).sqrt() * weights["norm.weight"])
    gate = x @ weights["output_gate.weight"].T + weights["output_gate.bias"]
    return (torch.cat(reads, dim=1) * gate * gate.sigmoid()) @ weights["out.weight"].T
