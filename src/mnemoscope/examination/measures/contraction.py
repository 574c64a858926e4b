"""Contraction: whether a loop that a model runs inside one token settles (D20).

Definitions, for a map F and points z: the spectral norm of its Jacobian, |J(z)|, between a value that power iteration
on J^T J has reached and a bound that holds but for a known probability; the Lyapunov exponent, the mean log growth of a
small deviation a step; residuals |F(z) - z| along the loop, and each as a share of the one before.

What it says: whether the loop has one fixed point that it finds from everywhere (a contraction), and how fast. How to
read it: an examination gives a memory's own certificate beside the largest norm found on real tokens and the exponent.
A norm above the certificate would refute it; far below, the loop settles sooner than it must: a step leaves
exp(exponent) of a small deviation. Of a map without a certificate, an upper bound below 1 at every point the loop
visits certifies contraction along those paths; a positive exponent says that it is none; an exponent below 0 beside a
norm above 1 is a loop that settles after first growing.
Traps: a certificate at points is none for the whole space, for which the map's own bound is needed; the spectral
*radius* is not the norm, and a Rayleigh quotient of J misses complex eigenvalues; residuals stop falling at rounding.
Each point's next state must depend on that point alone, so freeze what mixes tokens. Cost: two products with the
Jacobian for each of n_products powers of n_starts vectors, one step for each residual, one product for each step of the
exponent.

Source: Banach 1922; the upper bound is Halko, Martinsson & Tropp 2011 (arXiv 0909.4061), lemma 4.1 with alpha = 10, for
powers of J^T J; exponents by tangents, Benettin et al. 1980.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Step = Callable[[Tensor], Tensor]
"""F: one state per row (..., d) to the next, each row for itself."""

ALPHA = 10.0


class NormBounds(NamedTuple):
    """The spectral norm of every row's Jacobian lies between these, the upper one but for 10^-n_starts."""

    low: Float[Tensor, "*b"]
    high: Float[Tensor, "*b"]


class Contraction(NamedTuple):
    """What was found of a loop.

    Args:
        norm: bounds of the Jacobian's norm, the largest over rows and the iterations of the loop.
        lyapunov: mean log growth a step, largest over rows.
        residuals: how far each step moves, largest over rows.
    """

    norm: NormBounds
    lyapunov: float
    residuals: Float[Tensor, "n"]

    @property
    def contracts(self) -> bool:
        """Distances shrink at every point that was looked at."""
        return float(self.norm.high) < 1


def contraction(
    step: Step,
    start: Float[Tensor, "*b d"],
    generator: torch.Generator,
    n_iterations: int = 30,
    n_points: int = 4,
) -> Contraction:
    """Norm, exponent and residuals along the paths from `start`.

    Args:
        step: the map.
        start: a state for every row.
        generator: of the random directions.
        n_iterations: steps of the loop.
        n_points: iterates at which the norm is bounded, evenly spaced from the first.
    """
    if n_iterations < 1 or n_points < 1:
        raise ValueError(f"contraction: n_iterations and n_points must be at least 1, got {n_iterations}, {n_points}")
    path = iterates(step, start, n_iterations)
    every = max(1, n_iterations // n_points)
    bounds = [jacobian_norm(step, z, generator) for z in path[:-1:every][:n_points]]
    return Contraction(
        NormBounds(*(torch.stack(part).amax() for part in zip(*bounds, strict=True))),
        float(lyapunov_exponent(step, start, generator, n_iterations).amax()),
        residuals(path).flatten(1).amax(1) if start.ndim > 1 else residuals(path),
    )


@torch.no_grad()
def iterates(step: Step, start: Float[Tensor, "*b d"], n_iterations: int) -> Float[Tensor, "n *b d"]:
    """The start and every state that follows."""
    path = [start]
    for _ in range(n_iterations):
        path.append(step(path[-1]))
    return torch.stack(path)


def residuals(path: Float[Tensor, "n *b d"]) -> Float[Tensor, "n_1 *b"]:
    """How far each step moves every row."""
    return (path[1:] - path[:-1]).norm(dim=-1)


def residual_ratios(residual: Float[Tensor, "n *b"]) -> Float[Tensor, "n_1 *b"]:
    """Each residual over the one before; 0 where a row had come to rest, up to rounding."""
    rest = residual[:-1] <= 1e3 * torch.finfo(residual.dtype).eps * residual.amax(0)
    return torch.where(rest, 0.0, residual[1:] / residual[:-1].where(~rest, 1.0))


def jacobian_norm(
    step: Step, z: Float[Tensor, "*b d"], generator: torch.Generator, n_products: int = 20, n_starts: int = 4
) -> NormBounds:
    """Bounds of the spectral norm of the Jacobian of every row.

    Of n Gaussian vectors w, |A| exceeds 10 sqrt(2/pi) max |A w| with probability 10^-n at most. With A = (J^T J)^p the
    factor becomes its 2p-th root: a few per cent.

    Args:
        step: the map.
        z: where.
        generator: of the vectors.
        n_products: p.
        n_starts: n.
    """
    with torch.enable_grad():
        point = z.detach().expand(n_starts, *z.shape).clone().requires_grad_()
        moved = step(point)
        probe = torch.zeros_like(moved).requires_grad_()
        (pulled,) = torch.autograd.grad(moved, point, probe, create_graph=True)
    vector = torch.randn(point.shape, generator=generator, dtype=z.dtype).to(z.device)
    log_growth, low = torch.zeros_like(vector[..., 0]), torch.zeros_like(vector[..., 0])
    for _ in range(n_products):
        length = vector.norm(dim=-1, keepdim=True)
        log_growth, vector = log_growth + length.squeeze(-1).log(), vector / length.where(length > 0, 1.0)
        (pushed,) = torch.autograd.grad(pulled, probe, vector, retain_graph=True)
        low = torch.maximum(low, pushed.norm(dim=-1))
        (vector,) = torch.autograd.grad(moved, point, pushed, retain_graph=True)
    log_growth = log_growth + vector.norm(dim=-1).log()
    high = ((log_growth.amax(0) + math.log(ALPHA * math.sqrt(2 / math.pi))) / (2 * n_products)).exp()
    return NormBounds(low.amax(0), high)


def lyapunov_exponent(
    step: Step, start: Float[Tensor, "*b d"], generator: torch.Generator, n_iterations: int = 100
) -> Float[Tensor, "*b"]:
    """Largest exponent: mean log growth a step of a random deviation, without the first tenth, which turns it.

    Minus infinity where the map forgets its state altogether.
    """
    tangent, z = torch.randn(start.shape, generator=generator, dtype=start.dtype).to(start.device), start
    growth = []
    for _ in range(n_iterations):
        length = tangent.norm(dim=-1, keepdim=True)
        z, tangent = _pushed(step, z, tangent / length.where(length > 0, 1.0))
        growth.append(tangent.norm(dim=-1).log())
    return torch.stack(growth[n_iterations // 10 :]).mean(0)


def _pushed(step: Step, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """F(z) and J tangent, by two backward passes, since not every operation has a forward-mode rule."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        moved = step(z)
        probe = torch.zeros_like(moved).requires_grad_()
        (pulled,) = torch.autograd.grad(moved, z, probe, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, probe, tangent)
    return moved.detach(), pushed
