"""The gated delta rule against a loop from the equation, closed forms, and a peer's reference."""

from importlib import import_module

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.gated_delta import (
    CHUNK_TOKENS,
    Writes,
    gated_delta_chunked,
    gated_delta_recurrent,
    gated_delta_states,
    gated_delta_step,
    gated_delta_windowed,
)
from tests.oracle import gated_delta as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, PEER_FLOAT32, assert_close

B, H, K, V = 2, 3, 6, 5
LENGTHS = (1, 2, 63, 64, 65, 100)


def problem(
    n_tokens: int, *, erase: bool = True, strength: float = 1.0, retains: bool = True, seed: int = 0
) -> tuple[Tensor, Writes, Tensor]:
    """Queries, writes and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    k = torch.nn.functional.normalize(draw(B, n_tokens, H, K), dim=-1)
    log_retention = -0.3 * draw(B, n_tokens, H).abs() if retains else torch.zeros(B, n_tokens, H, dtype=k.dtype)
    writes = Writes(k, draw(B, n_tokens, H, V), strength * draw(B, n_tokens, H).sigmoid(), log_retention, erase)
    return draw(B, n_tokens, H, K), writes, draw(B, H, K, V)


def expected(q: Tensor, writes: Writes, state: Tensor) -> tuple[Tensor, Tensor]:
    k, v, strength, log_retention, erase = writes
    return oracle.rule_of_all_heads(q, k, v, strength, log_retention.exp(), state, erase)


@pytest.mark.parametrize("form", [gated_delta_recurrent, gated_delta_chunked])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"erase": False},
        {"retains": False},
        {"erase": False, "retains": False},
        {"strength": 2.0},
    ],
    ids=lambda kind: ", ".join(f"{name}={value}" for name, value in kind.items()) or "all",
)
def test_both_forms_equal_the_loop(form, length: int, kind: dict[str, float]):
    q, writes, state = problem(length, **kind)
    reads, last = form(q, writes, state)
    expected_reads, expected_last = expected(q, writes, state)
    assert_close(reads, expected_reads, FLOAT64)
    assert_close(last, expected_last, FLOAT64)


def leaves(q: Tensor, writes: Writes, state: Tensor, dtype: torch.dtype) -> tuple[Tensor, Writes, Tensor, list[Tensor]]:
    inputs = [tensor.to(dtype).requires_grad_() for tensor in (q, *writes[:4], state)]
    return inputs[0], Writes(*inputs[1:5], writes.erase), inputs[5], inputs


def weighted(reads: Tensor, last: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    weigh = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (reads, last)]
    return (reads * weigh[0]).sum() + (last * weigh[1]).sum()


@pytest.mark.parametrize("erase", [True, False])
@pytest.mark.parametrize("length", [1, 2, 33, 65])
def test_gradients_equal_those_of_the_loop(length: int, erase: bool):
    given_problem = problem(length, erase=erase)
    grads = {}
    for form in (expected, gated_delta_recurrent, gated_delta_chunked):
        q, writes, state, inputs = leaves(*given_problem, torch.float64)
        grads[form] = torch.autograd.grad(weighted(*form(q, writes, state)), inputs)
    for form in (gated_delta_recurrent, gated_delta_chunked):
        for ours, theirs in zip(grads[form], grads[expected], strict=True):
            assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    results = {}
    for dtype in (torch.float32, torch.float64):
        q, writes, state, inputs = leaves(*problem(length), dtype)
        reads, last = gated_delta_chunked(q, writes, state)
        results[dtype] = (reads, last, torch.autograd.grad(weighted(reads, last), inputs))
    (reads, last, grads), (exact_reads, exact_last, exact_grads) = results.values()
    assert_close(reads, exact_reads, FLOAT32)
    assert_close(last, exact_last, FLOAT32)
    for ours, exact in zip(grads, exact_grads, strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    q, writes, state = problem(50)
    q, state = q.bfloat16(), state.bfloat16()
    writes = Writes(*(tensor.bfloat16() for tensor in writes[:4]))
    reads, last = gated_delta_chunked(q, writes, state)
    wide_reads, wide_last = gated_delta_chunked(
        q.float(), Writes(*(tensor.float() for tensor in writes[:4])), state.float()
    )
    assert torch.equal(reads, wide_reads.bfloat16())
    assert last.dtype == torch.float32
    assert torch.equal(last, wide_last)


@given(length=st.integers(1, 50), chunk_tokens=st.integers(1, 64), seed=st.integers(0, 1000), erase=st.booleans())
def test_the_result_does_not_depend_on_the_chunk(length: int, chunk_tokens: int, seed: int, erase: bool):
    q, writes, state = problem(length, erase=erase, seed=seed)
    reads, last = gated_delta_chunked(q, writes, state, chunk_tokens)
    expected_reads, expected_last = gated_delta_recurrent(q, writes, state)
    assert_close(reads, expected_reads, FLOAT64)
    assert_close(last, expected_last, FLOAT64)


@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    q, writes, state = problem(length, seed=seed)
    reads, last = gated_delta_chunked(q, writes, state)
    first, between = gated_delta_chunked(q[:, :cut], writes.at(slice(cut)), state)
    second, resumed = gated_delta_chunked(q[:, cut:], writes.at(slice(cut, None)), between)
    assert_close(torch.cat([first, second], dim=1), reads, FLOAT64)
    assert_close(resumed, last, FLOAT64)


def test_states_are_those_after_every_token():
    _, writes, state = problem(5)
    states = gated_delta_states(writes, state)
    for t in range(5):
        state = gated_delta_step(state, writes.at(slice(t, t + 1)))
        assert torch.equal(states[:, t], state)


@pytest.mark.parametrize("form", [gated_delta_recurrent, gated_delta_chunked])
def test_without_erasing_it_is_gated_linear_attention(form):
    q, writes, state = problem(70, erase=False)
    reads, _ = form(q, writes, torch.zeros_like(state))
    closed = oracle.gated_linear_attention(q, writes.k, writes.v, writes.write_strength, writes.log_retention.exp())
    assert_close(reads, closed, FLOAT64)


@pytest.mark.parametrize("form", [gated_delta_recurrent, gated_delta_chunked])
def test_without_erasing_and_forgetting_it_is_linear_attention(form):
    q, writes, state = problem(70, erase=False, retains=False)
    reads, _ = form(q, writes, torch.zeros_like(state))
    assert_close(reads, oracle.linear_attention(q, writes.k, writes.v, writes.write_strength), FLOAT64)


@pytest.mark.parametrize("form", [gated_delta_recurrent, gated_delta_chunked])
def test_the_delta_rule_keeps_the_last_value_of_every_key(form):
    """Orthonormal keys at full strength: each read is the newest value under its key, however often overwritten."""
    generator, n_tokens = torch.Generator().manual_seed(0), 90
    index = torch.randint(K, (n_tokens,), generator=generator)
    index[:K] = torch.arange(K)
    k = torch.eye(K, dtype=torch.float64)[index].view(1, n_tokens, 1, K)
    v = torch.randn(1, n_tokens, 1, V, generator=generator, dtype=torch.float64)
    ones = torch.ones(1, n_tokens, 1, dtype=torch.float64)
    asked = torch.randint(K, (n_tokens,), generator=generator)
    q = torch.eye(K, dtype=torch.float64)[asked].view(1, n_tokens, 1, K)
    reads, _ = form(q, Writes(k, v, ones, torch.zeros_like(ones)), torch.zeros(1, 1, K, V, dtype=torch.float64))
    for t in range(K - 1, n_tokens):
        newest = max(s for s in range(t + 1) if index[s] == asked[t])
        assert_close(reads[0, t, 0], v[0, newest, 0], FLOAT64)


def test_full_forgetting_leaves_the_present_write():
    q, writes, state = problem(70)
    writes = writes._replace(log_retention=torch.full_like(writes.log_retention, -1e4))
    reads, _ = gated_delta_chunked(q, writes, state)
    alone = writes.write_strength.unsqueeze(-1) * (q * writes.k).sum(-1, keepdim=True) * writes.v
    assert_close(reads, alone, FLOAT64)


@pytest.mark.parametrize("erase", [True, False])
@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int, erase: bool):
    q, writes, state = problem(70, erase=erase)
    reads = gated_delta_windowed(q, writes, window)
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 33, 50, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        alone, _ = expected(q[:, seen], writes.at(seen), torch.zeros_like(state))
        assert_close(reads[:, t], alone[:, -1], FLOAT64)


@pytest.mark.parametrize("n_tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("form", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
def test_a_peer_computes_the_same_in_float32(form: str, n_tokens: int):
    # Imported here: transformers takes seconds, and the other tests do not need it.
    peer = import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    q, writes, state = problem(n_tokens)
    q, state = q.float(), state.float()
    writes = Writes(*(tensor.float() for tensor in writes[:4]))
    reads, last = gated_delta_chunked(q, writes, state)
    # The peer scales queries by K^-1/2; here that is the memory's business.
    peer_reads, peer_last = getattr(peer, form)(
        q * K**0.5,
        writes.k,
        writes.v,
        g=writes.log_retention,
        beta=writes.write_strength,
        initial_state=state,
        output_final_state=True,
    )
    assert_close(reads, peer_reads, PEER_FLOAT32)
    assert_close(last, peer_last, PEER_FLOAT32)


def test_writes_can_be_cut():
    _, writes, _ = problem(10, erase=False)
    cut = writes.at(slice(2, 5))
    assert cut.erase is False
    for part, whole in zip(cut[:4], writes[:4], strict=True):
        assert torch.equal(part, whole[:, 2:5])
    assert CHUNK_TOKENS == 32, "lengths around the chunk are tested for 32"
