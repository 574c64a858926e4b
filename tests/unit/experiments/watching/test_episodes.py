"""The live table of an episodic training."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from mnemoscope.cli.train import Train
from mnemoscope.experiments.atlas.recipes import TINY_RECIPES
from mnemoscope.experiments.watching.episodes import HEAD_EVERY, WIDTHS, EpisodeTable, cells, joined
from mnemoscope.runs import RunDirectory
from mnemoscope.training import Recipe
from mnemoscope.training.callbacks import Moment
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.metrics.grokking_phase import PHASES, WINDOW
from tests.unit.experiments.advising.doctored import recipe
from tests.unit.training.small import small_model

FIGURES = {
    "storage_loss": 4.1,
    "retrieval_loss": 5.018,
    "retrieval_loss_weighted": 25.0,
    "train_accuracy_memory": 0.121,
    "validation_accuracy_memory": 0.118,
    "train_accuracy_reset": 0.117,
    "validation_accuracy_reset": 0.1183,
    "validation_accuracy_wrong": 0.12,
    "validation_utility": -0.0003,
    "validation_utility_se": 0.0045,
    "raw_gate.mean": 0.13,
    "remedy.gate_floor.floored_fraction": 0.96,
    "effective_dimension.share.tied": 0.41,
    "memory_rank.mean": 3.21,
    "state_magnitude.relative_update": 0.0123,
    "state_magnitude.norm": 8.12,
    "gradient_weight_cosine.before": -0.0314,
    "softmax_collapse.share": 0.25,
    "grokking_phase.phase": 1.0,
}


def test_a_line_holds_the_figures_without_weights_and_floors():
    line = cells(100, FIGURES)
    assert list(line) == list(WIDTHS)
    shown = "100|4.10/5.02|0.121/0.118|0.117/0.118|0.120|-0.000 ±0.009|0.13|0.96|0.41|3.2|8.1|0.0123|-0.031|0.25"
    assert list(line.values()) == shown.split("|")
    assert set(cells(1, {}).values()) == {"1", "-", "-/-"}
    assert len(joined(line)) <= 120


def test_a_line_comes_at_each_evaluation_with_the_newest_metrics():
    table, said = EpisodeTable(), list[str]()

    def after(step: int, row: dict[str, float]) -> None:
        moment = Moment(step=step, steps=99, model=small_model(), row=row, say=said.append)
        assert table.after_step(moment) == {}

    after(1, {"raw_gate.mean": 0.9})
    after(2, {"raw_gate.mean": 0.25, "loss": 1.0})
    assert not said
    for step in range(3, 4 + HEAD_EVERY):
        after(step, {"validation_utility": 0.5, "validation_utility_se": 0.1})
    assert len(said) == 2 + HEAD_EVERY + 1
    assert said[0] == said[HEAD_EVERY + 1]
    assert said[0].split() == " ".join(WIDTHS).split()
    assert "0.25" in said[1].split()
    assert "+0.500" in said[1]


def test_the_phase_is_said_when_it_changes():
    table, said = EpisodeTable(), list[str]()
    for step, phase in enumerate(("insufficient_data", "insufficient_data", "memorization", "cleanup"), start=1):
        row = {"validation_utility": 0.5, "grokking_phase.phase": float(PHASES.index(phase))}
        table.after_step(Moment(step=step, steps=99, model=small_model(), row=row, say=said.append))
    assert [line for line in said if line.startswith("phase: ")] == [
        "phase: insufficient_data",
        "phase: insufficient_data -> memorization",
        "phase: memorization -> cleanup",
    ]


def test_the_guides_tiny_recipes_are_evaluated_often_enough_for_a_phase():
    for name, tiny in TINY_RECIPES.items():
        assert tiny.train.steps // tiny.train.eval_every >= WINDOW, name


def test_training_in_episodes_shows_it_and_writes_what_it_would_have_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    short = {"steps": 2, "eval_every": 1, "log_every": 1, "batch_size": 2, "eval_sequences": 2, "warmup_steps": 1}
    episodes = recipe(**short, metrics=MetricsConfig(every=1), checkpoint_every=2, threads=1)
    written = TypeAdapter(Recipe).dump_python(episodes, mode="json")
    written["lesson"] = TypeAdapter(Episodic).dump_python(Episodic(eval_words=6), mode="json")
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(written), encoding="utf-8")
    assert Train(recipe=str(file), out=tmp_path / "run", settings=("train.seed=3",)).run() == 0
    out, err = capfd.readouterr()
    lines = err.splitlines()
    head = next(line for line in lines if "acc tr/held" in line)
    (first, *_) = [line for line in lines if line.split()[:1] == ["1"]]
    assert len(first.split()) >= len(head.split()) - 5
    assert "phase: insufficient_data" in lines
    assert "raw gate" not in err
    assert "validation utility" not in out
    run = RunDirectory(tmp_path / "run")
    assert run.read_manifest().seeds["train"] == 3
    assert "episode" not in json.dumps(run.read_metrics())
