"""The selective scan against loops from the paper, closed forms, finite differences, and two peers."""

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.ops.selective_scan import (
    Writes,
    selective_scan_chunked,
    selective_scan_recurrent,
    selective_scan_states,
    selective_scan_step,
    selective_scan_windowed,
)
from tests.oracle import mamba as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, PEER_FLOAT32, assert_close

B, D, N = 2, 5, 3
LENGTHS = (1, 2, 63, 64, 65, 100)

Problem = tuple[Tensor, Writes, Tensor]


def problem(n_tokens: int, *, seed: int = 0, batch: int = B, d: int = D, n: int = N, strength: float = 1.0) -> Problem:
    """Queries, writes and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    step = strength * F.softplus(draw(batch, n_tokens, d) - 1)
    writes = Writes(draw(batch, n_tokens, n), draw(batch, n_tokens, d), step, -draw(d, n).exp())
    return draw(batch, n_tokens, n), writes, draw(batch, d, n)


def expected(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    k, v, step, rate = writes
    return oracle.scan_of_all(step, rate, k, q, v, state)


def gradients(form, q: Tensor, writes: Writes, state: Tensor, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Of reads and last state, weighed, to every input."""
    inputs = [tensor.to(dtype).clone().requires_grad_() for tensor in (q, *writes, state)]
    read, last = form(inputs[0], Writes(*inputs[1:5]), inputs[5])
    generator = torch.Generator().manual_seed(9)
    weigh = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (read, last)]
    return list(torch.autograd.grad((read * weigh[0]).sum() + (last * weigh[1]).sum(), inputs))


