"""The matrix memory of xLSTM against the paper without stabilisation, at its extremes, and against a peer."""

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.mlstm import (
    ScaledState,
    Writes,
    mlstm_chunked,
    mlstm_recurrent,
    mlstm_states,
    mlstm_step,
    mlstm_windowed,
)
from tests.oracle import mlstm as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, PEER_FLOAT32, assert_close

B, H, K, V = 2, 3, 4, 5
LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 130)
FORMS = (mlstm_recurrent, mlstm_chunked)

Problem = tuple[Tensor, Writes, ScaledState]


def problem(n_tokens: int, *, seed: int = 0, batch: int = B, spread: float = 2.0) -> Problem:
    """Queries, writes whose strengths are spread over some orders, and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_retention = F.logsigmoid(draw(batch, n_tokens, H) + 2)
    writes = Writes(
        draw(batch, n_tokens, H, K), draw(batch, n_tokens, H, V), spread * draw(batch, n_tokens, H), log_retention
    )
    state = ScaledState(draw(batch, H, K, V), draw(batch, H, K), draw(batch, H))
    return draw(batch, n_tokens, H, K), writes, state


def expected(q: Tensor, writes: Writes, state: ScaledState) -> tuple[Tensor, Tensor, Tensor]:
    """Reads, C and n without any scale."""
    k, v, log_strength, log_retention = writes
    scale = state.log_scale.exp().unsqueeze(-1)
    c, n = scale.unsqueeze(-1) * state.s, scale * state.normaliser
    return oracle.all_heads(q, k, v, log_strength.exp(), log_retention.exp(), c, n)


def unscaled(form):
    def run(q: Tensor, writes: Writes, state: ScaledState) -> tuple[Tensor, Tensor, Tensor]:
        read, last = form(q, writes, state)
        scale = last.log_scale.exp().unsqueeze(-1)
        return read, scale.unsqueeze(-1) * last.s, scale * last.normaliser

    return run


def gradients(form, q: Tensor, writes: Writes, state: ScaledState, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Of reads, C and n, weighed, to every input; the state's scale is a constant."""
    inputs = [tensor.to(dtype).clone().requires_grad_() for tensor in (q, *writes, *state[:2])]
    results = form(inputs[0], Writes(*inputs[1:5]), ScaledState(*inputs[5:], state.log_scale.to(dtype)))
    generator = torch.Generator().manual_seed(9)
    loss = torch.zeros((), dtype=torch.float64)
    for tensor in results:
        loss = loss + (tensor * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)).sum()
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
def test_reads_and_states_are_those_of_the_unstabilised_equations(form, length: int):
    given_problem = problem(length)
    for ours, theirs in zip(unscaled(form)(*given_problem), expected(*given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 33, 65])
