"""Several processes at one examination: what each has done goes to all, and what befalls one befalls all.

Every process, a *rank*, goes through the same steps on the same model and batches. At a meeting each hands in what it
alone has done and gets what all have, in the order of their ranks. An error on one rank ends all of them at their next
meeting, with its message; an interrupt stops all at the same place. A rank that dies breaks the connection, which ends
the others.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Literal, NamedTuple, NoReturn, Protocol, TypeVar, runtime_checkable

import torch
import torch.distributed as dist

from mnemoscope.examination.running.parcels import Parcel, packed, unpacked

T = TypeVar("T")

ARRIVAL = timedelta(minutes=10)
"""How long the first rank that calls `examine` waits for the last."""

ONE_INTERRUPT_SECONDS = 3.0
"""Within this time after a stop, an interrupt is that which stopped the others: a launcher sends it to one by one."""

LONGEST_WORK = timedelta(hours=12)
"""How long a rank may be at work while the others wait for it."""


@dataclass(frozen=True)
class Gathered(Generic[T]):
    """What the ranks handed in, in their order up to the first that was stopped; and whether one was."""

    values: list[T]
    stopped: bool


@runtime_checkable
class Ranks(Protocol):
    """The processes of an examination, as one of them sees them."""

    rank: int
    count: int

    def gathered(self, work: Callable[[], T]) -> Gathered[T]:
        """Do the work here, and meet.

        Raises:
            Exception: what went wrong, here or on another rank.
        """
        ...

    def say(self, words: Callable[[], None]) -> None:
        """Tell the user, on the first rank alone."""
        ...


class Alone:
    """One process, which meets nobody."""

    rank, count = 0, 1

    def gathered(self, work: Callable[[], T]) -> Gathered[T]:
        """Do the work."""
        return Gathered([work()], stopped=False)

    def say(self, words: Callable[[], None]) -> None:
        """Tell the user."""
        words()


Kind = Literal["done", "stopped", "failed", "interrupted"]
"""How work ended: "stopped" is an interrupt in the middle of it, "interrupted" one that ends the examination."""


class _Said(NamedTuple):
    """What a rank tells the others at a meeting: how its work ended, and with which value or error."""

    kind: Kind
    words: str = ""
    error: str = ""
    parcel: Parcel | None = None


class Several:
    """One of several processes.

    Args:
        group: all of them, for tensors on the CPU.
        device: where tensors belong that were not on the CPU of the rank that sends them.
    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self.group, self.device = group, device
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
        self._working = self._asked = self._over = False
        self._stopped_at = -ONE_INTERRUPT_SECONDS

    def gathered(self, work: Callable[[], T]) -> Gathered[T]:
        """Do the work here, and meet."""
        value, own = None, None
        try:
            if self._asked:
                raise KeyboardInterrupt
            self._working = True
            value = work()
            self._working = False
            parcel, tensors = packed(value)
            said = _Said("done", parcel=parcel)
        except KeyboardInterrupt:
            self._working = False
            said, tensors = _Said("stopped"), []
        except Exception as error:
            self._working, own = False, error
            said, tensors = _said_of(error), []
        return self._met(said, tensors, value, own)

    def say(self, words: Callable[[], None]) -> None:
        """Tell the user, on the first rank; an interrupt meanwhile waits for the next meeting."""
        if self.rank == 0:
            try:
                words()
            except KeyboardInterrupt:
                self._asked = True

    def leave(self, error: BaseException) -> None:
        """Tell the others of an error outside a meeting; nothing where they know."""
        if self._over:
            return
        self._over = True
        said = _Said("interrupted") if isinstance(error, KeyboardInterrupt) else _said_of(error)
        try:
            dist.all_gather_object([None] * self.count, said, group=self.group)
        except RuntimeError:
            return

    def interrupted(self, *_: object) -> None:
        """What Ctrl-C does: stops the work in hand; anywhere else it waits for the next meeting, but not twice."""
        if time.monotonic() < self._stopped_at + ONE_INTERRUPT_SECONDS:
            return
        if self._working or self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def _met(self, said: _Said, tensors: list[torch.Tensor], value: Any, own: Exception | None) -> Gathered[Any]:
        heard: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(heard, said, group=self.group)
            self._refuse(heard, own)
            values = [self._value(rank, each, value, tensors) for rank, each in enumerate(heard)]
        except RuntimeError as error:
            if error is own or self._over:
                raise
            self._over = True
            raise ConnectionError(
                f"examine: rank {self.rank} of {self.count} lost the others: one of them ended or cannot be reached "
                f"({error}); look for its own message"
            ) from error
        except BaseException:
            self._over = True
            raise
        stopped = [each.kind == "stopped" for each in heard]
        if any(stopped):
            self._asked, self._stopped_at = False, time.monotonic()
        return Gathered(values[: stopped.index(True)] if any(stopped) else values, any(stopped))

    def _value(self, rank: int, said: _Said, own: Any, tensors: list[torch.Tensor]) -> Any:
        """What a rank handed in."""
        n_bytes = 0 if said.parcel is None else said.parcel.n_bytes
        mine = rank == self.rank
        content = torch.cat(tensors) if mine and n_bytes else torch.empty(n_bytes, dtype=torch.uint8)
        if n_bytes:
            dist.broadcast(content, src=rank, group=self.group)
        return own if mine or said.parcel is None else unpacked(said.parcel, content, self.device)

    def _refuse(self, heard: list[_Said], own: Exception | None) -> None:
        """End here too, where any rank ended."""
        if any(each.kind == "interrupted" for each in heard):
            self._over = True
            raise KeyboardInterrupt
        failed = [rank for rank, each in enumerate(heard) if each.kind == "failed"]
        if failed:
            self._over = True
            if own is not None:
                raise own
            _raise(heard[failed[0]], failed[0], self.count)


