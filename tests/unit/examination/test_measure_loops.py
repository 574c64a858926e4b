"""Contraction, attribution, contributions and gradients: by hand, and against the truth."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.examination.measures.attribution import first_order, integrated
from mnemoscope.examination.measures.contraction import (
    contraction,
    iterates,
    jacobian_norm,
    lyapunov_exponent,
    residual_ratios,
    residuals,
)
from mnemoscope.examination.measures.contribution import contribution_ratio, shut_share
from mnemoscope.examination.measures.gradient_share import gradient_snr

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@given(SEEDS, st.integers(1, 8))
def test_the_norm_of_a_linear_map_lies_within_its_bounds(seed: int, width: int):
    weight = drawn(seed, width, width)
    exact = float(torch.linalg.matrix_norm(weight, 2))
    bounds = jacobian_norm(lambda z: z @ weight.T + 1, drawn(seed + 1, 3, width), generator())
    assert bounds.low.shape == (3,)
    assert bool((bounds.low <= exact * (1 + 1e-9)).all())
    assert bool((bounds.high >= exact * (1 - 1e-9)).all())
    assert bool((bounds.high <= 1.2 * exact).all())


def test_a_rotation_has_norm_one_although_its_eigenvalues_are_complex():
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    bounds = jacobian_norm(lambda z: z @ turn.T, torch.zeros(1, 2, dtype=torch.float64), generator())
    assert float(bounds.low) == pytest.approx(1.0)
    assert 1 <= float(bounds.high) < 1.2


def test_the_norm_of_a_curved_map_is_that_of_its_jacobian_at_each_point():
    weight, z = drawn(0, 4, 4), drawn(1, 5, 4)
    bounds = jacobian_norm(lambda z: (z @ weight.T).tanh(), z, generator(), n_products=60)
    for i, point in enumerate(z):
        jacobian = torch.autograd.functional.jacobian(lambda z: (z @ weight.T).tanh(), point)
        exact = float(torch.linalg.matrix_norm(jacobian, 2))
        assert float(bounds.low[i]) == pytest.approx(exact, rel=1e-3)
        assert exact <= float(bounds.high[i]) < 1.06 * exact


def test_a_map_without_slope_has_norm_zero():
    bounds = jacobian_norm(lambda z: 0 * z, torch.ones(2, 3), generator())
    assert bounds.high.tolist() == [0.0, 0.0]
    assert bounds.low.tolist() == [0.0, 0.0]


def test_exponent_of_a_linear_map_is_the_log_of_its_spectral_radius():
    weight = torch.diag(torch.tensor([0.9, 0.5], dtype=torch.float64))
    found = lyapunov_exponent(lambda z: z @ weight, drawn(0, 3, 2), generator(), n_iterations=200)
    assert found.tolist() == pytest.approx([math.log(0.9)] * 3, abs=1e-6)


def test_chaos_has_a_positive_exponent():
    logistic = lyapunov_exponent(
        lambda z: 4 * z * (1 - z), torch.full((1, 1), 0.3, dtype=torch.float64), generator(), 4000
    )
    assert float(logistic) == pytest.approx(math.log(2), abs=0.02)


def test_residuals_by_hand():
    path = iterates(lambda z: z / 2 + 1, torch.tensor([[4.0, 0.0]]), 3)
    assert path[:, 0].tolist() == [[4.0, 0.0], [3.0, 1.0], [2.5, 1.5], [2.25, 1.75]]
    moved = residuals(path)
    assert moved[:, 0].tolist() == pytest.approx([math.sqrt(2) / 2**n for n in range(3)])
    assert residual_ratios(moved)[:, 0].tolist() == pytest.approx([0.5, 0.5])
    assert residual_ratios(torch.tensor([1.0, 0.0, 0.0])).tolist() == [0.0, 0.0]


def test_a_contraction_is_certified_and_an_expansion_is_not():
    weight = drawn(0, 6, 6)
    weight = 0.8 * weight / torch.linalg.matrix_norm(weight, 2)
    found = contraction(lambda z: (z @ weight.T + 0.3).tanh(), drawn(1, 4, 6), generator())
    assert found.contracts
    assert 0 < float(found.norm.low) <= 0.8 + 1e-9
    assert found.lyapunov < math.log(0.8) + 1e-9
    assert found.residuals.shape == (30,)
    assert float(found.residuals[-1]) < 0.8**28 * float(found.residuals[0]) + 1e-12
    stretched = contraction(lambda z: (3 / 0.8 * z @ weight.T).tanh(), drawn(1, 4, 6), generator())
    assert not stretched.contracts


def test_a_loop_that_first_grows_and_then_settles_is_no_contraction():
    shear = torch.tensor([[0.5, 3.0], [0.0, 0.5]], dtype=torch.float64)
    found = contraction(lambda z: z @ shear.T, drawn(0, 2, 2), generator(), n_iterations=200)
    assert not found.contracts
    assert found.lyapunov < 0


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0, 4"):
        contraction(lambda z: z, torch.ones(1, 2), generator(), n_iterations=0)


def test_first_order_by_hand():
    slope = torch.tensor([[[1.0, 2.0]], [[0.0, -1.0]]])
    read = torch.tensor([[[1.0, 1.0]], [[2.0, 0.0]]])
    assert first_order(slope, read, torch.tensor([0.0, 0.0])).tolist() == [-3.0, 0.0]
    assert first_order(slope, read, torch.tensor([1.0, 2.0])).tolist() == [2.0, -2.0]


def slopes_of(loss):
    def slope_at(read: Tensor) -> Tensor:
        read = read.detach().requires_grad_()
        return torch.autograd.grad(loss(read).sum(), read)[0]

    return slope_at


@given(SEEDS)
def test_integrated_is_exact_where_the_loss_is_quadratic(seed: int):
    matrix, read, other = drawn(seed, 3, 3), drawn(seed + 1, 4, 3), drawn(seed + 2, 3)

    def loss(r: Tensor) -> Tensor:
        return (r @ matrix).square().sum(-1) + r.sum(-1)

    expected = loss(other.expand_as(read)) - loss(read)
    for n_steps in (1, 8):
        found = integrated(slopes_of(loss), read, other, n_steps)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_where_the_first_order_sees_nothing_the_integral_does():
    """At the end of a saturated sigmoid the slope vanishes, though the way back costs everything."""
    read, other = torch.full((1, 1), 20.0, dtype=torch.float64), torch.full((1,), -20.0, dtype=torch.float64)

    def loss(r: Tensor) -> Tensor:
        return -r.sigmoid().sum(-1)

    slope_at = slopes_of(loss)
    assert float(first_order(slope_at(read), read, other).abs()) < 1e-6
    assert float(integrated(slope_at, read, other, 64)) == pytest.approx(1.0, abs=1e-2)
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        integrated(slope_at, read, other, 0)


def test_contribution_by_hand():
    added, stream = torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[0.0, 10.0], [2.0, 0.0], [0, 0]])
    assert contribution_ratio(added, stream) == pytest.approx((0.5 + 0.5) / 2)
    assert math.isnan(contribution_ratio(added, torch.zeros(3, 2)))
    assert shut_share(torch.tensor([[0.0, 0.5], [0.009, 0.01]])) == 0.5


def test_gradient_signal_to_noise_by_hand():
    assert gradient_snr(torch.tensor([[3.0, 0.0], [1.0, 0.0]])) == pytest.approx(4.0)
    assert gradient_snr(torch.tensor([[1.0], [-1.0]])) == 0.0
    assert gradient_snr(torch.zeros(3, 2)) == 0.0
    assert gradient_snr(torch.ones(3, 2)) == math.inf


@given(SEEDS, st.floats(0.1, 10.0))
def test_gradient_signal_to_noise_does_not_depend_on_units_or_axes(seed: int, scale: float):
    gradients = drawn(seed, 6, 3) + 0.5
    rotation = torch.linalg.qr(drawn(seed + 1, 3, 3))[0]
    assert gradient_snr(scale * gradients @ rotation) == pytest.approx(gradient_snr(gradients), rel=1e-9)
