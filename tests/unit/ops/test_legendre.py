"""The Legendre summary against its differential equation, its slow twin, and the windows it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.ops.legendre import (
    init_legendre_state,
    legendre_flops,
    legendre_summary,
    legendre_summary_recurrent,
    legendre_values,
)
from tests.oracle import legendre as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, Tolerance, assert_close

B, H, D = 2, 2, 3


def problem(n_tokens: int, order: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A series and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, n_tokens, H, D), (B, H, D, order))
    x, state = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, state


@pytest.mark.parametrize("form", [legendre_summary, legendre_summary_recurrent])
@pytest.mark.parametrize(("order", "horizon"), [(1, 4), (3, 1), (4, 10)])
def test_both_forms_solve_the_differential_equation(form, order: int, horizon: int):
    x, state = problem(35, order)
    summary, last = form(x, order, horizon, state)
    for b, h, d in ((0, 0, 0), (1, 1, 2)):
        solved = oracle.summary(x[b, :, h, d], order, horizon, state[b, h, d])
        assert_close(summary[b, :, h, d], solved, FLOAT64)
        assert_close(last[b, h, d], solved[-1], FLOAT64)


@pytest.mark.parametrize("n_tokens", [1, 2, 31, 32, 33, 63, 64, 65, 100])
@pytest.mark.parametrize(("order", "horizon"), [(1, 8), (6, 32), (16, 20)])
def test_chunks_equal_the_recurrence_in_value_and_gradient(order: int, horizon: int, n_tokens: int):
    results = []
    for form in (legendre_summary, legendre_summary_recurrent):
        x, state = (tensor.requires_grad_() for tensor in problem(n_tokens, order))
        summary, last = form(x, order, horizon, state)
        loss = summary.square().sum() + (last * 3).sin().sum()
        results.append((summary, last, *torch.autograd.grad(loss, [x, state])))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, FLOAT64)


@given(n_tokens=st.integers(2, 60), cut=st.integers(1, 59), chunk_tokens=st.integers(1, 40), seed=st.integers(0, 99))
def test_neither_splits_nor_chunks_matter(n_tokens: int, cut: int, chunk_tokens: int, seed: int):
    x, state = problem(n_tokens, 5, seed)
    cut = min(cut, n_tokens - 1)
    whole, last = legendre_summary(x, 5, 12, state)
    first, between = legendre_summary(x[:, :cut], 5, 12, state, chunk_tokens)
    second, resumed = legendre_summary(x[:, cut:], 5, 12, between, chunk_tokens)
    assert_close(torch.cat([first, second], dim=1), whole, FLOAT64)
    assert_close(resumed, last, FLOAT64)


@pytest.mark.parametrize("order", [1, 2, 5, 9])
def test_the_basis_is_orthonormal_and_that_of_numpy(order: int):
    cells = (np.arange(20_000) + 0.5) / 20_000
    values = legendre_values(order, torch.from_numpy(cells))
    assert_close(values, torch.from_numpy(oracle.basis(order, cells)), FLOAT64)
    assert_close(values.T @ values / len(cells), torch.eye(order), FLOAT32)


def polynomial(u: Tensor) -> Tensor:
    return 1 + 0.5 * u - 0.3 * u**2 + 0.02 * u**3


def of_a_polynomial(horizon: int, order: int) -> Tensor:
    """The summary after six horizons, when the zeros before the first token are forgotten."""
    x = polynomial(torch.arange(1, 6 * horizon + 1, dtype=torch.float64) / horizon).view(1, -1, 1, 1)
    return legendre_summary(x, order, horizon, init_legendre_state(1, 1, 1, order, x))[1].flatten()


@pytest.mark.parametrize("order", [4, 5, 8])
def test_a_polynomial_is_rebuilt_over_the_window(order: int):
    """A token held since the last one stands for a signal half a token ahead; what then remains is of second order."""
    back = torch.linspace(0, 1, 11, dtype=torch.float64)
    errors = []
    for horizon in (50, 100, 200):
        rebuilt = legendre_values(order, back) @ of_a_polynomial(horizon, order)
        errors.append((rebuilt - polynomial(6 - back + 0.5 / horizon)).abs().max())
    assert errors[2] < 2e-4
    assert 3.5 < errors[0] / errors[1] < 4.5
    assert 3.5 < errors[1] / errors[2] < 4.5


def test_a_summary_is_the_projection_of_the_window():
    """A slow wave fits the basis; what the recurrence keeps of it is its window's Legendre series."""
    horizon, order = 400, 12
    time = torch.arange(1, 4 * horizon + 1, dtype=torch.float64)
    wave = torch.sin(2 * torch.pi * time / horizon) + 0.5 * torch.cos(3 * torch.pi * time / horizon)
    last = legendre_summary(wave.view(1, -1, 1, 1), order, horizon, wave.new_zeros(1, 1, 1, order))[1].flatten()
    projected = oracle.projection(wave[-horizon:].flip(0).numpy(), order)
    assert_close(last, torch.from_numpy(projected), Tolerance(0.0, 2e-3))


