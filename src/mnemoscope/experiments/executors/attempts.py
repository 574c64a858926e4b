"""One attempt at a job, in a process of its own: alone, on record, and never at what is finished.

FOLDER/control/seed-0                  what the job leaves
FOLDER/control/seed-0.lease            there while a process works on it
FOLDER/control/seed-0.attempts.json    every process that did

A lease is a file that is made exclusively and touched by its holder every third of its time; whoever waits may take it
when the holder's process is gone, or has not touched it for that time. A holder that lost it ends at once, without
another write: a node that a cluster took for dead, and gave the run to another, does not write beside it.
"""

import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import LeaseCompromise, SoftFileLease, Timeout
from pydantic import AwareDatetime, Field

from mnemoscope.experiments.executors.contract import J, Work
from mnemoscope.runs import SCHEMA_VERSION, Record, read_record, write_record

LEASE_SECONDS = 60.0
"""A lease that was not touched for so long is taken over; longer than file servers and pauses of a machine hesitate."""

LOST = 75
"""Exit code of a process whose lease another one took (EX_TEMPFAIL)."""

INTERRUPTED = "interrupted; the same command goes on from its last checkpoint"

_QUIETLY_SECONDS, _POLL_SECONDS = 3.0, 0.5


class Attempt(Record):
    """A process that worked on a job; `outcome` is empty while it does, and where it was killed."""

    started: AwareDatetime
    host: str
    pid: int
    ended: AwareDatetime | None = None
    outcome: str = ""


class Attempts(Record):
    """All processes that worked on a job, in their order."""

    schema_version: int = SCHEMA_VERSION
    attempts: list[Attempt] = Field(default_factory=list)


class Outcome(NamedTuple):
    """How an attempt ended; `failure` is empty where the job is finished, `trace` where no error was raised."""

    kind: Literal["finished", "interrupted", "failed"]
    failure: str = ""
    trace: str = ""


def attempt(work: Work[J], job: J) -> Outcome:
    """Run a job unless it is finished; waits while another process works on it, and says so on stderr.

    Only for processes that do nothing else: the process ends at once if its lease is lost.
    """
    job.place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with leased(job.place):
            return Outcome("finished") if job.is_finished else _recorded(work, job)
    except KeyboardInterrupt:  # while it waited
        return Outcome("interrupted", INTERRUPTED)


def set_threads(n: int) -> None:
    """CPU threads of torch, if the job of this process brought it along; nothing else computes here."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def read_attempts(place: Path) -> list[Attempt]:
    """Every process that worked on what stands at `place`; none where no executor did."""
    file = place.with_suffix(".attempts.json")
    return read_record(file, Attempts).attempts if file.exists() else []


@contextmanager
def leased(place: Path, seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Alone at `place` while the block runs, among all processes that ask, on all machines that share the folder.

    Args:
        place: a path; its folder must exist.
        seconds: after which an untouched lease is taken over; the same for all that ask.
    """
    lease = SoftFileLease(place.with_suffix(".lease"), lease_duration=seconds, on_compromise=_end_at_once)
    try:
        lease.acquire(timeout=_QUIETLY_SECONDS, poll_interval=_POLL_SECONDS)
    except Timeout:
        print(f"{place}: waiting for another process that works on it", file=sys.stderr, flush=True)
        lease.acquire(timeout=-1, poll_interval=_POLL_SECONDS)
    try:
        yield
    finally:
        lease.release()


def _end_at_once(lost: LeaseCompromise) -> None:
    print(f"{lost.lock_file}: another process took over ({lost.reason}); this one ends", file=sys.stderr, flush=True)
    os._exit(LOST)


def _recorded(work: Work[J], job: J) -> Outcome:
    earlier = read_attempts(job.place)
    this = Attempt(started=datetime.now(UTC), host=socket.gethostname(), pid=os.getpid())
    _write(job.place, [*earlier, this])
    outcome = _tried(work, job)
    ended = this.model_copy(update={"ended": datetime.now(UTC), "outcome": outcome.failure or outcome.kind})
    _write(job.place, [*earlier, ended])
    return outcome


def _tried(work: Work[J], job: J) -> Outcome:
    try:
        work(job)
    except KeyboardInterrupt:
        return Outcome("interrupted", INTERRUPTED)
    except Exception as error:  # whatever it is, it must be reported, and the other jobs go on
        return Outcome("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome("finished")


def _write(place: Path, attempts: list[Attempt]) -> None:
    write_record(place.with_suffix(".attempts.json"), Attempts(attempts=attempts))
