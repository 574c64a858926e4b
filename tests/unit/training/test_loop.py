import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Split, task_rng
from mnemoscope.training import TrainConfig, evaluate, list_checkpoints, load_checkpoint, train
from tests.unit.training.small import CONFIG, SmallTask, small_model

CPU = torch.device("cpu")


def at_step(step: int, act: Callable[[], None]) -> SmallTask:
    """A task that acts when the training batch of a step is drawn."""
    drawn = 0

    def before(split: Split) -> None:
        nonlocal drawn
        drawn += split == "train"
        if split == "train" and drawn == step:
            act()

    return SmallTask(before)


def send(*signals: signal.Signals) -> Callable[[], None]:
    def act() -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    return act


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_it_learns():
    model, config = small_model(dropout=0.0), replace(CONFIG, steps=300, eval_every=100)
    before = evaluate(model, SmallTask(), config, CPU)
    result = train(model, SmallTask(), config, progress=False)
    assert (result.step, result.exit_state, result.checkpoint) == (300, "finished", None)
    assert before["validation_loss"] > 1.5
    assert result.validation["validation_loss"] < 0.1
    assert result.validation["validation_accuracy"] == 1.0


def test_the_run_tells_everything(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run")
    result = train(small_model(), SmallTask(unit="bits per byte"), CONFIG, run, progress=False)
    rows = RunDirectory.open(run.path).read_metrics()
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert set(rows[0]) == {"step", "loss", "bits_per_byte", "learning_rate", "grad_norm"}
    evaluated = [row for row in rows if "validation_loss" in row]
    assert [row["step"] for row in evaluated] == [8, 16, 24, 32, 40]
    assert {name: evaluated[-1][name] for name in result.validation} == result.validation
    assert set(result.validation) == {"validation_loss", "validation_bits_per_byte"}
    assert set(run.read_timings()[0]) == {"step", "seconds", "tokens_per_second"}
    manifest = run.read_manifest()
    assert (manifest.kind, manifest.exit_state) == ("training", "finished")
    assert (manifest.device, manifest.threads) == ("cpu", 1)
    assert manifest.seeds == {"train": 3, "validation": 0}
    assert manifest.data == {"name": "small"}
    assert set(manifest.versions) == {"python", "torch", "numpy", "mnemoscope"}
    assert run.read_config().resolved["train"] == run.read_config().passed["train"]
    assert result.checkpoint == list_checkpoints(run.checkpoints_path)[-1]


def test_rows_and_checkpoints_come_when_they_are_due(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run")
    config = replace(CONFIG, steps=11, log_every=4, eval_every=6, checkpoint_every=5)
    train(small_model(), SmallTask(), config, run, progress=False)
    rows = run.read_metrics()
    assert [row["step"] for row in rows if "loss" in row] == [4, 8, 11]
    assert [row["step"] for row in rows if "validation_loss" in row] == [6, 11]
    assert [path.name for path in list_checkpoints(run.checkpoints_path)] == ["step-00000010", "step-00000011"]


def test_evaluation_does_not_change_the_training():
    often, rarely = small_model(), small_model()
    train(often, SmallTask(), replace(CONFIG, eval_every=1), progress=False)
    train(rarely, SmallTask(), replace(CONFIG, eval_every=40, log_every=40), progress=False)
    assert same(weights(often), weights(rarely))


def test_evaluation_is_the_mean_over_scored_tokens():
    model, config = small_model(), replace(CONFIG, batch_size=5, eval_sequences=8)
    one = evaluate(model, SmallTask(), replace(config, eval_sequences=5), CPU)
    both = evaluate(model, SmallTask(), config, CPU)
    logits_loss = 0.0
    for index, size in enumerate((5, 3)):
        batch = SmallTask().batch(task_rng(0, "validation", index), size, "validation")
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(batch.inputs))
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten(), ignore_index=IGNORE, reduction="sum"
        )
        logits_loss += losses.item()
    assert both["validation_loss"] == pytest.approx(logits_loss / (8 * 5), rel=1e-6)
    assert one["validation_loss"] != both["validation_loss"]


def test_the_caller_finds_everything_as_it_was():
    model = small_model()
    model.norm.eval()
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(model, SmallTask(), replace(CONFIG, threads=2), progress=False)
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.get_num_threads() == threads
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert model.training
    assert not model.norm.training


def test_the_seed_decides_data_and_dropout():
    ours, theirs, other = small_model(), small_model(), small_model()
    torch.rand(5)  # what the caller draws must not matter
    train(ours, SmallTask(), CONFIG, progress=False)
    torch.rand(5)
    train(theirs, SmallTask(), CONFIG, progress=False)
    train(other, SmallTask(), replace(CONFIG, seed=4), progress=False)
    assert same(weights(ours), weights(theirs))
    assert not same(weights(ours), weights(other))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 7, 20])
def test_a_signal_ends_the_run_after_the_step(tmp_path: Path, number: signal.Signals, step: int):
    run, whole = RunDirectory.create(tmp_path / "run"), RunDirectory.create(tmp_path / "whole")
    train(small_model(), SmallTask(), CONFIG, whole, progress=False)
    result = train(small_model(), at_step(step, send(number)), CONFIG, run, progress=False)
    assert (result.step, result.exit_state) == (step, "interrupted")
    manifest = run.read_manifest()
    assert (manifest.exit_state, manifest.message) == ("interrupted", number.name)
    resumed = train(small_model(), SmallTask(), CONFIG, run, resume=True, progress=False)
    assert resumed.exit_state == "finished"
    assert run.read_metrics() == whole.read_metrics()
    ours, theirs = resumed.checkpoint, list_checkpoints(whole.checkpoints_path)[-1]
    assert ours is not None
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()


