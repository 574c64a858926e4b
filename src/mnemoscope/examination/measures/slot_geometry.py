"""Geometry of vectors: the slots of a bank, or the reads it gave.

Definitions, for n vectors M with singular values s: mean cosine over all pairs, of the vectors as they are or less
their mean (centred); effective rank exp(H(s / sum s)); stable rank |M|_F^2 / s_1^2; and for a bank trained by the
energy of modern Hopfield networks, beta times the largest eigenvalue of E[q q^T], with the threshold below which a
bank that has collapsed to one vector stays collapsed (1; on a sphere of radius R, with the mean query projected out,
|E q| / R).

What it says: whether a bank is one vector (uniform collapse), uses one vector (winner-take-all), or many. How to read
it: the collapse that matters is that of the *reads*: their centred rank at most 1.5, or a variance share below 0.05.
Traps: the geometry of slots is not that of reads; an offset common to all slots makes every cosine 1, which centring
takes out; cosine and entropy together still confuse the two collapses, see `collapse_kind`; a stability number below
its threshold says that a collapse is stable, not that it has happened, and slots can fall into winner-take-all below
it. Cost: none beyond a clean pass; the eigenvalues of a matrix of min(n, d) rows.

Source: effective rank, Roy & Vetterli 2007; energy, Ramsauer et al. 2020 (arXiv 2008.02217), equation 2;
stability from its second variation where all slots are equal, 1/(2N) sum_i d_i^T (I - beta E[q q^T]) d_i for changes
d_i that sum to zero.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.measures.mean_vector_share import read_variance_share

CONSTANT_VARIANCE_SHARE = 0.05
"""Reads that vary less are one vector for most purposes."""

WINNER_MASS = 0.5
"""A slot that holds so much of the mass of a collapsed bank has won."""

CollapseKind = Literal["uniform", "winner-take-all", "diverse"]


class Stability(NamedTuple):
    """Whether a bank whose slots are all one vector stays so: it does where `number` is below `threshold`."""

    number: float
    threshold: float

    @property
    def collapse_is_stable(self) -> bool:
        """Small changes of the slots die out."""
        return self.number < self.threshold


def mean_cosine(vectors: Float[Tensor, "n d"], centred: bool = False) -> float:
    """Mean cosine over all pairs of different vectors; zero vectors are left out, NaN where fewer than two are left."""
    vectors = in_float64(vectors)
    if centred:
        vectors = vectors - vectors.mean(0)
    unit = F.normalize(vectors[vectors.norm(dim=-1) > 0], dim=-1, eps=0.0)
    n = len(unit)
    return float(unit.sum(0).square().sum() - n) / (n * (n - 1)) if n > 1 else float("nan")


def effective_rank(matrix: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b"]:
    """exp of the entropy of the singular values as shares, in [1, min(n, d)]; 0 for a matrix of zeros."""
    return entropy_rank(torch.linalg.svdvals(in_float64(matrix)))


def entropy_rank(singular_values: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """The effective rank of a matrix with these singular values."""
    total = singular_values.sum(-1, keepdim=True)
    share = singular_values / torch.where(total > 0, total, 1.0)
    rank = -torch.special.xlogy(share, share).sum(-1)
    return torch.where(total[..., 0] > 0, rank.exp(), 0.0)


def centred_rank(vectors: Float[Tensor, "n d"]) -> float:
    """Effective rank of the vectors less their mean; 0 where they differ by rounding only."""
    precise = in_float64(vectors)
    centred = precise - precise.mean(0)
    values, largest = _singular_values(centred), float(precise.norm())
    rounding = torch.finfo(vectors.dtype).eps * max(vectors.shape) ** 0.5 * largest
    return float(entropy_rank(torch.where(values > rounding, values, 0.0)))


def stable_rank(matrix: Float[Tensor, "n d"]) -> float:
    """Squared Frobenius norm over squared spectral norm, in [1, min(n, d)]; 0 for a matrix of zeros."""
    values = torch.linalg.svdvals(in_float64(matrix))
    return float(values.square().sum() / values[0].square()) if values[0] > 0 else 0.0


def stability(queries: Float[Tensor, "q d"], inverse_temperature: float, radius: float | None = None) -> Stability:
    """beta lambda_max(E[q q^T]) and its threshold.

    Args:
        queries: what the slots are asked.
        inverse_temperature: beta of the addressing.
        radius: of the sphere on which the slots lie; None where their lengths are free.
    """
    q, threshold = in_float64(queries), 1.0
    if radius is not None:
        mean = q.mean(0)
        direction, threshold = F.normalize(mean, dim=0), float(mean.norm()) / radius
        q = q - torch.outer(q @ direction, direction)
    return Stability(inverse_temperature * float(_singular_values(q)[-1]) ** 2 / len(q), threshold)


def collapse_kind(reads: Float[Tensor, "n d"], weights: Float[Tensor, "n m"]) -> CollapseKind:
    """How a bank has collapsed, if it has, by what was read and how the slots were addressed.

    "diverse" where reads vary; else "winner-take-all" where one slot has most of the mass, "uniform" where none has.
    """
    if read_variance_share(reads) >= CONSTANT_VARIANCE_SHARE:
        return "diverse"
    mass = in_float64(weights).mean(0)
    return "winner-take-all" if float(mass.max() / mass.sum()) >= WINNER_MASS else "uniform"


def _singular_values(matrix: Float[Tensor, "n d"]) -> Float[Tensor, "r"]:
    """In ascending order, from the smaller of the two Gram matrices."""
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
