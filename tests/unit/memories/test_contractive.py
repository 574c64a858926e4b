"""Contractive memories: bounds, starts, certificate, gradient modes, configurations refused."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mnemoscope.memories import (
    ContractiveWorkspace,
    ContractiveWorkspaceConfig,
    LogAccumulator,
    LogAccumulatorConfig,
)
from mnemoscope.memories.workspace import settle
from mnemoscope.ops.contraction import (
    banach_bound,
    contraction_ratios,
    iterations_to,
    largest_lyapunov,
    residual_curve,
    spread_of_fixed_points,
)
from tests.tolerances import FLOAT32, FLOAT64, assert_close
from tests.unit.memories.cases import inputs

W = ContractiveWorkspaceConfig
REFUSED = [
    (lambda: LogAccumulatorConfig(scale=0.0), "log_accumulator.scale must be positive and finite, got 0.0; use 1"),
    (lambda: LogAccumulatorConfig(compress="loop", scale=2.0), "log_accumulator.scale must be left at 1 where"),
    (lambda: LogAccumulatorConfig(n_heads=0), "log_accumulator.n_heads must be at least 1, got 0"),
    (lambda: LogAccumulatorConfig(window=0), "log_accumulator.window must be at least 1 token, or None for all"),
    (lambda: LogAccumulator(LogAccumulatorConfig(n_heads=3), 16), "log_accumulator: d_model must be a multiple of"),
    (lambda: LogAccumulator(LogAccumulatorConfig(n_heads=2), 6), "log_accumulator: channels a head must be even for"),
    (lambda: W(n_iterations=1), "workspace.n_iterations must be at least 2, since the first step, from zero, does"),
    (lambda: W(tolerance=0.1), "workspace.tolerance must be positive, and None where stop="),
    (lambda: W(stop="residual", tolerance=0.0), "workspace.tolerance must be positive, and None where stop="),
    (lambda: W(n_products=31), "workspace.n_products must be between 0 and 30, got 31; use 30"),
    (lambda: W(rho=1.0), "workspace.rho must be between 0 and 1, both excluded, got 1.0; use 0.9"),
    (lambda: W(step_size=0.0), "workspace.step_size must be in (0, 1], got 0.0; use 1"),
    (lambda: W(step_size=1.5), "workspace.step_size must be in (0, 1], got 1.5; use 1"),
    (lambda: W(z_clocked=True), "workspace.z_clocked must be off: a read p(z) changes with z by up to"),
    (lambda: W(window=0), "workspace.window must be at least 1 token, or None for all"),
    (lambda: ContractiveWorkspace(W(n_heads=3), 16), "workspace: d_model must be a multiple of n_heads=3, got 16"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


@pytest.mark.parametrize("d_model", [2, 16, 128])
def test_half_lives_start_log_spaced_from_2_to_512_tokens(d_model: int):
    retention = LogAccumulator(LogAccumulatorConfig(n_heads=1), d_model).retention.sigmoid()
    half_lives = -math.log(2) / retention.log()
    expected = torch.logspace(1, 9, d_model, base=2)
    assert ((half_lives / expected - 1).abs() < 1e-3).all()


def listened(memory: torch.nn.Module, *points: str) -> dict[str, Tensor]:
    heard: dict[str, Tensor] = {}
    for name in points:
        hook = lambda _module, _args, output, name=name: heard.update({name: output})  # noqa: E731
        memory.get_submodule(name).register_forward_hook(hook)
    return heard


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
@torch.no_grad()
def test_sums_and_reads_stay_within_their_bounds(scale: float):
    torch.manual_seed(0)
    memory = LogAccumulator(LogAccumulatorConfig(n_heads=2, scale=scale), 16).double()
    heard = listened(memory, "state", "read")
    x = 10 * inputs(300)
    # The same token for ever drives the sums towards their bound; with one key, attention reads its value.
    x[1] = x[1, :1]
    memory(x)
    largest = (x @ memory.attention.qkv.weight[32:].T).abs().amax((0, 1))
    retention = memory.retention.sigmoid()
    bound = largest / (1 - retention)
    assert (heard["state"].abs() <= bound).all()
    assert (heard["read"].abs() <= (bound / scale).log1p()).all()
    steady = (x[1, 0] @ memory.attention.qkv.weight[32:].T).abs() * (1 - retention**300) / (1 - retention)
    assert_close(heard["state"][1, -1].abs(), steady, FLOAT64)


@torch.no_grad()
def test_in_the_loop_two_pasts_are_forgotten_at_the_retention():
    torch.manual_seed(0)
    memory = LogAccumulator(LogAccumulatorConfig(n_heads=2, compress="loop"), 16).double()
    heard, x, state = listened(memory, "state"), inputs(30), memory.init_state(2)
    apart = 5 * torch.ones(2, 16).double()
    memory(x, state)
    first = heard["state"]
    memory(x, state._replace(s=apart))
    lag = torch.arange(1, 31).view(-1, 1)
    assert ((heard["state"] - first).abs() <= 5 * memory.retention.sigmoid() ** lag + 1e-12).all()


@torch.no_grad()
def test_what_the_sum_was_replaced_by_is_read():
    memory = LogAccumulator(LogAccumulatorConfig(n_heads=2), 16).double()
    other = inputs(9, seed=2)
    memory.state.register_forward_hook(lambda _module, _args, _output: other)
    y, state = memory(inputs(9))
    assert_close(y, (other.sign() * other.abs().log1p()) @ memory.out.weight.T, FLOAT64)
    assert torch.equal(state.s, other[:, -1])


def workspace(seed: int = 0, **options: object) -> ContractiveWorkspace:
    torch.manual_seed(seed)
    return ContractiveWorkspace(replace(W(n_heads=2), **options), 16).double()  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("rho", "step_size", "q"), [(0.9, 1.0, 0.9), (0.5, 1.0, 0.5), (0.9, 0.5, 0.95)])
@torch.no_grad()
def test_the_certificate_holds_for_every_token(rho: float, step_size: float, q: float):
    memory = workspace(rho=rho, step_size=step_size)
    assert memory.certificate() == pytest.approx(q)
    memory.weight *= 50
    step, zero = memory.inner_map(3 * inputs(40)), torch.zeros(2, 40, 16).double()
    assert contraction_ratios(residual_curve(step, zero, 60)).max() <= q + 1e-9


@torch.no_grad()
def test_the_read_is_within_banachs_bound_of_the_only_fixed_point():
    x, heard = inputs(20), {}
    for n_iterations in (2, 5, 16, 400):
        memory = workspace(n_iterations=n_iterations, rho=0.95)
        seen = listened(memory, "read")
        memory(x)
        heard[n_iterations] = seen["read"]
    step = memory.inner_map(x)
    first = step(torch.zeros_like(x)).norm(dim=-1)
    assert_close(step(heard[400]), heard[400], FLOAT64)
    for n_iterations in (2, 5, 16):
        away = (heard[n_iterations] - heard[400]).norm(dim=-1)
        assert (away <= banach_bound(first, 0.95, n_iterations)).all()
    generator = torch.Generator().manual_seed(0)
    assert_close(spread_of_fixed_points(step, x, 400, generator), torch.zeros(2, 20), FLOAT64)
    assert (largest_lyapunov(step, x, 100, generator) < math.log(0.95)).all()
    assert iterations_to(step, torch.zeros_like(x), 1e-3, 200).max() < 200


@torch.no_grad()
def test_the_fixed_point_changes_with_the_push_no_faster_than_its_bound():
    memory = workspace(n_iterations=300)
    weight, drive = memory._loop(inputs(1, batch=1))
    bound = torch.linalg.matrix_norm(memory.push.weight, 2) / (1 - memory.config.rho)
    change = inputs(200, batch=1, seed=5) * torch.logspace(-3, 1, 200).double().view(1, -1, 1)
    moved = settle(memory.config, weight, drive + change @ memory.push.weight.T)
    assert ((moved - settle(memory.config, weight, drive)).norm(dim=-1) <= bound * change.norm(dim=-1)).all()


def trained_by(memory: ContractiveWorkspace, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    y, _ = memory(x)
    return y, list(torch.autograd.grad((y * inputs(x.shape[1], seed=7)).sum(), list(memory.parameters())))


def test_all_gradients_have_one_output_and_the_implicit_one_is_that_of_all_steps():
    x, found = inputs(30), {}
    for gradient in ("unroll", "one_live", "implicit"):
        found[gradient] = trained_by(workspace(n_iterations=200, rho=0.7, gradient=gradient), x)
    for gradient in ("one_live", "implicit"):
        assert_close(found[gradient][0], found["unroll"][0], FLOAT64)
    for exact, implicit, live in zip(*(found[name][1] for name in ("unroll", "implicit", "one_live")), strict=True):
        assert (implicit - exact).abs().max() < 1e-6 * (1 + exact.abs().max())
        if not torch.equal(exact, live):
            assert (live - exact).abs().max() > 1e-3, "one live step leaves out what comes through the others"


def test_one_live_step_is_off_by_no_more_than_its_bound_token_by_token():
    """The push of a token moves its read: by all steps, and by one; their difference is bounded by q / (1 - q)."""
    x = inputs(6, batch=1)
    jacobians = {}
    for gradient in ("unroll", "one_live"):
        memory = workspace(n_iterations=300, gradient=gradient)
        weight, drive = memory._loop(x)
        drive = drive.detach().requires_grad_()
        rows = [torch.autograd.grad(settle(memory.config, weight, drive)[..., i].sum(), drive)[0] for i in range(16)]
        jacobians[gradient] = torch.stack(rows, dim=-2)[0]
    q = memory.certificate()
    error = torch.linalg.matrix_norm(jacobians["unroll"] - jacobians["one_live"], 2)
    assert (error <= q / (1 - q) * torch.linalg.matrix_norm(jacobians["one_live"], 2)).all()
    assert (error <= q * torch.linalg.matrix_norm(jacobians["unroll"], 2)).all()
    assert (error > 1e-2).all()


@torch.no_grad()
def test_the_loop_starts_at_its_full_norm():
    memory = workspace()
    weight, _ = memory._loop(inputs(1))
    assert_close(torch.linalg.matrix_norm(weight, 2), torch.tensor(0.9), FLOAT32)
