"""State-space duality against loops from the paper, closed forms, finite differences, and a peer."""

from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.ops import decayed_reads
from mnemoscope.ops.ssd import (
    CHUNK_TOKENS,
    Writes,
    ssd_chunked,
    ssd_recurrent,
    ssd_states,
    ssd_step,
    ssd_windowed,
)
from tests.oracle import mamba2 as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, PEER_FLOAT32, assert_close

B, H, K, V = 2, 4, 3, 5
LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 130)

Problem = tuple[Tensor, Writes, Tensor]


def problem(n_tokens: int, *, groups: int = 2, seed: int = 0, batch: int = B, decay: float = 1.0) -> Problem:
    """Queries, writes and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    step = F.softplus(draw(batch, n_tokens, H) - 1)
    log_retention = -decay * step * draw(H).exp()
    writes = Writes(draw(batch, n_tokens, groups, K), draw(batch, n_tokens, H, V), step, log_retention)
    return draw(batch, n_tokens, groups, K), writes, draw(batch, H, K, V)


def expected(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    k, v, strength, log_retention = writes
    return oracle.all_heads(log_retention.exp(), strength, k, q, v, state)


def gradients(form, q: Tensor, writes: Writes, state: Tensor, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Of reads and last state, weighed, to every input."""
    inputs = [tensor.to(dtype).clone().requires_grad_() for tensor in (q, *writes, state)]
    read, last = form(inputs[0], Writes(*inputs[1:5]), inputs[5])
    generator = torch.Generator().manual_seed(9)
    weigh = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (read, last)]
    return list(torch.autograd.grad((read * weigh[0]).sum() + (last * weigh[1]).sum(), inputs))


@pytest.mark.parametrize("form", [ssd_recurrent, ssd_chunked])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("length", LENGTHS)
def test_reads_and_states_are_those_of_the_loop(form, length: int, groups: int):
    given_problem = problem(length, groups=groups)
    for ours, theirs in zip(form(*given_problem), expected(*given_problem), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 33, 65])
