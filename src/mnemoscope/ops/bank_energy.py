"""The energy of a bank of slots under a distribution of queries, and when all slots fall into one.

    E(M) = E_q[-1/beta log (1/N) sum_i exp(beta q . M_i)] + 1/(2N) sum_i |M_i|^2

Where every slot is m, E is stationary at m = E[q]. For changes d_i that sum to zero the second variation there is
1/(2N) sum_i d_i^T (I - beta E[q q^T]) d_i, so that the collapse is stable if and only if beta lambda_max(E[q q^T]) < 1.
On a sphere of radius R it is stable if and only if beta lambda_max(P E[q q^T] P) < |E[q]| / R, with P the projection
that takes the mean query out.

Source: the energy of modern Hopfield networks, Ramsauer et al. 2020 (arXiv 2008.02217), equation 2, averaged over
queries; the conditions are those of this package.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import in_float64


class Collapse(NamedTuple):
    """Whether a bank whose slots have all become one stays so: it does where `sharpness` is below `threshold`.

    Args:
        sharpness: beta times the largest eigenvalue of the queries' second moment, without their mean on a sphere.
        threshold: 1, or on a sphere the length of the mean query over the radius.
    """

    sharpness: Float[Tensor, ""]
    threshold: Float[Tensor, ""]


def bank_energy(q: Float[Tensor, "q d"], slots: Float[Tensor, "m d"], inverse_temperature: float) -> Float[Tensor, ""]:
    """E of the slots for these queries; half precision is computed in float32.

    Cost: one product of queries and slots.
    """
    compute = torch.float64 if slots.dtype == torch.float64 else torch.float32
    q, slots, n_slots = q.to(compute), slots.to(compute), slots.shape[0]
    soft_maximum = (inverse_temperature * (q @ slots.T)).logsumexp(-1) - math.log(n_slots)
    return slots.square().sum() / (2 * n_slots) - soft_maximum.mean() / inverse_temperature


def on_sphere(slots: Float[Tensor, "m d"], radius: float | None) -> Float[Tensor, "m d"]:
    """Every slot at the length `radius`; None leaves them as they are."""
    return slots if radius is None else radius * F.normalize(slots, dim=-1)


def bank_collapse(q: Float[Tensor, "q d"], inverse_temperature: float, radius: float | None) -> Collapse:
    """The condition of a stable collapse under these queries, in float64.

    Cost: the eigenvalues of a d x d matrix.
    """
    q = in_float64(q)
    mean, threshold = q.mean(0), q.new_ones(())
    if radius is not None:
        direction = F.normalize(mean, dim=0)
        q = q - torch.outer(q @ direction, direction)
        threshold = mean.norm() / radius
    second_moment = q.T @ q / q.shape[0]
    return Collapse(inverse_temperature * torch.linalg.eigvalsh(second_moment)[-1], threshold)
