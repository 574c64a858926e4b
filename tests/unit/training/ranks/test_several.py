"""Processes that train together, against one process alone."""

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mnemoscope.contracts import IGNORE
from mnemoscope.contracts.processes import Processes
from mnemoscope.runs import RunDirectory
from mnemoscope.training import consolidate, list_checkpoints, load_checkpoint, load_run, train_recipe
from mnemoscope.training.ranks import several
from mnemoscope.training.ranks.several import Replicated
from tests.unit.training.ranks.launching import RECIPE, SECONDS, finish, furthest, start, trained

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("alone") / "run"
    train_recipe(RECIPE, path, progress=False)
    return RunDirectory.open(path)


def assert_same_weights(run: RunDirectory, reference: RunDirectory) -> None:
    ours, theirs = load_run(run.path).model.state_dict(), load_run(reference.path).model.state_dict()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0.0, atol=2e-4, msg=name)


@pytest.mark.long  # the restarted of the next but one are held to the same
def test_two_processes_train_as_one_does(tmp_path: Path, alone: RunDirectory):
    run = trained(tmp_path / "run", "ddp")
    assert furthest(run, alone) < TOLERANCE
    assert_same_weights(run, alone)
    assert run.read_manifest().device == "cpu, 2 processes (ddp)"
    kept = load_checkpoint(run.checkpoints_path)
    assert kept is not None
    assert "ranks/1/cpu" in kept.beside


@pytest.mark.long
def test_two_shards_train_as_one_process_does(tmp_path: Path, alone: RunDirectory):
    run = trained(tmp_path / "run", "fsdp")
    assert furthest(run, alone) < TOLERANCE
    assert_same_weights(run, alone)
    before, last = list_checkpoints(run.checkpoints_path)
    assert sorted(path.name for path in last.iterdir()) == ["model.safetensors", "optimizer.safetensors", "state.json"]
    assert len(list((before / "model").glob("shard-*.safetensors"))) == 2
    assert load_run(run.path, before).step == 8  # read from the shards

    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    sharded = load_checkpoint(run.checkpoints_path)
    assert sharded is not None
    assert consolidate(run.path) == before == consolidate(run.path)
    whole = load_checkpoint(run.checkpoints_path)
    assert whole is not None
    assert (sharded.is_sharded, whole.is_sharded) == (True, False)
    for name, tensor in (sharded.model | sharded.optimiser).items():
        assert torch.equal((whole.model | whole.optimiser)[name], tensor), name
    train_recipe(RECIPE, run.path, resume=True, progress=False)  # one process goes on from where two were
    assert furthest(run, alone) < TOLERANCE


def killed_at(path: Path, step: int, strategy: str, count: int) -> list[tuple[int, str, str]]:
    """A run whose last process is killed once a step is written."""
    run, processes = (
        RunDirectory(path),
        start(count, [str(Path(__file__).with_name("launching.py")), str(path), strategy]),
    )
    deadline = time.monotonic() + SECONDS
    while not any(row["step"] >= step for row in run.read_metrics()):
        assert time.monotonic() < deadline
        assert processes[-1].poll() is None, finish(processes)
        time.sleep(0.001)
    processes[-1].kill()
    return finish(processes)


@pytest.mark.long
def test_a_killed_process_ends_all_and_the_restarted_go_on(tmp_path: Path, alone: RunDirectory):
    (code, _, errors), (killed, *_) = killed_at(tmp_path / "run", 5, "ddp", 2)
    assert killed == -9
    if code:  # the first may have been past its last step
        assert "process 0 of 2: lost another process" in errors
    run = trained(tmp_path / "run", "ddp", restarts=1)
    assert furthest(run, alone) < TOLERANCE
    assert run.read_manifest().exit_state == "finished"


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize(("count", "then"), [(2, 2), (2, 4), (4, 2)])
def test_a_run_goes_on_with_other_numbers_of_processes(
    strategy: str, count: int, then: int, tmp_path: Path, alone: RunDirectory
):
    killed_at(tmp_path / "run", 5, strategy, count)
    assert furthest(trained(tmp_path / "run", strategy, count=then, restarts=1), alone) < TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_four_processes_train_as_one_does(strategy: str, tmp_path: Path, alone: RunDirectory):
    run = trained(tmp_path / "run", strategy, count=4)
    assert furthest(run, alone) < TOLERANCE
    assert_same_weights(run, alone)


@pytest.mark.long
def test_torchrun_starts_a_killed_process_again(tmp_path: Path, alone: RunDirectory):
    import os
    import signal
    import subprocess
    import sys

    script = str(Path(__file__).with_name("launching.py"))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    run = RunDirectory(tmp_path / "run")
    agent = subprocess.Popen([sys.executable, *words, script, str(run.path), "ddp"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + SECONDS
    while not any(row["step"] >= 5 for row in run.read_metrics()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, errors = agent.communicate(timeout=SECONDS)
    assert agent.returncode == 0, errors
    assert furthest(run, alone) < TOLERANCE
    assert len(run.read_manifest().earlier) == 1


def test_rows_are_dealt_in_order_and_whoever_has_none_scores_nothing():
    inputs, targets = torch.arange(6).view(3, 2), torch.arange(6).view(3, 2)
    parts = [
        Replicated(Processes(rank=rank, count=4, local_rank=rank), torch.device("cpu")).own(inputs, targets)
        for rank in range(4)
    ]
    assert torch.equal(torch.cat([part for part, _ in parts[:3]]), inputs)
    assert [len(part) for part, _ in parts] == [1, 1, 1, 1]
    assert parts[3][1].tolist() == [[IGNORE, IGNORE]]


def test_buckets_hold_gradients_of_one_type_up_to_a_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(several, "BUCKET_BYTES", 32)
    gradients = [torch.ones(4), torch.ones(4), torch.ones(1), torch.ones(1).bfloat16(), torch.ones(100).bfloat16()]
    assert [[each.numel() for each in bucket] for bucket in several._buckets(gradients)] == [[4, 4], [1], [1], [100]]


def test_units_are_blocks_that_share_no_parameter_with_the_rest():
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    model.head = nn.Linear(2, 2)
    assert several._units(model) == list(model.blocks)
    model.head.weight = model.blocks[1].weight
    assert several._units(model) == [model.blocks[0], model.blocks[2]]
