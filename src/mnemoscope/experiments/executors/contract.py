"""Jobs and executors. A job leaves everything on the disk, so an executor returns nothing but how it ended."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar


class Runnable(Protocol):
    """A job: a value that can be pickled."""

    @property
    def name(self) -> str:
        """What to call it, different from those of the other jobs."""
        ...

    @property
    def place(self) -> Path:
        """The folder or file that it leaves; its lease and its attempts stand beside it, under the same name."""
        ...

    @property
    def threads(self) -> int | None:
        """CPU threads that it is fixed to; None for what the executor gives."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do, as the disk says."""
        ...


J = TypeVar("J", bound=Runnable)
Work = Callable[[J], None]
"""A function of a module: it is sent by name."""

RETRIES = 3
"""How often a job is begun again whose process died."""


class Ended(NamedTuple, Generic[J]):
    """A job that ended; `failure` is empty, or says in a line why it is not finished."""

    job: J
    failure: str


class Executor(Protocol):
    """Something that runs jobs: local processes, a cluster."""

    def run(self, jobs: Sequence[J], work: Work[J]) -> Iterator[Ended[J]]:
        """Run `work(job)` for all jobs, each in a process of its own, and report each when it ends, in any order.

        A job that fails, or whose process dies, does not keep the others from being run. `work` is a function of a
        module (it is sent by name) and goes on with what an earlier process left. Leaving the iterator, also by an
        error or Ctrl-C, stops what still runs: a job gets the time to write a checkpoint.
        """
        ...
