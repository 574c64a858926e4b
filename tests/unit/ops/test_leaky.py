"""Leaky averages against a loop from the equation, closed forms, and at the ends of what a retention may be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.ops.leaky import (
    CHUNK_TOKENS,
    leaky_average,
    leaky_average_dense,
    leaky_average_flops,
    leaky_average_gated,
    leaky_average_recurrent,
    leaky_average_step,
)
from tests.oracle import mosaic as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, D = 2, 3, 5
LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 100)
TWO_LEVELS = CHUNK_TOKENS**2 + 2 * CHUNK_TOKENS + 3
"""Tokens whose carries fill more than one chunk themselves."""

Problem = tuple[Tensor, Tensor, Tensor]


def problem(n_tokens: int, *, gated: bool = False, seed: int = 0) -> Problem:
    """Inputs, log retentions and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, state = draw(B, n_tokens, H, D), draw(B, H, D)
    return x, -0.5 * (draw(B, n_tokens, H) if gated else draw(H)).abs(), state


def loop(x: Tensor, log_retention: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for h in range(x.shape[2]):
            retention = log_retention[h] if log_retention.dim() == 1 else log_retention[b, :, h]
            y[b, :, h] = oracle.leaky_average(x[b, :, h], retention.exp(), state[b, h])
    return y, y[:, -1]


def recurrent(x: Tensor, log_retention: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    return leaky_average_recurrent(x, log_retention.expand(x.shape[:3]), state)


def fast(x: Tensor, log_retention: Tensor, state: Tensor, *chunk_tokens: int) -> tuple[Tensor, Tensor]:
    form = leaky_average if log_retention.dim() == 1 else leaky_average_gated
    return form(x, log_retention, state, *chunk_tokens)


def weighted(y: Tensor, last: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    weigh = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (y, last)]
    return (y * weigh[0]).sum() + (last * weigh[1]).sum()


def results(form, given_problem: Problem, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Averages, the last of them, and gradients to everything."""
    inputs = [tensor.to(dtype).requires_grad_() for tensor in given_problem]
    y, last = form(*inputs)
    return [y, last, *torch.autograd.grad(weighted(y, last), inputs)]


both = pytest.mark.parametrize("gated", [False, True], ids=["a head", "a token"])


@both
@pytest.mark.parametrize("form", [recurrent, fast])
@pytest.mark.parametrize("length", LENGTHS)
def test_averages_and_gradients_are_those_of_the_loop(form, length: int, gated: bool):
    given_problem = problem(length, gated=gated)
    for ours, theirs in zip(results(form, given_problem), results(loop, given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@both
def test_carries_that_fill_several_chunks(gated: bool):
    given_problem = problem(TWO_LEVELS, gated=gated)
    for ours, theirs in zip(results(fast, given_problem), results(recurrent, given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


def test_one_retention_for_all_tokens_is_that_of_the_head():
    x, log_retention, state = problem(100)
    y, last = leaky_average(x, log_retention, state)
    gated, gated_last = leaky_average_gated(x, log_retention.expand(x.shape[:3]), state)
    assert_close(gated, y, FLOAT64)
    assert_close(gated_last, last, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_from_nothing_it_is_the_dense_matrix(length: int):
    x, log_retention, state = problem(length)
    y, _ = leaky_average(x, log_retention, torch.zeros_like(state))
    assert_close(y, leaky_average_dense(x, log_retention), FLOAT64)


@both
@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int, gated: bool):
    given_problem = problem(length, gated=gated)
    single, double = results(fast, given_problem, torch.float32), results(fast, given_problem)
    for i, (ours, exact) in enumerate(zip(single, double, strict=True)):
        assert ours.dtype == torch.float32
        assert_close(ours, exact, FLOAT32 if i < 2 else FLOAT32_GRADIENT)


@both
def test_half_precision_is_computed_in_float32(gated: bool):
    rough = [tensor.bfloat16() for tensor in problem(50, gated=gated)]
    (averages, last), (wide, wide_last) = fast(*rough), fast(*(tensor.float() for tensor in rough))
    assert torch.equal(averages, wide.bfloat16())
    assert torch.equal(last, wide_last)


@both
@given(length=st.integers(1, 70), chunk_tokens=st.integers(2, 80), seed=st.integers(0, 1000))
def test_the_result_does_not_depend_on_the_chunk(gated: bool, length: int, chunk_tokens: int, seed: int):
    given_problem = problem(length, gated=gated, seed=seed)
    for ours, theirs in zip(fast(*given_problem, chunk_tokens), recurrent(*given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@both
@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(gated: bool, length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    x, log_retention, state = problem(length, gated=gated, seed=seed)
    y, last = fast(x, log_retention, state)
    early, late = (log_retention[:, :cut], log_retention[:, cut:]) if gated else (log_retention, log_retention)
    first, between = fast(x[:, :cut], early, state)
    second, resumed = fast(x[:, cut:], late, between)
    assert_close(torch.cat([first, second], dim=1), y, FLOAT64)
    assert_close(resumed, last, FLOAT64)


def test_full_retention_is_a_running_sum():
    x, log_retention, state = problem(100)
    y, _ = leaky_average(x, torch.zeros_like(log_retention), state)
    assert_close(y, state.unsqueeze(1) + x.cumsum(1), FLOAT64)


def test_no_retention_leaves_the_present_token():
    x, _, state = problem(100)
    y, _ = leaky_average(x, torch.full((H,), -1e4, dtype=x.dtype), state)
    assert_close(y, x, FLOAT64)


@pytest.mark.parametrize("log_retention", [-1e30, -1e4, -90.0, -1e-30, 0.0])
def test_a_retention_near_none_or_one_keeps_values_and_gradients_finite(log_retention: float):
    x, like, state = (tensor.float() for tensor in problem(TWO_LEVELS))
    extreme = (x, torch.full_like(like, log_retention), state)
    for tensor in results(fast, extreme, torch.float32):
        assert tensor.isfinite().all()
    every_token = (x, torch.full((B, TWO_LEVELS, H), log_retention), state)
    for tensor in results(fast, every_token, torch.float32):
        assert tensor.isfinite().all()


def test_the_gradient_of_a_retention_of_one_is_that_of_the_loop():
    x, log_retention, state = problem(70)
    given_problem = (x, torch.zeros_like(log_retention), state)
    for ours, theirs in zip(results(fast, given_problem), results(loop, given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("forgets", [-1e6, -torch.inf])
def test_tokens_after_a_reset_lose_no_digits(forgets: float):
    """A running sum of logs would carry the reset's million along, and leave float32 no digits for what follows."""
    x, log_retention, state = problem(64, gated=True)
    log_retention[:, 5] = forgets
    log_retention[:, 40] = forgets
    given_problem = (x, log_retention, state)
    y, last = leaky_average_gated(*(tensor.float() for tensor in given_problem))
    expected, expected_last = recurrent(*given_problem)
    assert_close(y, expected, FLOAT32)
    assert_close(last, expected_last, FLOAT32)
    assert all(tensor.isfinite().all() for tensor in results(fast, given_problem))


def test_a_reset_forgets_everything_before_it():
    x, log_retention, state = problem(64, gated=True)
    log_retention[:, 40] = -torch.inf
    y, _ = leaky_average_gated(x, log_retention, state)
    after, _ = leaky_average_gated(x[:, 40:], log_retention[:, 40:], torch.zeros_like(state))
    assert_close(y[:, 40:], after, FLOAT64)


@both
def test_the_gradient_has_a_gradient(gated: bool):
    inputs = tuple(tensor.requires_grad_() for tensor in problem(5, gated=gated))
    assert torch.autograd.gradgradcheck(lambda *args: fast(*args, 2), inputs)


@both
def test_the_state_keeps_nothing_else_alive(gated: bool):
    _, last = fast(*problem(40, gated=gated))
    assert last.is_contiguous()
    assert last.untyped_storage().nbytes() == last.numel() * 8


def test_a_step_is_the_next_average():
    x, log_retention, state = problem(3, gated=True)
    y, _ = leaky_average_gated(x, log_retention, state)
    assert_close(leaky_average_step(x[:, 2], log_retention[:, 2], y[:, 1]), y[:, 2], FLOAT64)


@both
@pytest.mark.parametrize("length", [1, 32, 33, 100, TWO_LEVELS])
def test_flops_are_those_of_torchs_counter(length: int, gated: bool):
    with FlopCounterMode(display=False) as counter:
        fast(*problem(length, gated=gated))
    assert leaky_average_flops(B, length, H * D) == counter.get_total_flops()
