"""Every configuration of a mixer that deserves the whole contract, and what the tests of the contract share."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Auxiliary
from mnemoscope.models.mixers import build_mixer
from tests.unit.memories.families import (
    attention,
    bank,
    bounded,
    context,
    contractive,
    convolutional,
    external,
    gated_delta,
    linear,
    mosaic,
    mosaic_v2,
    omega,
    omega_mlp,
    parallel,
    recurrent_units,
    routing,
    state_space,
)
from tests.unit.memories.families.case import D_MODEL, Case

FAMILIES = (
    attention,
    bank,
    bounded,
    context,
    contractive,
    convolutional,
    external,
    gated_delta,
    linear,
    mosaic,
    mosaic_v2,
    omega,
    omega_mlp,
    parallel,
    recurrent_units,
    routing,
    state_space,
)

CASES: dict[str, Case] = {name: case for family in FAMILIES for name, case in family.CASES.items()}


def variants(*names: str) -> pytest.MarkDecorator:
    """Run a test for these cases, where every option has equations of its own; but for those that are marked long."""
    marked = [pytest.param(name, marks=pytest.mark.long if CASES[name].long else ()) for name in names]
    return pytest.mark.parametrize("case", marked)


def first_of_kind(*names: str) -> set[str]:
    """The first of these cases of each memory that is not marked long."""
    return set({CASES[name].config.kind: name for name in reversed(names) if not CASES[name].long}.values())


def cases(*names: str) -> pytest.MarkDecorator:
    """Run a test for the first of these cases of each memory, and for the others in `make test-all`."""
    first = first_of_kind(*names)
    return pytest.mark.parametrize(
        "case", [pytest.param(name, marks=() if name in first else pytest.mark.long) for name in names]
    )


every_variant = variants(*CASES)
every_case = cases(*CASES)
every_memory = cases(*(name for name in CASES if name not in {**parallel.CASES, **context.CASES}))


def mixer_of(case: str, dtype: torch.dtype = torch.float64) -> Any:
    """The mixer of a case, out of training, with weights that no longer hide behind zeros and ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixer = build_mixer(CASES[case].config, D_MODEL).to(torch.float64)
        with torch.no_grad():
            for parameter in mixer.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return mixer.to(dtype).eval()


def inputs(n_tokens: int, batch: int = 2, seed: int = 1) -> Tensor:
    """Inputs in float64."""
    return torch.randn(batch, n_tokens, D_MODEL, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run_steps(mixer: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`forward`, one token at a time."""
    outputs = []
    for t in range(x.shape[1]):
        y, state = mixer.step(x[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def run_pieces(mixer: Any, x: Tensor, state: Any, cuts: list[int]) -> tuple[Tensor, Any]:
    """`forward` in pieces that end at the cuts; pieces of one token are steps."""
    outputs = []
    for start, stop in pairwise([0, *cuts, x.shape[1]]):
        run = run_steps if stop - start == 1 else nn.Module.__call__
        y, state = run(mixer, x[:, start:stop], state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def tensors(state: Any) -> list[Tensor]:
    """The tensors of a state, in order."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in tensors(part)]


def with_tensors(state: Any, replacements: Iterator[Tensor]) -> Any:
    """The same state around other tensors."""
    if isinstance(state, Tensor):
        return next(replacements)
    return type(state)(*(with_tensors(part, replacements) for part in state))


def auxiliary_loss(mixer: nn.Module, x: Tensor) -> Tensor:
    """What a mixer minimises for its input beside the task; zero where that is nothing."""
    return mixer.auxiliary_loss(x) if isinstance(mixer, Auxiliary) else x.new_zeros(())


def trained(mixer: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that are trained and hold anything; a convolution of no taps has an empty one."""
    return {name: weight for name, weight in mixer.named_parameters() if weight.requires_grad and weight.numel()}
