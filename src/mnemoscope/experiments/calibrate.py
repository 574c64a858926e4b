"""Calibration of the verdict: many planted memories, what each must get, what it got, and whether intervals hold.

Every instance is examined on one thread of a pool of processes; finished ones are kept line by line, so that a
calibration that was stopped goes on where it was. Records of another version of the instrument are left alone.
"""

import hashlib
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy
import torch
from pydantic import ValidationError

import mnemoscope
from mnemoscope.experiments.calibration import Calibration, Instance
from mnemoscope.experiments.coverage import interval_coverage, sequential_coverage
from mnemoscope.experiments.planted import KINDS, Kind

Say = Callable[[str], None]


def calibrate(
    kinds: Sequence[Kind], n_instances: int, jobs: int, kept: Path, say: Say, *, coverage: bool = True
) -> Calibration:
    """Examine what is not there yet, then the intervals.

    Args:
        kinds: of planted memories.
        n_instances: of each, the same ones every time.
        jobs: processes, one thread each.
        kept: file of finished instances, one line each; made if it is not there.
        say: told of wrong instances and of the time left.
        coverage: examine the intervals too.

    Raises:
        ValueError: fewer than one instance or job.
        ChildProcessError: a process died.
    """
    for name, value in (("instances", n_instances), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"calibrate: {name} must be at least 1, got {value}")
    started, version = time.perf_counter(), version_of_instrument()
    there = {(instance.kind, instance.seed): instance for instance in read_instances(kept, version)}
    wanted = [(kind.name, seed) for seed in range(n_instances) for kind in kinds]
    left = [job for job in wanted if job not in there]
    if len(left) < len(wanted):
        say(f"{len(wanted) - len(left)} of {len(wanted)} instances are in {kept} already")
    for instance in _examined(left, jobs, version, kept, say):
        there[instance.kind, instance.seed] = instance
    if coverage:
        say("instances done; whether intervals hold, at one look and at three, takes some 3 min more")
    return Calibration(
        instances=[there[job] for job in sorted(wanted, key=lambda job: list(KINDS).index(job[0]))],
        coverage=interval_coverage(0) if coverage else None,
        looks=sequential_coverage(0) if coverage else None,
        seconds=time.perf_counter() - started,
        versions=versions(),
    )


def read_instances(path: Path, version: str) -> list[Instance]:
    """Finished instances of a version; a line that a crash tore is no instance."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            instance = Instance.model_validate_json(line)
        except ValidationError:
            continue
        if instance.version == version:
            found.append(instance)
    return found


def version_of_instrument() -> str:
    """A hash of everything a verdict depends on: the sources of the package, torch and NumPy."""
    digest = hashlib.sha256(f"{torch.__version__} {np.__version__}".encode())
    package = Path(mnemoscope.__file__).parent
    for room in ("contracts", "examination", "experiments/planted", "runs", "tasks"):
        for source in sorted((package / room).rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of what computed."""
    return {
        "mnemoscope": mnemoscope.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def _examined(jobs: list[tuple[str, int]], n_jobs: int, version: str, kept: Path, say: Say) -> Iterator[Instance]:
    """Instances as they finish, each on the disk before it is handed on."""
    if not jobs:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    with ProcessPoolExecutor(min(n_jobs, len(jobs)), context, _prepare_process) as pool, kept.open("a+b") as file:
        _end_torn_line(file)
        running = {pool.submit(examine_instance, kind, seed, version) for kind, seed in jobs}
        n_done = 0
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for instance in map(_result, done):
                    _append(file, instance)
                    n_done += 1
                    yield instance
                    _report(instance, n_done, len(jobs), started, say)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            for future in running:
                if not future.cancelled() and future.exception() is None:
                    _append(file, future.result())
            raise


def examine_instance(kind: str, seed: int, version: str) -> Instance:
    """Examine one instance."""
    started = time.process_time()
    examination = KINDS[kind].examine(seed)
    return Instance(
        kind=kind,
        seed=seed,
        expected=KINDS[kind].expected(len(examination.sites)),
        got=KINDS[kind].got(examination),
        n_test=examination.n_test,
        cpu_seconds=time.process_time() - started,
        version=version,
    )


def _prepare_process() -> None:
    """One thread; Ctrl-C is for the process that collects."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _result(future: "Future[Instance]") -> Instance:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "calibrate: a process died, perhaps for want of memory; run it again with fewer --jobs, it goes on"
        ) from error


def _report(instance: Instance, n_done: int, n: int, started: float, say: Say) -> None:
    if not instance.right:
        say(f"{instance.kind} {KINDS[instance.kind].what}, instance {instance.seed}: {_difference(instance)}")
    if n_done % 20 == 0 or n_done == n:
        left = (time.perf_counter() - started) / n_done * (n - n_done)
        say(f"{n_done} of {n} instances" + (f", about {left / 60:.0f} min left" if n_done < n else ""))


def _difference(instance: Instance) -> str:
    wrong = {what: got for what, got in instance.got.items() if instance.expected.get(what) != got}
    return ", ".join(f"{what} is {got!r}, must be {instance.expected.get(what)!r}" for what, got in wrong.items())


def _append(file: BinaryIO, instance: Instance) -> None:
    """One line, on the disk before anything else happens."""
    file.write(instance.model_dump_json().encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _end_torn_line(file: BinaryIO) -> None:
    """What a crash left of a line gets an end, so that the next one begins a line of its own."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
