"""The generalised delta rule of RWKV-7 against a loop from the equation and the rules it contains."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.rwkv7 import (
    CHUNK_TOKENS,
    Writes,
    rwkv7_chunked,
    rwkv7_recurrent,
    rwkv7_states,
    rwkv7_step,
    rwkv7_windowed,
)
from tests.oracle import gated_delta, gla
from tests.oracle import rwkv7 as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, V = 2, 3, 6, 5
LENGTHS = (1, 2, 63, 64, 65, 100)
forms = pytest.mark.parametrize("form", [rwkv7_recurrent, rwkv7_chunked])


def problem(n_tokens: int, seed: int = 0) -> tuple[Tensor, Writes, Tensor]:
    """Queries, writes and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    channels = (B, n_tokens, H, K)
    writes = Writes(
        k=draw(*channels),
        v=draw(B, n_tokens, H, V),
        removal_key=torch.nn.functional.normalize(draw(*channels), dim=-1),
        rate=draw(*channels).sigmoid(),
        log_retention=-math.exp(-0.5) * draw(*channels).sigmoid(),
    )
    return draw(*channels), writes, draw(B, H, K, V)


def expected(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    k, v, removal_key, rate, log_retention = writes
    return oracle.rule_of_all_heads(q, k, v, removal_key, rate, log_retention.exp(), state)


def gradients(form, given_problem: tuple[Tensor, Writes, Tensor], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Reads, the last state, and the gradients of a mixture of both to everything that went in."""
    q, writes, state = given_problem
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (q, *writes, state)]
    reads, last = form(inputs[0], Writes(*inputs[1:6]), inputs[6])
    generator = torch.Generator().manual_seed(9)
    weigh = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (reads, last)]
    loss = (reads * weigh[0]).sum() + (last * weigh[1]).sum()
    return [reads, last, *torch.autograd.grad(loss, inputs)]


@forms
@pytest.mark.parametrize("length", LENGTHS)
def test_both_forms_equal_the_loop(form, length: int):
    given_problem = problem(length)
    for ours, theirs in zip(form(*given_problem), expected(*given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@forms
@pytest.mark.parametrize("length", [1, 2, 33, 65])
def test_gradients_equal_those_of_the_loop(form, length: int):
    given_problem = problem(length)
    for ours, theirs in zip(gradients(form, given_problem), gradients(expected, given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    single, double = gradients(rwkv7_chunked, problem(length), torch.float32), gradients(rwkv7_chunked, problem(length))
    for ours, exact in zip(single[:2], double[:2], strict=True):
        assert_close(ours, exact, FLOAT32)
    for ours, exact in zip(single[2:], double[2:], strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    q, writes, state = problem(50)
    q, state, writes = q.bfloat16(), state.bfloat16(), Writes(*(tensor.bfloat16() for tensor in writes))
    reads, last = rwkv7_chunked(q, writes, state)
    wide = rwkv7_chunked(q.float(), Writes(*(tensor.float() for tensor in writes)), state.float())
    assert torch.equal(reads, wide[0].bfloat16())
    assert last.dtype == torch.float32
    assert torch.equal(last, wide[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("retention", [0.0, -math.exp(-0.5)])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_at_the_bounds_of_decay_and_rate_it_is_the_loop(dtype: torch.dtype, retention: float, rate: float):
    q, writes, state = problem(70)
    at_bounds = writes._replace(
        rate=torch.full_like(writes.rate, rate), log_retention=torch.full_like(writes.log_retention, retention)
    )
    ours = gradients(rwkv7_chunked, (q, at_bounds, state), dtype)
    theirs = gradients(rwkv7_recurrent, (q, at_bounds, state))
    for fast, slow in zip(ours[:2], theirs[:2], strict=True):
        assert_close(fast, slow, FLOAT64 if dtype == torch.float64 else FLOAT32)
    for fast, slow in zip(ours[2:], theirs[2:], strict=True):
        assert_close(fast, slow, FLOAT64 if dtype == torch.float64 else FLOAT32_GRADIENT)


def test_zeros_stay_zeros_with_finite_gradients():
    widths = (K, V, K, K, K)
    nothing = (torch.zeros(B, 40, H, K), Writes(*(torch.zeros(B, 40, H, w) for w in widths)), torch.zeros(B, H, K, V))
    values = gradients(rwkv7_chunked, nothing, torch.float32)
    assert all(value.isfinite().all() for value in values)
    assert not values[0].any()


@given(length=st.integers(1, 80), chunk_tokens=st.integers(1, 64), seed=st.integers(0, 1000))
def test_the_result_does_not_depend_on_the_chunk(length: int, chunk_tokens: int, seed: int):
    given_problem = problem(length, seed)
    ours = rwkv7_chunked(*given_problem, chunk_tokens)
    for fast, slow in zip(ours, rwkv7_recurrent(*given_problem), strict=True):
        assert_close(fast, slow, FLOAT64)


@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    q, writes, state = problem(length, seed)
    reads, last = rwkv7_chunked(q, writes, state)
    first, between = rwkv7_chunked(q[:, :cut], writes.at(slice(cut)), state)
    second, resumed = rwkv7_chunked(q[:, cut:], writes.at(slice(cut, None)), between)
    assert_close(torch.cat([first, second], dim=1), reads, FLOAT64)
    assert_close(resumed, last, FLOAT64)


def test_states_are_those_after_every_token():
    _, writes, state = problem(5)
    states = rwkv7_states(writes, state)
    for t in range(5):
        state = rwkv7_step(state, writes.at(slice(t, t + 1)))
        assert torch.equal(states[:, t], state)


@forms
def test_without_removal_it_is_gated_linear_attention(form):
    q, writes, state = problem(70)
    given_problem = (q, writes._replace(rate=torch.zeros_like(writes.rate)), state)
    theirs = gla.rule_of_all_heads(q, writes.k, writes.v, writes.log_retention.exp(), state)
    for ours, exact in zip(form(*given_problem), theirs, strict=True):
        assert_close(ours, exact, FLOAT64)


@forms
def test_with_one_key_for_removal_and_write_it_is_the_delta_rule(form):
    q, writes, state = problem(70)
    strength = writes.rate[..., 0]
    key = writes.removal_key
    given_writes = Writes(
        k=strength.unsqueeze(-1) * key,
        v=writes.v,
        removal_key=key,
        rate=strength.unsqueeze(-1).expand_as(key),
        log_retention=torch.zeros_like(key),
    )
    theirs = gated_delta.rule_of_all_heads(q, key, writes.v, strength, torch.ones_like(strength), state)
    for ours, exact in zip(form(q, given_writes, state), theirs, strict=True):
        assert_close(ours, exact, FLOAT64)


@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int):
    q, writes, state = problem(70)
    reads = rwkv7_windowed(q, writes, window)
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 33, 50, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        alone, _ = expected(q[:, seen], writes.at(seen), torch.zeros_like(state))
        assert_close(reads[:, t], alone[:, -1], FLOAT64)


def test_writes_can_be_cut():
    _, writes, _ = problem(10)
    for part, whole in zip(writes.at(slice(2, 5)), writes, strict=True):
        assert torch.equal(part, whole[:, 2:5])
    assert CHUNK_TOKENS == 32, "lengths around the chunk are tested for 32"
