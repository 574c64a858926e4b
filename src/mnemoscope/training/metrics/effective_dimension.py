"""Effective dimension: in how many directions vectors differ from their mean.

For n vectors of width d whose covariance has the eigenvalues l_1 >= l_2 >= ...:

    components       smallest k with  l_1 + ... + l_k >= 0.95 sum l        (95 % of a PCA)
    share            components / d
    participation    (sum l)^2 / sum l^2                                   (not quantised)

It is taken of the token embedding, of the output head and of the final hidden states, each for itself: StableMax
collapses the head first, and an untied embedding hardly at all. Tied weights are one matrix, counted once, as `tied`.

What it says: whether weights or activations have fallen into few directions. How to read it: a share of 1/d is one
direction; a fall before accuracy has risen is a collapse, one after it may be a cleaner solution. Alone it is no
verdict: full PerpGrad shrinks an embedding's spectrum and hardly its accuracy. Traps: n vectors differ in n - 1
directions at most, so the share of a vocabulary smaller than the width cannot be 1. Cost: eigenvalues of a matrix of
min(n, d) rows; of more than `MOST_ROWS` vectors, so many are taken, evenly spaced.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64
from mnemoscope.training.metrics.sampling import evenly

EXPLAINED = 0.95
MOST_ROWS = 4096


class EffectiveDimension(NamedTuple):
    """All three are 0 where the vectors are equal."""

    components: int
    share: float
    participation: float


@torch.no_grad()
def effective_dimension(vectors: Float[Tensor, "n d"]) -> EffectiveDimension:
    """Effective dimension of n vectors, in float64."""
    n, d = vectors.shape
    values = in_float64(vectors.detach()[evenly(n, MOST_ROWS, vectors.device)])
    rounding = torch.finfo(vectors.dtype).eps * values.square().sum().sqrt()
    values = values - values.mean(0)
    gram = values.T @ values if len(values) >= d else values @ values.T
    spectrum = torch.linalg.eigvalsh(gram).clamp_min(0).flip(0)
    total = spectrum.sum()
    if not total > rounding**2:
        return EffectiveDimension(0, 0.0, 0.0)
    # The last sum may fall short of the total by rounding, and no count by more than the number of values.
    components = min(int((spectrum.cumsum(0) < EXPLAINED * total).sum()) + 1, len(spectrum))
    return EffectiveDimension(components, components / d, float(total**2 / spectrum.square().sum()))
