"""Saturation of a softmax over positions or slots: rows through which no gradient reaches the scores.

The Jacobian of a row p = softmax(z) is J = diag(p) - p p^T, with

    |J|_F^2 = sum p^2 - 2 sum p^3 + (sum p^2)^2

and a row is saturated where |J|_F < threshold (0.01: of two choices, the larger has 99.5 %).

What it says: how much of an addressing can no longer be learned. How to read it: a share near 1 early in training is a
memory whose addresses are frozen; late in training it may be a sharp solution. Traps: n equal weights have
|J|_F = sqrt(n - 1) / n, which 10,000 choices bring below the threshold as well: there too, no score moves much. A row
that has only one choice is not saturated: the first tokens of causal attention are left out, seen by a single weight in
every sequence and head; rows without any weight are too. Cost: the weights are formed in the observed step, in place of
fused attention, in time and memory.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64

THRESHOLD = 0.01
N_FORCED = 2
"""First queries that may have one choice only: one where a token sees itself, two where it sees what came before."""


@torch.no_grad()
def jacobian_norm(weights: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """Frobenius norm of the softmax's Jacobian at each row of weights; in float64, since the terms all but cancel."""
    p = in_float64(weights)
    square = p.square()
    second, third = square.sum(-1), (square * p).sum(-1)
    return (second - 2 * third + second.square()).clamp_min(0).sqrt()


@torch.no_grad()
def attention_saturation(weights: Float[Tensor, "*b q n"], threshold: float = THRESHOLD) -> float | None:
    """Share of the rows with a choice whose Jacobian is smaller than the threshold; None where no row has a choice.

    Args:
        weights: rows of a softmax over the last axis; the axis before it holds queries in order, or slots' heads.
        threshold: positive; the largest norm there is, of two equal choices, is 0.5.
    """
    n_choices = weights.count_nonzero(dim=-1)
    counted = n_choices > 0
    first = n_choices[..., :N_FORCED]
    forced = (first <= 1).reshape(-1, first.shape[-1]).all(0).cumprod(0).bool()
    counted[..., :N_FORCED] &= ~forced
    if not bool(counted.any()):
        return None
    saturated = jacobian_norm(weights) < threshold
    return float(in_float64(saturated[counted.to(saturated.device)]).mean())
