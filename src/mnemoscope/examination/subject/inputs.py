"""Points at the input of a module: its first tensor argument, with batch and time on axes of their own."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from mnemoscope.examination.subject.points import Point


def input_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The first tensor a module was called with."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return value
    raise ValueError("a point at a module's input needs it to be called with a tensor, got none; choose another module")


def with_input_tensor(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with their first tensor replaced."""
    for i, arg in enumerate(args):
        if isinstance(arg, Tensor):
            return (*args[:i], value, *args[i + 1 :]), dict(kwargs)
    first = next(name for name, arg in kwargs.items() if isinstance(arg, Tensor))
    return args, {**kwargs, first: value}


class Rows:
    """What (b, t) is inside modules whose parts are given both on one axis; known while the stack is open."""

    def __init__(self, modules: Mapping[str, nn.Module], points: Sequence[Point], stack: ExitStack) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in {point.within for point in points if point.within is not None}:
            handle = modules[path].register_forward_pre_hook(partial(self._note, path), with_kwargs=True)
            stack.callback(handle.remove)

    def split(self, point: Point, value: Tensor) -> Tensor:
        """(b*t*h, d) as (b, t, h, d), for a point that lies within such a module."""
        if point.within is None:
            return value
        return value.reshape(*self._shapes[point.within], -1, value.shape[-1])

    def _note(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._shapes[path] = tuple(input_tensor(args, kwargs).shape[:2])