def test_a_constant_is_its_first_coefficient():
    x = torch.full((1, 300, 1, 1), 0.7, dtype=torch.float64)
    last = legendre_summary(x, 4, 20, x.new_zeros(1, 1, 1, 4))[1].flatten()
    assert_close(last, torch.tensor([0.7, 0, 0, 0], dtype=torch.float64), FLOAT64)


def test_what_lies_beyond_the_horizon_fades():
    x = torch.zeros(1, 200, 1, 1, dtype=torch.float64)
    x[:, 0] = 1
    summary = legendre_summary(x, 6, 20, x.new_zeros(1, 1, 1, 6))[0][0, :, 0, 0]
    assert summary[10].norm() > 0.04
    assert summary[100].norm() < 1e-3 * summary[10].norm()


@pytest.mark.parametrize("n_tokens", [1, 33, 100])
def test_float32_agrees_with_float64(n_tokens: int):
    results = []
    for dtype in (torch.float32, torch.float64):
        x, state = (tensor.to(dtype).requires_grad_() for tensor in problem(n_tokens, 8))
        summary, last = legendre_summary(x, 8, 32, state)
        grads = torch.autograd.grad(summary.sin().sum() + last.square().sum(), [x, state])
        results.append((summary, last, *grads))
    (summary, last, *grads), (exact_summary, exact_last, *exact_grads) = results
    assert_close(summary, exact_summary, FLOAT32)
    assert_close(last, exact_last, FLOAT32)
    for ours, exact in zip(grads, exact_grads, strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    x, state = (tensor.bfloat16() for tensor in problem(40, 4))
    summary, last = legendre_summary(x, 4, 16, state)
    wide = legendre_summary(x.float(), 4, 16, state.float())
    assert torch.equal(summary, wide[0].bfloat16())
    assert torch.equal(last, wide[1].bfloat16())


@pytest.mark.parametrize("value", [1e30, 1e-30])
def test_extreme_inputs_stay_finite(value: float):
    x = torch.full((1, 70, 1, 2), value, requires_grad=True)
    summary, _ = legendre_summary(x, 32, 4, torch.zeros(1, 1, 2, 32))
    assert summary.isfinite().all()
    assert torch.autograd.grad(summary.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("n_tokens", [1, 32, 33, 100])
def test_flops_are_those_of_torchs_counter(n_tokens: int):
    x, state = problem(n_tokens, 7)
    with FlopCounterMode(display=False) as counter:
        legendre_summary(x, 7, 16, state)
    assert legendre_flops(B * H * D, n_tokens, 7) == counter.get_total_flops()


def test_the_state_keeps_nothing_else_alive():
    x, state = problem(50, 3)
    last = legendre_summary(x, 3, 8, state)[1]
    assert last.untyped_storage().nbytes() == last.numel() * 8
