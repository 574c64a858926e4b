"""Effective dimension of a read.

What it says: in how many directions reads differ from their mean, as the participation ratio of the covariance's
eigenvalues, (sum l)^2 / sum l^2. How to read it: 1 is a line, the width is a sphere; a read with no variance has 0. A
low value does not make a memory decorative. Cost: one pass.

Traps: few sequences bound it, since n reads differ in n - 1 directions at most; noise that nothing uses raises it.

Source: participation ratio, Gao and Ganguli 2015.
"""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64


def effective_dimension(values: Float[Tensor, "n d"]) -> float:
    """Participation ratio of the covariance of n vectors, in [0, d]."""
    centred = in_float64(values) - in_float64(values).mean(0)
    covariance = centred.T @ centred / len(values)
    total = covariance.trace()
    return float(total**2 / covariance.square().sum()) if total > 1e-24 else 0.0
