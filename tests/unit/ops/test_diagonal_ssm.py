"""Diagonal state spaces: chunks against the recurrence, the convolution, complex loops and closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.diagonal_ssm import (
    CHUNK_TOKENS,
    System,
    diagonal_ssm_chunked,
    diagonal_ssm_kernel,
    diagonal_ssm_read,
    diagonal_ssm_recurrent,
    diagonal_ssm_states,
    diagonal_ssm_step,
    diagonal_ssm_windowed,
    discretise,
)
from tests.oracle import diagonal_ssm as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, N = 2, 3, 4
LENGTHS = (1, 2, 63, 64, 65, 100)
FORMS = [diagonal_ssm_recurrent, diagonal_ssm_chunked]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log steps around 0.1, log rates, frequencies, C."""
    log_step, log_rate = draw(H, seed=seed) - 2, draw(H, N, seed=seed + 1)
    return log_step, log_rate, 5 * draw(H, N, seed=seed + 2), draw(H, N, 2, seed=seed + 3)


def problem(n_tokens: int, seed: int = 0) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Inputs, parameters and a state that is not empty."""
    return draw(B, n_tokens, H, seed=seed + 4), parameters(seed), draw(B, H, N, 2, seed=seed + 5)


def looped(u: Tensor, given_parameters: tuple[Tensor, ...], state: Tensor) -> tuple[Tensor, Tensor]:
    """Every sequence and channel on its own, in complex numbers."""
    log_step, log_rate, frequency, c = given_parameters
    rows, lasts = [], []
    for i in range(u.shape[0]):
        row, last = [], []
        for h in range(u.shape[2]):
            transition, write = oracle.discrete(log_step[h], log_rate[h], frequency[h])
            start = torch.complex(state[i, h, :, 0], state[i, h, :, 1])
            reads, end = oracle.channel(transition, write, torch.complex(c[h, :, 0], c[h, :, 1]), u[i, :, h], start)
            row.append(reads)
            last.append(torch.stack([end.real, end.imag], dim=-1))
        rows.append(torch.stack(row, dim=1))
        lasts.append(torch.stack(last))
    return torch.stack(rows), torch.stack(lasts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
def test_both_forms_equal_the_complex_loop(form, length: int):
    u, given_parameters, state = problem(length)
    reads, last = form(u, discretise(*given_parameters), state)
    expected_reads, expected_last = looped(u, given_parameters, state)
    assert_close(reads, expected_reads, FLOAT64)
    assert_close(last, expected_last, FLOAT64)


def gradients(form, length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Outputs and gradients of a weighted sum of reads and last state."""
    u, given_parameters, state = problem(length)
    leaves = [tensor.to(dtype).requires_grad_() for tensor in (u, *given_parameters, state)]
    if form is looped:
        reads, last = looped(leaves[0], tuple(leaves[1:5]), leaves[5])
    else:
        reads, last = form(leaves[0], discretise(*leaves[1:5]), leaves[5])
    loss = (reads * draw(*reads.shape, seed=20)).sum() + (last * draw(*last.shape, seed=21)).sum()
    return [reads, last, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 33, 65])
