"""A contraction iterated per token: the loop, its gradients, and instruments that show whether it contracts.

    F(z) = (1 - step_size) z + step_size tanh(W z + drive)

With ||W|| <= rho < 1, F shrinks distances by q = 1 - step_size (1 - rho) or more. So it has one fixed point z*, and
||z^K - z*|| <= q^K / (1 - q) ||z^1 - z^0|| (Banach).

Source: Banach 1922; gradients of a fixed point, Bai, Kolter, Koltun 2019 (arXiv 1909.01377), theorem 1.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

MapOfStates = Callable[[Tensor], Tensor]
"""F: one state per token (... d) to the next."""

AVERAGED = 0.9
"""Share of the past in the running average of how far a state moves."""

CALM_STEPS = 2
"""Steps in a row in which that average must hardly change."""


class Stop(NamedTuple):
    """When a token stops iterating; each token for itself, so that no other token and no split of time matters.

    Args:
        rule: "fixed" after all iterations; "residual" when a step moves the state by less than `tolerance` of its
            length; "saturation" when the running average of these moves changes by less than `tolerance` of itself,
            twice in a row.
        tolerance: see `rule`; "fixed" has none.
        n_iterations: the most iterations there are.
    """

    rule: Literal["fixed", "residual", "saturation"]
    tolerance: float
    n_iterations: int


def bounded_matrix(weight: Float[Tensor, "d d2"], rho: float) -> Float[Tensor, "d d2"]:
    """rho W / max(1, sigma_max(W)): a matrix of norm rho at most. In float32 at least, with the exact norm.

    The norm comes from singular values and is differentiated; a power iteration would be cheaper, but needs vectors
    that outlive the call, and bounds the norm from below.
    """
    weight = weight.to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
    return rho * weight / torch.linalg.matrix_norm(weight, 2).clamp(min=1)


def contraction_step(
    z: Float[Tensor, "*b d"], weight: Float[Tensor, "d d"], drive: Float[Tensor, "*b d"], step_size: float
) -> Float[Tensor, "*b d"]:
    """F(z)."""
    return torch.lerp(z, (z @ weight.T + drive).tanh(), step_size)


def iterate(
    weight: Float[Tensor, "d d"], drive: Float[Tensor, "*b d"], step_size: float, stop: Stop
) -> Float[Tensor, "*b d"]:
    """z after `stop.n_iterations` steps from zero, or fewer for tokens that stop before."""
    z = torch.zeros_like(drive)
    if stop.rule == "fixed":
        for _ in range(stop.n_iterations):
            z = contraction_step(z, weight, drive, step_size)
        return z
    average = torch.zeros_like(drive[..., :1])
    calm = torch.zeros_like(average)
    active = torch.ones_like(average, dtype=torch.bool)
    for n in range(stop.n_iterations):
        moved = contraction_step(z, weight, drive, step_size)
        # Where to stop is a decision, not a function to be differentiated.
        move = (moved - z).detach().norm(dim=-1, keepdim=True)
        last, z = z.detach(), torch.where(active, moved, z)
        if stop.rule == "residual":
            active = active & (move >= stop.tolerance * last.norm(dim=-1, keepdim=True))
        else:
            before, average = average, AVERAGED * average + (1 - AVERAGED) * move if n else move
            settled = ((average - before).abs() < stop.tolerance * before) if n else torch.zeros_like(active)
            calm = (calm + 1) * settled
            active = active & (calm < CALM_STEPS)
    return z


class ImplicitStep(torch.autograd.Function):
    """F at a fixed point, with the gradient of the fixed point: the incoming one times (I - J)^-1.

    The inverse is the Neumann series I + J + J^2 + ... of `n_products` products with J^T; what is left out is at most
    q^(n + 1) / (1 - q) of the gradient. Its length is fixed, so that no token's gradient depends on another's.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, drive: Tensor, step_size: float, n_products: int) -> Tensor:
        """One step."""
        bent = (z @ weight.T + drive).tanh()
        ctx.save_for_backward(z, weight, 1 - bent.square())
        ctx.step_size, ctx.n_products = step_size, n_products
        return torch.lerp(z, bent, step_size)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Of the weight and the drive; none of z, which does not matter at a fixed point."""
        (grad,), (z, weight, slope), step_size = grads, ctx.saved_tensors, ctx.step_size
        solved = grad
        for _ in range(ctx.n_products):
            solved = grad + (1 - step_size) * solved + step_size * ((slope * solved) @ weight)
        of_drive = step_size * slope * solved
        of_weight = of_drive.flatten(0, -2).T @ z.flatten(0, -2)
        return None, of_weight, of_drive, None, None


def residual_curve(step: MapOfStates, z: Float[Tensor, "*b d"], n_iterations: int) -> Float[Tensor, "n *b"]:
    """How far each of so many steps moves every token's state."""
    moves = []
    for _ in range(n_iterations):
        moved = step(z)
        moves.append((moved - z).norm(dim=-1))
        z = moved
    return torch.stack(moves)