@pytest.mark.parametrize("form", [selective_scan_recurrent, selective_scan_chunked])
@pytest.mark.parametrize("length", LENGTHS)
def test_reads_states_and_gradients_are_those_of_the_loop(form, length: int):
    given_problem = problem(length)
    for ours, theirs in zip(form(*given_problem), expected(*given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)
    for ours, theirs in zip(gradients(form, *given_problem), gradients(expected, *given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    q, writes, state = problem(length)
    single = selective_scan_chunked(q.float(), Writes(*(tensor.float() for tensor in writes)), state.float())
    for ours, exact in zip(single, selective_scan_chunked(q, writes, state), strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, exact, FLOAT32)
    ours = gradients(selective_scan_chunked, q, writes, state, torch.float32)
    for single, exact in zip(ours, gradients(expected, q, writes, state), strict=True):
        assert_close(single, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    q, writes, state = problem(50)
    q, writes, state = q.bfloat16(), Writes(*(tensor.bfloat16() for tensor in writes)), state.bfloat16()
    wide = selective_scan_chunked(q.float(), Writes(*(tensor.float() for tensor in writes)), state.float())
    read, last = selective_scan_chunked(q, writes, state)
    assert torch.equal(read, wide[0].bfloat16())
    assert torch.equal(last, wide[1])


@settings(max_examples=25)
@given(
    length=st.integers(1, 50),
    chunk_tokens=st.integers(1, 64),
    sizes=st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 1000),
)
def test_the_result_does_not_depend_on_the_chunk(
    length: int, chunk_tokens: int, sizes: tuple[int, int, int], seed: int
):
    batch, d, n = sizes
    given_problem = problem(length, seed=seed, batch=batch, d=d, n=n)

    def chunked(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan_chunked(q, writes, state, chunk_tokens)

    for ours, slow in zip(chunked(*given_problem), selective_scan_recurrent(*given_problem), strict=True):
        assert_close(ours, slow, FLOAT64)
    slow = gradients(selective_scan_recurrent, *given_problem)
    for ours, theirs in zip(gradients(chunked, *given_problem), slow, strict=True):
        assert_close(ours, theirs, FLOAT64)


@settings(max_examples=25)
@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    q, writes, state = problem(length, seed=seed)
    whole, last = selective_scan_chunked(q, writes, state)
    first, between = selective_scan_chunked(q[:, :cut], writes.at(slice(cut)), state)
    second, resumed = selective_scan_chunked(q[:, cut:], writes.at(slice(cut, None)), between)
    assert_close(torch.cat([first, second], dim=1), whole, FLOAT64)
    assert_close(resumed, last, FLOAT64)


def test_the_gradient_is_that_of_finite_differences():
    q, writes, state = problem(5, batch=1, d=2, n=2)
    inputs = [tensor.requires_grad_() for tensor in (q, *writes, state)]

    def scan(q: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan_chunked(q, Writes(*rest[:4]), rest[4], 2)

    assert torch.autograd.gradcheck(scan, inputs)


@pytest.mark.parametrize("wanted", [0, 1], ids=["reads", "last state"])
def test_either_result_can_be_differentiated_alone(wanted: int):
    q, writes, state = problem(20)
    inputs = [tensor.clone().requires_grad_() for tensor in (q, *writes, state)]
    ours, theirs = (
        torch.autograd.grad(
            form(inputs[0], Writes(*inputs[1:5]), inputs[5])[wanted].sum(), inputs, materialize_grads=True
        )
        for form in (selective_scan_chunked, selective_scan_recurrent)
    )
    for hand_made, exact in zip(ours, theirs, strict=True):
        assert_close(hand_made, exact, FLOAT64)


def test_second_derivatives_are_refused():
    q, writes, state = problem(5)
    q.requires_grad_()
    read, _ = selective_scan_chunked(q, writes, state)
    (gradient,) = torch.autograd.grad(read.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()


def test_states_are_those_after_every_token():
    _, writes, state = problem(40)
    states = selective_scan_states(writes, state)
    for t in range(40):
        state = selective_scan_step(state, writes.at(slice(t, t + 1)))
        assert_close(states[:, t], state, FLOAT64)


@pytest.mark.parametrize("strength", [0.0, 1e-8, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_step_is_safe(strength: float, dtype: torch.dtype):
    """A step of nothing keeps the state, an endless one replaces it by the present write."""
    q, writes, state = problem(70, strength=strength)
    q, writes, state = q.to(dtype), Writes(*(tensor.to(dtype) for tensor in writes)), state.to(dtype)
    read, last = selective_scan_chunked(q, writes, state)
    present = torch.einsum("btd,btn->btdn", writes.step * writes.v, writes.k)
    if strength < 1:
        assert_close(last, state + present.sum(1), FLOAT32)
    else:
        # Only what decays within a token has an exact limit.
        assert_close(read, torch.einsum("btn,btdn->btd", q, present), FLOAT32)
    assert all(gradient.isfinite().all() for gradient in gradients(selective_scan_chunked, q, writes, state, dtype))


def test_a_rate_of_nothing_adds_writes_up():
    q, writes, state = problem(70)
    writes = writes._replace(rate=torch.zeros_like(writes.rate))
    _, last = selective_scan_chunked(q, writes, state)
    assert_close(last, state + torch.einsum("btd,btn->bdn", writes.step * writes.v, writes.k), FLOAT64)


@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int):
    q, writes, state = problem(70)
    reads = selective_scan_windowed(q, writes, window)
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 33, 50, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        alone, _ = expected(q[:, seen], writes.at(seen), torch.zeros_like(state))
        assert_close(reads[:, t], alone[:, -1], FLOAT64)


@pytest.mark.parametrize("length", [1, 33, 100])
def test_operations_are_counted_as_the_products_inside(length: int):
    """The counter takes the operator as one; that its formula is right is checked on the products it is made of."""
    given_problem = problem(length)
    with FlopCounterMode(display=False) as counter:
        gradients(selective_scan_chunked, *given_problem)
    # A read, and three products of the same size in the gradient.
    assert counter.get_total_flops() == 4 * 2 * B * length * D * N


def single_peer_problem(n_tokens: int) -> Problem:
    q, writes, _ = problem(n_tokens)
    return q.float(), Writes(*(tensor.float() for tensor in writes)), torch.zeros(B, D, N)


@pytest.mark.parametrize("n_tokens", [1, 64, 100])
def test_transformers_computes_the_same(n_tokens: int, caplog: pytest.LogCaptureFixture):
    # Imported here: transformers takes seconds, and the other tests do not need it.
    peer = import_module("transformers.models.mamba.modeling_mamba").mamba_selective_scan

    def theirs(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
        k, v, step, rate = writes
        read, last = peer(v.mT, step.mT, rate, k.mT, q.mT, return_last_state=True)
        return read.mT, last

    given_problem = single_peer_problem(n_tokens)
    for ours, peers in zip(selective_scan_chunked(*given_problem), theirs(*given_problem), strict=True):
        assert_close(ours, peers, PEER_FLOAT32)
    ours = gradients(selective_scan_chunked, *given_problem, torch.float32)
    # The peer starts from an empty state and has no gradient for it.
    q, writes, state = given_problem

    def with_state(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
        read, last = theirs(q, writes, state)
        return read, last + 0 * state

    for single, peers in zip(ours[:-1], gradients(with_state, q, writes, state, torch.float32)[:-1], strict=True):
        assert_close(single, peers, FLOAT32_GRADIENT)


@pytest.mark.parametrize("n_tokens", [4, 64, 100])
def test_mambapy_computes_the_same(n_tokens: int):
    block = import_module("mambapy.mamba").MambaBlock
    q, writes, state = single_peer_problem(n_tokens)
    k, v, step, rate = writes
    read, _ = selective_scan_chunked(q, writes, state)
    # Its scan is a method that uses nothing of its block; the skip is left out here.
    assert_close(read, block.selective_scan(None, v, step, rate, k, q, torch.zeros(D)), PEER_FLOAT32)
