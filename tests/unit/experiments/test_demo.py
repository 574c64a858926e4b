"""The demo, with so few steps that nothing is learnt: what is measured is what is shown."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnemoscope.examination import Budget
from mnemoscope.experiments import demo, examining, held_out, recipes
from mnemoscope.runs import Examination, RunDirectory
from mnemoscope.tasks import TextConfig, build_task
from mnemoscope.tasks.masked_words import MaskedWordsConfig
from mnemoscope.training import load_recipe, train_recipe
from mnemoscope.training.lessons import Episodic

TINY = Budget(n_calibration=32, n_test=32, fit_steps=3, joint_fit_steps=2, windows=(1,), n_resamples=200)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch):
    brief = {
        name: replace(recipe, train=replace(recipe.train, steps=3, warmup_steps=1, eval_sequences=8))
        for name, recipe in recipes.RECIPES.items()
    }
    monkeypatch.setattr(demo, "RECIPES", brief)
    monkeypatch.setattr(demo, "BUDGET", TINY)


@pytest.mark.usefixtures("short")
def test_demo_shows_what_it_measured_and_takes_up_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    shown: dict[str, Examination] = {}
    page = demo.run_demo(tmp_path, said.append, shown.__setitem__, progress=False)
    assert list(shown) == ["text", "recall-before", "recall-after"]
    assert sum(line.startswith("[") for line in said) == 6
    assert any("untrained" in line for line in said)
    assert str(page) in said[-1]
    text = page.read_text()
    for expected in ("Recall, full attention", "Recall, attention window 4", "mnemoscope report", "untrained"):
        assert expected in text
    before = RunDirectory(tmp_path / "text").read_metrics()
    monkeypatch.setattr(demo, "examine_run", lambda run, budget: shown[run.name])
    demo.run_demo(tmp_path, said.append, lambda name, examination: None, progress=False)
    assert RunDirectory(tmp_path / "text").read_metrics() == before


def test_a_stopped_training_is_not_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A signal while it trains ends the demo; the next one goes on from there."""

    def stopped(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(exit_state="interrupted")

    monkeypatch.setattr(demo, "train_recipe", stopped)
    said = list[str]()
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path, said.append, lambda *_: None, progress=False)
    assert [line.split()[1] for line in said] == ["train"]


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_builds_and_trains_two_steps(name: str, tmp_path: Path):
    recipe = recipes.with_changes(recipes.find_recipe(name), layout=None, steps=2, seed=5)
    if isinstance(recipe.lesson, Episodic):
        recipe = replace(recipe, lesson=replace(recipe.lesson, eval_words=60))
        assert isinstance(recipe.task, MaskedWordsConfig)
        task = replace(recipe.task, text_length=16, n_storage=2, n_retrieval=2, n_masks=3)
        recipe = replace(recipe, task=task, train=replace(recipe.train, batch_size=2, eval_sequences=2))
    train_recipe(recipe, tmp_path / "run", progress=False)
    assert load_recipe(tmp_path / "run") == recipe


def test_held_out_batches_have_one_size_and_no_sequence_twice():
    task = build_task(TextConfig(length=512))
    available = task.n_sequences("test")
    assert available is not None
    batches = held_out.drawn(task, "test", available, 4, seed=0)
    assert {batch.size for batch in batches} == {4}
    rows = {tuple(row) for batch in batches for row in batch.inputs.tolist()}
    assert len(rows) == 4 * len(batches) == available - available % 4


@pytest.mark.parametrize(
    ("calibration", "test"),
    [pytest.param(64, 256, marks=pytest.mark.long), (32, 32), pytest.param(100, 500, marks=pytest.mark.long)],
)
def test_no_test_sequence_calibrates(tmp_path: Path, calibration: int, test: int):
    recipe = recipes.with_changes(recipes.find_recipe("recall-short-window"), layout=None, steps=1, seed=0)
    train_recipe(recipe, tmp_path / "run", progress=False)
    budget = replace(TINY, n_calibration=calibration, n_test=test, looks=1)
    examination = examining.examine_run(tmp_path / "run", budget)
    assert calibration - 32 < examination.n_calibration <= calibration
    assert test - 32 < examination.n_test <= test
    assert examination.warnings == []
