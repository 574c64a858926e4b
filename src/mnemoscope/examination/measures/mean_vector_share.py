"""Share of a read's energy that its mean vector carries, and the share that varies (D9).

Definition: |E r|^2 / E |r|^2, and what is left of 1, tr Cov(r) / E |r|^2.

What it says: how much of a read is one vector. How to read it: above 0.95 the read is a candidate for one constant
vector; the optimal constant decides. Traps: a gate downstream may live on the remaining per cent; reads that are
constant up to a large common offset look constant although the offset is what a norm takes out. Cost: one pass.

Source: the share of variance between groups (eta squared) of the analysis of variance.
"""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64


def mean_vector_share(values: Float[Tensor, "n d"]) -> float:
    """In [0, 1]; 0 for a read that is zero throughout."""
    values = in_float64(values)
    energy = float(values.square().sum(-1).mean())
    return float(values.mean(0).square().sum()) / energy if energy > 0 else 0.0


def read_variance_share(values: Float[Tensor, "n d"]) -> float:
    """In [0, 1]; 0 for a read that never varies, a read that is zero throughout included."""
    values = in_float64(values)
    energy = float(values.square().sum(-1).mean())
    return float((values - values.mean(0)).square().sum(-1).mean()) / energy if energy > 0 else 0.0
