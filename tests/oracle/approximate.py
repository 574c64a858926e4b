"""Approximate retrieval as float64 loops over queries and pairs: which pairs are looked at, and softmax over these."""

import torch
from torch import Tensor


def read(q: Tensor, k: Tensor, v: Tensor, beta: float, looked_at: list[list[int]]) -> Tensor:
    """One head: q, k (t k), v (t v), and the pairs that each query looks at; zeros where there is none."""
    reads = []
    for t, pairs in enumerate(looked_at):
        if not pairs:
            reads.append(torch.zeros_like(v[0]))
            continue
        logits = torch.stack([beta * q[t] @ k[s] for s in pairs])
        raised = (logits - logits.max()).exp()
        reads.append(sum(r * v[s] for r, s in zip(raised, pairs, strict=True)) / raised.sum())
    return torch.stack(reads)


def hashed(q: Tensor, k: Tensor, planes: Tensor) -> list[list[int]]:
    """Pairs on the query's side of every hyperplane of some table; planes (tables bits k)."""
    found = []
    for t in range(len(q)):
        agrees = [any(bool(((table @ q[t] > 0) == (table @ k[s] > 0)).all()) for table in planes) for s in range(t)]
        found.append([s for s in range(t) if agrees[s]])
    return found


def probed(
    q: Tensor, k: Tensor, n_buckets: int, n_probed: int, n_iterations: int, picks: dict[int, list[int]]
) -> list[list[int]]:
    """Pairs in the nearest buckets; `picks` are the keys that each fit to the first n keys starts from."""
    found: list[list[int]] = [list(range(t)) for t in range(min(n_buckets + 1, len(q)))]
    while len(found) < len(q):
        start = len(found)
        centres = [k[i] for i in picks[start]]
        for _ in range(n_iterations):
            nearest = [max(range(n_buckets), key=lambda c, s=s: float(k[s] @ centres[c])) for s in range(start)]
            for c in range(n_buckets):
                members = [k[s] for s in range(start) if nearest[s] == c]
                if members:
                    total = torch.stack(members).sum(0)
                    centres[c] = total / total.norm()
        for t in range(start, min(2 * start, len(q))):
            order = sorted(range(n_buckets), key=lambda c, t=t: -float(q[t] @ centres[c]))[:n_probed]
            in_bucket = [max(range(n_buckets), key=lambda c, s=s: float(k[s] @ centres[c])) for s in range(t)]
            found.append([s for s in range(t) if in_bucket[s] in order])
    return found
