"""The contract of a memory: one recurrence, whatever the form, the split and the interruption."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from tests.tolerances import BFLOAT16, CAUSAL, FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close
from tests.unit.memories.cases import (
    CASES,
    auxiliary_loss,
    every_case,
    every_variant,
    inputs,
    mixer_of,
    run_pieces,
    run_steps,
    tensors,
    trained,
    with_tensors,
)

LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 100)
GRADIENT_LENGTHS = (1, 33)
"""One token, and one more than a chunk of the fast forms; `make test-all` tries every length."""


def assert_same_state(actual: Any, expected: Any) -> None:
    for ours, theirs in zip(tensors(actual), tensors(expected), strict=True):
        assert_close(ours, theirs, FLOAT64)


@every_variant
@torch.no_grad()
def test_forward_equals_steps(case: str):
    mixer, x = mixer_of(case), inputs(max(LENGTHS))
    state, outputs = mixer.init_state(x.shape[0]), []
    for t in range(x.shape[1]):
        y, state = mixer.step(x[:, t], state)
        outputs.append(y)
        if t + 1 in LENGTHS:
            parallel, parallel_state = mixer(x[:, : t + 1])
            assert_close(parallel, torch.stack(outputs, dim=1), FLOAT64)
            assert_same_state(parallel_state, state)


def gradients(run: Any, mixer: nn.Module, x: Tensor, n_before: int) -> list[Tensor]:
    """Of outputs and last state, through a state that earlier tokens left, to the inputs and every parameter."""
    x = x.clone().requires_grad_()
    _, state = mixer(x[:, :n_before])
    y, state = run(mixer, x[:, n_before:], state)
    weigh = torch.Generator().manual_seed(3)
    loss = auxiliary_loss(mixer, x[:, n_before:])
    for tensor in (y, *tensors(state)):
        if tensor.is_floating_point():
            loss = loss + (tensor * torch.randn(tensor.shape, generator=weigh, dtype=torch.float64)).sum()
    return list(torch.autograd.grad(loss, [x, *trained(mixer).values()]))


def assert_gradients_of_forward_equal_those_of_steps(case: str, length: int) -> None:
    mixer, x = mixer_of(case), inputs(length + 3)
    parallel = gradients(nn.Module.__call__, mixer, x, n_before=3)
    for ours, theirs in zip(parallel, gradients(run_steps, mixer, x, n_before=3), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("length", GRADIENT_LENGTHS)
@every_case
def test_gradients_of_forward_equal_those_of_steps(case: str, length: int):
    assert_gradients_of_forward_equal_those_of_steps(case, length)


@pytest.mark.long
@pytest.mark.parametrize("length", sorted({*LENGTHS} - {*GRADIENT_LENGTHS}))
@every_case
def test_gradients_at_all_lengths(case: str, length: int):
    assert_gradients_of_forward_equal_those_of_steps(case, length)


@every_case
def test_a_split_gives_the_same(case: str):
    """Two steps, pieces on either side of chunks of 32 and 64, and a short one."""
    assert_a_split_gives_the_same(case, 67, {1, 2, 33, 65})


@pytest.mark.long
@every_case
@settings(max_examples=16)
@given(n_tokens=st.integers(1, 80), cuts=st.sets(st.integers(1, 79), max_size=5))
def test_any_split_gives_the_same(case: str, n_tokens: int, cuts: set[int]):
    assert_a_split_gives_the_same(case, n_tokens, cuts)


@torch.no_grad()
def assert_a_split_gives_the_same(case: str, n_tokens: int, cuts: set[int]) -> None:
    mixer, x = mixer_of(case), inputs(n_tokens)
    whole, whole_state = mixer(x)
    pieces, state = run_pieces(mixer, x, mixer.init_state(x.shape[0]), sorted(c for c in cuts if c < n_tokens))
    assert_close(pieces, whole, FLOAT64)
    assert_same_state(state, whole_state)


@pytest.mark.parametrize("changed", [0, 1, 20, 39])
@every_case
@torch.no_grad()
def test_no_output_depends_on_a_later_token(case: str, changed: int):
    mixer, x = mixer_of(case), inputs(40)
    other = x.clone()
    other[:, changed] = inputs(1, seed=2)[:, 0]
    before, after = mixer(x)[0], mixer(other)[0]
    assert_close(after[:, :changed], before[:, :changed], CAUSAL)
    if changed or not CASES[case].constant_start:
        assert not torch.equal(after[:, changed], before[:, changed])


@every_case
@torch.no_grad()
def test_a_state_survives_a_file(case: str):
    mixer, x = mixer_of(case), inputs(45)
    uninterrupted, last_state = mixer(x)
    for n_before in (0, 1, 20):
        state = mixer(x[:, :n_before])[1] if n_before else mixer.init_state(x.shape[0])
        names = [str(i) for i in range(len(tensors(state)))]
        stored = load(save(dict(zip(names, tensors(state), strict=True))))
        y, resumed = mixer(x[:, n_before:], with_tensors(state, iter([stored[name] for name in names])))
        assert_close(y, uninterrupted[:, n_before:], FLOAT64)
        assert_same_state(resumed, last_state)


@every_case
def test_a_later_read_trains_every_parameter(case: str):
    mixer, x = mixer_of(case), inputs(20).requires_grad_()
    y, _ = mixer(x)
    named = trained(mixer)
    loss = y[:, -1].square().sum() + auxiliary_loss(mixer, x)
    grads = torch.autograd.grad(loss, [x, *named.values()])
    for name, gradient in zip(["inputs", *named], grads, strict=True):
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


@every_case
def test_the_state_carries_the_gradient_of_earlier_tokens(case: str):
    mixer, x = mixer_of(case), inputs(20).requires_grad_()
    _, state = mixer(x[:, :10])
    y, _ = mixer(x[:, 10:].detach(), state)
    if not tensors(state):
        assert mixer.state_bytes(tokens=10) == 0
    elif CASES[case].differentiable_state:
        gradient = torch.autograd.grad(y[:, 0].square().sum(), x)[0]
        assert gradient[:, 9].any()
        assert not gradient[:, 10:].any()
    else:
        assert torch.autograd.grad(y[:, 0].square().sum(), x, allow_unused=True) == (None,)


@every_case
def test_float32_agrees_with_float64(case: str):
    mixer, x = mixer_of(case), inputs(68)
    single = mixer_of(case, torch.float32)
    y, state = mixer(x)
    y32, state32 = single(x.float())
    assert y32.dtype == torch.float32
    assert_close(y32, y, FLOAT32)
    for ours, exact in zip(tensors(state32), tensors(state), strict=True):
        assert ours.dtype in (torch.float32, torch.int64)
        assert_close(ours, exact, FLOAT32)
    exact = gradients(nn.Module.__call__, mixer, x, n_before=3)
    for ours, theirs in zip(gradients(nn.Module.__call__, single, x.float(), n_before=3), exact, strict=True):
        assert_close(ours, theirs, FLOAT32_GRADIENT)


@every_case
@torch.no_grad()
def test_bfloat16_runs_in_both_forms(case: str):
    mixer, rough, x = mixer_of(case), mixer_of(case, torch.bfloat16), inputs(40)
    exact = mixer(x)[0]
    y, state = rough(x.bfloat16())
    stepped, stepped_state = run_steps(rough, x.bfloat16(), rough.init_state(x.shape[0]))
    assert y.dtype == stepped.dtype == torch.bfloat16
    assert [t.dtype for t in tensors(state)] == [t.dtype for t in tensors(stepped_state)]
    assert_close(y, exact, BFLOAT16)
    assert_close(stepped, exact, BFLOAT16)
