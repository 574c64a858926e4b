"""Memory-augmented network with least-recently-used access as float64 loops over heads and slots.

Source: Santoro et al. 2016 (arXiv 1605.06065), equations 2 to 8.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.controllers import cosine, softmax, start, step, weighted


def memory(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    n_slots: int,
    word: int,
    n_heads: int,
    usage_decay: float,
    clip: float | None,
    with_controller: bool,
) -> Tensor:
    """One sequence x (t d)."""
    h, c = start(weights)
    zero = torch.zeros((), dtype=torch.float64)
    slots, usage = [torch.zeros(word, dtype=torch.float64) for _ in range(n_slots)], [zero] * n_slots
    places = [[zero] * n_slots for _ in range(n_heads)]
    reads, outputs = [torch.zeros(word, dtype=torch.float64) for _ in range(n_heads)], []
    for x_t in x:
        h, c, controls = step(weights, x_t, torch.cat(reads), h, c, clip)
        keys = list(controls.tanh().view(n_heads, word))
        # Equal usages are taken from the left.
        unused = sorted(range(n_slots), key=lambda i: usage[i].item())[:n_heads]
        writing = []
        for head in range(n_heads):
            reuse = weights["reuse"][head].sigmoid()
            writing.append([reuse * places[head][i] + (1 - reuse) * (i in unused) for i in range(n_slots)])
        slots = [torch.zeros_like(row) if i in unused else row for i, row in enumerate(slots)]
        slots = [row + weighted([place[i] for place in writing], keys) for i, row in enumerate(slots)]
        places = [softmax([cosine(key, row) for row in slots]) for key in keys]
        reads = [weighted(place, slots) for place in places]
        for i in range(n_slots):
            usage[i] = usage_decay * usage[i] + sum(place[i] for place in places + writing)
        outputs.append(weights["out.weight"] @ torch.cat([*reads, h] if with_controller else reads))
    return torch.stack(outputs)
