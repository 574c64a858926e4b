"""Half precision: what is carried stays in float32 at least, and so outputs stay near those of float32.

The bounds stand in `tests/tolerances.py`; weights and inputs are rounded first, so that they measure the computation.
"""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.memories import MEMORIES
from mnemoscope.memories.presets import PRESETS
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mixers import build_mixer
from tests.tolerances import HALF_FORWARD, HALF_FORWARD_EXCEPTIONS, HALF_STEP, HALF_STEP_EXCEPTIONS

WIDTH, N_TOKENS = 32, 1024
LOOPS = ("ntm", "dnc", "mann")
"""Loop-class: tried on an eighth of the tokens."""

KEPT = ("tail", "past", "k", "v", "window_weight", "open", "carry", "pending", "projected", "hits", "usage")
NARROW = {*KEPT, "h", "c", "average", "threshold", "scores"}
"""Parts of states that stay in the dtype of the weights, but in loop-class memories: see docs/precision.md."""

QUICK = ("gated_delta", "linear_attention", "mlstm")
NAMES = sorted([*MEMORIES, *PRESETS])
every_name = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in NAMES]
)
CARRIED = (
    "based", "gated_delta", "gla", "h3", "linear_attention", "log_accumulator", "mamba", "mamba2", "mlstm", "omega",
    "omega_mlp", "retention", "rg_lru", "rwkv6", "rwkv7", "s4d", "slots",
)  # fmt: skip
"""Memories that carry sums from token to token."""


def pair(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """A memory in bfloat16, the same numbers in float32, and inputs in bfloat16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        memory = build_mixer(parse_layout(name)[0], WIDTH).eval()
        n_tokens = N_TOKENS // 8 if name in LOOPS else N_TOKENS
        x = torch.randn(1, n_tokens, WIDTH).bfloat16()
    rough = memory.bfloat16()
    return rough, copy.deepcopy(rough).float(), x


def stepped(memory: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    outputs = []
    for x_t in x.unbind(1):
        y, state = memory.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def parts(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of a state by the path of their names."""
    if isinstance(state, Tensor):
        yield name, state
    else:
        for field, part in zip(state._fields, state, strict=True):
            yield from parts(part, f"{name}.{field}")


def error(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact.double()).norm() / exact.double().norm())


def narrowed(state: Any) -> Any:
    """The state as it would be if it were carried in bfloat16."""
    if isinstance(state, Tensor):
        return state.bfloat16().to(state.dtype) if state.is_floating_point() else state
    return type(state)(*(narrowed(part) for part in state))


def is_narrow(name: str, at: str) -> bool:
    """Whether a part of a state keeps the dtype of the weights; networks keep theirs for their recent tokens too."""
    return name not in LOOPS and ".recent." not in at and any(part in NARROW for part in at.split("."))


@every_name
@torch.no_grad()
def test_a_thousand_tokens_in_bfloat16_stay_near_float32(name: str):
    rough, exact, x = pair(name)
    wanted, _ = exact(x.float())
    y, state = rough(x)
    by_step, last = stepped(rough, x, rough.init_state(1))
    assert y.dtype == by_step.dtype == torch.bfloat16
    assert error(y, wanted) < HALF_FORWARD_EXCEPTIONS.get(name, HALF_FORWARD)
    assert error(by_step, y) < HALF_STEP_EXCEPTIONS.get(name, HALF_STEP)
    assert [(at, part.dtype) for at, part in parts(state)] == [(at, part.dtype) for at, part in parts(last)]


@every_name
@torch.no_grad()
def test_under_autocast_both_forms_stay_near_float32(name: str):
    _, exact, x = pair(name)
    x = x.float()
    wanted, _ = exact(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = exact(x)
        by_step, _ = stepped(exact, x, exact.init_state(1))
    assert error(y, wanted) < HALF_FORWARD_EXCEPTIONS.get(name, HALF_FORWARD)
    assert error(by_step, y) < HALF_STEP_EXCEPTIONS.get(name, HALF_STEP)


@every_name
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_what_is_carried_is_float32_whatever_the_weights_are(name: str, dtype: torch.dtype):
    rough, _, x = pair(name)
    rough = rough.to(dtype)
    x = x[:, :5].to(dtype)
    y, state = rough(x)
    assert y.dtype == dtype
    for one in (rough.init_state(1), state, stepped(rough, x[:, :2], state)[1]):
        for at, part in parts(one):
            if part.is_floating_point():
                assert part.dtype == (dtype if is_narrow(name, at) else torch.float32), at


@every_name
@torch.no_grad()
def test_the_size_of_a_state_is_known_in_bfloat16(name: str):
    rough, _, x = pair(name)
    for n_tokens in (1, 9, 40):
        _, state = rough(x[:, :n_tokens])
        held = sum(part.numel() * part.element_size() for _, part in parts(state))
        assert held == rough.state_bytes(batch=1, tokens=n_tokens)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK[1:] else pytest.mark.long) for name in CARRIED]
)
@torch.no_grad()
def test_the_bound_would_notice_a_state_in_bfloat16(name: str):
    """Rounded once a token, as a recurrence in bfloat16 would round it, every one of these leaves the bound."""
    rough, _, x = pair(name)
    y, _ = rough(x)
    state, outputs = rough.init_state(1), []
    for x_t in x.unbind(1):
        y_t, state = rough.step(x_t, narrowed(state))
        outputs.append(y_t)
    assert error(torch.stack(outputs, dim=1), y) > HALF_STEP_EXCEPTIONS.get(name, HALF_STEP)