def test_a_signal_in_the_last_step_comes_too_late():
    result = train(small_model(), at_step(CONFIG.steps, send(signal.SIGTERM)), CONFIG, progress=False)
    assert result.exit_state == "finished"


def test_a_second_ctrl_c_raises_at_once(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run")
    twice = at_step(9, send(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(small_model(), twice, CONFIG, run, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run.read_manifest().exit_state == "interrupted"
    assert [path.name for path in list_checkpoints(run.checkpoints_path)] == ["step-00000007"]


def test_outside_the_main_thread_it_trains_without_handlers():
    results = []
    thread = threading.Thread(target=lambda: results.append(train(small_model(), SmallTask(), CONFIG, progress=False)))
    thread.start()
    thread.join()
    assert results[0].exit_state == "finished"


def test_a_failure_is_written_down(tmp_path: Path):
    def fail() -> None:
        raise RuntimeError("no more data")

    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(RuntimeError, match="no more data"):
        train(small_model(), at_step(5, fail), CONFIG, run, progress=False)
    manifest = run.read_manifest()
    assert (manifest.exit_state, manifest.message) == ("failed", "RuntimeError: no more data")
    assert len(run.read_metrics()) == 4


def test_a_damaged_checkpoint_costs_steps_but_not_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, whole = RunDirectory.create(tmp_path / "run"), RunDirectory.create(tmp_path / "whole")
    train(small_model(), SmallTask(), CONFIG, whole, progress=False)
    train(small_model(), at_step(18, send(signal.SIGTERM)), CONFIG, run, progress=False)
    newest = list_checkpoints(run.checkpoints_path)[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    train(small_model(), SmallTask(), CONFIG, run, resume=True, progress=False)
    assert "falling back to step-00000014" in capsys.readouterr().err
    assert run.read_metrics() == whole.read_metrics()
    ours, theirs = load_checkpoint(run.checkpoints_path), load_checkpoint(whole.checkpoints_path)
    assert ours is not None
    assert theirs is not None
    assert same(list(ours.model.values()), list(theirs.model.values()))


def test_a_finished_run_resumes_to_nothing(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run")
    train(small_model(), SmallTask(), CONFIG, run, progress=False)
    rows = run.read_metrics()
    model = small_model()
    result = train(model, SmallTask(), CONFIG, run, resume=True, progress=False)
    assert (result.step, result.exit_state, result.validation) == (40, "finished", {})
    assert run.read_metrics() == rows
    checkpoint = load_checkpoint(run.checkpoints_path)
    assert checkpoint is not None
    assert same(weights(model), [checkpoint.model[name] for name in model.state_dict()])


def test_resuming_on_another_machine_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = RunDirectory.create(tmp_path / "run")
    train(small_model(), at_step(5, send(signal.SIGTERM)), CONFIG, run, progress=False)
    manifest = run.read_manifest()
    run.write_manifest(manifest.model_copy(update={"threads": 64}))
    train(small_model(), SmallTask(), CONFIG, run, resume=True)
    said = capsys.readouterr().err
    assert "resuming: threads changed (64 -> 1), so figures may differ in their last bits" in said


def test_what_does_not_fit_is_refused(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(ValueError, match="resume=True needs the run directory to resume from, got run=None"):
        train(small_model(), SmallTask(), CONFIG, resume=True)
    with pytest.raises(ValueError, match=r"there is no run to resume, config\.json is missing; start it with"):
        train(small_model(), SmallTask(), CONFIG, run, resume=True)
    train(small_model(), SmallTask(), CONFIG, run, progress=False)
    with pytest.raises(ValueError, match="holds a run already; pass resume=True to go on"):
        train(small_model(), SmallTask(), CONFIG, run)
    with pytest.raises(ValueError, match=r"different: batch_size \(was 4, got 8\), seed \(was 3, got 4\); pass"):
        train(small_model(), SmallTask(), replace(CONFIG, batch_size=8, seed=4), run, resume=True)
    run.write_config({}, {"sites": 3})
    with pytest.raises(ValueError, match=r"has no settings of a training under resolved\.train"):
        train(small_model(), SmallTask(), CONFIG, run, resume=True)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = small_model()

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        return self.inner(tokens), None


class Short(Pair):
    def forward(self, tokens: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.inner(tokens)[:, 1:]


class Unscored(SmallTask):
    def batch(self, rng: object, size: int, split: Split) -> Batch:
        batch = super().batch(rng, size, split)  # pyright: ignore[reportArgumentType]
        return Batch(inputs=batch.inputs, targets=0 * batch.targets + IGNORE)


def test_a_model_or_task_that_does_not_fit_is_refused():
    config = TrainConfig(steps=1, warmup_steps=0, batch_size=2)
    with pytest.raises(ValueError, match=r"must return logits of shape .* here \(2, 6, 'vocab'\), got tuple; wrap"):
        train(Pair(), SmallTask(), config, progress=False)
    with pytest.raises(ValueError, match=r"here \(2, 6, 'vocab'\), got \(2, 5, 11\)"):
        train(Short(), SmallTask(), config, progress=False)
    with pytest.raises(ValueError, match="no target of the train batch of step 1 is scored, all are -100"):
        train(small_model(), Unscored(), config, progress=False)
    with pytest.raises(ValueError, match="must be on a CPU, a CUDA device or MPS, got meta"):
        train(small_model().to("meta"), SmallTask(), config, progress=False)
