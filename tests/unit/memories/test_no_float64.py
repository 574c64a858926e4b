"""Memories where the device has no float64 (MPS): no intermediate result is in it.

The CPU stands in for the device: it is told that it has none, and every operation is watched.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mnemoscope.contracts import Windowed, precision
from mnemoscope.memories import MEMORIES
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mixers import build_mixer

WIDTH = 16


class NoFloat64(TorchDispatchMode):
    """Refuses every operation that gives float64, as a device does that lacks it."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        wide = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.dtype == torch.float64]
        if wide:
            raise TypeError(f"{func} gave float64, which the device does not have")
        return result


def test_the_stand_in_refuses_float64() -> None:
    with NoFloat64(), pytest.raises(TypeError, match="gave float64"):
        torch.ones(2).double()


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_a_memory_runs_and_learns_without_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_float64", lambda device: False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        memory = build_mixer(parse_layout(name)[0], WIDTH)
        x = torch.randn(2, 12, WIDTH, requires_grad=True)
    with NoFloat64():
        y, state = memory(x)
        y.square().sum().backward()
        later = memory(x.detach(), state)[0]
        if isinstance(memory, Windowed):
            assert memory.windowed(x.detach(), 4).dtype == torch.float32
    assert bool(torch.isfinite(later).all())
    assert x.grad is not None
