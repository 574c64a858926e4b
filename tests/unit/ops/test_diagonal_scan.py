"""The diagonal scan against a loop from the equation, at its extremes, and under differentiation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops import diagonal_scan as module
from mnemoscope.ops.diagonal_scan import diagonal_scan, diagonal_scan_recurrent, diagonal_scan_windowed
from tests.oracle import rg_lru as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

LENGTHS = (1, 2, 63, 64, 65, 100)
FORMS = (diagonal_scan, diagonal_scan_recurrent)


@pytest.fixture(params=["in chunks", "directly"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values a token go in chunks, many directly; here both go both ways."""
    monkeypatch.setattr(module, "DIRECT_VALUES", 1 << 30 if request.param == "in chunks" else 0)


def problem(n_tokens: int, d: int = 5, batch: int = 2, seed: int = 0) -> list[Tensor]:
    """Retentions in (0, 1), inputs and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(3 * draw(batch, n_tokens, d)).sigmoid(), draw(batch, n_tokens, d), draw(batch, d)]


def expected(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    return torch.stack([oracle.recurrence(*sequence) for sequence in zip(a, b, state, strict=True)])


def gradients(form, inputs: list[Tensor]) -> list[Tensor]:
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    h = form(*inputs)
    weigh = torch.randn(h.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return list(torch.autograd.grad((h * weigh).sum(), inputs))


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
def test_states_and_gradients_are_those_of_the_loop(form, length: int):
    inputs = problem(length)
    assert_close(form(*inputs), expected(*inputs), FLOAT64)
    for ours, theirs in zip(gradients(form, inputs), gradients(expected, inputs), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    inputs = problem(length)
    single = [tensor.float() for tensor in inputs]
    assert_close(diagonal_scan(*single), diagonal_scan(*inputs), FLOAT32)
    for ours, exact in zip(gradients(diagonal_scan, single), gradients(diagonal_scan, inputs), strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("batch", [1, 2])
def test_first_and_second_derivatives_are_those_of_finite_differences(batch: int):
    inputs = [tensor.requires_grad_() for tensor in problem(7, d=2, batch=batch)]
    assert torch.autograd.gradcheck(diagonal_scan, inputs)
    assert torch.autograd.gradgradcheck(diagonal_scan, inputs)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("length", [1, 50])
@pytest.mark.parametrize("batch", [1, 2])
def test_inputs_are_left_alone(length: int, batch: int):
    inputs = problem(length, batch=batch)
    before = [tensor.clone() for tensor in inputs]
    diagonal_scan(*inputs)
    gradients(diagonal_scan, inputs)
    assert all(torch.equal(now, then) for now, then in zip(inputs, before, strict=True))


@settings(max_examples=25)
@given(length=st.integers(2, 90), cut=st.integers(1, 89), d=st.integers(1, 4), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, d: int, seed: int):
    cut = min(cut, length - 1)
    a, b, state = problem(length, d=d, seed=seed)
    whole = diagonal_scan(a, b, state)
    first = diagonal_scan(a[:, :cut], b[:, :cut], state)
    second = diagonal_scan(a[:, cut:], b[:, cut:], first[:, -1])
    assert_close(torch.cat([first, second], dim=1), whole, FLOAT64)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("retention", [0.0, 1e-300, 1e-30, 1.0])
def test_any_retention_is_safe(retention: float):
    """Products of retentions underflow here; nothing is ever divided by them."""
    a, b, state = problem(100)
    a = torch.full_like(a, retention)
    inputs = [a, b, state]
    assert_close(diagonal_scan(*inputs), expected(*inputs), FLOAT64)
    single = [tensor.float() for tensor in inputs]
    assert_close(diagonal_scan(*single), expected(*inputs), FLOAT32)
    for ours, exact in zip(gradients(diagonal_scan, single), gradients(expected, inputs), strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    inputs = [tensor.bfloat16() for tensor in problem(50)]
    assert torch.equal(diagonal_scan(*inputs), diagonal_scan(*(x.float() for x in inputs)))


@pytest.mark.parametrize("window", [1, 2, 7, 31, 69, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int):
    a, b, state = problem(70)
    windowed = diagonal_scan_windowed(a.log(), b, window)
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 50, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        assert_close(windowed[:, t], expected(a[:, seen], b[:, seen], torch.zeros_like(state))[:, -1], FLOAT64)


def test_a_long_window_keeps_its_digits_in_float32():
    """Ten thousand tokens of strong decay: the sum of logarithms is far larger than its differences."""
    generator = torch.Generator().manual_seed(0)
    log_a = -torch.rand(1, 10_000, 3, generator=generator, dtype=torch.float64)
    b = torch.randn(1, 10_000, 3, generator=generator, dtype=torch.float64)
    exact = diagonal_scan_windowed(log_a, b, 4)
    assert_close(diagonal_scan_windowed(log_a.float(), b.float(), 4), exact, FLOAT32)
