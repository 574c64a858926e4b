"""A mixture of experts as float64 loops over tokens and experts."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def expert(weights: Mapping[str, Tensor], index: int, x: Tensor) -> Tensor:
    """One token through one net."""
    inner = x @ weights["inner"][index]
    return (inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))) @ weights["outer"][index]


def scores_of(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    scores = (weights["router.weight"] @ x).exp()
    return scores / scores.sum()


def by_token(weights: Mapping[str, Tensor], x: Tensor, n_chosen: int) -> Tensor:
    """One sequence x (t d); every token goes to its best experts, biases counted in the ranking alone."""
    outputs = []
    for token in x:
        scores = scores_of(weights, token)
        bias = weights["bias"].tolist() if "bias" in weights else [0.0] * len(scores)
        ranked = [score + extra for score, extra in zip(scores.tolist(), bias, strict=True)]
        best = sorted(range(len(ranked)), key=lambda i: -ranked[i])[:n_chosen]
        outputs.append(sum(scores[i] * expert(weights, i, token) for i in best))
    return torch.stack(outputs)


def by_expert(weights: Mapping[str, Tensor], x: Tensor, n_chosen: int, chunk_tokens: int) -> Tensor:
    """One sequence x (t d); every expert takes what reaches the threshold of the chunk before, up to its share."""
    n_experts = len(weights["router.weight"])
    capacity = math.ceil(chunk_tokens * n_chosen / n_experts)
    thresholds, outputs = [1 / n_experts] * n_experts, []
    for start in range(0, len(x), chunk_tokens):
        chunk = x[start : start + chunk_tokens]
        n_taken, seen = [0] * n_experts, []
        for token in chunk:
            scores, y = scores_of(weights, token), torch.zeros_like(token)
            for i in range(n_experts):
                if scores[i] >= thresholds[i] and n_taken[i] < capacity:
                    n_taken[i] += 1
                    y = y + scores[i] * expert(weights, i, token)
            outputs.append(y)
            seen.append(scores.tolist())
        if len(chunk) == chunk_tokens:
            thresholds = [sorted((row[i] for row in seen), reverse=True)[capacity - 1] for i in range(n_experts)]
    return torch.stack(outputs)
