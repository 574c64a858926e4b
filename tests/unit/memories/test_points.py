"""Read points: public names and shapes are frozen; to look changes nothing, to replace changes what it should."""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import POINT_NAMES, ReadPoint
from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import (
    CASES,
    cases,
    every_case,
    every_memory,
    first_of_kind,
    inputs,
    mixer_of,
    run_steps,
    tensors,
    trained,
    variants,
)
from tests.unit.memories.families import attention
from tests.unit.memories.families.case import D_MODEL as D
from tests.unit.memories.families.case import B, T

frozen_cases = variants(*(name for name, case in CASES.items() if case.points is not None))
on_demand = pytest.mark.parametrize(
    ("case", "point"),
    [
        pytest.param(name, point, marks=() if name in first_of_kind(*CASES) else pytest.mark.long)
        for name, case in CASES.items()
        for point in case.on_demand
    ],
)

Replace = Callable[[Tensor], Tensor]


def points_of(mixer: nn.Module) -> dict[str, ReadPoint]:
    return {name: module for name, module in mixer.named_modules() if isinstance(module, ReadPoint)}


@contextmanager
def replaced(mixer: nn.Module, **by_point: Replace):
    """What the points give out is passed through these functions; a dot in a name is written as two underscores."""
    with ExitStack() as hooks:
        for name, replace in by_point.items():
            point = points_of(mixer)[name.replace("__", ".")]
            hook = point.register_forward_hook(lambda _module, _args, output, replace=replace: replace(output))
            hooks.callback(hook.remove)
        yield


def heard(mixer: nn.Module, run: Callable[[], Any]) -> dict[str, Tensor]:
    """What every point gave out during a run, observed one by one so that no point forms another."""
    found: dict[str, Tensor] = {}
    for name, point in points_of(mixer).items():
        hook = point.register_forward_hook(lambda _module, _args, output, name=name: found.update({name: output}))
        run()
        hook.remove()
    return found


@frozen_cases
@torch.no_grad()
def test_names_and_shapes_are_frozen(case: str):
    mixer, x = mixer_of(case), inputs(T, batch=B)
    shapes = {name: tuple(tensor.shape) for name, tensor in heard(mixer, lambda: mixer(x)).items()}
    assert shapes == CASES[case].points
    assert set(points_of(mixer)) == set(shapes)


@every_case
def test_every_point_has_a_public_name(case: str):
    for name in points_of(mixer_of(case)):
        assert name.split(".")[-1] in POINT_NAMES


@frozen_cases
@torch.no_grad()
def test_a_step_announces_the_same_with_one_token(case: str):
    mixer, x = mixer_of(case), inputs(T, batch=B)
    _, state = mixer(x[:, :-1])
    whole = heard(mixer, lambda: mixer(x))
    for name, seen in heard(mixer, lambda: mixer.step(x[:, -1], state)).items():
        if seen.shape != whole[name][:, -1:].shape:
            n_seen = min(T, seen.shape[-1])
            assert_close(seen[:, :, :, -n_seen:], whole[name][:, :, -1:, -n_seen:], FLOAT64)
        else:
            assert_close(seen, whole[name][:, -1:], FLOAT64)


@on_demand
def test_to_listen_changes_nothing(case: str, point: str):
    mixer, x = mixer_of(case), inputs(67)

    def run() -> list[Tensor]:
        given = x.clone().requires_grad_()
        y, state = mixer(given)
        stepped, stepped_state = run_steps(mixer, given[:, :5], state)
        loss = y.square().sum() + stepped.square().sum()
        grads = torch.autograd.grad(loss, [given, *trained(mixer).values()])
        return [y, stepped, *tensors(state), *tensors(stepped_state), *grads]

    unobserved = run()
    with replaced(mixer, **{point: lambda output: output}):
        observed = run()
    for ours, theirs in zip(observed, unobserved, strict=True):
        assert_close(ours, theirs, FLOAT64)


@cases(*(name for name, case in CASES.items() if "state" in case.on_demand))
@torch.no_grad()
def test_states_formed_for_a_listener_are_those_of_the_stream(case: str):
    mixer, x = mixer_of(case), inputs(40)
    formed = heard(mixer, lambda: mixer(x))["state"]
    for t in (0, 1, 31, 32, 39):
        assert_close(formed[:, t], CASES[case].state_of(mixer(x[:, : t + 1])[1]), FLOAT64)


@cases(*attention.CASES)
@torch.no_grad()
def test_addressing_formed_for_a_listener_is_a_distribution_over_the_window(case: str):
    mixer, x = mixer_of(case), inputs(40)
    formed = heard(mixer, lambda: mixer(x))["addressing"]
    assert formed.shape[2:] == (40, 40)
    assert_close(formed.sum(-1), torch.ones(formed.shape[:-1]), FLOAT64)
    age = torch.arange(40).unsqueeze(1) - torch.arange(40)
    visible = (age >= 0) & (age < (mixer.reach or 40))
    assert torch.equal(formed > 0, visible.expand_as(formed))


