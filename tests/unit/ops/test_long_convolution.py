"""Long convolutions: transforms against torch's direct form, a loop, and closed forms."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.long_convolution import fast_length, long_convolution, long_convolution_direct
from tests.oracle import long_convolution as oracle
from tests.tolerances import CAUSAL, FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, D = 2, 3
LENGTHS = (1, 2, 63, 64, 65, 100)
FORMS = [long_convolution, long_convolution_direct]


def problem(n_tokens: int, n_lags: int, n_past: int = 0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, n_tokens, D), (n_lags, D), (B, n_past, D))
    u, filters, past = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return u, filters, past


def looped(u: Tensor, filters: Tensor, past: Tensor) -> Tensor:
    signal = torch.cat([past, u], dim=1)
    return torch.stack([oracle.convolve(sequence, filters) for sequence in signal])[:, past.shape[1] :]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("n_lags", [1, 5, 64, 130])
@pytest.mark.parametrize("n_past", [0, 4, 20])
def test_both_forms_equal_the_loop(form, length: int, n_lags: int, n_past: int):
    given_problem = problem(length, n_lags, n_past)
    assert_close(form(*given_problem), looped(*given_problem), FLOAT64)


def gradients(form, dtype: torch.dtype, *sizes: int) -> tuple[Tensor, list[Tensor]]:
    leaves = [tensor.to(dtype).requires_grad_() for tensor in problem(*sizes)]
    y = form(*leaves)
    weigh = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return y, list(torch.autograd.grad((y * weigh).sum(), leaves))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(33, 20, 19), (10, 40, 39), (65, 65, 0), (1, 8, 7)])
def test_gradients_equal_those_of_the_loop(form, sizes: tuple[int, int, int]):
    exact = gradients(looped, torch.float64, *sizes)[1]
    for ours, theirs in zip(gradients(form, torch.float64, *sizes)[1], exact, strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    y32, grads32 = gradients(long_convolution, torch.float32, length, 30, 29)
    y, grads = gradients(long_convolution, torch.float64, length, 30, 29)
    assert y32.dtype == torch.float32
    assert_close(y32, y, FLOAT32)
    for ours, exact in zip(grads32, grads, strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    rough = [tensor.bfloat16() for tensor in problem(50, 20, 19)]
    y = long_convolution(*rough)
    assert torch.equal(y, long_convolution(*(tensor.float() for tensor in rough)).bfloat16())


@given(length=st.integers(2, 60), cut=st.integers(1, 59), n_lags=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_past_of_all_lags_but_one_is_all_that_a_split_needs(length: int, cut: int, n_lags: int, seed: int):
    cut = min(cut, length - 1)
    u, filters, past = problem(length, n_lags, n_lags - 1, seed)
    signal = torch.cat([past, u], dim=1)
    second = long_convolution(u[:, cut:], filters, signal[:, cut : cut + n_lags - 1])
    whole = long_convolution(u, filters, past)
    assert_close(torch.cat([long_convolution(u[:, :cut], filters, past), second], dim=1), whole, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
def test_an_impulse_gives_the_filter_and_nothing_before_or_after_it(form):
    _, filters, past = problem(1, 20)
    u = torch.zeros(B, 70, D, dtype=torch.float64)
    u[:, 30] = 1
    expected = torch.zeros_like(u)
    expected[:, 30:50] = filters
    assert_close(form(u, filters, past), expected, CAUSAL)


@pytest.mark.parametrize("form", FORMS)
def test_a_filter_of_ones_is_a_cumulative_sum(form):
    u, _, past = problem(90, 1)
    assert_close(form(u, torch.ones(90, D, dtype=torch.float64), past), u.cumsum(1), FLOAT64)


@pytest.mark.parametrize("size", [0.0, 1e15])
def test_extremes_stay_finite(size: float):
    u, filters, past = (tensor.float().requires_grad_() for tensor in problem(40, 20, 19))
    y = long_convolution(size * u, filters, size * past)
    for tensor in (y, *torch.autograd.grad(y.sum(), (u, filters, past))):
        assert tensor.isfinite().all()


@given(st.integers(1, 5000))
def test_a_fast_length_is_enough_and_at_most_a_quarter_more(n: int):
    found = fast_length(n)
    assert n <= found
    assert found <= 1.25 * n
    while found % 2 == 0:
        found //= 2
    assert found in (1, 3, 5, 9, 15)
