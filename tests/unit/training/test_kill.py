"""Runs that are killed and resumed, against one that was never stopped."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnemoscope.runs import RunDirectory
from mnemoscope.training import list_checkpoints, train
from tests.unit.training.small import CONFIG, SmallTask, small_model

SECONDS_PER_BATCH = 0.02


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory.create(tmp_path_factory.mktemp("uninterrupted") / "run")
    train(small_model(), SmallTask(), CONFIG, run, progress=False)
    return run


def start(path: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("small.py")
    return subprocess.Popen([sys.executable, str(script), str(path), str(SECONDS_PER_BATCH)])


def wait_for_step(run: RunDirectory, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not any(row["step"] >= step for row in run.read_metrics()):
        assert process.poll() is None, "the training ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def assert_same(run: RunDirectory, reference: RunDirectory) -> None:
    assert run.read_metrics() == reference.read_metrics()
    assert [row["step"] for row in run.read_timings()] == list(range(1, CONFIG.steps + 1))
    ours, theirs = list_checkpoints(run.checkpoints_path), list_checkpoints(reference.checkpoints_path)
    assert [path.name for path in ours] == [path.name for path in theirs] == ["step-00000035", "step-00000040"]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (ours[-1] / name).read_bytes() == (theirs[-1] / name).read_bytes()
    assert run.read_manifest().exit_state == "finished"


def kill_and_resume(run: RunDirectory, draw: random.Random) -> None:
    process = start(run.path)
    wait_for_step(run, draw.randint(1, CONFIG.steps - 5), process)
    time.sleep(draw.uniform(0, 2 * SECONDS_PER_BATCH))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert run.read_manifest().exit_state == "running"
    train(small_model(), SmallTask(), CONFIG, run, resume=True, progress=False)


@pytest.mark.parametrize("seed", range(1))
def test_a_killed_run_resumes_to_the_bit(tmp_path: Path, uninterrupted: RunDirectory, seed: int):
    run = RunDirectory(tmp_path / "run")
    kill_and_resume(run, random.Random(seed))
    assert_same(run, uninterrupted)
    assert [manifest.exit_state for manifest in run.read_manifest().earlier] == ["running"]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
def test_twenty_killed_runs_resume_to_the_bit(tmp_path: Path, uninterrupted: RunDirectory, seed: int):
    run = RunDirectory(tmp_path / "run")
    kill_and_resume(run, random.Random(seed))
    assert_same(run, uninterrupted)


def test_a_terminated_process_leaves_a_checkpoint_and_says_so(tmp_path: Path, uninterrupted: RunDirectory):
    run = RunDirectory(tmp_path / "run")
    process = start(run.path)
    wait_for_step(run, 3, process)
    process.terminate()
    assert process.wait(timeout=60) == 0
    manifest = run.read_manifest()
    assert (manifest.exit_state, manifest.message) == ("interrupted", "SIGTERM")
    last = int(run.read_metrics()[-1]["step"])
    assert list_checkpoints(run.checkpoints_path)[-1].name == f"step-{last:08d}"
    train(small_model(), SmallTask(), CONFIG, run, resume=True, progress=False)
    assert_same(run, uninterrupted)
