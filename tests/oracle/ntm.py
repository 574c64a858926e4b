"""Neural Turing machine as float64 loops over heads and slots.

Source: Graves, Wayne, Danihelka 2014 (arXiv 1410.5401), equations 2 to 9.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.controllers import cosine, softmax, softplus, start, step, weighted


def address(
    memory: list[Tensor],
    last: list[Tensor],
    key: Tensor,
    beta: Tensor,
    gate: Tensor,
    shift: list[Tensor],
    gamma: Tensor,
) -> list[Tensor]:
    """One head: equations 5 to 9; `shift[j]` is the share of a shift by j - len(shift) // 2."""
    n = len(memory)
    content = softmax([beta * cosine(key, row) for row in memory])
    mixed = [gate * content[i] + (1 - gate) * last[i] for i in range(n)]
    moved = []
    for i in range(n):
        total = torch.zeros((), dtype=torch.float64)
        for j, share in enumerate(shift):
            total = total + mixed[(i - (j - len(shift) // 2)) % n] * share
        moved.append(total)
    powers = [weight**gamma for weight in moved]
    return [power / sum(powers) for power in powers]


def write(memory: list[Tensor], places: list[list[Tensor]], erases: Tensor, adds: Tensor) -> list[Tensor]:
    """Equations 3 and 4 for any number of heads: all erase, then all add."""
    rows = []
    for i, row in enumerate(memory):
        for place, erase in zip(places, erases, strict=True):
            row = row * (1 - place[i] * erase)
        for place, add in zip(places, adds, strict=True):
            row = row + place[i] * add
        rows.append(row)
    return rows


def memory(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    n_slots: int,
    word: int,
    n_read: int,
    n_write: int,
    shift: int,
    clip: float | None,
    with_controller: bool,
) -> Tensor:
    """One sequence x (t d).

    Controls stand in the order keys, additions, gates, erasures, strengths, exponents, shifts; write heads come first.
    """
    h, c = start(weights)
    heads = n_write + n_read
    slots = [torch.full((word,), 1e-6, dtype=torch.float64) for _ in range(n_slots)]
    if "first_memory" in weights:
        slots = list(weights["first_memory"])
    places = [softmax(list(logits)) for logits in weights["first_weights"]]
    reads, outputs = [row.tanh() for row in weights["first_reads"]], []
    for x_t in x:
        h, c, controls = step(weights, x_t, torch.cat(reads), h, c, clip)
        sizes = [heads * word, n_write * word, heads, n_write * word, heads, heads, heads * shift]
        keys, adds, gates, erases, betas, gammas, shifts = controls.split(sizes)

        def of_head(i: int, slots: list[Tensor], parts=(keys, betas, gates, shifts, gammas), places=places):
            keys, betas, gates, shifts, gammas = parts
            key, kernel = keys[i * word : (i + 1) * word].tanh(), softmax(list(shifts[i * shift : (i + 1) * shift]))
            gamma = 1 + softplus(gammas[i])
            return address(slots, places[i], key, softplus(betas[i]), gates[i].sigmoid(), kernel, gamma)

        writing = [of_head(i, slots) for i in range(n_write)]
        slots = write(slots, writing, erases.sigmoid().view(-1, word), adds.tanh().view(-1, word))
        reading = [of_head(i, slots) for i in range(n_write, heads)]
        reads, places = [weighted(place, slots) for place in reading], writing + reading
        outputs.append(weights["out.weight"] @ torch.cat([*reads, h] if with_controller else reads))
    return torch.stack(outputs)