@every_memory
@torch.no_grad()
def test_a_replaced_contribution_is_the_output(case: str):
    mixer, x, other = mixer_of(case), inputs(T), inputs(T, seed=2)
    with replaced(mixer, contribution=lambda _: other):
        assert torch.equal(mixer(x)[0], other)
    with replaced(mixer, contribution=lambda _: other[:, :1]):
        assert torch.equal(mixer.step(x[:, 0], mixer.init_state(B))[0], other[:, 0])


@every_memory
@torch.no_grad()
def test_a_read_of_nothing_leaves_the_last_tokens_alone(case: str):
    mixer, x, local = mixer_of(case), inputs(T), CASES[case].local_tokens
    with replaced(mixer, **dict.fromkeys(CASES[case].reads, torch.zeros_like)):
        y, stepped = mixer(x)[0], run_steps(mixer, x, mixer.init_state(B))[0]
        other = torch.cat([inputs(T - local, seed=2), x[:, T - local :]], dim=1)
        assert_close(mixer(other)[0][:, -1], y[:, -1], FLOAT64)
    assert_close(stepped, y, FLOAT64)
    assert bool(y.any()) == bool(local)


@torch.no_grad()
def test_a_replaced_read_goes_through_the_output_projection():
    mixer, x, other = mixer_of("attention"), inputs(T), inputs(T, seed=2)
    with replaced(mixer, read=lambda _: other):
        assert_close(mixer(x)[0], other @ mixer.out.weight.T, FLOAT64)


@torch.no_grad()
def test_addressing_replaced_by_the_present_token_reads_its_value():
    mixer, x = mixer_of("attention"), inputs(T)
    value = (x @ mixer.qkv.weight.T)[..., 2 * D :]
    with replaced(mixer, addressing=lambda weights: torch.eye(T, dtype=x.dtype).expand_as(weights)):
        assert_close(mixer(x)[0], value @ mixer.out.weight.T, FLOAT64)


@torch.no_grad()
def test_a_replaced_state_is_what_is_read_and_what_is_kept():
    mixer, x = mixer_of("bare delta rule"), inputs(T)
    plain, state = mixer(x)
    with replaced(mixer, state=lambda states: 3 * states):
        y, tripled = mixer(x)
        stepped, stepped_state = mixer.step(x[:, 0], mixer.init_state(B))
    assert_close(y, 3 * plain, FLOAT64)
    assert_close(tripled.s, 3 * state.s, FLOAT64)
    assert_close(stepped, 3 * plain[:, 0], FLOAT64)
    assert_close(stepped_state.s, 3 * mixer(x[:, :1])[1].s, FLOAT64)


@torch.no_grad()
def test_a_bank_reads_what_it_is_told_to_address():
    mixer, x = mixer_of("bank without gate"), inputs(T)
    chosen = torch.zeros(B, T, 6, dtype=x.dtype)
    chosen[..., 4] = 1
    with replaced(mixer, addressing=lambda _: chosen):
        assert_close(mixer(x)[0], (mixer.out.weight @ mixer.slots[4]).expand(B, T, D), FLOAT64)


@torch.no_grad()
def test_a_bank_behind_a_replaced_gate():
    mixer, x = mixer_of("bank"), inputs(T)
    read = heard(mixer, lambda: mixer(x))["read"]
    with replaced(mixer, gate=torch.zeros_like):
        assert not mixer(x)[0].any()
    with replaced(mixer, gate=torch.ones_like):
        assert_close(mixer(x)[0], read @ mixer.out.weight.T, FLOAT64)


@variants("gated delta rule beside attention", "bank beside full attention", "three side by side")
@torch.no_grad()
def test_a_parallel_gate_shares_out_between_the_sides(case: str):
    mixer, x = mixer_of(case), inputs(T)
    memory, beside = mixer.memory.inner(x)[0], mixer.beside.inner(x)[0]
    plain = heard(mixer, lambda: mixer(x))
    assert_close(plain["memory.gate"] + plain["beside.gate"], torch.ones_like(x), FLOAT64)
    assert_close(plain["memory.contribution"] + plain["beside.contribution"], mixer(x)[0], FLOAT64)
    with replaced(mixer, memory__gate=torch.ones_like):
        assert_close(mixer(x)[0], memory, FLOAT64)
    with replaced(mixer, memory__gate=torch.zeros_like):
        assert_close(mixer(x)[0], beside, FLOAT64)
    with replaced(mixer, beside__gate=torch.zeros_like):
        assert_close(mixer(x)[0], plain["memory.contribution"], FLOAT64)
    with replaced(mixer, memory__contribution=torch.zeros_like):
        assert_close(mixer(x)[0], plain["beside.contribution"], FLOAT64)
