"""What a real training leaves is what the rows read."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.experiments.advising import advise
from mnemoscope.experiments.advising.reading import FIGURES, LANGUAGE, MATHEMATICS, read_run
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import TASKS
from mnemoscope.training import train_recipe
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.metrics import MetricsConfig
from tests.unit.experiments.advising.doctored import Doctored, manifest, recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    short = {"steps": 12, "eval_every": 2, "log_every": 2, "batch_size": 4, "eval_sequences": 4, "warmup_steps": 1}
    tiny = recipe(**short, metrics=MetricsConfig(every=2), checkpoint_every=12, threads=1)
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_recipe(replace(tiny, lesson=Episodic(eval_words=12)), folder, progress=False)
    return folder


def test_every_figure_that_rows_read_is_logged_by_an_episodic_training(run: Path):
    (evidence,) = read_run(run).evidence
    read = {name for row in evidence.metrics for name in row} - {"step"}
    assert read == set(FIGURES)
    assert {name.split("_")[0] for name in evidence.dimension_ratios} == {"embedding", "head", "hidden"}
    assert 0 < evidence.metrics[-1]["memory_rank_share"] <= 1


def test_every_row_of_it_can_be_told_but_wishes(run: Path):
    advice = advise(run)
    assert {row.number for row in advice.with_status("cannot be told")} == {17, 18, 19, 20}
    assert advice.state == "finished"
    assert advice.log == ""


def test_the_gate_is_the_raw_one(run: Path):
    (evidence,) = read_run(run).evidence
    rows = [row for row in RunDirectory(run).read_metrics() if "raw_gate.mean" in row]
    assert evidence.raw_gate == rows[-1]["raw_gate.mean"] == pytest.approx(0.5, abs=0.1)
    assert rows[-1]["raw_gate.lifted_fraction"] == 1


def test_kinds_of_tasks_are_tasks():
    assert set(TASKS) >= LANGUAGE | MATHEMATICS
    assert not LANGUAGE & MATHEMATICS


def test_a_folder_without_a_training_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        advise(tmp_path)
    other = RunDirectory.create(tmp_path / "other")
    other.write_config({}, {"seed": 1})
    other.write_manifest(manifest())
    with pytest.raises(ValueError, match="holds no settings of a training"):
        advise(tmp_path / "other")


def test_a_training_without_model_and_task_is_read_and_has_no_commands(tmp_path: Path):
    folder = Doctored(figures={"raw_gate.mean": 0.02}).written(tmp_path / "run")
    run = RunDirectory(folder)
    resolved = run.read_config().resolved
    run.write_config({}, {"train": resolved["train"]})
    (row,) = [row for row in advise(folder).rows if row.number == 6]
    assert row.status == "holds"
    assert not row.commands
    assert "no recipe" in row.remark
    (language,) = [row for row in advise(folder).rows if row.number == 21]
    assert language.to_tell == ["--task language, mathematics or other"]
    (language,) = [row for row in advise(folder, task="language").rows if row.number == 21]
    assert language.evidence == "the task is language, weight decay 0.1, learning rate 0.001"
