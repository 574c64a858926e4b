"""The matrix memory of xLSTM as float64 loops, without any stabilisation; nothing of the package is used.

C_t = f_t C_{t-1} + i_t k_t v_t^T      n_t = f_t n_{t-1} + i_t k_t      h_t = C_t^T q_t / max(|n_t . q_t|, 1)

Source: Beck et al. 2024 (arXiv 2405.04517), equations 19 to 27, with C transposed (keys by values).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps
from tests.oracle.mamba import silu

EPSILON = 1e-6


def head(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, c: Tensor, n: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One sequence, one head: q, k (t k), v (t v), strengths i and retentions f (t), c (k v), n (k)."""
    reads = []
    for t in range(k.shape[0]):
        c = f[t] * c + i[t] * torch.outer(k[t], v[t])
        n = f[t] * n + i[t] * k[t]
        reads.append(c.T @ q[t] / torch.maximum((n @ q[t]).abs(), torch.ones_like(n[0])))
    return torch.stack(reads), (c, n)


def all_heads(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, c: Tensor, n: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Every sequence and head: q, k (b t h k), v (b t h v), i, f (b t h), c (b h k v), n (b h k)."""
    reads, matrices, normalisers = torch.zeros_like(v), torch.zeros_like(c), torch.zeros_like(n)
    for b in range(k.shape[0]):
        for h in range(k.shape[2]):
            of_head = (tensor[b, :, h] for tensor in (q, k, v, i, f))
            reads[b, :, h], (matrices[b, h], normalisers[b, h]) = head(*of_head, c[b, h], n[b, h])
    return reads, matrices, normalisers


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, cap: float | None) -> Tensor:
    """A whole layer for one sequence x (t d), head by head; parts whose weights are absent are left out."""

    def logits(gate: str) -> Tensor:
        raw = x @ weights[f"{gate}.weight"].T + weights[f"{gate}.bias"]
        return raw if cap is None else cap * (raw / cap).tanh()

    kernel = weights["convolution.weight"]
    u = silu(causal_taps(x, kernel)) if kernel.shape[1] else x
    q_all, k_all = (u @ weights["qk.weight"].T).chunk(2, dim=1)
    v_all, out = x @ weights["v.weight"].T, []
    i, f = logits("write_gate").exp(), 1 / (1 + (-logits("retention_gate")).exp())
    for h in range(n_heads):
        q, k, v = (part.chunk(n_heads, dim=1)[h] for part in (q_all, k_all, v_all))
        empty = x.new_zeros(k.shape[1], v.shape[1])
        read, _ = head(q / k.shape[1] ** 0.5, k, v, i[:, h], f[:, h], empty, empty[:, 0])
        if "norm_scale" in weights:
            centred = read - read.mean(1, keepdim=True)
            read = centred / ((centred**2).mean(1, keepdim=True) + EPSILON).sqrt() * weights["norm_scale"][h]
        if "output_gate.weight" in weights:
            gate = x @ weights["output_gate.weight"].chunk(n_heads)[h].T
            read = read / (1 + (-gate).exp())
        out.append(read)
    return torch.cat(out, dim=1) @ weights["out.weight"].T
