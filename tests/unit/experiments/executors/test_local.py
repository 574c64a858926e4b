"""The local pool: processes that fail, die or are stopped, and what is reported of them."""

import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest

from mnemoscope.experiments.executors import LocalPool
from mnemoscope.experiments.executors.attempts import read_attempts
from tests.unit.experiments.executors.light_jobs import jobs, work


def test_what_fails_is_reported_what_dies_is_begun_again_and_the_others_are_finished(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    wanted = jobs(tmp_path, "fails", "one", "dies once", "stops")
    ended = {each.job.name: each.failure for each in LocalPool(processes=2).run(wanted, work)}
    assert "interrupted" in ended.pop("stops")
    assert ended == {"fails": "RuntimeError: no luck\nat all", "one": "", "dies once": ""}
    outcomes = {job.name: [each.outcome.split(":")[0] for each in read_attempts(job.place)] for job in wanted[:3]}
    assert outcomes == {"fails": ["RuntimeError"], "one": ["finished"], "dies once": ["", "finished"]}
    assert not list(tmp_path.glob("*.lease"))
    err = capfd.readouterr().err
    assert "raise RuntimeError" in err
    assert "dies once: its process ended with exit code -9 before it could say why" in err

    assert [each.failure for each in LocalPool(processes=1).run(jobs(tmp_path, "one"), work)] == [""]
    assert len(read_attempts(tmp_path / "one")) == 1


@pytest.mark.long
def test_what_always_dies_is_reported_in_the_end(tmp_path: Path):
    (ended,) = LocalPool(retries=1).run(jobs(tmp_path, "dies"), work)
    assert "exit code -9" in ended.failure
    assert len(read_attempts(tmp_path / "dies")) == 2


@pytest.mark.long
def test_leaving_early_stops_what_runs(tmp_path: Path):
    running = LocalPool(processes=2).run(jobs(tmp_path, "one", "lasts"), work)
    assert next(running).job.name == "one"
    cast("Generator[object]", running).close()
    assert not (tmp_path / "lasts").exists()


def test_workers_of_a_killed_parent_stop(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path\n"
        "from mnemoscope.experiments.executors import LocalPool\n"
        "from tests.unit.experiments.executors.light_jobs import jobs, work\n"
        "if __name__ == '__main__': list(LocalPool(processes=1).run(jobs(Path(sys.argv[1]), 'lasts'), work))"
    )
    file = tmp_path / "parent.py"
    file.write_text(script)
    root = Path(__file__).parents[4]
    path = os.pathsep.join([str(root), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, str(file), str(tmp_path)], cwd=root, env=os.environ | {"PYTHONPATH": path}
    )
    while not (tmp_path / "lasts.pid").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "lasts.pid").read_text())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.05)


def test_nothing_to_do_ends_at_once():
    assert list(LocalPool().run([], work)) == []


def test_a_pool_needs_processes():
    for wrong in ({"processes": 0}, {"threads": -1}):
        with pytest.raises(ValueError, match="must be None or at least 1"):
            LocalPool(**wrong)
    with pytest.raises(ValueError, match="retries must be at least 0"):
        LocalPool(retries=-1)
