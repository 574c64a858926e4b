"""A bank under an energy as float64 loops over tokens and slots."""

from collections.abc import Mapping

import torch
from torch import Tensor


def held(slots: Tensor, radius: float | None) -> list[Tensor]:
    """The slots one by one, at their length on the sphere."""
    return [slot if radius is None else radius * slot / slot.square().sum().sqrt() for slot in slots]


def looked(slots: list[Tensor], tokens: Tensor, inverse_temperature: float) -> list[Tensor]:
    """Every slot after it has looked at all slots and at some tokens (s d)."""
    seen, found = [*slots, *tokens], []
    for slot in slots:
        scores = [(inverse_temperature * slot @ one).exp() for one in seen]
        mean = torch.zeros_like(slot)
        for score, one in zip(scores, seen, strict=True):
            mean = mean + score * one
        found.append(mean / sum(scores))
    return found


def memory(
    weights: Mapping[str, Tensor], x: Tensor, inverse_temperature: float, radius: float | None, looking: bool = False
) -> Tensor:
    """One sequence x (t d); the gate is applied where its weights are."""
    bank, outputs = held(weights["slots"].detach(), radius), []
    for t in range(x.shape[0]):
        slots = looked(bank, x[: t + 1] @ weights["look.weight"].T, inverse_temperature) if looking else bank
        query = weights["query.weight"] @ x[t]
        scores = [(inverse_temperature * query @ slot).exp() for slot in slots]
        read, total = torch.zeros_like(slots[0]), x.new_zeros(())
        for score, slot in zip(scores, slots, strict=True):
            read, total = read + score * slot, total + score
        read = read / total
        y = weights["out.weight"] @ read
        if "fusion.weight" in weights:
            y = y * (weights["fusion.weight"] @ torch.cat([x[t], read]) + weights["fusion.bias"]).sigmoid()
        outputs.append(y)
    return torch.stack(outputs)


def energy(queries: Tensor, slots: Tensor, inverse_temperature: float, radius: float | None) -> Tensor:
    """E of the slots under queries (t d)."""
    found, lengths = held(slots, radius), queries.new_zeros(())
    for slot in found:
        lengths = lengths + slot @ slot / (2 * len(found))
    total = queries.new_zeros(())
    for query in queries:
        mean = torch.stack([(inverse_temperature * query @ slot).exp() for slot in found]).mean()
        total = total - mean.log() / inverse_temperature
    return lengths + total / len(queries)
