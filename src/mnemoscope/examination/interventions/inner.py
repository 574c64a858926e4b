"""Another history for a part of a read, where the read lies inside its module: one head sees a window, say.

Behind a module's output projection its heads are mixed, so a window of one head cannot be put at the output. The module
is run on the other history to see what it would read, and once more on its own with that part of the read exchanged.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts import Windowed
from mnemoscope.contracts.outputs import first_tensor, with_first_tensor
from mnemoscope.examination.interventions.histories import HistorySwap, WriteFreeze
from mnemoscope.examination.interventions.reads import Window, window_input
from mnemoscope.examination.subject.calls import Call
from mnemoscope.examination.subject.held import held
from mnemoscope.examination.subject.inputs import input_tensor, with_input_tensor
from mnemoscope.examination.subject.points import Channels, Point


@dataclass(frozen=True)
class Inside:
    """A module's output if parts of a read inside it were what another history leads to.

        r' = the read under `history`;   y = module(x) with r[parts] <- r'[parts]

    Args:
        history: what is done to what the module sees.
        owner: path of the module.
        read: where its read is seen, in a module inside it.
        parts: of the read.
    """

    history: Window | WriteFreeze | HistorySwap
    owner: str
    read: Point
    parts: tuple[Channels, ...]

    def with_parts(self, parts: tuple[Channels, ...]) -> "Inside":
        """The same with further parts."""
        return replace(self, parts=tuple(dict.fromkeys((*self.parts, *parts))))

    def apply(self, call: Call) -> Float[Tensor, "b t d"]:
        """Run the module on the other history, and on its own with that read.

        Raises:
            ValueError: where the read is not reached exactly once in a call of the module.
        """
        module = call.module
        assert module is not None
        with held(module):
            other = self._by_token(self._read_under_history(call))
        with held(module), ExitStack() as stack:
            reached: list[Tensor] = []
            self._listen(module, stack, partial(_exchanged, reached, other, self.parts), window_input(call).shape)
            output = module.forward(*call.args, **call.kwargs)
            _require_once(self.read, reached)
        return first_tensor(output, call.part)

    def _read_under_history(self, call: Call) -> Tensor:
        module = call.module
        assert module is not None
        if isinstance(module, Windowed) and isinstance(self.history, Window):
            reached: list[Tensor] = []
            x = window_input(call)
            with ExitStack() as stack:
                self._listen(module, stack, partial(_kept, reached), x.shape)
                module.windowed(x, self.history.tokens)
            return self._by_token(_require_once(self.read, reached))
        with self._answering_with_its_read(module):
            value = first_tensor(module.forward(*call.args, **call.kwargs))
            return self.history.apply(call._replace(value=value, part=None))

    @contextmanager
    def _answering_with_its_read(self, module: nn.Module) -> Iterator[None]:
        """Calls of the module return its read, so that whatever runs it again sees that."""
        original, overridden = module.forward, "forward" in module.__dict__
        module.forward = partial(self._read_of, module, original)
        try:
            yield
        finally:
            if overridden:
                module.forward = original
            else:
                del module.forward

    def _read_of(self, module: nn.Module, original: Any, *args: Any, **kwargs: Any) -> Tensor:
        reached: list[Tensor] = []
        with ExitStack() as stack:
            self._listen(module, stack, partial(_kept, reached), input_tensor(args, kwargs).shape)
            original(*args, **kwargs)
        return self._by_token(_require_once(self.read, reached))

    def _by_token(self, read: Tensor) -> Tensor:
        """(b, h, t, v) as (b, t, h, v) and back: whatever cuts a history takes the second axis for tokens."""
        heads_first = any(part.stop is None and part.axis == 1 for part in self.parts)
        return read.transpose(1, 2) if heads_first else read

    def _listen(self, module: nn.Module, stack: ExitStack, change: Any, shape: Any) -> None:
        """`change(read)` takes the place of the read, (b, t, ...), until the stack closes."""
        prefix = f"{self.owner}." if self.owner else ""
        inner = module.get_submodule(self.read.path.removeprefix(prefix))
        if self.read.kind == "module":
            hook = partial(_at_output, self.read.part, change)
            stack.callback(inner.register_forward_hook(hook).remove)
        else:
            rows = None if self.read.within is None else tuple(shape[:2])
            before = partial(_at_input, rows, change)
            stack.callback(inner.register_forward_pre_hook(before, with_kwargs=True).remove)


RUNNING_AGAIN = (Window, HistorySwap, WriteFreeze, Inside)
"""Interventions that call the module again: what happens inside it must not be answered from a record."""


def is_inside(owner: str | None, read: Point) -> bool:
    """Whether a read is seen in a module within its owner, and not at the owner's own output."""
    return owner is not None and read.kind != "tap" and read.path != owner and (not owner or _within(owner, read.path))


def _within(owner: str, path: str) -> bool:
    return path.startswith(f"{owner}.")


def _kept(reached: list[Tensor], read: Tensor) -> Tensor:
    reached.append(read)
    return read


def _exchanged(reached: list[Tensor], other: Tensor, parts: tuple[Channels, ...], read: Tensor) -> Tensor:
    reached.append(read)
    for part in parts:
        read = part.put(read, part.of(other))
    return read


def _require_once(point: Point, reached: list[Tensor]) -> Tensor:
    if len(reached) != 1:
        raise ValueError(
            f"a part of a read can be given another history only where {point.path} is reached once in a call of its "
            f"module, got {len(reached)} times"
        )
    return reached[0]


def _at_output(part: str | None, change: Any, module: nn.Module, args: Any, output: Any) -> Any:
    return with_first_tensor(output, change(first_tensor(output, part)), part)


def _at_input(rows: tuple[int, ...] | None, change: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
    given = input_tensor(args, kwargs)
    read = given if rows is None else given.reshape(*rows, -1, given.shape[-1])
    return with_input_tensor(args, kwargs, change(read).reshape(given.shape))
