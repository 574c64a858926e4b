"""The contraction: certificate, Banach's bound, stops, gradients of the fixed point, and the instruments."""

import math

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.contraction import (
    ImplicitStep,
    Stop,
    attention_lipschitz,
    banach_bound,
    bounded_matrix,
    contraction_ratios,
    contraction_step,
    iterate,
    iterations_to,
    largest_lyapunov,
    residual_curve,
    spread_of_fixed_points,
)
from tests.oracle import contraction as oracle
from tests.tolerances import FLOAT64, assert_close

D, RHO = 8, 0.9
FIXED = Stop("fixed", 0.0, 400)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(size: float) -> Tensor:
    """A symmetric matrix whose eigenvalues are evenly spread up to its norm: the slowest kind of contraction."""
    basis = torch.linalg.qr(draw(D, D, seed=3))[0]
    return basis @ torch.diag(torch.linspace(0.1, size, D, dtype=torch.float64)) @ basis.T


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_matrix_is_bounded_and_left_alone_where_it_is_small(scale: float):
    weight = scale * draw(D, D)
    bounded = bounded_matrix(weight, RHO)
    assert_close(bounded, oracle.bounded(weight, RHO), FLOAT64)
    assert torch.linalg.svdvals(bounded)[0] <= RHO + 1e-12
    if scale == 0.01:
        assert_close(bounded, RHO * weight, FLOAT64)


def test_the_bound_is_differentiated():
    weight = draw(4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: bounded_matrix(w, RHO), weight)


@pytest.mark.parametrize("step_size", [1.0, 0.5, 0.1])
def test_no_pair_of_states_beats_the_certificate_in_ten_thousand_draws(step_size: float):
    """Matrices, drives and pairs of states at all sizes; the ratio of distances never exceeds q."""
    q = 1 - step_size * (1 - RHO)
    sizes = 10 ** (2 * draw(10_000, 3, 1, seed=1))
    weights = torch.stack([bounded_matrix(3 * draw(D, D, seed=n), RHO) for n in range(100)])
    z, apart, drive = (sizes * draw(10_000, 3, D, seed=2)).unbind(1)
    # A hundred draws a matrix; a third of the drives is zero, where the map is steepest.
    drive[::3], z[::3] = 0, 0.01 * z[::3]
    z, other, drive = (part.view(100, 100, D) for part in (z, z + apart, drive))
    for weight, *states in zip(weights, z, other, drive, strict=True):
        a, b = (contraction_step(state, weight, states[2], step_size) for state in states[:2])
        assert ((a - b).norm(dim=-1) <= (q + 1e-12) * (states[0] - states[1]).norm(dim=-1)).all()


@pytest.mark.parametrize("step_size", [1.0, 0.4])
def test_moves_shrink_by_the_certificate_at_least(step_size: float):
    weight, drive = bounded_matrix(draw(D, D), RHO), draw(50, D, seed=1)
    curve = residual_curve(lambda z: contraction_step(z, weight, drive, step_size), torch.zeros_like(drive), 30)
    assert (contraction_ratios(curve) <= 1 - step_size * (1 - RHO) + 1e-9).all()
    assert_close(curve[0], (step_size * drive.tanh()).norm(dim=-1), FLOAT64)