def test_gradients_are_those_of_the_unstabilised_equations(form, length: int):
    given_problem = problem(length)
    theirs = gradients(expected, *given_problem)
    for ours, exact in zip(gradients(unscaled(form), *given_problem), theirs, strict=True):
        assert_close(ours, exact, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_both_forms_keep_the_same_state(length: int):
    given_problem = problem(length)
    states = [form(*given_problem)[1] for form in FORMS]
    for slow, fast in zip(*states, strict=True):
        assert_close(fast, slow, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    q, writes, state = problem(length, spread=0.5)
    read, last = mlstm_chunked(q, writes, state)
    single, single_last = mlstm_chunked(q.float(), writes.to(torch.float32), ScaledState(*(x.float() for x in state)))
    assert_close(single, read, FLOAT32)
    for ours, exact in zip(single_last, last, strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, exact, FLOAT32)

    def reads(q: Tensor, writes: Writes, state: ScaledState) -> tuple[Tensor, ...]:
        read, last = mlstm_chunked(q, writes, state)
        return read, last.s, last.normaliser

    exact = gradients(reads, q, writes, state)
    for ours, theirs in zip(gradients(reads, q, writes, state, torch.float32), exact, strict=True):
        assert_close(ours, theirs, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    q, writes, state = problem(50)
    q, writes, state = q.bfloat16(), writes.to(torch.bfloat16), ScaledState(*(part.bfloat16() for part in state))
    read, last = mlstm_chunked(q, writes, state)
    wide, wide_last = mlstm_chunked(q.float(), writes.to(torch.float32), ScaledState(*(part.float() for part in state)))
    assert torch.equal(read, wide.bfloat16())
    for half, full in zip(last, wide_last, strict=True):
        assert torch.equal(half, full)


@settings(max_examples=25)
@given(length=st.integers(1, 50), chunk_tokens=st.integers(1, 64), batch=st.integers(1, 2), seed=st.integers(0, 1000))
def test_the_result_does_not_depend_on_the_chunk(length: int, chunk_tokens: int, batch: int, seed: int):
    given_problem = problem(length, batch=batch, seed=seed)
    read, last = mlstm_chunked(*given_problem, chunk_tokens)
    slow, slow_last = mlstm_recurrent(*given_problem)
    assert_close(read, slow, FLOAT64)
    for ours, theirs in zip(last, slow_last, strict=True):
        assert_close(ours, theirs, FLOAT64)


@settings(max_examples=25)
@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    q, writes, state = problem(length, seed=seed)
    whole, last = mlstm_chunked(q, writes, state)
    first, between = mlstm_chunked(q[:, :cut], writes.at(slice(cut)), state)
    second, resumed = mlstm_chunked(q[:, cut:], writes.at(slice(cut, None)), between)
    assert_close(torch.cat([first, second], dim=1), whole, FLOAT64)
    for ours, theirs in zip(resumed, last, strict=True):
        assert_close(ours, theirs, FLOAT64)


def test_states_are_those_after_every_token():
    _, writes, state = problem(5)
    states = mlstm_states(writes, state)
    for t in range(5):
        state = mlstm_step(state, writes.at(slice(t, t + 1)))
        for formed, stepped in zip(states, state, strict=True):
            assert torch.equal(formed[:, t], stepped)


def test_a_read_does_not_depend_on_the_scale_of_the_state():
    """The same C and n in other units."""
    q, writes, state = problem(70)
    for units in (-3.0, 5.0):
        factor = torch.tensor(units, dtype=torch.float64).exp()
        other = ScaledState(state.s / factor, state.normaliser / factor, state.log_scale + units)
        for form in FORMS:
            assert_close(form(q, writes, other)[0], form(q, writes, state)[0], FLOAT64)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-1e4, -200.0, 200.0, 1e4])
def test_strengths_far_outside_of_a_float_stay_finite(form, dtype: torch.dtype, logit: float):
    q, writes, _ = problem(130)
    writes = writes._replace(log_strength=writes.log_strength + logit).to(dtype)
    q, empty = q.to(dtype), [torch.zeros(B, H, *rest, dtype=dtype) for rest in ((K, V), (K,), ())]
    given_problem = q, writes, ScaledState(*empty)

    def reads(q: Tensor, writes: Writes, state: ScaledState) -> tuple[Tensor, ...]:
        read, last = form(q, writes, state)
        return read, last.s, last.normaliser

    for tensor in (*reads(*given_problem), *gradients(reads, *given_problem, dtype)):
        assert tensor.isfinite().all()
    if logit < 0:
        assert_close(reads(*given_problem)[0], torch.zeros(B, 130, H, V), FLOAT64)


def test_one_overwhelming_write_is_all_that_is_read():
    """From then on the read is its value, since numerator and normaliser hold nothing else."""
    q, writes, state = problem(70)
    strength, k = writes.log_strength.clone(), writes.k.clone()
    strength[:, 20], writes = 300.0, writes._replace(k=k)
    read, _ = mlstm_chunked(q, writes._replace(log_strength=strength), state)
    agreement = (q[:, 20:] * k[:, 20:21]).sum(-1, keepdim=True).sign()
    assert_close(read[:, 20:], agreement * writes.v[:, 20:21], FLOAT64)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_retentions_at_their_ends_are_safe(logit: float):
    q, writes, state = problem(70)
    writes = writes._replace(log_retention=F.logsigmoid(torch.full_like(writes.log_retention, logit)))
    for ours, theirs in zip(unscaled(mlstm_chunked)(q, writes, state), expected(q, writes, state), strict=True):
        assert_close(ours, theirs, FLOAT64)
    for gradient in gradients(unscaled(mlstm_chunked), q, writes, state):
        assert gradient.isfinite().all()


def test_second_derivatives_are_refused():
    q, writes, state = problem(5)
    q.requires_grad_()
    read, _ = mlstm_chunked(q, writes, state)
    (gradient,) = torch.autograd.grad(read.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()


@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int):
    q, writes, state = problem(70)
    reads, empty = mlstm_windowed(q, writes, window), ScaledState(*(torch.zeros_like(part) for part in state))
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 33, 64, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        alone, *_ = expected(q[:, seen], writes.at(seen), empty)
        assert_close(reads[:, t], alone[:, -1], FLOAT64)


def test_a_window_after_a_write_six_orders_stronger_keeps_float32():
    q, writes, _ = problem(70, spread=0.5)
    strength = writes.log_strength.clone()
    strength[:, 20] += 14.0
    writes = writes._replace(log_strength=strength)
    exact = mlstm_windowed(q, writes, 8)
    single = mlstm_windowed(q.float(), writes.to(torch.float32), 8)
    assert single.dtype == torch.float32
    assert_close(single[:, 28:], exact[:, 28:], PEER_FLOAT32)


@pytest.mark.parametrize("n_tokens", [64, 128])
def test_transformers_computes_the_same(n_tokens: int):
    # Imported here: transformers takes seconds, and the other tests do not need it.
    peer = import_module("transformers.models.xlstm.modeling_xlstm").mlstm_chunkwise_native_autograd
    q, writes, _ = problem(n_tokens, spread=0.5)
    # The peer takes the logit of the retention, and scales queries by K^-1/2, which here is the memory's business.
    logits = torch.randn(B, n_tokens, H, generator=torch.Generator().manual_seed(1))
    q, writes = q.float(), writes.to(torch.float32)._replace(log_retention=F.logsigmoid(logits))
    empty = ScaledState(torch.zeros(B, H, K, V), torch.zeros(B, H, K), torch.zeros(B, H))
    read, last = mlstm_chunked(q, writes, empty)
    heads_first = (tensor.transpose(1, 2) for tensor in (q * K**0.5, writes.k, writes.v, writes.log_strength, logits))
    query, key, value, input_gate, forget_gate = (tensor.contiguous() for tensor in heads_first)
    peer_read, (c, n, m) = peer(query, key, value, input_gate, forget_gate, return_last_states=True, eps=0.0)
    assert_close(read, peer_read.transpose(1, 2), PEER_FLOAT32)
    for ours, theirs in zip(last, (c, n, m.squeeze(-1)), strict=True):
        assert_close(ours, theirs, PEER_FLOAT32)
