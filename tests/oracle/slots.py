"""Routed slots as float64 loops over tokens and slots."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def strengths(weights: Mapping[str, Tensor], x: Tensor, n_chosen: int | None) -> list[Tensor]:
    """How strongly one token would write each slot; into all of them where `n_chosen` is None."""
    scores = (weights["router.weight"] @ x).exp()
    shares = scores / scores.sum()
    gate = 1 / (1 + (-(weights["write_gate.weight"] @ x + weights["write_gate.bias"])[0]).exp())
    chosen = range(len(shares))
    if n_chosen is not None:
        ranked = (shares + weights["bias"]).tolist()
        chosen = sorted(chosen, key=lambda i: -ranked[i])[:n_chosen]
    return [gate * share if i in chosen else 0 * share for i, share in enumerate(shares)]


def read_of(weights: Mapping[str, Tensor], x: Tensor, slots: list[Tensor]) -> Tensor:
    query = weights["query.weight"] @ x
    scores = [(query @ slot / math.sqrt(len(query))).exp() for slot in slots]
    return weights["out.weight"] @ (sum(s * slot for s, slot in zip(scores, slots, strict=True)) / sum(scores))


def by_token(weights: Mapping[str, Tensor], x: Tensor, n_chosen: int | None) -> Tensor:
    """One sequence x (t d), each token written before it reads."""
    slots, outputs = list(weights["slots"]), []
    for token in x:
        value = weights["value.weight"] @ token
        shares = strengths(weights, token, n_chosen)
        slots = [slot + w * (value - slot) for w, slot in zip(shares, slots, strict=True)]
        outputs.append(read_of(weights, token, slots))
    return torch.stack(outputs)


def by_slot(weights: Mapping[str, Tensor], x: Tensor, n_chosen: int, chunk_tokens: int) -> Tensor:
    """One sequence x (t d); a chunk is read on the slots of its start, and then written by what each slot chose."""
    slots, outputs = list(weights["slots"]), []
    capacity = math.ceil(n_chosen * chunk_tokens / len(slots))
    for start in range(0, len(x), chunk_tokens):
        chunk = x[start : start + chunk_tokens]
        outputs += [read_of(weights, token, slots) for token in chunk]
        if len(chunk) < chunk_tokens:
            break
        shares = [strengths(weights, token, None) for token in chunk]
        for i in range(len(slots)):
            of_slot = [share[i].item() for share in shares]
            best = sorted(range(chunk_tokens), key=lambda j: -of_slot[j])[:capacity]
            for j in sorted(best):
                value = weights["value.weight"] @ chunk[j]
                slots[i] = slots[i] + shares[j][i] * (value - slots[i])
    return torch.stack(outputs)
