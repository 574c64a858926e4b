"""Differentiable neural computer as float64 loops over heads and slots, with the three amendments.

Source: Graves et al. 2016 (Nature 538, 471), methods; Csordás & Schmidhuber 2019 (arXiv 1904.10278), section 3.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.controllers import cosine, softmax, softplus, start, step, weighted


def scalar() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def allocation(usage: list[Tensor]) -> list[Tensor]:
    """Equals are taken from the left."""
    order = sorted(range(len(usage)), key=lambda i: usage[i].item())
    weights, taken = [scalar() for _ in usage], torch.ones((), dtype=torch.float64)
    for i in order:
        weights[i] = (1 - usage[i]) * taken
        taken = taken * usage[i]
    return weights


def content(memory: list[Tensor], key: Tensor, strength: Tensor, mask: Tensor) -> list[Tensor]:
    return softmax([strength * cosine(mask * key, mask * row) for row in memory])


def links(link: list[list[Tensor]], w: list[Tensor], p: list[Tensor]) -> list[list[Tensor]]:
    n = len(w)
    return [[(1 - w[i] - w[j]) * link[i][j] + w[i] * p[j] if i != j else scalar() for j in range(n)] for i in range(n)]


def followed(link: list[list[Tensor]], read: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Forwards L r and backwards L^T r."""
    n = len(read)
    forwards = [sum((link[i][j] * read[j] for j in range(n)), scalar()) for i in range(n)]
    return forwards, [sum((link[i][j] * read[i] for i in range(n)), scalar()) for j in range(n)]


def sharpen(weights: list[Tensor], power: Tensor) -> list[Tensor]:
    largest = max(weights, key=Tensor.item)
    powers = [((weight + 1e-6) / (largest + 1e-6)) ** power for weight in weights]
    return [power / sum(powers) for power in powers]


def memory(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    n_slots: int,
    word: int,
    n_read: int,
    mask_floor: float | None,
    deallocation: bool,
    sharpness: bool,
    clip: float | None,
    with_controller: bool,
) -> Tensor:
    """One sequence x (t d); `mask_floor` is None without masking. The write head is the last of the keys."""
    h, c = start(weights)
    slots = [torch.zeros(word, dtype=torch.float64) for _ in range(n_slots)]
    usage, last_write, p = ([scalar() for _ in slots] for _ in range(3))
    link = [[scalar() for _ in slots] for _ in slots]
    places = [[scalar() for _ in slots] for _ in range(n_read)]
    reads, outputs = [torch.zeros(word, dtype=torch.float64) for _ in range(n_read)], []
    n_masked = 0 if mask_floor is None else (n_read + 1) * word
    sizes = [(n_read + 1) * word, word, word, n_read, 1, 1, n_masked, n_read + 1, 2 * n_read * sharpness, 3 * n_read]
    for x_t in x:
        h, c, controls = step(weights, x_t, torch.cat(reads), h, c, clip)
        keys, value, erase, free, allocate, gate, masks, strengths, sharp, modes = controls.split(sizes)
        key = list(keys.view(-1, word))
        mask = [torch.ones(word, dtype=torch.float64) for _ in key]
        if mask_floor is not None:
            mask = [mask_floor + (1 - mask_floor) * row.sigmoid() for row in masks.view(-1, word)]
        strength, powers = 1 + softplus(strengths), 1 + softplus(sharp)

        psi = [torch.ones((), dtype=torch.float64) for _ in slots]
        for i in range(n_slots):
            for r in range(n_read):
                psi[i] = psi[i] * (1 - free[r].sigmoid() * places[r][i])
            w = last_write[i].detach() if deallocation else last_write[i]
            usage[i] = (usage[i] + w - usage[i] * w) * psi[i]
        free_places, found = allocation(usage), content(slots, key[-1], strength[-1], mask[-1])
        g, a = gate[0].sigmoid(), allocate[0].sigmoid()
        write = [g * (a * free_places[i] + (1 - a) * found[i]) for i in range(n_slots)]
        wiped = [psi[i] * slots[i] if deallocation else slots[i] for i in range(n_slots)]
        slots = [wiped[i] * (1 - write[i] * erase.sigmoid()) + write[i] * value for i in range(n_slots)]
        link, total = links(link, write, p), sum(write, scalar())
        p = [(1 - total) * p[i] + write[i] for i in range(n_slots)]

        reads, new_places = [], []
        for r in range(n_read):
            forwards, backwards = followed(link, places[r])
            if sharpness:
                forwards, backwards = sharpen(forwards, powers[r]), sharpen(backwards, powers[n_read + r])
            pi, by_content = modes[3 * r : 3 * r + 3].softmax(0), content(slots, key[r], strength[r], mask[r])
            mixed = zip(backwards, by_content, forwards, strict=True)
            new_places.append([pi[0] * b + pi[1] * k + pi[2] * f for b, k, f in mixed])
            reads.append(weighted(new_places[-1], slots))
        usage, places, last_write = list(usage), new_places, write
        outputs.append(weights["out.weight"] @ torch.cat([*reads, h] if with_controller else reads))
    return torch.stack(outputs)