def contraction_ratios(curve: Float[Tensor, "n *b"]) -> Float[Tensor, "n_1 *b"]:
    """Each move as a share of the one before; of a contraction none exceeds its certificate.

    Zero where a state is at rest: where it moves by no more than rounding makes it move.
    """
    rest = curve[:-1] <= 1e3 * torch.finfo(curve.dtype).eps * curve.amax(0)
    return torch.where(rest, 0.0, curve[1:] / curve[:-1].where(~rest, 1.0))


def iterations_to(
    step: MapOfStates, z: Float[Tensor, "*b d"], tolerance: float, n_iterations: int
) -> Int[Tensor, "*b"]:
    """After how many steps every token first moves by less than `tolerance` of its length; n_iterations if never."""
    needed = torch.full(z.shape[:-1], n_iterations, dtype=torch.int64, device=z.device)
    states = [z]
    for _ in range(n_iterations):
        states.append(step(states[-1]))
    for n in reversed(range(n_iterations)):
        move = (states[n + 1] - states[n]).norm(dim=-1)
        needed = torch.where(move < tolerance * states[n].norm(dim=-1), n + 1, needed)
    return needed


def largest_lyapunov(
    step: MapOfStates, z: Float[Tensor, "*b d"], n_iterations: int, generator: torch.Generator
) -> Float[Tensor, "*b"]:
    """Mean log growth a step of a small deviation from every token's path, by tangents.

    Below zero the loop contracts, with log q as its upper bound; above zero it is not a contraction, and two nearly
    equal states part. The first tenth of the steps turns the deviation to where it grows most and is not counted.
    """
    tangent = torch.randn(z.shape, generator=generator, dtype=z.dtype).to(z.device)
    warm_up, growth = n_iterations // 10, []
    for _ in range(n_iterations):
        tangent = tangent / tangent.norm(dim=-1, keepdim=True)
        z, tangent = _pushed_forward(step, z, tangent)
        growth.append(tangent.norm(dim=-1).log())
    return torch.stack(growth[warm_up:]).mean(0)


def _pushed_forward(step: MapOfStates, z: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """F(z) and J tangent, by two backward passes: forward mode would need a rule for every operation of the map."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        moved = step(z)
        probe = torch.zeros_like(moved).requires_grad_()
        (pulled,) = torch.autograd.grad(moved, z, probe, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, probe, tangent)
    return moved.detach(), pushed


def spread_of_fixed_points(
    step: MapOfStates,
    like: Float[Tensor, "*b d"],
    n_iterations: int,
    generator: torch.Generator,
    n_starts: int = 8,
) -> Float[Tensor, "*b"]:
    """Largest distance between where random starts end, token by token; zero says that the fixed point is unique."""
    starts = torch.randn(n_starts, *like.shape, generator=generator, dtype=like.dtype).to(like.device)
    ends = []
    for z in starts:
        for _ in range(n_iterations):
            z = step(z)
        ends.append(z)
    return torch.stack([(a - b).norm(dim=-1) for a in ends for b in ends]).amax(0)


def banach_bound(first_move: Float[Tensor, "*b"], q: float, n_iterations: int) -> Float[Tensor, "*b"]:
    """How far z^K is from the fixed point at most: q^K / (1 - q) ||z^1 - z^0||."""
    return q**n_iterations / (1 - q) * first_move


def attention_lipschitz(
    query_weight: Float[Tensor, "k d"], k: Float[Tensor, "*b s k"], v: Float[Tensor, "*b s v"]
) -> Float[Tensor, "*b"]:
    """How fast softmax(K W_q z / sqrt(width)) V may change with z: ||W_q|| ||K|| ||V|| / (2 sqrt(width)).

    A loop that asks attention again with every state stays a contraction where rho + ||U|| times this is below one.
    """
    norms = [torch.linalg.matrix_norm(matrix, 2) for matrix in (query_weight, k, v)]
    return norms[0] * norms[1] * norms[2] / (2 * k.shape[-1] ** 0.5)
