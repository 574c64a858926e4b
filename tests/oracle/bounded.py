"""A contextual memory of bounded size as float64 loops over tokens, heads and pairs, written from its equations."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6
"""Lengths are taken of a vector with one more channel of this size, so that zero has one."""


def unit(x: Tensor) -> Tensor:
    return x / (x @ x + EPSILON**2).sqrt()


@dataclass
class Pair:
    """One pair in memory."""

    k: Tensor
    v: Tensor
    merged: int = 1
    usage: float = 1.0
    hits: float = 0.0


def give_one_up(pairs: list[Pair], policy: str) -> list[Pair]:
    """What is left of capacity + 1 pairs, oldest first, the last one just written."""
    if policy == "ring":
        return pairs[1:]
    if policy == "lru":
        least = min(range(len(pairs) - 1), key=lambda i: pairs[i].usage)
        return pairs[:least] + pairs[least + 1 :]
    couples = [(i, j) for j in range(len(pairs)) for i in range(j)]
    i, j = max(couples, key=lambda couple: float(pairs[couple[0]].k.detach() @ pairs[couple[1]].k.detach()))
    older, newer = pairs[i], pairs[j]
    merged = older.merged + newer.merged
    k = older.merged * older.k + newer.merged * newer.k
    v = (older.merged * older.v + newer.merged * newer.v) / merged
    one = Pair(unit(k), v, merged, hits=older.hits + newer.hits)
    return [one if n == i else pair for n, pair in enumerate(pairs) if n != j]


def head(
    weights: Mapping[str, Tensor], x: Tensor, h: int, n_heads: int, capacity: int, policy: str, retention: float
) -> tuple[Tensor, list[Pair]]:
    """The reads (t v) of one head for one sequence x (t d), and the pairs at the end."""
    width = x.shape[1] // n_heads
    channels = slice(h * width, (h + 1) * width)
    w_key, w_value = weights["keys.project.weight"][channels], weights["value.weight"][channels]
    leak, mix = (-10 * abs(weights["keys.leak"][h])).exp(), weights["mix"][h]
    beta = (2 * (10 * weights["key_scale"][h]).clamp(max=5)).exp()
    scale = (10 * weights["value_scale"][h]).exp()

    average, reads, keys = torch.zeros(width, dtype=x.dtype), [], []
    pairs: list[Pair] = []
    for t in range(len(x)):
        average = w_key @ x[t] + leak * average
        keys.append(unit(average))
        if t == 0:
            reads.append(0 * average)
            continue
        value = mix * (w_value @ x[t - 1]) + (1 - mix) * (w_value @ x[t])
        pairs.append(Pair(keys[t - 1], scale * unit(value)))
        if len(pairs) > capacity:
            pairs = give_one_up(pairs, policy)
        logits = torch.stack([beta * keys[t] @ pair.k for pair in pairs])
        raised = torch.tensor([pair.merged for pair in pairs]) * (logits - logits.max()).exp()
        shares = raised / raised.sum()
        reads.append(sum(share * pair.v for share, pair in zip(shares, pairs, strict=True)))
        for share, pair in zip(shares.detach().tolist(), pairs, strict=True):
            pair.usage = retention * pair.usage + share
            pair.hits += share
    return torch.stack(reads), pairs


def memory(
    weights: Mapping[str, Tensor], x: Tensor, n_heads: int, capacity: int, policy: str, retention: float
) -> Tensor:
    """A whole memory for one sequence x (t d)."""
    reads = [head(weights, x, h, n_heads, capacity, policy, retention)[0] for h in range(n_heads)]
    return torch.cat(reads, dim=1) @ weights["out.weight"].T
