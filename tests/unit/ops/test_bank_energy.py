"""The energy of a bank: its value, its gradient, and when one vector for all slots is where it leads."""

import math

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.bank_energy import bank_collapse, bank_energy, on_sphere
from tests.oracle import energy_bank as oracle
from tests.tolerances import FLOAT32, FLOAT64, assert_close

BETA, N_SLOTS, WIDTH = 0.8, 6, 5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("radius", [None, 2.0])
def test_value_and_gradient_are_those_of_the_equation(radius: float | None):
    q, slots = draw(30, WIDTH), draw(N_SLOTS, WIDTH, seed=1).requires_grad_()
    fast = bank_energy(q, on_sphere(slots, radius), BETA)
    slow = oracle.energy(q, slots, BETA, radius)
    assert_close(fast, slow, FLOAT64)
    assert_close(torch.autograd.grad(fast, slots)[0], torch.autograd.grad(slow, slots)[0], FLOAT64)
    single = bank_energy(q.float(), on_sphere(slots.float(), radius), BETA)
    assert_close(single, slow, FLOAT32)


def test_equal_slots_have_a_closed_form():
    """E = |m|^2 / 2 - E[q] . m, least at the mean query."""
    q, m = draw(30, WIDTH), draw(WIDTH, seed=1)
    energy = bank_energy(q, m.expand(N_SLOTS, -1), BETA)
    assert_close(energy, m @ m / 2 - q.mean(0) @ m, FLOAT64)
    at_mean = q.mean(0).expand(N_SLOTS, -1).clone().requires_grad_()
    gradient = torch.autograd.grad(bank_energy(q, at_mean, BETA), at_mean)[0]
    assert_close(gradient, torch.zeros_like(gradient), FLOAT64)


def test_the_second_variation_at_the_collapse():
    """1/(2N) sum_i d_i^T (I - beta E[q q^T]) d_i for changes that sum to zero."""
    q, changes = draw(30, WIDTH), draw(N_SLOTS, WIDTH, seed=2)
    changes = changes - changes.mean(0)
    along = torch.zeros((), dtype=torch.float64, requires_grad=True)
    energy = bank_energy(q, q.mean(0) + along * changes, BETA)
    [slope] = torch.autograd.grad(energy, along, create_graph=True)
    [curvature] = torch.autograd.grad(slope, along)
    moment = torch.eye(WIDTH) - BETA * q.T @ q / len(q)
    assert_close(curvature, torch.einsum("md,de,me->", changes, moment.double(), changes) / N_SLOTS, FLOAT64)


def descend(q: Tensor, slots: Tensor, beta: float, radius: float | None, n_steps: int = 800) -> Tensor:
    slots = slots.clone().requires_grad_()
    for _ in range(n_steps):
        [gradient] = torch.autograd.grad(bank_energy(q, on_sphere(slots, radius), beta), slots)
        with torch.no_grad():
            slots -= N_SLOTS * 0.5 * gradient
            slots.copy_(on_sphere(slots, radius))
    return slots.detach()


def spread(slots: Tensor) -> float:
    return (slots - slots.mean(0)).norm().item()


@pytest.mark.parametrize(("ratio", "stays"), [(0.95, True), (1.05, False)])
@pytest.mark.parametrize("radius", [None, 1.3])
@pytest.mark.parametrize("seed", range(2))
def test_a_collapse_is_stable_below_the_threshold_and_lost_above(
    ratio: float, stays: bool, radius: float | None, seed: int
):
    q = draw(40, WIDTH, seed=seed) + draw(WIDTH, seed=10 + seed)
    unit = bank_collapse(q, 1.0, radius)
    beta = ratio * (unit.threshold / unit.sharpness).item()
    sharpness, threshold = bank_collapse(q, beta, radius)
    assert_close(sharpness, ratio * threshold, FLOAT64)
    one = on_sphere(q.mean(0, keepdim=True), radius)
    start = on_sphere(one + 1e-3 * draw(N_SLOTS, WIDTH, seed=20 + seed), radius)
    found = descend(q, start, beta, radius)
    if stays:
        assert spread(found) < 1e-6
        assert_close(found, one.expand_as(found), FLOAT32)
    else:
        assert spread(found) > 10 * spread(start)


def test_on_a_sphere_the_threshold_takes_the_mean_query_out():
    """Queries along one direction alone leave nothing that could tell slots apart."""
    q = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    free, sphere = (bank_collapse(q, 2.0, radius) for radius in (None, 4.0))
    assert_close(free.sharpness, torch.tensor(10.0), FLOAT64)
    assert_close(free.threshold, torch.tensor(1.0), FLOAT64)
    assert_close(sphere.sharpness, torch.tensor(0.0), FLOAT64)
    assert_close(sphere.threshold, torch.tensor(0.5), FLOAT64)


@pytest.mark.parametrize("scale", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_slots_stay_finite(scale: float, dtype: torch.dtype):
    q, slots = (scale * draw(8, 4)).to(dtype), (scale * draw(3, 4, seed=1)).to(dtype).requires_grad_()
    energy = bank_energy(q, on_sphere(slots, 1.0), 10.0) + bank_energy(q, slots, 10.0)
    assert energy.isfinite()
    assert energy.dtype == torch.float32
    assert torch.autograd.grad(energy, slots)[0].isfinite().all()


def test_a_uniform_bank_has_no_energy_to_gain_from_more_slots():
    q, m = draw(9, 4), draw(1, 4, seed=1)
    assert math.isclose(bank_energy(q, m, BETA), bank_energy(q, m.expand(7, -1), BETA), rel_tol=1e-12)