@contextmanager
def all_ranks(together: bool, device: torch.device) -> Iterator[Ranks]:
    """The processes of an initialised `torch.distributed`, which must all come here; or this one alone.

    Args:
        together: use the others, where there are any.
        device: what this process computes on.

    Raises:
        ConnectionError: some have not come within `ARRIVAL`.
    """
    if not (together and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield Alone()
        return
    groups = _groups()
    ranks = Several(groups[-1], device)
    try:
        with _heeded(ranks):
            yield ranks
    except BaseException as error:
        ranks.leave(error)
        raise
    finally:
        for group in groups:
            dist.destroy_process_group(group)


def is_first() -> bool:
    """Whether this process writes what all of them know."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def of_each(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """What the work gives on every rank, in their order.

    Raises:
        KeyboardInterrupt: on every rank, if one is stopped.
    """
    found = ranks.gathered(work)
    if found.stopped:
        raise KeyboardInterrupt
    return found.values


def of_first(ranks: Ranks, work: Callable[[], T]) -> T:
    """What the work gives on the first rank, which alone does it."""
    found: list[Any] = of_each(ranks, lambda: work() if ranks.rank == 0 else None)
    return found[0]


def alike(ranks: Ranks, work: Callable[[], T]) -> T:
    """What the work gives here, where every rank does the same; errors and interrupts are everybody's."""
    kept: list[T] = []
    of_each(ranks, lambda: kept.append(work()))
    return kept[0]


def shared(ranks: Ranks, works: Sequence[Callable[[], T]], parts: Sequence[Sequence[int]]) -> list[T]:
    """What pieces of work give, each done on one rank.

    Args:
        ranks: that do it.
        works: all pieces.
        parts: by rank, which pieces it does.
    """
    found = of_each(ranks, lambda: [works[i]() for i in parts[ranks.rank]])
    by_piece = {}
    for part, values in zip(parts, found, strict=True):
        by_piece |= dict(zip(part, values, strict=True))
    return [by_piece[i] for i in range(len(works))]


def _groups() -> list[dist.ProcessGroup]:
    """Groups beside the user's: one to see who comes, and one whose messages mix with no others and may take long."""
    if not dist.is_gloo_available():
        raise ValueError("examine: several processes need a torch with gloo; call examine(..., together=False) in one")
    try:
        groups = [dist.new_group(backend="gloo", timeout=patience) for patience in (ARRIVAL, LONGEST_WORK)]
    except RuntimeError as error:
        raise ConnectionError(
            f"examine: all {dist.get_world_size()} ranks must call examine within {ARRIVAL.seconds // 60} minutes, "
            f"some did not ({error}); call it in every rank, or examine(..., together=False) in one"
        ) from error
    return [group for group in groups if isinstance(group, dist.ProcessGroup)]


@contextmanager
def _heeded(ranks: Several) -> Iterator[None]:
    """Ctrl-C as the ranks want it, where it would raise KeyboardInterrupt."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    before = signal.signal(signal.SIGINT, ranks.interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_ERRORS: dict[str, type[Exception]] = {"ValueError": ValueError, "ArithmeticError": ArithmeticError, "OSError": OSError}
"""What the command line tells apart."""


def _said_of(error: BaseException) -> _Said:
    name = next((name for name, kind in _ERRORS.items() if isinstance(error, kind)), type(error).__name__)
    return _Said("failed", str(error), name)


def _raise(said: _Said, rank: int, count: int) -> NoReturn:
    where = f"on rank {rank} of {count}"
    if said.error in _ERRORS:
        raise _ERRORS[said.error](f"{said.words} ({where})")
    raise RuntimeError(f"{said.error}: {said.words} ({where})")