def test_a_state_at_rest_has_a_ratio_of_zero():
    curve = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert torch.equal(contraction_ratios(curve), torch.tensor([[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("step_size", [1.0, 0.4])
@pytest.mark.parametrize("weight", [bounded_matrix(draw(D, D), RHO), symmetric(RHO)], ids=["normal", "symmetric"])
def test_banachs_bound_holds(weight: Tensor, step_size: float):
    q, drive = 1 - step_size * (1 - RHO), 0.3 * draw(20, D, seed=1)
    rest = iterate(weight, drive, step_size, Stop("fixed", 0.0, 2000))
    first = iterate(weight, drive, step_size, Stop("fixed", 0.0, 1)).norm(dim=-1)
    for n in (1, 2, 5, 10, 30, 66):
        away = (iterate(weight, drive, step_size, Stop("fixed", 0.0, n)) - rest).norm(dim=-1)
        assert (away <= banach_bound(first, q, n) + 1e-12).all()


def test_the_bound_is_nearly_reached_by_a_linear_map():
    """Small drives make tanh linear; along the largest eigenvector the error is q^K / (1 - q) times the first move."""
    weight = symmetric(RHO)
    slowest = torch.linalg.eigh(weight)[1][:, -1]
    drive = 1e-5 * slowest.unsqueeze(0)
    rest, first = iterate(weight, drive, 1.0, Stop("fixed", 0.0, 3000)), drive.norm(dim=-1)
    for n in (5, 20):
        away = (iterate(weight, drive, 1.0, Stop("fixed", 0.0, n)) - rest).norm(dim=-1)
        assert away / banach_bound(first, RHO, n) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("rule", ["residual", "saturation"])
@pytest.mark.parametrize("step_size", [1.0, 0.3])
@pytest.mark.parametrize("tolerance", [0.3, 0.05, 1e-3])
def test_every_token_stops_for_itself(rule: str, step_size: float, tolerance: float):
    weight, drive = symmetric(0.98), draw(12, D, seed=1) * torch.logspace(-3, 1, 12, dtype=torch.float64).unsqueeze(1)
    stop = Stop(rule, tolerance, 25)  # pyright: ignore[reportArgumentType]
    together = iterate(weight, drive, step_size, stop)
    for t in range(12):
        assert_close(iterate(weight, drive[t : t + 1], step_size, stop)[0], together[t], FLOAT64)
        assert_close(together[t], oracle.settled(weight, drive[t], step_size, 25, rule, tolerance), FLOAT64)


def test_a_fast_loop_never_saturates_and_a_slow_one_does():
    """The average of moves that vanish at once still shrinks by a tenth a step, more than 2 %."""
    drive = 1e-3 * draw(5, D, seed=1)
    for size, stops in ((0.3, False), (0.999, True)):
        weight = size * torch.eye(D, dtype=torch.float64)
        stopped = iterate(weight, drive, 1.0, Stop("saturation", 0.02, 60))
        assert torch.equal(stopped, iterate(weight, drive, 1.0, Stop("fixed", 0.0, 60))) != stops


def test_a_stop_is_not_differentiated_but_what_came_before_is():
    weight, drive = symmetric(0.5).requires_grad_(), draw(3, D, seed=1).requires_grad_()
    stop = Stop("residual", 0.05, 40)
    stopped = torch.autograd.grad(iterate(weight, drive, 1.0, stop).sum(), [weight, drive])
    slow = [oracle.settled(weight, row, 1.0, 40, "residual", 0.05) for row in drive]
    for ours, theirs in zip(stopped, torch.autograd.grad(torch.stack(slow).sum(), [weight, drive]), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("step_size", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["normal", "symmetric"])
def test_implicit_gradients_are_those_of_all_steps(kind: str, step_size: float):
    """Within 1e-6 of backpropagation through 400 steps, by 30 products with the Jacobian."""
    rho = {"normal": 0.7, "symmetric": 0.3}[kind]
    weight = (bounded_matrix(draw(D, D), rho) if kind == "normal" else symmetric(rho)).requires_grad_()
    drive, weigh = draw(10, D, seed=1).requires_grad_(), draw(10, D, seed=2)
    unrolled = torch.autograd.grad((iterate(weight, drive, step_size, FIXED) * weigh).sum(), [weight, drive])
    with torch.no_grad():
        z = iterate(weight, drive, step_size, FIXED)
    settled = ImplicitStep.apply(z, weight, drive, step_size, 30)
    assert_close(settled, z, FLOAT64)
    for ours, theirs in zip(torch.autograd.grad((settled * weigh).sum(), [weight, drive]), unrolled, strict=True):
        assert (ours - theirs).abs().max() < 1e-6


def sensitivities(weight: Tensor, drive: Tensor, step_size: float) -> tuple[Tensor, Tensor]:
    """d z* / d drive of one token: through all steps, and through the last alone."""
    rest = iterate(weight, drive, step_size, FIXED)
    through_all = torch.func.jacrev(lambda given: iterate(weight, given, step_size, FIXED))(drive)
    through_one = torch.func.jacrev(lambda given: contraction_step(rest, weight, given, step_size))(drive)
    return through_all, through_one


@pytest.mark.parametrize("step_size", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_one_live_step_is_off_by_no_more_than_its_bound(seed: int, step_size: float):
    """All - one = J all: relative to one by q / (1 - q) at most, relative to all by q."""
    q, weight, drive = 1 - step_size * (1 - RHO), bounded_matrix(draw(D, D, seed=seed), RHO), draw(D, seed=seed + 50)
    through_all, through_one = sensitivities(weight, drive, step_size)
    error = torch.linalg.matrix_norm(through_all - through_one, 2)
    assert 1e-3 < error / torch.linalg.matrix_norm(through_one, 2) <= q / (1 - q)
    assert error / torch.linalg.matrix_norm(through_all, 2) <= q


def test_that_bound_is_nearly_reached_by_a_linear_map():
    weight = symmetric(RHO)
    through_all, through_one = sensitivities(weight, torch.zeros(D, dtype=torch.float64), 1.0)
    error = torch.linalg.matrix_norm(through_all - through_one, 2)
    assert error / torch.linalg.matrix_norm(through_one, 2) == pytest.approx(RHO / (1 - RHO), rel=1e-6)
    assert torch.linalg.matrix_norm(through_all, 2) == pytest.approx(1 / (1 - RHO), rel=1e-6)


@pytest.mark.parametrize("n_products", [0, 3, 10])
def test_a_cut_series_leaves_out_no_more_than_its_bound(n_products: int):
    weight, drive, grad = symmetric(RHO), torch.zeros(1, D, dtype=torch.float64).requires_grad_(), draw(1, D, seed=5)
    z = torch.zeros_like(drive)
    solved = torch.autograd.grad(ImplicitStep.apply(z, weight, drive, 1.0, n_products), drive, grad)[0]
    exact = torch.linalg.solve(torch.eye(D).double() - weight.T, grad.mT).mT
    assert (solved - exact).norm() <= RHO ** (n_products + 1) / (1 - RHO) * grad.norm()


def test_extremes_stay_finite():
    weight, drive = bounded_matrix(1e6 * draw(D, D), 0.999), 1e6 * draw(4, D, seed=1)
    drive[0] = 0
    for rule in ("fixed", "residual", "saturation"):
        leaves = [weight.clone().requires_grad_(), drive.clone().requires_grad_()]
        z = iterate(*leaves, 1.0, Stop(rule, 1e-3, 50))  # pyright: ignore[reportArgumentType]
        settled = ImplicitStep.apply(z.detach(), *leaves, 1.0, 30)
        grads = torch.autograd.grad(z.sum() + settled.sum(), leaves)
        assert all(tensor.isfinite().all() for tensor in (z, settled, *grads))


def test_iterations_to_a_tolerance_are_those_counted_by_hand():
    """z' = z / 2 + 1 from zero goes 1, 1.5, 1.75: moves 1, 0.5, 0.25 of lengths 0, 1, 1.5."""
    z = torch.zeros(2, 1, dtype=torch.float64)
    for tolerance, expected in ((0.6, 2), (0.4, 3), (0.1, 4), (1e-9, 7)):
        assert iterations_to(lambda z: z / 2 + 1, z, tolerance, 7).tolist() == [expected, expected]


def test_the_worst_case_needs_no_more_steps_than_banach_allows():
    """At q = 0.9, 66 steps bring any token within a thousandth of its first move."""
    q, drive = 0.9, 1e-4 * draw(30, D, seed=1)
    assert q**66 < 1e-3 < q**65
    step, start = (lambda z: contraction_step(z, symmetric(q), drive, 1.0)), torch.zeros_like(drive)
    curve = residual_curve(step, start, 67)
    assert (curve[66] <= 1e-3 * curve[0]).all()
    assert iterations_to(step, start, 1e-3, 100).max() <= 66


def test_lyapunov_exponents_tell_contraction_from_chaos():
    generator = torch.Generator().manual_seed(0)
    z = 0.1 * draw(6, D, seed=1)
    linear = largest_lyapunov(lambda z: z @ symmetric(0.7), z, 400, generator)
    assert (linear - math.log(0.7)).abs().max() < 1e-3
    weight, drive = bounded_matrix(draw(D, D), RHO), draw(6, D, seed=2)
    found = largest_lyapunov(lambda z: contraction_step(z, weight, drive, 1.0), z, 200, generator)
    assert (found < math.log(RHO)).all()
    # The logistic map at 4: exponent log 2.
    logistic = largest_lyapunov(lambda z: 4 * z * (1 - z), torch.full((1, 1), 0.3).double(), 2_000, generator)
    assert logistic.item() == pytest.approx(math.log(2), abs=0.03)


def test_random_starts_end_together_where_the_map_contracts_and_apart_where_it_does_not():
    generator = torch.Generator().manual_seed(0)
    weight, drive = bounded_matrix(draw(D, D), RHO), draw(6, D, seed=1)
    together = spread_of_fixed_points(lambda z: contraction_step(z, weight, drive, 1.0), drive, 300, generator)
    assert_close(together, torch.zeros(6), FLOAT64)
    apart = spread_of_fixed_points(lambda z: (3 * z).tanh(), drive, 300, generator)
    assert (apart > 1.9).all(), "plus and minus 0.995 are both fixed points of tanh(3 z)"


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_attention_changes_no_faster_with_its_query_than_its_bound(size: float):
    query, k, v = size * draw(4, D), draw(6, 4, seed=1), draw(6, 5, seed=2)
    bound = attention_lipschitz(query, k, v)

    def read(z: Tensor) -> Tensor:
        return ((z @ query.T) @ k.T / 4**0.5).softmax(-1) @ v

    for z in draw(200, D, seed=3) / size:
        assert torch.linalg.matrix_norm(torch.func.jacrev(read)(z), 2) <= bound
    slowest = (
        torch.tensor([[1.0]]).double(),
        torch.tensor([[1.0], [-1.0]]).double(),
        torch.tensor([[1.0], [-1.0]]).double(),
    )
    steepest = torch.func.jacrev(lambda z: ((z @ slowest[0].T) @ slowest[1].T).softmax(-1) @ slowest[2])(
        torch.zeros(1).double()
    )
    assert_close(steepest.squeeze(), attention_lipschitz(*slowest), FLOAT64)
