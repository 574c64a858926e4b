"""Fading sums in chunks against the loop and closed forms, and the compression in the loop."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.log_accumulation import CHUNK_TOKENS, fading_sum, fading_sum_recurrent, log_loop, signed_log1p
from tests.oracle import log_accumulation as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, D = 2, 3
LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 100)


def problem(n_tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, n_tokens, D), (D,), (B, D))
    u, retention, start = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return u, retention.sigmoid().log(), start


def gradients(form, length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    leaves = [tensor.to(dtype).requires_grad_() for tensor in problem(length)]
    sums = form(*leaves)
    weigh = torch.randn(sums.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [sums, *torch.autograd.grad((sums * weigh).sum(), leaves)]


@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_equal_the_loop(length: int):
    for ours, theirs in zip(gradients(fading_sum, length), gradients(fading_sum_recurrent, length), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("form", [fading_sum, log_loop])
@pytest.mark.parametrize("length", [1, 33, 65])
def test_float32_agrees_with_float64(form, length: int):
    (y32, *grads32), (y, *grads) = (gradients(form, length, dtype) for dtype in (torch.float32, torch.float64))
    assert y32.dtype == torch.float32
    assert_close(y32, y, FLOAT32)
    for ours, exact in zip(grads32, grads, strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


@pytest.mark.parametrize("form", [fading_sum, log_loop])
def test_half_precision_is_computed_in_float32(form):
    rough = [tensor.bfloat16() for tensor in problem(50)]
    assert torch.equal(form(*rough), form(*(tensor.float() for tensor in rough)))


@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    u, log_retention, start = problem(length, seed)
    for form in (fading_sum, log_loop):
        first = form(u[:, :cut], log_retention, start)
        pieces = torch.cat([first, form(u[:, cut:], log_retention, first[:, -1])], dim=1)
        assert_close(pieces, form(u, log_retention, start), FLOAT64)


def test_without_fading_it_is_a_cumulative_sum():
    u, _, start = problem(70)
    assert_close(fading_sum(u, torch.zeros(D, dtype=u.dtype), start), start.unsqueeze(1) + u.cumsum(1), FLOAT64)


def test_a_constant_input_approaches_the_bound():
    """A_t = U (1 - g^t) / (1 - g)."""
    retention = torch.tensor([0.3, 0.9, 0.99], dtype=torch.float64)
    sums = fading_sum(torch.full((1, 90, 3), 2.0, dtype=torch.float64), retention.log(), torch.zeros(1, 3).double())
    n = torch.arange(1, 91, dtype=torch.float64).unsqueeze(1)
    assert_close(sums[0], 2 * (1 - retention**n) / (1 - retention), FLOAT64)


def test_the_loop_is_that_of_the_equations():
    u, log_retention, start = problem(40)
    expected = torch.stack([oracle.accumulate(sequence, log_retention.exp(), in_loop=True) for sequence in u])
    assert_close(log_loop(u, log_retention, torch.zeros_like(start)), expected, FLOAT64)


@pytest.mark.parametrize("form", [fading_sum, log_loop])
@pytest.mark.parametrize("log_retention", [-1e4, -1e-9, 0.0])
@pytest.mark.parametrize("size", [0.0, 1e18])
def test_extremes_stay_finite(form, log_retention: float, size: float):
    u, retention, start = (tensor.float() for tensor in problem(70))
    leaves = [size * u, torch.full_like(retention, log_retention), size * start]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    sums = form(*leaves)
    for tensor in (sums, *torch.autograd.grad(sums.sum(), leaves)):
        assert tensor.isfinite().all()


def test_the_logarithm_keeps_sign_and_order_and_has_a_slope_of_at_most_one():
    x = torch.cat([torch.linspace(-50, 50, 1001, dtype=torch.float64), torch.zeros(1).double()]).requires_grad_()
    y = signed_log1p(x)
    assert_close(y, x.sign() * x.abs().log1p(), FLOAT64)
    slope = torch.autograd.grad(y.sum(), x)[0]
    assert_close(slope, 1 / (1 + x.abs()), FLOAT64)
    assert slope[-1] == 1, "an input of exactly zero has its slope as well"
    assert signed_log1p(torch.tensor(math.expm1(3.0))).item() == pytest.approx(3)


@given(seed=st.integers(0, 1000))
def test_the_loop_contracts_by_the_retention(seed: int):
    """Two states under the same input: their distance shrinks by g a token at least, channel by channel."""
    u, log_retention, start = problem(20, seed)
    other = start + 3 * torch.randn(start.shape, generator=torch.Generator().manual_seed(seed), dtype=start.dtype)
    apart = [
        (start - other).abs(),
        *(log_loop(u, log_retention, start) - log_loop(u, log_retention, other)).abs().unbind(1),
    ]
    for before, after in pairwise(apart):
        assert (after <= log_retention.exp() * before + 1e-15).all()


def test_lengths_around_the_chunk_are_tried():
    assert CHUNK_TOKENS == 32
