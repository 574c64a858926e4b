"""Linear recurrences with a diagonal decay against loops from the equation and closed forms."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.diagonal_decay import (
    BLOCK_TOKENS,
    CHUNK_TOKENS,
    Writes,
    diagonal_decay_chunked,
    diagonal_decay_recurrent,
    diagonal_decay_states,
    diagonal_decay_step,
    diagonal_decay_windowed,
)
from tests.oracle import gla, linear_attention, retention, rwkv6
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, V = 2, 3, 6, 5
LENGTHS = (1, 2, 63, 64, 65, 100)
forms = pytest.mark.parametrize("form", [diagonal_decay_recurrent, diagonal_decay_chunked])
decays = pytest.mark.parametrize("decay", ["channel", "head", "none"])
moments = pytest.mark.parametrize("before_write", [False, True])


def problem(n_tokens: int, decay: str = "channel", scale: float = 0.3, seed: int = 0) -> tuple[Tensor, Writes, Tensor]:
    """Queries, writes and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_retention = -scale * draw(B, n_tokens, H, K if decay == "channel" else 1).abs() * (decay != "none")
    writes = Writes(draw(B, n_tokens, H, K), draw(B, n_tokens, H, V), log_retention)
    return draw(B, n_tokens, H, K) * K**-0.5, writes, draw(B, H, K, V)


def expected(q: Tensor, writes: Writes, state: Tensor, *, before_write: bool = False) -> tuple[Tensor, Tensor]:
    return gla.rule_of_all_heads(q, writes.k, writes.v, writes.log_retention.exp(), state, before_write)


def leaves(q: Tensor, writes: Writes, state: Tensor, dtype: torch.dtype) -> tuple[Tensor, Writes, Tensor, list[Tensor]]:
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (q, *writes, state)]
    return inputs[0], Writes(*inputs[1:4]), inputs[4], inputs


def weighted(reads: Tensor, last: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    weigh = [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in (reads, last)]
    return (reads * weigh[0]).sum() + (last * weigh[1]).sum()


def gradients(form, given_problem: tuple[Tensor, Writes, Tensor], dtype: torch.dtype = torch.float64):
    """Reads, the last state, and the gradients of a mixture of both to everything that went in."""
    q, writes, state, inputs = leaves(*given_problem, dtype)
    reads, last = form(q, writes, state)
    return [reads, last, *torch.autograd.grad(weighted(reads, last), inputs)]


@forms
@decays
@moments
@pytest.mark.parametrize("length", LENGTHS)
def test_both_forms_equal_the_loop(form, length: int, decay: str, before_write: bool):
    given_problem = problem(length, decay)
    for ours, theirs in zip(
        form(*given_problem, before_write=before_write),
        expected(*given_problem, before_write=before_write),
        strict=True,
    ):
        assert_close(ours, theirs, FLOAT64)


@forms
@decays
@moments
@pytest.mark.parametrize("length", [1, 9, 65])
def test_gradients_equal_those_of_the_loop(form, length: int, decay: str, before_write: bool):
    given_problem = problem(length, decay)
    ours = gradients(partial(form, before_write=before_write), given_problem)
    theirs = gradients(partial(expected, before_write=before_write), given_problem)
    for fast, slow in zip(ours, theirs, strict=True):
        assert_close(fast, slow, FLOAT64)


@decays
@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int, decay: str):
    single = gradients(diagonal_decay_chunked, problem(length, decay), torch.float32)
    double = gradients(diagonal_decay_chunked, problem(length, decay))
    for ours, exact in zip(single[:2], double[:2], strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, exact, FLOAT32)
    for ours, exact in zip(single[2:], double[2:], strict=True):
        assert_close(ours, exact, FLOAT32_GRADIENT)


@decays
@moments
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [3.0, 30.0, 1e3, 1e6])
def test_however_strong_the_decay_values_and_gradients_are_those_of_the_loop(
    decay: str, before_write: bool, dtype: torch.dtype, scale: float
):
    given_problem = problem(70, decay, scale)
    # Some tokens forget next to nothing between others that forget everything.
    given_problem[1].log_retention[:, ::3] *= 1e-3 / scale
    ours = gradients(partial(diagonal_decay_chunked, before_write=before_write), given_problem, dtype)
    theirs = gradients(partial(diagonal_decay_recurrent, before_write=before_write), given_problem)
    for fast, slow in zip(ours[:2], theirs[:2], strict=True):
        assert_close(fast, slow, FLOAT64 if dtype == torch.float64 else FLOAT32)
    for fast, slow in zip(ours[2:], theirs[2:], strict=True):
        assert_close(fast, slow, FLOAT64 if dtype == torch.float64 else FLOAT32_GRADIENT)


@decays
def test_full_forgetting_leaves_the_present_write(decay: str):
    q, writes, state = problem(70, decay)
    writes = writes._replace(log_retention=torch.full_like(writes.log_retention, -1e4))
    reads, last = diagonal_decay_chunked(q, writes, state)
    assert_close(reads, (q * writes.k).sum(-1, keepdim=True) * writes.v, FLOAT64)
    assert_close(last, torch.einsum("bhk,bhv->bhkv", writes.k[:, -1], writes.v[:, -1]), FLOAT64)
    assert_close(diagonal_decay_chunked(q, writes, state, before_write=True)[0][:, 0], _read(q[:, 0], state), FLOAT64)


def _read(q: Tensor, state: Tensor) -> Tensor:
    return torch.einsum("bhk,bhkv->bhv", q, state)


