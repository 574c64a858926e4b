"""A pool of processes on this machine."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, NamedTuple, cast

from mnemoscope.experiments.executors.attempts import attempt, set_threads
from mnemoscope.experiments.executors.contract import RETRIES, Ended, J, Work


class _Running(NamedTuple, Generic[J]):
    job: J
    process: SpawnProcess
    answer: "Connection[str, str]"


@dataclass(frozen=True, kw_only=True)
class LocalPool:
    """Processes on this machine.

    Args:
        processes: at once; None for one per CPU core: small trainings gain little from a second thread.
        threads: CPU threads of each where a job is fixed to none; None to share the cores out.
        retries: how often a job is begun again whose process died without a word.
    """

    processes: int | None = None
    threads: int | None = None
    retries: int = RETRIES

    def __post_init__(self) -> None:
        for name in ("processes", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"LocalPool.{name} must be None or at least 1, got {value}")
        if self.retries < 0:
            raise ValueError(f"LocalPool.retries must be at least 0, got {self.retries}")

    def run(self, jobs: Sequence[J], work: Work[J]) -> Iterator[Ended[J]]:
        """See `Executor.run`."""
        at_once = self.processes or os.cpu_count() or 1
        threads = self.threads or max(1, (os.cpu_count() or 1) // at_once)
        waiting, running, deaths = list(jobs), list[_Running[J]](), Counter[str]()
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running.append(_start(job, work, job.threads or threads))
                done = set(wait([each.process.sentinel for each in running]))
                for each in [each for each in running if each.process.sentinel in done]:
                    running.remove(each)
                    failure = _failure(each)
                    deaths[each.job.name] += failure is None
                    if failure is None and deaths[each.job.name] <= self.retries:
                        print(f"{each.job.name}: {_death(each)}; it is begun again", file=sys.stderr, flush=True)
                        waiting.append(each.job)
                    else:
                        yield Ended(each.job, _death(each) if failure is None else failure)
        finally:
            _stop(running)


def _start(job: J, work: Work[J], threads: int) -> _Running[J]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, job, threads, theirs), name=job.name)
    process.start()
    theirs.close()
    return _Running(job, process, cast("Connection[str, str]", ours))


def _child(work: Work[J], job: J, threads: int, answer: "Connection[str, str]") -> None:
    """The whole life of a worker, which ends with its parent."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    set_threads(threads)
    try:
        outcome = attempt(work, job)
        print(outcome.trace, end="", file=sys.stderr)
        answer.send(outcome.failure)
    except BaseException as error:  # a job that exits, or a lease that cannot be written
        traceback.print_exc()
        answer.send(f"{type(error).__name__}: {error}")
    finally:
        answer.close()


def _follow_parent() -> None:
    """A parent that was killed cannot stop its workers: each stops itself, a training with a checkpoint."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGTERM)


def _failure(each: _Running[J]) -> str | None:
    """What a process that ended said; None where it died without a word."""
    each.process.join()
    with each.answer, suppress(EOFError):  # a process that was killed closes its end without a word
        return str(each.answer.recv())
    return None


def _death(each: _Running[J]) -> str:
    return f"its process ended with exit code {each.process.exitcode} before it could say why (killed, out of memory?)"


def _stop(running: Sequence[_Running[Any]]) -> None:
    """Ask every process to stop; a training writes a checkpoint before it does."""
    for each in running:
        each.process.terminate()
    for each in running:
        each.process.join()
        each.answer.close()
