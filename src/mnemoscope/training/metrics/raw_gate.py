"""The raw gate of a memory: how far the way from the memory to the residual stream is open, before any floor.

For the gate g in [0, 1], over tokens and channels:

    mean, std           of the raw gate
    dead, saturated     share of it below 0.01, above 0.99
    lifted_fraction     share that a floor lifts: what left the read point is larger than what reached it

and where a memory m and another branch a stand side by side, each with its gate and contribution announced:

    branch_share        mean over tokens of  u = |m| / (|m| + |a|)
    effective           mean of the raw gate weighted by u,  sum_t u_t mean_c g_tc / sum_t u_t

What it says: whether a memory is being shut out. How to read it: a raw mean below 0.1 is a collapse, whatever a floor
lifts it to; a floor of 0.3 makes every gate read at least 0.3 and hides just that. A gate of 0.5 before a memory that
gives nothing is shut too, which `branch_share` shows and no gate can. Descriptive only: a small gate can let decisive
content through, a large one can be cancelled downstream. Traps: only a floor that is applied at the read point (a
remedy's) is seen by `lifted_fraction`, and an affine one lifts every gate; one inside a module comes after what it
announces, and is not seen. Cost: a few passes over a sample of the batch.

Source: defects of the floored gate as a metric of health, and the effective gate: the Atlas tuning guide's metrics.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64

DEAD, SATURATED = 0.01, 0.99


class RawGate(NamedTuple):
    """Statistics of one or more gates, all in [0, 1]."""

    mean: float
    std: float
    dead: float
    saturated: float
    lifted_fraction: float


class EffectiveGate(NamedTuple):
    """The gate of a memory beside another branch, both in [0, 1]."""

    effective: float
    branch_share: float


@torch.no_grad()
def raw_gate(raw: Float[Tensor, "*n"], used: Float[Tensor, "*n"]) -> RawGate:
    """Statistics of a gate.

    Args:
        raw: as it was announced, before any floor.
        used: as the network used it.
    """
    g = raw.float()
    flags = in_float64(torch.stack([g < DEAD, g > SATURATED, used > raw]).flatten(1)).mean(1)
    std, mean = torch.std_mean(g, correction=0)
    return RawGate(*torch.cat([in_float64(torch.stack([mean, std])), flags]).tolist())


@torch.no_grad()
def effective_gate(
    raw: Float[Tensor, "b t d"], memory: Float[Tensor, "b t d"], beside: Float[Tensor, "b t d"]
) -> EffectiveGate | None:
    """The gate weighted by the memory's share of what the two branches give; None where the memory gives nothing.

    Args:
        raw: gate of the memory, before any floor.
        memory: m, before its gate.
        beside: a, before its gate.
    """
    ours, theirs = (branch.float().norm(dim=-1) for branch in (memory, beside))
    share = torch.where(ours > 0, ours / (ours + theirs), 0.0)
    if not share.sum() > 0:
        return None
    return EffectiveGate(float((share * raw.float().mean(-1)).sum() / share.sum()), float(share.mean()))


def ungated(contribution: Float[Tensor, "b t d"], gate: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    """What a branch gave before its gate, from gate times branch; 0 where the gate is 0.

    Args:
        contribution: gate times branch.
        gate: as the network used it, after any floor.
    """
    return torch.where(gate > 0, contribution / gate, 0.0)