def test_zeros_stay_zeros_with_finite_gradients():
    nothing = (
        torch.zeros(B, 40, H, K),
        Writes(*(torch.zeros(B, 40, H, w) for w in (K, V, K))),
        torch.zeros(B, H, K, V),
    )
    values = gradients(diagonal_decay_chunked, nothing, torch.float32)
    assert all(value.isfinite().all() for value in values)
    assert not values[0].any()


def test_half_precision_is_computed_in_float32():
    q, writes, state = problem(50)
    q, state, writes = q.bfloat16(), state.bfloat16(), Writes(*(tensor.bfloat16() for tensor in writes))
    reads, last = diagonal_decay_chunked(q, writes, state)
    wide = diagonal_decay_chunked(q.float(), Writes(*(tensor.float() for tensor in writes)), state.float())
    assert torch.equal(reads, wide[0].bfloat16())
    assert last.dtype == torch.float32
    assert torch.equal(last, wide[1])


@given(
    length=st.integers(1, 80),
    chunk_tokens=st.sampled_from([8, 16, 32, 64, 128]),
    decay=st.sampled_from(["channel", "head"]),
    before_write=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_result_does_not_depend_on_the_chunk(
    length: int, chunk_tokens: int, decay: str, before_write: bool, seed: int
):
    given_problem = problem(length, decay, seed=seed)
    ours = diagonal_decay_chunked(*given_problem, before_write=before_write, chunk_tokens=chunk_tokens)
    for fast, slow in zip(ours, diagonal_decay_recurrent(*given_problem, before_write=before_write), strict=True):
        assert_close(fast, slow, FLOAT64)


@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000), before_write=st.booleans())
def test_any_split_gives_the_same(length: int, cut: int, seed: int, before_write: bool):
    cut = min(cut, length - 1)
    q, writes, state = problem(length, seed=seed)
    form = partial(diagonal_decay_chunked, before_write=before_write)
    reads, last = form(q, writes, state)
    first, between = form(q[:, :cut], writes.at(slice(cut)), state)
    second, resumed = form(q[:, cut:], writes.at(slice(cut, None)), between)
    assert_close(torch.cat([first, second], dim=1), reads, FLOAT64)
    assert_close(resumed, last, FLOAT64)


def test_states_are_those_after_every_token():
    _, writes, state = problem(5)
    states = diagonal_decay_states(writes, state)
    for t in range(5):
        state = diagonal_decay_step(state, writes.at(slice(t, t + 1)))
        assert torch.equal(states[:, t], state)


@forms
def test_without_decay_it_is_a_cumulative_sum(form):
    q, writes, state = problem(70, "none")
    reads, last = form(q, writes, torch.zeros_like(state))
    states = torch.einsum("bthk,bthv->bthkv", writes.k, writes.v).cumsum(1)
    assert_close(reads, torch.einsum("bthk,bthkv->bthv", q, states), FLOAT64)
    assert_close(last, states[:, -1], FLOAT64)
    pairs = linear_attention.kernel_attention(q[0, :, 0], writes.k[0, :, 0], writes.v[0, :, 0], torch.dot)
    assert_close(reads[0, :, 0], torch.stack([total for total, _ in pairs]), FLOAT64)


@forms
@pytest.mark.parametrize("width", [1, K])
def test_a_constant_decay_is_retention(form, width: int):
    q, writes, state = problem(70)
    writes = writes._replace(log_retention=torch.full((B, 70, H, width), 31 / 32, dtype=torch.float64).log())
    reads, _ = form(q, writes, torch.zeros_like(state))
    for h in range(H):
        parallel = retention.parallel(q[1, :, h], writes.k[1, :, h], writes.v[1, :, h], 31 / 32)
        assert_close(reads[1, :, h], parallel, FLOAT64)


@forms
def test_reads_before_the_write_are_those_of_rwkv6_without_its_bonus(form):
    q, writes, state = problem(40)
    reads, _ = form(q, writes, torch.zeros_like(state), before_write=True)
    head = (tensor[0, :, 1] for tensor in (q, writes.k, writes.v, writes.log_retention.exp()))
    assert_close(reads[0, :, 1], rwkv6.wkv(*head, torch.zeros(K, dtype=torch.float64)), FLOAT64)


@decays
@moments
@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 70, 75])
def test_a_window_is_what_only_its_writes_left(window: int, decay: str, before_write: bool):
    q, writes, state = problem(70, decay)
    reads = diagonal_decay_windowed(q, writes, window, before_write=before_write)
    for t in (0, 1, 2, 6, 7, 30, 31, 32, 33, 50, 69):
        seen = slice(max(0, t - window + 1), t + 1)
        alone, _ = expected(q[:, seen], writes.at(seen), torch.zeros_like(state), before_write=before_write)
        assert_close(reads[:, t], alone[:, -1], FLOAT64)


@moments
def test_a_window_holds_under_total_decay(before_write: bool):
    q, writes, state = problem(70, scale=1e6)
    reads = diagonal_decay_windowed(q, writes, 5, before_write=before_write)
    alone, _ = diagonal_decay_recurrent(q, writes, torch.zeros_like(state), before_write=before_write)
    assert_close(reads, alone, FLOAT64)


def test_writes_can_be_cut():
    _, writes, _ = problem(10)
    for part, whole in zip(writes.at(slice(2, 5)), writes, strict=True):
        assert torch.equal(part, whole[:, 2:5])
    assert (BLOCK_TOKENS, CHUNK_TOKENS) == (8, 32), "lengths around the block and the chunk are tested for these"
