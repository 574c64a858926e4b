"""What loggers are told while a run is trained, stopped, killed and resumed, and what a failing one does to it."""

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Split
from mnemoscope.training import train
from mnemoscope.training.loggers import LOGGERS, Mirror, TensorBoard, Wandb, parse_loggers, send_run
from mnemoscope.training.loggers.contents import flat
from mnemoscope.training.loggers.mirror import logged_to, read_logged
from tests.unit.training.loggers.logged import Keeping, Kept, Summarised, append, events, examine, written_run
from tests.unit.training.small import CONFIG, SmallTask, small_model

ALL = list(range(1, CONFIG.steps + 1))


def trained(path: Path, *loggers: Keeping, resume: bool = False, task: SmallTask | None = None) -> list[str]:
    run, said = RunDirectory(path) if resume else RunDirectory.create(path), list[str]()
    with Mirror(path, loggers, said.append) as mirror:
        train(small_model(), task or SmallTask(), CONFIG, run, resume, progress=False, callbacks=[mirror])
    assert said == []  # while it trains, the training shows warnings
    return mirror.warnings


def test_a_logger_gets_settings_every_row_with_its_clock_and_the_end(tmp_path: Path) -> None:
    kept = Summarised()
    assert trained(tmp_path / "run", Keeping(kept)) == []
    run = RunDirectory.open(tmp_path / "run")
    seconds = {row["step"]: row["seconds"] for row in run.read_timings()}
    assert kept.steps == ALL
    for (step, figures), row in zip(kept.rows, run.read_metrics(), strict=True):
        assert figures.pop("tokens_per_second") > 0
        assert {"step": step, **figures} == {**row, "seconds": seconds[step]}
    assert kept.params["train.learning_rate"] == CONFIG.learning_rate
    assert kept.params["manifest.device"] == "cpu"
    assert (kept.summary, kept.ends) == ({"exit_state": "finished"}, ["finished"])


def test_rows_arrive_while_the_run_goes_on(tmp_path: Path) -> None:
    kept, seen = Kept(), list[int]()

    def look(split: Split) -> None:
        seen.append(len(kept.rows))

    trained(tmp_path / "run", Keeping(kept), task=SmallTask(look))
    assert seen[-1] >= CONFIG.steps - 2


def test_a_resumed_run_logs_no_row_twice_and_leaves_none_out(tmp_path: Path) -> None:
    """The first process logs 12 steps, and its last checkpoint is of step 7."""
    first, second, drawn = Kept(), Summarised(), list[Split]()

    def stop(split: Split) -> None:
        drawn.append(split)
        if drawn.count("train") == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", Keeping(first), task=SmallTask(stop))
    assert first.ends == ["interrupted"]
    assert first.steps == ALL[:12]
    trained(tmp_path / "run", Keeping(second), resume=True)
    assert second.steps == ALL[12:]
    assert second.summary == {"exit_state": "finished"}


def test_what_is_trained_does_not_depend_on_loggers(tmp_path: Path) -> None:
    with_logger, without = small_model(), small_model()
    run = RunDirectory.create(tmp_path / "run")
    with Mirror(run.path, [Keeping()]) as mirror:
        train(with_logger, SmallTask(), CONFIG, run, progress=False, callbacks=[mirror])
    train(without, SmallTask(), CONFIG, progress=False)
    for name, tensor in with_logger.state_dict().items():
        assert torch.equal(tensor, without.state_dict()[name])


def test_a_logger_that_fails_is_off_after_one_warning_and_the_rest_goes_on(tmp_path: Path) -> None:
    failing, other = Kept(fails_at=5), Kept()
    warnings = trained(tmp_path / "run", Keeping(failing), Keeping(other, "other"))
    assert len(warnings) == 1
    assert "logger keeping failed and is off (OSError: [Errno 28] No space left on device)" in warnings[0]
    assert (failing.steps, failing.ends) == (ALL[:4], [])
    assert other.steps == ALL
    assert RunDirectory.open(tmp_path / "run").read_manifest().exit_state == "finished"
    failing.fails_at = None
    assert send_run(tmp_path / "run", [Keeping(failing)]) == 0
    assert failing.steps == ALL


