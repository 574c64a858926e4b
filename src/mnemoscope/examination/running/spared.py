"""Module calls that a run under interventions need not compute, since what they lead to is replaced.

A read that becomes a constant needs neither its queries nor its scan, and a mixer that is asked for a window need not
run on the whole sequence first. Such calls are answered by tensors that have a shape and no values, so that whatever
else depends on them cannot go on unnoticed; and the replayer compares the first run of its kind, to the bit, with one
that computes everything.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_map

from mnemoscope.contracts.outputs import first_tensor, named_parts, tensors_in, with_first_tensor, with_parts
from mnemoscope.examination.interventions.reads import (
    Constant,
    GateClamp,
    Intervention,
    PositionConstant,
    Resample,
    Window,
    WithoutDirections,
    Zero,
)
from mnemoscope.examination.subject.sites import Point

OF_THE_SHAPE_ALONE = (Constant, PositionConstant, Zero)
"""Interventions that need no more of a value than its shape."""

OF_THE_VALUE_ALONE = (*OF_THE_SHAPE_ALONE, Resample, GateClamp, WithoutDirections)
"""Interventions that need nothing but the value, which at the first point of a run is the recorded one."""

Answers = dict[str, Any]
"""What modules return without being computed, by path."""


class Replaced(NamedTuple):
    """An intervention at a point that is the output of a module, and when it begins."""

    point: Point
    intervention: Intervention
    begins: int


class Ended(NamedTuple):
    """The one call of a module in the clean pass."""

    end: int
    output: Any


def ways_to_spare(calls: Mapping[str, Ended], replaced: Sequence[Replaced], began: int) -> list[Answers]:
    """Answers of modules that need not run, most answers first; empty where all must run.

    Args:
        calls: of the clean pass, by path; without modules that ran more than once.
        replaced: what this run replaces at outputs of modules.
        began: when the first intervention of the run begins; what is recorded holds until then.
    """
    own: Answers = {}
    beside: Answers = {}
    for point, intervention, begins in {each.point: each for each in reversed(replaced)}.values():
        call, is_first = calls.get(point.path), begins == began
        needless = (*(OF_THE_VALUE_ALONE if is_first else OF_THE_SHAPE_ALONE), Window)
        if call is None or not isinstance(intervention, needless) or (point.channels is not None and not is_first):
            continue
        recorded = first_tensor(call.output, point.part)
        own[point.path] = call.output if is_first else with_first_tensor(_hollow(call.output), recorded, point.part)
        if not isinstance(intervention, Window):
            beside |= _beside(point.path, calls, begins)
    return [beside | own, own] if beside else [own] if own else []


class AmongHollow(TorchFunctionMode):
    """What meets a tensor without values has none either."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function; if it refuses, with nothing but shapes where one of its tensors is only that."""
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            if not tree_any(lambda value: isinstance(value, Tensor) and value.is_meta, (args, kwargs)):
                raise
            return func(*tree_map(_hollow, args), **tree_map(_hollow, kwargs))


def is_hollow(answers: Answers) -> bool:
    """Whether an answer holds a tensor without values."""
    return any(tensor.is_meta for output in answers.values() for tensor in tensors_in(output))


def _beside(path: str, calls: Mapping[str, Ended], begins: int) -> Answers:
    """The modules of the same owner that were over before the point was reached."""
    owner, _, _ = path.rpartition(".")
    return {
        other: _hollow(call.output)
        for other, call in calls.items()
        if owner and other.startswith(f"{owner}.") and call.end < begins
    }


def _hollow(output: Any) -> Any:
    """The same containers with tensors that have shapes and no values."""
    if isinstance(output, Tensor):
        return torch.empty_like(output, device="meta")
    return with_parts(output, lambda _, value: _hollow(value)) if named_parts(output) else output
