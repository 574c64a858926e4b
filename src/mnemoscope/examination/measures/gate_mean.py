"""Mean of a gate, before any floor.

What it says: how far the way from the read to the residual stream is open. How to read it: descriptive only; a small
gate can let decisive content through, a large one can be cancelled downstream. Cost: one pass.

Traps: under a floor the mean cannot fall below it; take the gate before the floor.
"""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64


def gate_mean(gate: Float[Tensor, "..."]) -> float:
    """Mean over everything."""
    return float(in_float64(gate).mean())
