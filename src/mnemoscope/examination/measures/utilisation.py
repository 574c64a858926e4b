"""Utilisation of slots: how the mass of reading or writing spreads over them (D10).

Definitions, for the mean weight p_i of each of N slots: dead, p_i below a tenth of 1/N; Gini coefficient,
sum_ij |p_i - p_j| / (2 N^2 mean p); violation of balance, max p / mean p - 1. Where the weights of writes are known as
well: the lag, how many tokens ago what is read was written.

What it says: whether slots are there that nothing uses. How to read it: nine slots in ten dead and no effect of the
optimal constant speak for fewer slots; a violation near N - 1 is one slot for everything. Traps: mass is not
importance, and a slot read once a document can be the one that matters; balanced slots may all hold the same; the
numbers of few tokens count rare slots as dead. Cost: one pass in which the weights are formed.

Source: maximal violation, Wang et al. 2024 (arXiv 2408.15664); coefficient, Gini 1912.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64

DEAD_SHARE = 0.1
"""A slot with less than this share of its fair share is dead."""


def slot_mass(weights: Float[Tensor, "*b m"]) -> Float[Tensor, "m"]:
    """Each slot's share of all weight, adding up to one; all zero where there is no weight."""
    total = in_float64(weights).reshape(-1, weights.shape[-1]).sum(0)
    return total / total.sum() if total.sum() > 0 else total


def dead_slots(mass: Float[Tensor, "m"]) -> float:
    """Share of slots with less than a tenth of the mean mass."""
    return float(in_float64(mass < DEAD_SHARE * mass.mean()).mean()) if mass.sum() > 0 else 1.0


def gini(mass: Float[Tensor, "m"]) -> float:
    """0 where all slots have the same mass, 1 - 1/N where one has all."""
    ordered, n = in_float64(mass).sort().values, len(mass)
    if ordered.sum() <= 0:
        return 0.0
    rank = torch.arange(1, n + 1, dtype=ordered.dtype, device=ordered.device)
    return float(((2 * rank - n - 1) * ordered).sum() / (n * ordered.sum()))


def max_violation(mass: Float[Tensor, "m"]) -> float:
    """Largest mass over mean mass, less one: 0 in balance, N - 1 where one slot has all."""
    return float(mass.max() / mass.mean() - 1) if mass.sum() > 0 else 0.0


def write_to_read_lag(reads: Float[Tensor, "b t m"], writes: Float[Tensor, "b t m"]) -> float:
    """Mean age in tokens of what is read, when a write of weight w replaces that part of what its slot held.

    Only content written within the sequences counts; NaN where nothing of it is read.

    Args:
        reads: weight of every slot in the read at a token, after the token's own write.
        writes: share of every slot that a token overwrites, in [0, 1].
    """
    reads, writes = in_float64(reads), in_float64(writes)
    content = torch.zeros_like(writes[:, 0])
    aged, read, age = content.clone(), 0.0, 0.0
    for read_weight, written in zip(reads.unbind(1), writes.unbind(1), strict=True):
        aged = (1 - written) * (aged + content)
        content = (1 - written) * content + written
        read += float((read_weight * content).sum())
        age += float((read_weight * aged).sum())
    return age / read if read > 0 else float("nan")
