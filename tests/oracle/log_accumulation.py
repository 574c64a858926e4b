"""The log accumulator as float64 loops over channels, on what attention reads."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.attention import attend
from tests.oracle.rotary import rotate


def raw_read(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, window: int | None, rotary: bool) -> Tensor:
    """What attention reads for one sequence x (t d), head by head, before any output projection."""
    q_all, k_all, v_all = (x @ weights["attention.qkv.weight"].T).chunk(3, dim=1)
    width, reads = x.shape[1] // n_heads, []
    for h in range(n_heads):
        channels = slice(h * width, (h + 1) * width)
        q, k = q_all[:, channels], k_all[:, channels]
        if rotary:
            q, k = rotate(q, 0), rotate(k, 0)
        reads.append(attend(q, k, v_all[:, channels], window))
    return torch.cat(reads, dim=1)


def slog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|) of one number."""
    return torch.log(1 + x) if x >= 0 else -torch.log(1 - x)


def accumulate(u: Tensor, retention: Tensor, in_loop: bool, scale: float = 1.0) -> Tensor:
    """What is shown after every token for u (t d)."""
    channels = []
    for c in range(u.shape[1]):
        total, shown = torch.zeros((), dtype=torch.float64), []
        for u_t in u[:, c]:
            total = retention[c] * total + u_t
            if in_loop:
                total = slog(total)
            shown.append(total if in_loop else slog(total / scale))
        channels.append(torch.stack(shown))
    return torch.stack(channels, dim=1)


def memory(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    n_heads: int,
    window: int | None,
    rotary: bool,
    in_loop: bool,
    scale: float,
) -> Tensor:
    """A whole log accumulator for one sequence x (t d)."""
    u = raw_read(weights, x, n_heads, window, rotary)
    retention = 1 / (1 + (-weights["retention"]).exp())
    return accumulate(u, retention, in_loop, scale) @ weights["out.weight"].T
