"""Ray: what it refuses, one node in the fast tests, two of which one dies in the long ones."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import pytest

from mnemoscope.experiments.executors import LocalPool, RayCluster, ray_nodes
from mnemoscope.experiments.executors.attempts import read_attempts
from mnemoscope.experiments.executors.ray_nodes import check_here, expected_of
from mnemoscope.experiments.trials import run_trial
from mnemoscope.experiments.trials.jobs import Job
from mnemoscope.runs import RunDirectory
from mnemoscope.runs.trial import Trial
from tests.unit.experiments.executors.light_jobs import jobs, work
from tests.unit.experiments.small_trials import RECIPE, small_trial

pytestmark = [
    # Ray leaves log files, sockets and the processes that it began to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SMALL: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A cluster of two nodes on this machine, and its second node."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "_system_config": SOON})
        try:
            yield cluster, cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.mark.long
def test_one_node_runs_reports_begins_again_and_leaves_no_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    wanted = jobs(tmp_path, "one", "fails", "dies once")
    ended = {each.job.name: each.failure for each in RayCluster(at_once=1).run(wanted, work)}
    assert ended == {"one": "", "fails": "RuntimeError: no luck\nat all", "dies once": ""}
    outcomes = {job.name: [each.outcome.split(":")[0] for each in read_attempts(job.place)] for job in wanted}
    assert outcomes == {"one": ["finished"], "fails": ["RuntimeError"], "dies once": ["", "finished"]}
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".lease" or path.name.startswith(".shared")]
    out, err = capfd.readouterr()
    assert out == ""
    assert "raise RuntimeError" in err
    assert "dies once: its worker or node died (WorkerCrashedError); it is begun again" in err
    assert "raylet" not in err
    assert children_of_ray() == []
    assert isinstance(print, BuiltinFunctionType)


def children_of_ray() -> list[str]:
    """Processes of Ray that this one began and that still run."""
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if "raylet" in line or "gcs_server" in line]


def test_a_node_without_the_folder_or_with_other_versions_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ray_nodes, "SEEN_SECONDS", 0.0)
    with expected_of(jobs(tmp_path / "new", "one", "two")) as expected:
        assert expected.probe.parent == tmp_path / "new"
        assert check_here(expected) == ""
        assert "does not see" in check_here(replace(expected, nonce="another machine's"))
        other = replace(expected, versions={**expected.versions, "torch": "1.0"})
        assert check_here(other).startswith(f"has torch {expected.versions['torch']}, and the machine that asks has")
    assert f"does not see {tmp_path / 'new'}" in check_here(expected)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"at_once": 0}, "at_once must be None or at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"gpus_per_run": -1.0}, "gpus_per_run at least 0"),
        ({"gpus_per_run": 1.5}, "must be whole"),
        ({"address": "ray://head:10001"}, "Ray Client"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        RayCluster(**wrong)


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"mnemoscope\[ray\]"):
        list(RayCluster().run(jobs(tmp_path, "one"), work))
    assert list(RayCluster().run([], work)) == []


def test_a_cluster_that_is_not_there(tmp_path: Path):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*bound.getsockname())
        with pytest.raises(ValueError, match=f"no cluster at {address}: .*ray start --head"):
            list(RayCluster(address=address).run(jobs(tmp_path, "one"), work))
    for wrong in ("head", ":6379", "head:", "head:http"):
        with pytest.raises(ValueError, match='an address is "auto" or host:port'):
            list(RayCluster(address=wrong).run(jobs(tmp_path, "one"), work))


@pytest.mark.long
def test_nodes_are_refused_before_anything_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with two_nodes() as (cluster, _):
        with pytest.raises(ValueError, match="needs 1 CPUs and 1 GPUs on one node, the cluster has"):
            list(RayCluster(address=cluster.address, gpus_per_run=1).run(jobs(tmp_path, "one"), work))
        monkeypatch.setattr(ray_nodes, "write_text", lambda path, text: None)
        with pytest.raises(ValueError, match=f"node .* does not see {tmp_path}.*; node .*--out"):
            list(RayCluster(address=cluster.address).run(jobs(tmp_path, "one"), work))
        monkeypatch.undo()
        monkeypatch.setattr(ray_nodes, "versions", lambda: {"mnemoscope": "9", "torch": "9", "python": "9"})
        with pytest.raises(ValueError, match=r"node .* has mnemoscope .*install the same versions on all nodes"):
            list(RayCluster(address=cluster.address).run(jobs(tmp_path, "one"), work))
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_ctrl_c_lets_runs_write_a_checkpoint(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path\n"
        "from mnemoscope.experiments.executors import RayCluster\n"
        "from tests.unit.experiments.executors.light_jobs import jobs, work\n"
        "list(RayCluster().run(jobs(Path(sys.argv[1]), 'lasts'), work))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[4]), *sys.path])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    driver = subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL)
    while not (tmp_path / "lasts.pid").exists():
        assert driver.poll() is None
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(120) != 0
    assert (tmp_path / "lasts.checkpoint").exists()
    (only,) = read_attempts(tmp_path / "lasts")
    assert only.outcome.startswith("interrupted")


@pytest.mark.long
def test_24_runs_on_two_nodes_of_which_one_is_killed(tmp_path: Path):
    longer = replace(RECIPE, train=replace(RECIPE.train, steps=40, checkpoint_every=4, eval_every=20))
    plan, jobs = small_trial(12, longer), small_trial(12, longer).jobs(tmp_path / "ray")
    with two_nodes() as (cluster, second), ThreadPoolExecutor(1) as watcher:
        began = time.monotonic()
        killing = watcher.submit(kill_when_training, cluster, second, jobs)
        on_ray = run_trial(plan, tmp_path / "ray", print, executor=RayCluster(address=cluster.address))
        killed = killing.result()
        print(f"24 runs on two nodes, one killed while it trained: {time.monotonic() - began:.0f} s")
    begun = {job.name: [row.outcome for row in read_attempts(job.place)] for job in jobs}
    assert (len(begun), on_ray.missing) == (24, [])
    assert begun.pop(killed) == ["", "finished"]
    others = [rows for rows in begun.values() if rows != ["finished"]]
    assert others in ([], [["", "finished"]])  # the node had room for two
    for job in jobs:
        assert [row["step"] for row in RunDirectory.open(job.folder).read_metrics()] == list(range(1, 41))

    locally = run_trial(plan, tmp_path / "local", print, executor=LocalPool(processes=4))
    assert what_was_found(on_ray) == what_was_found(locally)


def kill_when_training(cluster: Any, node: Any, jobs: Sequence[Job]) -> str:
    """Kill a node as soon as a run on it has a checkpoint; the name of that run."""
    (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        for job in jobs:
            pids = [row.pid for row in read_attempts(job.place) if row.ended is None]
            if any((job.folder / "checkpoints").glob("*")) and raylet in map(parent_of, pids):
                cluster.remove_node(node, allow_graceful=False)
                return job.name
        time.sleep(0.02)
    raise AssertionError("no run was trained on the second node")


def parent_of(pid: int) -> int | None:
    found = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return int(found) if found else None


def what_was_found(trial: Trial) -> dict[str, Any]:
    """A trial without its times."""
    found = json.loads(trial.model_dump_json(exclude={"seconds", "command"}))
    for arm in found["arms"]:
        for seed in arm["seeds"]:
            del seed["seconds"]
    return found
