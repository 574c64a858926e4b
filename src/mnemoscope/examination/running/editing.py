"""Putting interventions into a model: forward hooks and taps, for as long as a block runs.

Hooks are functions of this file with their arguments bound, not functions made anew: they are set for every run.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from mnemoscope.contracts import listening
from mnemoscope.contracts.outputs import first_tensor, with_first_tensor
from mnemoscope.examination.interventions.inner import RUNNING_AGAIN
from mnemoscope.examination.interventions.reads import Call, Intervention
from mnemoscope.examination.subject.inputs import Rows, input_tensor, with_input_tensor
from mnemoscope.examination.subject.sites import Point


class Edit(NamedTuple):
    """An intervention at a point."""

    point: Point
    intervention: Intervention


@contextmanager
def edited(modules: dict[str, nn.Module], edits: Sequence[Edit]) -> Iterator[None]:
    """Apply edits through forward hooks and taps while the block runs."""
    taps = [edit for edit in edits if edit.point.kind == "tap"]
    with ExitStack() as stack:
        rows = Rows(modules, [edit.point for edit in edits], stack)
        for edit in edits:
            if edit.point.kind == "module":
                hook = partial(_at_output, edit)
                stack.callback(modules[edit.point.path].register_forward_hook(hook, with_kwargs=True).remove)
            elif edit.point.kind == "input":
                before = partial(_at_input, edit, rows)
                stack.callback(modules[edit.point.path].register_forward_pre_hook(before, with_kwargs=True).remove)
        if taps:
            stack.enter_context(listening(partial(_at_tap, taps)))
        yield


def _at_output(edit: Edit, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    part = edit.point.part
    value = _applied(edit, Call(module, args, kwargs, first_tensor(output, part), part))
    return with_first_tensor(output, _laid_out(value), part)


def _at_input(edit: Edit, rows: Rows, module: nn.Module, args: Any, kwargs: Any) -> Any:
    given = input_tensor(args, kwargs)
    value = _applied(edit, Call(None, (), {}, rows.split(edit.point, given)))
    return with_input_tensor(args, kwargs, _laid_out(value.reshape(given.shape)))


def _laid_out(value: Tensor) -> Tensor:
    # What follows a module may take a view of its output, which one value that stands for many does not allow.
    return value.contiguous()


def _at_tap(taps: Sequence[Edit], name: str, tensor: Tensor) -> Tensor:
    for edit in taps:
        if edit.point.path == name:
            tensor = _applied(edit, Call(None, (), {}, tensor))
    return tensor


def _applied(edit: Edit, call: Call) -> Tensor:
    """The whole tensor after the intervention; where it is on a part, the rest stays.

    One that calls the module again answers with the whole tensor, of which the part is taken.
    """
    channels = edit.point.channels
    if channels is None:
        return edit.intervention.apply(call)
    if isinstance(edit.intervention, RUNNING_AGAIN):
        return channels.put(call.value, channels.of(edit.intervention.apply(call)))
    return channels.put(call.value, edit.intervention.apply(call._replace(value=channels.of(call.value))))
