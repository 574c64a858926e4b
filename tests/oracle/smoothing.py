"""Weights of kernel smoothing as float64 loops over rows, written from the definition of entmax.

p_s = [(a - 1) z_s - tau]_+ ^ (1 / (a - 1)): every size of the support is tried with the largest logits, tau is solved
for that support in closed form or by bisection, and the one whose weights sum to one on exactly that support is kept.
"""

import torch
from torch import Tensor

POWERS = {"epanechnikov": 1, "biweight": 2, "triweight": 3}


def threshold(largest: Tensor, power: int) -> Tensor:
    """tau with sum (x - tau)^power = 1, all x above it; differentiable through one exact Newton step."""
    low, high = largest.detach().max() - 1, largest.detach().min()
    for _ in range(200):
        middle = (low + high) / 2
        if (largest.detach() - middle).pow(power).sum() > 1:
            low = middle
        else:
            high = middle
    above = largest - low
    # d tau / d x by the implicit function theorem: the step is zero in value and right in gradient.
    excess = above.pow(power).sum() - 1
    return low + excess / (power * above.detach().pow(power - 1).sum())


def entmax(z: Tensor, power: int) -> Tensor:
    """One row of logits (s)."""
    x = z / power
    order = x.detach().argsort(descending=True)
    for n in range(1, len(x) + 1):
        support = order[:n]
        if (x[support] - x[support].min()).detach().pow(power).sum() >= 1:
            support = order[: n - 1]
            break
        if n == len(x) or (x[support] - x[order[n]]).detach().pow(power).sum() >= 1:
            break
    tau = threshold(x[support], power)
    return torch.stack([(x[i] - tau).clamp(min=0) ** power if i in support else 0 * x[i] for i in range(len(x))])


def row(z: Tensor, visible: list[int], kernel: str, top_k: int | None = None) -> Tensor:
    """The weights of one row of logits (s), of which only some positions are visible."""
    weights = 0 * z
    if not visible:
        return weights
    seen = z[visible]
    if kernel in POWERS:
        inner = entmax(seen, POWERS[kernel])
    else:
        kept = seen >= seen.sort(descending=True).values[min(top_k or len(seen), len(seen)) - 1]
        raised = (seen - seen.max()).exp() * kept
        inner = raised / raised.sum()
    return weights.index_put((torch.tensor(visible),), inner)