def test_gradients_are_those_of_the_loop(length: int, groups: int):
    given_problem = problem(length, groups=groups)
    theirs = gradients(expected, *given_problem)
    for form in (ssd_recurrent, ssd_chunked):
        for ours, exact in zip(gradients(form, *given_problem), theirs, strict=True):
            assert_close(ours, exact, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    q, writes, state = problem(length)
    single = ssd_chunked(q.float(), Writes(*(tensor.float() for tensor in writes)), state.float())
    for ours, exact in zip(single, ssd_chunked(q, writes, state), strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, exact, FLOAT32)
    exact_gradients = gradients(ssd_chunked, q, writes, state)
    for ours, exact in zip(gradients(ssd_chunked, q, writes, state, torch.float32), exact_gradients, strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    q, writes, state = problem(50)
    q, writes, state = q.bfloat16(), Writes(*(tensor.bfloat16() for tensor in writes)), state.bfloat16()
    wide = ssd_chunked(q.float(), Writes(*(tensor.float() for tensor in writes)), state.float())
    read, last = ssd_chunked(q, writes, state)
    assert torch.equal(read, wide[0].bfloat16())
    assert torch.equal(last, wide[1])


@settings(max_examples=25)
@given(length=st.integers(1, 50), chunk_tokens=st.integers(1, 64), batch=st.integers(1, 2), seed=st.integers(0, 1000))
def test_the_result_does_not_depend_on_the_chunk(length: int, chunk_tokens: int, batch: int, seed: int):
    given_problem = problem(length, batch=batch, seed=seed)

    def chunked(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
        return ssd_chunked(q, writes, state, chunk_tokens)

    for ours, slow in zip(chunked(*given_problem), ssd_recurrent(*given_problem), strict=True):
        assert_close(ours, slow, FLOAT64)
    for ours, slow in zip(gradients(chunked, *given_problem), gradients(ssd_recurrent, *given_problem), strict=True):
        assert_close(ours, slow, FLOAT64)


@settings(max_examples=25)
@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    q, writes, state = problem(length, seed=seed)
    whole, last = ssd_chunked(q, writes, state)
    first, between = ssd_chunked(q[:, :cut], writes.at(slice(cut)), state)
    second, resumed = ssd_chunked(q[:, cut:], writes.at(slice(cut, None)), between)
    assert_close(torch.cat([first, second], dim=1), whole, FLOAT64)
    assert_close(resumed, last, FLOAT64)


def test_the_gradient_is_that_of_finite_differences():
    q, writes, state = problem(3, batch=1)
    inputs = [tensor.requires_grad_() for tensor in (q, *writes, state)]

    def reads(q: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        return ssd_chunked(q, Writes(*rest[:4]), rest[4], 2)

    assert torch.autograd.gradcheck(reads, inputs)


def test_second_derivatives_are_refused():
    q, writes, state = problem(5)
    q.requires_grad_()
    read, _ = ssd_chunked(q, writes, state)
    (gradient,) = torch.autograd.grad(read.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()


def test_states_are_those_after_every_token():
    _, writes, state = problem(5)
    states = ssd_states(writes, state)
    for t in range(5):
        state = ssd_step(state, writes.at(slice(t, t + 1)))
        assert torch.equal(states[:, t], state)


def test_it_is_a_masked_matrix_of_scores():
    q, writes, state = problem(70, groups=4)
    reads, _ = ssd_chunked(q, writes, torch.zeros_like(state))
    k, v, strength, log_retention = writes
    for b in range(B):
        for h in range(H):
            head = (tensor[b, :, h] for tensor in (log_retention.exp(), strength, k, q, v))
            assert_close(reads[b, :, h], oracle.quadratic(*head), FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_forgetting_leaves_the_present_write(dtype: torch.dtype):
    q, writes, state = problem(130, groups=4)
    q, writes, state = q.to(dtype), Writes(*(tensor.to(dtype) for tensor in writes)), state.to(dtype)
    writes = writes._replace(log_retention=torch.full_like(writes.log_retention, -1e4))
    reads, _ = ssd_chunked(q, writes, state)
    alone = writes.write_strength.unsqueeze(-1) * (q * writes.k).sum(-1, keepdim=True) * writes.v
    assert_close(reads, alone, FLOAT32)
    assert all(gradient.isfinite().all() for gradient in gradients(ssd_chunked, q, writes, state, dtype))


def test_without_forgetting_writes_add_up():
    q, writes, state = problem(130, groups=4, decay=0.0)
    _, last = ssd_chunked(q, writes, state)
    added = torch.einsum("bth,bthk,bthv->bhkv", writes.write_strength, writes.k, writes.v)
    assert_close(last, state + added, FLOAT64)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int, groups: int):
    q, writes, state = problem(70, groups=groups)
    reads = ssd_windowed(q, writes, window)
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 33, 64, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        alone, _ = expected(q[:, seen], writes.at(seen), torch.zeros_like(state))
        assert_close(reads[:, t], alone[:, -1], FLOAT64)


def product_and_sum(_sum: list[int], x: list[int], y: list[int], *_: object, **__: object) -> int:
    """x @ y for batches, added to something in place: a product that the counter does not know."""
    return 2 * x[0] * x[1] * x[2] * y[2]


def test_operations_are_counted_as_the_products_inside():
    """The counter takes the operators as one each; their formulas are compared with the products they are made of."""
    q, writes, state = problem(130)
    with FlopCounterMode(display=False) as opaque:
        gradients(ssd_chunked, q, writes, state)
    inputs = [decayed_reads.chunks(x, CHUNK_TOKENS) for x in (q, writes.k, writes.v, writes.write_strength)]
    decay = decayed_reads.chunks(writes.log_retention, CHUNK_TOKENS).cumsum(2)
    scales = (decay, decay, torch.zeros_like(decay[:, :, 0]), decay[:, :, -1])
    mapping = {torch.ops.aten.baddbmm_: product_and_sum}
    with FlopCounterMode(display=False, custom_mapping=mapping) as inside:
        read, last, states = decayed_reads._forward(*inputs, *scales, state)
        decayed_reads._backward(read, last, *inputs, *scales, states, read)
    assert opaque.get_total_flops() == inside.get_total_flops() > 0


@pytest.mark.parametrize("chunk_size", [16, 256])
@pytest.mark.parametrize("n_tokens", [1, 64, 100])
def test_transformers_computes_the_same(n_tokens: int, chunk_size: int):
    # Imported here: transformers takes seconds, and the other tests do not need it.
    peer = import_module("transformers.models.mamba2.modeling_mamba2").mamba2_chunk_scan
    q, writes, state = problem(n_tokens)
    rate = -torch.rand(H, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.1
    writes = writes._replace(log_retention=writes.write_strength * rate)

    def theirs(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
        # The peer derives retentions from its steps; its gradient has both, so retentions are not compared apart.
        k, v, step, _ = writes
        read, last = peer(v, step, rate.float(), k, q, chunk_size, initial_states=state.mT, return_final_states=True)
        return read, last.mT + 0 * writes.log_retention.sum()

    def ours(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
        derived = writes.write_strength * rate.to(q.dtype) + 0 * writes.log_retention
        return ssd_chunked(q, writes._replace(log_retention=derived), state)

    single = q.float(), Writes(*(tensor.float() for tensor in writes)), state.float()
    for mine, peers in zip(ours(*single), theirs(*single), strict=True):
        assert_close(mine, peers, PEER_FLOAT32)
    peers = gradients(theirs, *single, torch.float32)
    for mine, other in zip(gradients(ours, *single, torch.float32), peers, strict=True):
        assert_close(mine, other, FLOAT32_GRADIENT)