def test_gradients_equal_those_of_the_complex_loop(form, length: int):
    for ours, theirs in zip(gradients(form, length), gradients(looped, length), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(length: int):
    single, exact = (gradients(diagonal_ssm_chunked, length, dtype) for dtype in (torch.float32, torch.float64))
    for tolerance, pairs in ((FLOAT32, slice(2)), (FLOAT32_GRADIENT, slice(2, None))):
        for ours, theirs in zip(single[pairs], exact[pairs], strict=True):
            assert ours.dtype == torch.float32
            assert_close(ours, theirs, tolerance)


def test_half_precision_is_computed_in_float32():
    u, given_parameters, state = problem(50)
    u, state = u.bfloat16(), state.bfloat16()
    rough = tuple(parameter.bfloat16() for parameter in given_parameters)
    system = discretise(*rough)
    assert system.write.dtype == torch.float32
    reads, last = diagonal_ssm_chunked(u, system, state)
    wide = discretise(*(parameter.float() for parameter in rough))
    wide_reads, wide_last = diagonal_ssm_chunked(u.float(), wide, state.float())
    assert torch.equal(reads, wide_reads.bfloat16())
    assert last.dtype == torch.float32
    assert torch.equal(last, wide_last)


@given(length=st.integers(1, 90), chunk_tokens=st.integers(1, 64), seed=st.integers(0, 1000))
def test_the_result_does_not_depend_on_the_chunk(length: int, chunk_tokens: int, seed: int):
    u, given_parameters, state = problem(length, seed)
    system = discretise(*given_parameters)
    reads, last = diagonal_ssm_chunked(u, system, state, chunk_tokens)
    expected_reads, expected_last = diagonal_ssm_recurrent(u, system, state)
    assert_close(reads, expected_reads, FLOAT64)
    assert_close(last, expected_last, FLOAT64)


@given(length=st.integers(2, 80), cut=st.integers(1, 79), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(length: int, cut: int, seed: int):
    cut = min(cut, length - 1)
    u, given_parameters, state = problem(length, seed)
    system = discretise(*given_parameters)
    reads, last = diagonal_ssm_chunked(u, system, state)
    first, between = diagonal_ssm_chunked(u[:, :cut], system, state)
    second, resumed = diagonal_ssm_chunked(u[:, cut:], system, between)
    assert_close(torch.cat([first, second], dim=1), reads, FLOAT64)
    assert_close(resumed, last, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_a_convolution_with_its_kernel(length: int):
    u, given_parameters, state = problem(length)
    system = discretise(*given_parameters)
    kernel = diagonal_ssm_kernel(system, length)
    padded = F.pad(u.mT, (length - 1, 0))
    convolved = F.conv1d(padded, kernel.flip(1).unsqueeze(1), groups=H).mT
    assert_close(diagonal_ssm_chunked(u, system, torch.zeros_like(state))[0], convolved, FLOAT64)


def test_states_are_those_after_every_input():
    u, given_parameters, state = problem(6)
    system = discretise(*given_parameters)
    states = diagonal_ssm_states(u, system, state)
    for t in range(6):
        state = diagonal_ssm_step(state, u[:, t], system)
        assert torch.equal(states[:, t], state)
    reads, _ = diagonal_ssm_chunked(u, system, problem(6)[2])
    assert_close(diagonal_ssm_read(states, system), reads, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_input_ends_at_the_gain_of_the_continuous_system(form):
    """Held inputs are exact: s' = a s + u rests at -1 / a, and the read at 2 Re(-C / a), whatever the step."""
    log_step, log_rate, frequency, c = parameters()
    u, empty = torch.ones(1, 400, H, dtype=torch.float64), torch.zeros(1, H, N, 2, dtype=torch.float64)
    # A step of one and rates of at least a tenth: nothing is left of the start.
    reads, _ = form(u, discretise(0 * log_step, log_rate.clamp(min=math.log(0.1)), frequency, c), empty)
    a = torch.complex(-log_rate.clamp(min=math.log(0.1)).exp(), frequency)
    gain = 2 * (-torch.view_as_complex(c) / a).real.sum(1)
    assert_close(reads[0, -1], gain, FLOAT64)


@pytest.mark.parametrize("form", FORMS)
def test_a_pure_rotation_keeps_an_impulse_for_ever(form):
    """Without decay, states are turned and nothing else: the read is a cosine."""
    system = System(
        log_retention=torch.zeros(1, 1, dtype=torch.float64),
        angle=torch.full((1, 1), 0.7, dtype=torch.float64),
        write=torch.tensor([[[1.0, 0.0]]], dtype=torch.float64),
        read=torch.tensor([[[0.5, 0.0]]], dtype=torch.float64),
    )
    u = torch.zeros(1, 200, 1, dtype=torch.float64)
    u[0, 0] = 1
    reads, _ = form(u, system, torch.zeros(1, 1, 1, 2, dtype=torch.float64))
    assert_close(reads[0, :, 0], (0.7 * torch.arange(200, dtype=torch.float64)).cos(), FLOAT64)


def test_tiny_steps_lose_no_digits_in_float32():
    """B = (exp(z) - 1) / a for z of 1e-6 to 1e-3: a plain difference would keep two to four digits."""
    log_step = torch.linspace(math.log(1e-6), math.log(1e-3), 12)
    arguments = (log_step, torch.full((12, N), math.log(0.5)), math.pi * torch.arange(N).expand(12, N).float())
    c = torch.ones(12, N, 2)
    single = discretise(*arguments, c)
    exact = discretise(*(argument.double() for argument in arguments), c.double())
    relative = (single.write - exact.write).norm(dim=-1) / exact.write.norm(dim=-1)
    assert relative.max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_rate", [-40.0, 0.0, 12.0])
@pytest.mark.parametrize("frequency", [0.0, 1e4])
def test_extremes_stay_finite(dtype: torch.dtype, log_rate: float, frequency: float):
    u, (log_step, rates, frequencies, c), state = problem(70)
    arguments = (log_step, torch.full_like(rates, log_rate), torch.full_like(frequencies, frequency), c)
    leaves = [tensor.to(dtype).requires_grad_() for tensor in (u, *arguments, state)]
    reads, last = diagonal_ssm_chunked(leaves[0], discretise(*leaves[1:5]), leaves[5])
    for tensor in (reads, last, *torch.autograd.grad(reads.sum() + last.sum(), leaves)):
        assert tensor.isfinite().all()


def test_a_dead_state_reads_the_present_input_alone():
    u, (log_step, log_rate, frequency, c), state = problem(70)
    system = discretise(log_step, torch.full_like(log_rate, 12.0), frequency, c)
    reads, _ = diagonal_ssm_chunked(u, system, state)
    assert_close(reads, u * diagonal_ssm_kernel(system, 1)[:, 0], FLOAT64)


@pytest.mark.parametrize("window", [1, 2, 7, 31, 32, 33, 69, 70, 75])
def test_a_window_is_a_kernel_of_so_many_taps(window: int):
    u, given_parameters, _ = problem(70)
    system = discretise(*given_parameters)
    kernel = diagonal_ssm_kernel(system, 70)
    kernel[:, window:] = 0
    convolved = F.conv1d(F.pad(u.mT, (69, 0)), kernel.flip(1).unsqueeze(1), groups=H).mT
    assert_close(diagonal_ssm_windowed(u, system, window), convolved, FLOAT64)


def test_lengths_around_the_chunk_are_tried():
    assert CHUNK_TOKENS == 32
