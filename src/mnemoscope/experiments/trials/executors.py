"""Where the runs of a trial are computed. A run leaves everything in its folder, so an executor returns nothing."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple, Protocol, cast

import torch

from mnemoscope.experiments.trials.jobs import Job

Work = Callable[[Job], None]


class Ended(NamedTuple):
    """A job that ended; `failure` is empty, or says in a line why it is not finished."""

    job: Job
    failure: str


class Executor(Protocol):
    """Something that runs jobs: local processes, a cluster."""

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Ended]:
        """Run `work(job)` for all jobs, each in a process of its own, and report each when it ends, in any order.

        A job that fails, or whose process dies, does not keep the others from being run. `work` is a function of a
        module (it is sent by name). Leaving the iterator, also by an error or Ctrl-C, stops what still runs: a job gets
        the time to write a checkpoint.
        """
        ...


class _Running(NamedTuple):
    job: Job
    process: SpawnProcess
    answer: "Connection[str, str]"


@dataclass(frozen=True, kw_only=True)
class LocalPool:
    """Processes on this machine.

    Args:
        processes: at once; None for one per CPU core: small trainings gain little from a second thread.
        threads: CPU threads of each where a recipe names none; None to share the cores out.
    """

    processes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("processes", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"LocalPool.{name} must be None or at least 1, got {value}")

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Ended]:
        """See `Executor.run`."""
        at_once = self.processes or os.cpu_count() or 1
        threads = self.threads or max(1, (os.cpu_count() or 1) // at_once)
        waiting, running = list(jobs), list[_Running]()
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_start(waiting.pop(0), work, threads))
                done = set(wait([each.process.sentinel for each in running]))
                for each in [each for each in running if each.process.sentinel in done]:
                    running.remove(each)
                    yield Ended(each.job, _failure(each))
        finally:
            _stop(running)


def _start(job: Job, work: Work, threads: int) -> _Running:
    context = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, job, threads, theirs), name=job.name)
    process.start()
    theirs.close()
    return _Running(job, process, cast("Connection[str, str]", ours))


def _child(work: Work, job: Job, threads: int, answer: "Connection[str, str]") -> None:
    """The whole life of a worker, which ends with its parent."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        work(job)
    except KeyboardInterrupt:
        answer.send("interrupted; the same command goes on from its last checkpoint")
    except BaseException as error:  # whatever it is, the parent must hear of it and the other jobs go on
        traceback.print_exc()
        answer.send(f"{type(error).__name__}: {error}")
    else:
        answer.send("")
    finally:
        answer.close()


def _follow_parent() -> None:
    """A parent that was killed cannot stop its workers: each stops itself, a training with a checkpoint."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _failure(each: _Running) -> str:
    each.process.join()
    with each.answer, suppress(EOFError):  # a process that was killed closes its end without a word
        return str(each.answer.recv())
    return f"its process ended with exit code {each.process.exitcode} before it could say why (killed, out of memory?)"


def _stop(running: Sequence[_Running]) -> None:
    """Ask every process to stop; a training writes a checkpoint before it does."""
    for each in running:
        each.process.terminate()
    for each in running:
        each.process.join()
        each.answer.close()
