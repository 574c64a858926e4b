"""A Ray cluster, of one machine or many, that share the folder of the runs."""

import builtins
import logging
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnemoscope.experiments.executors.attempts import Outcome, attempt, set_threads
from mnemoscope.experiments.executors.contract import RETRIES, Ended, J, Runnable, Work
from mnemoscope.experiments.executors.ray_nodes import Expected, check_here, check_nodes, expected_of

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_worker_niceness": "0",
}
"""Set while Ray begins, unless the user did: no statistics are sent, nothing is shipped, nothing is printed, and
what is begun here is as urgent as the processes of a local pool."""

STORE_BYTES = 100 * 2**20
"""Of the object store of a Ray that is begun here; nothing but a few words travels."""

CONNECT_SECONDS = 10.0
"""What the head of a cluster gets to answer."""

GRACE_SECONDS = 120.0
"""What stopped jobs get to write a checkpoint."""


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """Runs jobs on the nodes of a Ray cluster. All of them must see the folder of the runs under the same path.

    A job whose worker or node dies, or is told to stop, is begun again elsewhere and goes on with what it left; an
    error of its own is reported. A Ray that is connected in this process already is used as it is.

    Args:
        address: "auto" for the cluster of this machine, or host:port of its head; None to begin one here.
        at_once: jobs at once; None for as many as there is room for.
        threads: CPUs and threads of each where a job is fixed to none.
        gpus_per_run: GPUs of each; a fraction shares one.
        retries: how often a job is begun again whose process died or was stopped.
    """

    address: str | None = None
    at_once: int | None = None
    threads: int = 1
    gpus_per_run: float = 0.0
    retries: int = RETRIES

    def __post_init__(self) -> None:
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"RayCluster.at_once must be None or at least 1, got {self.at_once}")
        if self.threads < 1 or self.retries < 0 or self.gpus_per_run < 0:
            raise ValueError(
                f"RayCluster: threads must be at least 1, retries and gpus_per_run at least 0, got {self.threads}, "
                f"{self.retries} and {self.gpus_per_run}"
            )
        if self.gpus_per_run > 1 and not float(self.gpus_per_run).is_integer():
            raise ValueError(f"RayCluster.gpus_per_run above 1 must be whole, got {self.gpus_per_run}")
        if self.address is not None and self.address.startswith("ray://"):
            raise ValueError(
                f"RayCluster.address: Ray Client ({self.address}) is not supported; run the command on a machine of "
                'the cluster, with the address "auto" or host:port of its head'
            )

    def run(self, jobs: Sequence[J], work: Work[J]) -> Iterator[Ended[J]]:
        """See `Executor.run`.

        Raises:
            ValueError: no Ray, no cluster at the address, or nodes that lack the folder or the versions.
        """
        if not jobs:
            return
        with _connected(self.address) as ray, expected_of(jobs) as expected:
            check_nodes(ray, expected, max(map(self._cpus, jobs)), self.gpus_per_run)
            yield from self._run(ray, jobs, work, expected)

    def _run(self, ray: Any, jobs: Sequence[J], work: Work[J], expected: Expected) -> Iterator[Ended[J]]:
        waiting, running, losses = list(jobs), dict[Any, J](), Counter[str]()
        try:
            while waiting or running:
                while waiting and (self.at_once is None or len(running) < self.at_once):
                    job = waiting.pop(0)
                    running[self._start(ray, job, work, expected)] = job
                (ready, *_), _ = ray.wait(list(running), num_returns=1)
                job, end = running.pop(ready), _end(ray, ready)
                losses[job.name] += end.lost
                if end.lost and losses[job.name] <= self.retries:
                    print(f"{job.name}: {end.failure}; it is begun again", file=sys.stderr, flush=True)
                    waiting.append(job)
                else:
                    print(end.trace, end="", file=sys.stderr, flush=True)
                    yield Ended(job, end.failure)
        finally:
            _stop(ray, list(running))

    def _start(self, ray: Any, job: J, work: Work[J], expected: Expected) -> Any:
        """A worker computes one job only, so that no job sees what another left in its process."""
        task = ray.remote(max_calls=1, max_retries=0)(_on_node).options(
            name=job.name,
            num_cpus=self._cpus(job),
            num_gpus=self.gpus_per_run,
            scheduling_strategy="SPREAD",
        )
        return task.remote(work, job, self._cpus(job), expected)

    def _cpus(self, job: Runnable) -> int:
        return job.threads or self.threads


class _End(NamedTuple):
    """How a task ended; `lost` if that was not the job's own doing."""

    lost: bool
    failure: str
    trace: str = ""


def _on_node(work: Work[J], job: J, threads: int, expected: Expected) -> Outcome:
    """The whole life of a worker."""
    lack = check_here(expected)
    if lack:
        return Outcome("failed", f"ValueError: ray: the node {lack}")
    set_threads(threads)
    if expected.working_folder.is_dir():
        os.chdir(expected.working_folder)
    return attempt(work, job)


def _end(ray: Any, ref: Any) -> _End:
    try:
        outcome: Outcome = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        reason = (str(error.cause).splitlines() or [""])[0]
        return _End(False, f"{type(error.cause).__name__}: {reason}", _COLOURS.sub("", f"{error}\n"))
    except ray.exceptions.RayError as error:
        return _End(True, f"its worker or node died ({type(error).__name__})")
    if outcome.kind == "interrupted":
        return _End(True, "its worker was told to stop")
    return _End(False, outcome.failure, outcome.trace)


def _stop(ray: Any, refs: Sequence[Any]) -> None:
    """Interrupt what runs; a training writes a checkpoint before it ends. What takes too long is killed."""
    if not refs:
        return
    for ref in refs:
        ray.cancel(ref)
    _, left = ray.wait(refs, num_returns=len(refs), timeout=GRACE_SECONDS)
    for ref in left:
        ray.cancel(ref, force=True)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster; disconnected, and stopped if it was begun here, when the block ends."""
    own_print = builtins.print
    with _environment(QUIET):
        ray = _imported()
        connected_before = ray.is_initialized()
        if not connected_before:
            _connect(ray, address)
    try:
        yield ray
    finally:
        if not connected_before:
            ray.shutdown()
            builtins.print = own_print  # which Ray replaces, for progress bars


def _connect(ray: Any, address: str | None) -> None:
    if address not in (None, "auto"):
        _check_listening(address)
    here = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "on this machine" if address is None else f"at {address}"
        raise ValueError(f"ray: no cluster {where}: {reason}; `ray start --head` begins one") from error


def _check_listening(address: str) -> None:
    """Ray itself would try, and print, for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f'ray: an address is "auto" or host:port of the cluster\'s head, got {address!r}')
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"ray: no cluster at {address}: {error}; `ray start --head` begins one and prints its address"
        ) from error


def _imported() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise ValueError('ray: the package is not installed; install it with pip install "mnemoscope[ray]"') from error
    return ray


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Variables that are set while the block runs, unless they are set already."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
