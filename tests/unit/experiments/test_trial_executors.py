"""The local pool: processes that fail, die or are stopped, and what is reported of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnemoscope.examination import Budget
from mnemoscope.experiments.recipes import RECIPES
from mnemoscope.experiments.trials.executors import LocalPool
from mnemoscope.experiments.trials.jobs import Job

RECIPE = RECIPES["recall-short-window"]


def jobs(folder: Path, *names: str) -> list[Job]:
    return [Job(arm=name, seed=0, recipe=RECIPE, folder=folder / name, budget=Budget()) for name in names]


def work(job: Job) -> None:
    """What the name of the arm says."""
    job.folder.mkdir(parents=True)
    match job.arm:
        case "fails":
            raise RuntimeError("no luck")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stops":
            raise KeyboardInterrupt
        case "lasts":
            partial = job.folder / "pid.partial"
            partial.write_text(str(os.getpid()))
            partial.rename(job.folder / "pid")
            time.sleep(600)
    (job.folder / "done").touch()


def test_what_fails_is_reported_and_the_others_are_finished(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    wanted = jobs(tmp_path, "fails", "one", "dies", "stops")
    ended = {each.job.arm: each.failure for each in LocalPool(processes=2).run(wanted, work)}
    assert ended.pop("fails") == "RuntimeError: no luck"
    assert "exit code -9" in ended.pop("dies")
    assert "interrupted" in ended.pop("stops")
    assert ended == {"one": ""}
    assert (tmp_path / "one" / "done").exists()
    assert "no luck" in capfd.readouterr().err


@pytest.mark.long
def test_leaving_early_stops_what_runs(tmp_path: Path):
    running = LocalPool(processes=2).run(jobs(tmp_path, "one", "lasts"), work)
    assert next(running).job.arm == "one"
    running.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not (tmp_path / "lasts" / "done").exists()


def test_workers_of_a_killed_parent_stop(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.experiments.test_trial_executors import LocalPool, jobs, work\n"
        "if __name__ == '__main__': list(LocalPool(processes=1).run(jobs(Path(sys.argv[1]), 'lasts'), work))"
    )
    file = tmp_path / "parent.py"
    file.write_text(script)
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, str(file), str(tmp_path)], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    while not (tmp_path / "lasts" / "pid").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "lasts" / "pid").read_text())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.05)


def test_nothing_to_do_ends_at_once():
    assert list(LocalPool().run([], work)) == []
