"""Memory Mosaics v2 as float64 loops over tokens, heads and pairs, written from the equations.

Source: Zhang, Bottou 2025 (arXiv 2507.03285); equations 4 to 8 of Zhang et al. 2024 (arXiv 2405.06394).
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def head(weights: Mapping[str, Tensor], x: Tensor, h: int, n_heads: int, window: int | None, delay: int) -> Tensor:
    """The reads (t v) of one head of one level for one sequence x (t d)."""
    width = x.shape[1] // n_heads
    channels = slice(h * width, (h + 1) * width)
    w_key, w_value = weights["key.weight"][channels], weights["value.weight"][channels]
    w_write, w_retain = weights["gates.weight"][h], weights["gates.weight"][n_heads + h]
    floor, slope = (weights[name][h].clamp(max=10).exp() for name in ("log_floor", "log_slope"))
    exponent = min(abs(weights["exponent"][h]), torch.ones((), dtype=x.dtype))
    scale = abs(weights["log_scale"][h]).clamp(max=15).exp()
    share = weights["present_share"][h]

    average, keys, values, reads = torch.zeros(width, dtype=x.dtype), [], [], []
    for t in range(len(x)):
        average = (w_write @ x[t]).clamp(max=15).exp() * (w_key @ x[t]) + (-abs(w_retain @ x[t])).exp() * average
        keys.append(average / average.norm())
        if t:
            # The pair of the token before: its value has peeked at this one.
            value = share * (w_value @ x[t - 1]) + (1 - share) * (w_value @ x[t])
            values.append(scale * value / value.norm())
        readable = [i for i in range(t) if i <= t - delay and (window is None or i >= t - window)]
        if not readable:
            reads.append(0 * average)
            continue
        beta = slope * len(readable) ** exponent + floor
        logits = torch.stack([beta * keys[t] @ keys[i] for i in readable])
        raised = (logits - logits.max()).exp()
        reads.append(sum(r * values[i] for r, i in zip(raised, readable, strict=True)) / raised.sum())
    return torch.stack(reads)


def memory(weights: Mapping[str, Tensor], x: Tensor, n_heads: int, short_window: int, long_delay: int) -> Tensor:
    """A whole memory; a level whose weights are absent is left out, and W_o acts on all heads of both together."""
    reads, outs = [], []
    for level, window, delay in (("short", short_window, 1), ("long", None, long_delay)):
        own = {name.removeprefix(f"{level}."): w for name, w in weights.items() if name.startswith(f"{level}.")}
        if own:
            reads += [head(own, x, h, n_heads, window, delay) for h in range(n_heads)]
            outs.append(own["out.weight"])
    return torch.cat(reads, dim=1) @ torch.cat(outs, dim=1).T
