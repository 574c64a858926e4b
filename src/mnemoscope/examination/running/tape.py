"""The record of a clean pass: every module call, when it began and ended, and what the points of interest produced."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, listening
from mnemoscope.contracts.outputs import first_tensor, tensors_in
from mnemoscope.examination.interventions.inner import RUNNING_AGAIN
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.subject.inputs import Rows, input_tensor
from mnemoscope.examination.subject.losses import Scores
from mnemoscope.examination.subject.sites import Point


@dataclass
class _Call:
    path: str
    start: int
    end: int
    output: Any
    versions: tuple[int, ...]


@dataclass
class Tape:
    """The record of one batch: its losses, its module calls, when each point was first reached, and kept values.

    `values` has one tensor per call: a module may be called several times in a forward. `called` names those that were
    called, `repeated` those that were more than once.
    """

    batch: Any
    scores: Scores
    calls: list[_Call] = field(default_factory=list)
    begins: dict[tuple[Point, bool], int] = field(default_factory=dict)
    values: dict[Point, list[Tensor]] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)

    def forget_within(self, start: int) -> None:
        """Drop the calls since `start` that no replay needs: the call that ends now will answer for them.

        They are needed only by interventions that begin after them and before that end.
        """
        nested = len(self.calls)
        while nested and self.calls[nested - 1].start > start:
            nested -= 1
        last = max((begin for begin in self.begins.values() if begin > start), default=-1)
        self.calls[nested:] = [call for call in self.calls[nested:] if call.end <= last]

    @property
    def n_largest(self) -> int:
        """Values of the largest recorded tensor."""
        return max((tensor.numel() for call in self.calls for tensor in tensors_in(call.output)), default=0)

    def began(self, edits: Sequence[Edit]) -> int:
        """When the first of these edits changes anything."""
        return min((self.begins.get(key_of(edit), 0) for edit in edits), default=0)

    def ended_by(self, began: int) -> list[_Call]:
        """The outermost calls that were over by then, in their order."""
        outermost: list[_Call] = []
        for call in sorted(self.calls, key=lambda call: call.start):
            if call.end <= began and (not outermost or call.start > outermost[-1].end):
                outermost.append(call)
        return outermost

    @property
    def n_bytes(self) -> int:
        """Bytes of the recorded outputs, shared storage counted once."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for call in self.calls
            for tensor in tensors_in(call.output)
        }
        return sum(storages.values())


class Recorder:
    """Fills a tape while the model runs; its hooks are on every module until the stack closes.

    Args:
        tape: to be filled.
        modules: of the model, by path.
        points: where interventions may happen.
        keep: points whose values are kept.
        stack: takes the hooks off again.
    """

    def __init__(
        self,
        tape: Tape,
        modules: dict[str, nn.Module],
        points: Sequence[Point],
        keep: frozenset[Point],
        stack: ExitStack,
    ) -> None:
        self.tape, self.keep = tape, keep
        self._now = 0
        self._starts: list[int] = []
        self._outputs: dict[str, list[Point]] = {}
        for point in points:
            if point.kind == "module":
                self._outputs.setdefault(point.path, []).append(point)
        inputs = [point for point in points if point.kind == "input"]
        self._taps = [point for point in points if point.kind == "tap" and point.channels is not None]
        fed = {point.path for point in inputs}
        self._rows = Rows(modules, points, stack)
        for path, module in modules.items():
            if path in self._outputs or path in fed or not isinstance(module, ReadPoint):
                stack.callback(module.register_forward_pre_hook(self._enter).remove)
                for point in inputs:
                    if point.path == path:
                        see = partial(self._see, point)
                        stack.callback(module.register_forward_pre_hook(see, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(partial(self._leave, path)).remove)
        stack.enter_context(listening(self._hear))

    def _tick(self) -> int:
        self._now += 1
        return self._now - 1

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._starts.append(self._tick())

    def _leave(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        tape, start, end = self.tape, self._starts.pop(), self._tick()
        tape.forget_within(start)
        tape.calls.append(_Call(path, start, end, output, versions(output)))
        (tape.repeated if path in tape.called else tape.called).add(path)
        for point in self._outputs.get(path, ()):
            tape.begins.setdefault((point, False), end)
            tape.begins.setdefault((point, True), start)
            if point in self.keep:
                tape.values.setdefault(point, []).append(point.seen(first_tensor(output, point.part)))

    def _see(self, point: Point, module: nn.Module, args: Any, kwargs: Any) -> None:
        for running_again in (False, True):
            self.tape.begins.setdefault((point, running_again), self._starts[-1])
        if point in self.keep:
            value = self._rows.split(point, input_tensor(args, kwargs))
            self.tape.values.setdefault(point, []).append(point.seen(value))

    def _hear(self, name: str, tensor: Tensor) -> Tensor:
        now = self._tick()
        for point in (Point(name, "tap"), *(part for part in self._taps if part.path == name)):
            self.tape.begins.setdefault((point, False), now)
            if point in self.keep:
                self.tape.values.setdefault(point, []).append(point.seen(tensor))
        return tensor


def key_of(edit: Edit) -> tuple[Point, bool]:
    """The point, and whether its module runs again: then it begins where the call starts, not where it ends."""
    return edit.point, isinstance(edit.intervention, RUNNING_AGAIN)


def versions(value: Any) -> tuple[int, ...]:
    """How often each tensor of nested containers was written to in place."""
    return tuple(tensor._version for tensor in tensors_in(value) if not tensor.is_inference())
