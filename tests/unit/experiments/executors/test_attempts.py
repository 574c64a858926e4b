"""A lease: one process at a time, a dead or silent holder is succeeded, and who lost it writes no more."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnemoscope.experiments.executors.attempts import LOST, attempt, leased, read_attempts
from tests.unit.experiments.executors.light_jobs import LightJob, jobs, work

HOLD = """
import sys, time
from pathlib import Path
from mnemoscope.experiments.executors.attempts import leased
place, seconds = Path(sys.argv[1]), float(sys.argv[2])
with leased(place, seconds):
    place.with_suffix('.held').touch()
    time.sleep(600)
"""


@contextmanager
def holder(place: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lease."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(place), str(seconds)]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        while not place.with_suffix(".held").exists():
            assert process.poll() is None
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_a_holder_that_was_killed_is_succeeded_at_once(tmp_path: Path):
    with holder(tmp_path / "run", 600.0) as process:
        process.kill()
        process.wait()
        began = time.monotonic()
        with leased(tmp_path / "run", 600.0):
            assert (tmp_path / "run.lease").exists()
        assert time.monotonic() - began < 300
    assert not (tmp_path / "run.lease").exists()


def test_a_holder_that_is_silent_is_succeeded_and_ends_before_it_can_write(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with holder(tmp_path / "run", 6.0) as process:
        process.send_signal(signal.SIGSTOP)
        with leased(tmp_path / "run", 6.0):
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) == LOST
            assert (tmp_path / "run.lease").exists()
        assert process.stderr is not None
        assert "another process took over" in process.stderr.read()
    assert "run: waiting for another process that works on it" in capfd.readouterr().err


def test_an_attempt_leaves_what_is_finished_alone(tmp_path: Path):
    (job,) = jobs(tmp_path / "new", "one")
    assert attempt(work, job).kind == "finished"
    assert attempt(never, job).kind == "finished"
    (row,) = read_attempts(job.place)
    assert (row.pid, row.outcome) == (os.getpid(), "finished")
    assert row.ended is not None
    assert row.ended >= row.started
    assert read_attempts(tmp_path / "new" / "two") == []


def never(job: LightJob) -> None:
    raise AssertionError("it is finished")


def test_an_attempt_says_why_it_is_not_finished(tmp_path: Path):
    failing, stopping = jobs(tmp_path, "fails", "stops")
    failed, stopped = attempt(work, failing), attempt(work, stopping)
    assert (failed.kind, failed.failure) == ("failed", "RuntimeError: no luck\nat all")
    assert "raise RuntimeError" in failed.trace
    assert (stopped.kind, stopped.trace) == ("interrupted", "")
    assert not list(tmp_path.glob("*.lease"))
