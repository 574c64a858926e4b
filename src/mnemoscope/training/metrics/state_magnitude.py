"""Magnitude of a memory's state, and how much a token changes it.

    norm               mean over sequences of |S_T|, the Frobenius norm of one sequence's state after its last token
    relative_update    mean over sequences and tokens of |S_t - S_{t-1}| / |S_{t-1}|

What it says: whether something is written at all, and whether it grows. How to read it: an update near 0 is a memory
that ignores its input, whatever its norm (a flat norm alone is not: a full memory that overwrites has one too); a norm
that climbs from evaluation to evaluation foretells a divergence. Traps: the norm of the whole batch's state grows with
the square root of the batch, so it is taken of each sequence; tokens that write into an empty state have no relative
update and are left out. Cost: the states after every token are formed in the observed step, in time and memory; drop
`state_magnitude` and `memory_rank` from the names where that is too dear.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64


@torch.no_grad()
def state_norm(states: Float[Tensor, "b t *s"]) -> float:
    """Mean norm of one sequence's state after the last token.

    Args:
        states: after every token.
    """
    return float(in_float64(states[:, -1].flatten(1)).norm(dim=-1).mean())


@torch.no_grad()
def relative_update(states: Float[Tensor, "b t *s"]) -> float | None:
    """Mean change by a token relative to the state before it; None where no token finds anything in memory.

    Args:
        states: after every token.
    """
    flat = states.flatten(2).float()
    before = flat[:, :-1].norm(dim=-1)
    change = (flat[:, 1:] - flat[:, :-1]).norm(dim=-1)
    written = before > 0
    return float(in_float64(change[written] / before[written]).mean()) if bool(written.any()) else None
