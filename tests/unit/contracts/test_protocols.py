"""Which memory satisfies which protocol, and that the protocols refuse what does not."""

import pytest
from torch import nn

from mnemoscope.contracts import (
    Auxiliary,
    Bank,
    Collapsible,
    ReadPoint,
    Recalling,
    Settling,
    Slots,
    Stateful,
    Windowed,
    announced_role,
)
from mnemoscope.memories import MEMORIES
from mnemoscope.models import Parallel, ParallelConfig, StackConfig, build

WINDOWED = {
    "attention",
    "based",
    "gated_delta",
    "gla",
    "h3",
    "linear_attention",
    "mamba",
    "mamba2",
    "mlstm",
    "retention",
    "rg_lru",
    "rwkv6",
    "rwkv7",
    "s4d",
    "slots",
}
"""Those whose state is linear in what was written, and attention."""

SLOTTED = {"bank", "energy_bank", "persistent"}
BANKS = {"bank", "energy_bank"}
AUXILIARY = {"energy_bank"}
COLLAPSIBLE = {"energy_bank"}
SETTLING = {"workspace"}
RECALLING = {"gated_delta", "omega", "omega_mlp"}
IN_LEVELS = {"mosaic_v2"}
"""Made of memories that announce themselves one by one."""


@pytest.mark.parametrize("kind", MEMORIES)
def test_memories_satisfy_their_protocols(kind: str):
    config_class, module_class = MEMORIES[kind]
    memory = module_class(config_class(), 16)
    assert isinstance(memory, Stateful)
    assert isinstance(memory, Windowed) == (kind in WINDOWED)
    assert isinstance(memory, Slots) == (kind in SLOTTED)
    assert isinstance(memory, Bank) == (kind in BANKS)
    assert isinstance(memory, Collapsible) == (kind in COLLAPSIBLE)
    assert isinstance(memory, Settling) == (kind in SETTLING)
    assert isinstance(memory, Auxiliary) == (kind in AUXILIARY)
    assert isinstance(memory, Recalling) == (kind in RECALLING)
    if kind in IN_LEVELS:
        levels = [module for module in memory.modules() if announced_role(module)]
        assert len(levels) == 2
    else:
        assert announced_role(memory) == memory.role == ("route" if kind == "attention" else "memory")
        assert isinstance(memory.read, ReadPoint)
        assert isinstance(memory.contribution, ReadPoint)


def test_a_parallel_mixer_is_stateful_and_announces_through_its_sides():
    parallel = Parallel(ParallelConfig(), 16)
    assert isinstance(parallel, Stateful)
    assert announced_role(parallel) is None
    assert announced_role(parallel.memory.inner) == "memory"
    assert announced_role(parallel.beside.inner) == "route"


@pytest.mark.parametrize("protocol", [Stateful, Windowed, Slots, Bank, Collapsible, Settling, Auxiliary])
def test_an_ordinary_module_satisfies_none(protocol: type):
    assert not isinstance(nn.Linear(2, 2), protocol)
    assert not isinstance(nn.MultiheadAttention(4, 2), protocol)


def test_a_stack_is_found_to_hold_its_memories():
    stack = build(StackConfig.of("gated_delta | attention, bank", vocab_size=5, d_model=16), seed=0)
    found = [name for name, module in stack.named_modules() if announced_role(module)]
    assert found == ["blocks.0.mixer.memory.inner", "blocks.0.mixer.beside.inner", "blocks.1.mixer"]


class Announcing(nn.Module):
    """A user's memory that says no more than it must."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadPoint()


def test_a_read_point_called_read_is_enough_to_be_a_memory():
    assert announced_role(Announcing()) == "memory"
    assert announced_role(nn.Linear(2, 2)) is None


def test_an_unknown_role_is_refused():
    module = Announcing()
    module.role = "rout"
    with pytest.raises(ValueError, match=r"'memory', 'route'.*got 'rout'"):
        announced_role(module)