def test_a_logger_that_cannot_be_opened_is_tried_again_afterwards(tmp_path: Path) -> None:
    class Closed(Keeping):
        def open(self, place: object) -> object:
            raise ConnectionError("no network")

    said: list[str] = []
    written_run(tmp_path / "run")
    assert send_run(tmp_path / "run", [Closed()], said.append) == 1
    assert "ConnectionError: no network" in said[0]
    assert logged_to(tmp_path / "run") == []
    assert send_run(tmp_path / "run", [Keeping(kept := Kept())]) == 0
    assert kept.steps == [1, 2, 3]


def test_a_damaged_note_of_what_was_sent_does_not_stop_a_training(tmp_path: Path) -> None:
    def damage(split: Split) -> None:
        (tmp_path / "run" / "loggers.json").write_text("{", encoding="utf-8")

    warnings = trained(tmp_path / "run", Keeping(), task=SmallTask(damage))
    assert len(warnings) == 1
    assert "loggers.json: not JSON" in warnings[0]


def test_sending_again_sends_only_what_came_since(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run")
    for _ in range(2):
        send_run(run.path, [Keeping(kept := Summarised())])
    assert kept.rows == []
    assert kept.summary == {}
    append(run, 3, range(4, 5))
    examine(run)
    send_run(run.path, [Keeping(kept)])
    assert kept.steps == [4]
    site = run.read_examination().sites[0]
    assert kept.summary[f"examination/{site.name}/verdict"] == site.verdict
    assert kept.summary[f"examination/{site.name}/effect"] == site.effects["read"]["optimal_constant"].value


def test_numbers_of_a_summary_are_a_row_where_a_logger_has_no_place_for_one(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run")
    examine(run)
    send_run(run.path, [Keeping(kept := Kept())])
    step, last = kept.rows[-1]
    assert step == 3
    assert last["examination/headroom"] == run.read_examination().headroom.value
    assert not any(isinstance(value, str) for value in last.values())


def test_only_the_first_of_several_processes_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written_run(tmp_path / "run")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Mirror(run.path, [Keeping(kept := Kept())]) as mirror:
        mirror.catch_up()
    assert kept.rows == []


def test_a_missing_package_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for kind, config in LOGGERS.items():
        with pytest.raises(ValueError, match=f"logger {kind}: needs the package .* pip install {kind}"):
            Mirror(tmp_path / "run", [config()])
    assert not (tmp_path / "run").exists()


def test_loggers_are_written_as_calls() -> None:
    assert parse_loggers("tensorboard, wandb(project='mine')") == (TensorBoard(), Wandb(project="mine"))
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        parse_loggers("tensorbord")
    with pytest.raises(ValueError, match=r"wandb\.mode.*'offlin'"):
        parse_loggers("wandb(mode='offlin')")
    with pytest.raises(ValueError, match="each may stand once, got tensorboard, tensorboard"):
        Mirror("run", parse_loggers("tensorboard, tensorboard"))


def test_nested_settings_become_dotted_names() -> None:
    settings = {"a": {"b": [1, {"c": None}]}, "d": [], "e": "x"}
    assert flat(settings) == {"a.b.0": 1, "a.b.1.c": None, "d": "[]", "e": "x"}


@pytest.mark.long
def test_a_run_that_was_killed_goes_on_in_tensorboard_with_every_step_once(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    words = [sys.executable, "-m", "tests.unit.training.loggers.train_logged", str(run.path)]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[4])
    try:
        deadline = time.monotonic() + 120
        while (noted := read_logged(run.path)) is None or not noted.sent or noted.sent["tensorboard"].step < 10:
            assert process.poll() is None, "the training ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    with Mirror(run.path, [TensorBoard()]) as mirror:
        train(small_model(), SmallTask(), CONFIG, run, resume=True, progress=False, callbacks=[mirror])
    assert mirror.warnings == []
    shown = events(run.path / "tensorboard").Scalars("loss")
    assert [event.step for event in shown] == ALL
    assert [event.value for event in shown] == pytest.approx([row["loss"] for row in run.read_metrics()])
