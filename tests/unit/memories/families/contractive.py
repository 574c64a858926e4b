"""Memories that contract what attention reads, under the contract."""

from functools import partial

from mnemoscope.memories import ContractiveWorkspaceConfig, LogAccumulatorConfig
from mnemoscope.memories.workspace import TOLERANCES
from mnemoscope.models import ExpertWorkspaceConfig
from tests.oracle import contraction, log_accumulation
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def accumulator(config: LogAccumulatorConfig, *, long: bool = False) -> Case:
    return Case(
        config=config,
        oracle=partial(
            log_accumulation.memory,
            n_heads=config.n_heads,
            window=config.window,
            rotary=config.rotary,
            in_loop=config.compress == "loop",
            scale=config.scale,
        ),
        # q, k, v and output projections; a retention a channel.
        parameters=4 * 16 * 16 + 16,
        points={
            "addressing": (B, config.n_heads, T, T),
            "state": (B, T, D_MODEL),
            "read": (B, T, D_MODEL),
            "contribution": (B, T, D_MODEL),
        },
        on_demand=("addressing",),
        long=long,
    )


def workspace(config: ContractiveWorkspaceConfig, *, long: bool = False) -> Case:
    return Case(
        config=config,
        oracle=partial(
            contraction.workspace,
            n_heads=config.n_heads,
            window=config.window,
            rotary=config.rotary,
            rho=config.rho,
            step_size=config.step_size,
            n_iterations=config.n_iterations,
            rule=config.stop,
            tolerance=TOLERANCES[config.stop] if config.tolerance is None else config.tolerance,
            gradient=config.gradient,
        ),
        # q, k, v and output projections; the loop's matrix; push with its bias.
        parameters=4 * 16 * 16 + 16 * 16 + 16 * 16 + 16,
        points={
            "addressing": (B, config.n_heads, T, T),
            "read": (B, T, D_MODEL),
            "contribution": (B, T, D_MODEL),
        },
        on_demand=("addressing",),
        long=long,
    )


def experts(config: ExpertWorkspaceConfig, *, long: bool = False) -> Case:
    # d_state 8, one channel of the scan a channel of the model: its rank is 1.
    scan = 16 * 32 + 16 * 4 + 16 + 16 * 17 + 16 + 16 + 16 * 8 + 16 + 16 * 16
    return Case(
        config=config,
        oracle=partial(
            contraction.expert_workspace,
            n_heads=config.n_heads,
            update_every=config.update_every,
            rho=config.rho,
            step_size=config.step_size,
            n_iterations=config.n_iterations,
            gradient=config.gradient,
            order=config.d_state,
        ),
        # Experts: attention, scan, net with biases, waves; the loop's matrix, push with its bias, output.
        parameters=3 * 256 + scan + 2 * (256 + 16) + (2 * 16 + 256) + 256 + (256 + 16) + 256,
        points={
            "addressing": (B, config.n_heads, T, T),
            "read": (B, T, D_MODEL),
            "contribution": (B, T, D_MODEL),
            "scan.state": (B, T, 16, 8),
            "scan.read": (B, T, 16),
            "scan.contribution": (B, T, D_MODEL),
        },
        on_demand=("addressing", "scan.state"),
        state_of=lambda state: state.scan.s,
        constant_start=config.update_every > 1,
        long=long,
    )


CASES = {
    "log accumulator": accumulator(LogAccumulatorConfig(n_heads=2)),
    "log accumulator in the loop": accumulator(LogAccumulatorConfig(n_heads=2, compress="loop")),
    "log accumulator over 7": accumulator(
        LogAccumulatorConfig(n_heads=2, window=7, rotary=False, scale=0.3), long=True
    ),
    "log accumulator in the loop over 16": accumulator(
        LogAccumulatorConfig(n_heads=4, window=16, compress="loop"), long=True
    ),
    "workspace": workspace(ContractiveWorkspaceConfig(n_heads=2, n_iterations=6)),
    "workspace until it rests": workspace(
        ContractiveWorkspaceConfig(n_heads=2, n_iterations=12, stop="residual", tolerance=0.05, gradient="one_live")
    ),
    "workspace of the fixed point": workspace(
        ContractiveWorkspaceConfig(n_heads=2, n_iterations=25, rho=0.4, gradient="implicit", window=7), long=True
    ),
    "workspace of small steps until it saturates": workspace(
        ContractiveWorkspaceConfig(
            n_heads=2, n_iterations=12, stop="saturation", tolerance=0.1, step_size=0.3, rotary=False
        ),
        long=True,
    ),
    "workspace of two steps": workspace(
        ContractiveWorkspaceConfig(n_heads=4, n_iterations=2, gradient="one_live"), long=True
    ),
    "workspace of experts": experts(ExpertWorkspaceConfig(n_heads=2, n_iterations=6)),
    "workspace of experts, updated every three tokens": experts(
        ExpertWorkspaceConfig(n_heads=2, n_iterations=6, update_every=3, gradient="unroll"), long=True
    ),
}
