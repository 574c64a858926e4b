"""Training from the command line: remedies, a lesson, a precision and a watch."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from mnemoscope.cli.train import Train
from mnemoscope.models import StackConfig
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import MqarConfig, TaskConfig, TextConfig
from mnemoscope.training import Recipe, TrainConfig, load_recipe


@pytest.fixture
def recipe_file(tmp_path: Path) -> str:
    return written(tmp_path / "tiny.json", MqarConfig(vocab_size=16, length=16, n_pairs=2), 16)


def written(file: Path, task: TaskConfig, vocab_size: int) -> str:
    model = StackConfig.of("attention(window=4), gated_delta", vocab_size=vocab_size, d_model=16)
    recipe = Recipe(
        name="Tiny",
        model=replace(model, mlp_ratio=0.0),
        task=task,
        train=TrainConfig(steps=4, batch_size=8, warmup_steps=1, eval_every=4, eval_sequences=8, log_every=2),
    )
    file.write_text(json.dumps(TypeAdapter(Recipe).dump_python(recipe, mode="json")))
    return str(file)


def test_a_watch_leaves_its_figures_in_the_run_and_remedies_in_its_recipe(recipe_file: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = Train(
        recipe=recipe_file, out=out, remedies="branch_dropout(strength=0.5)", watch=2, precision="bf16-mixed"
    )
    assert command.run() == 0
    rows = (out / "metrics.jsonl").read_text()
    assert '"watch.effect.blocks.1.mixer"' in rows
    kept = load_recipe(RunDirectory.open(out).path)
    assert [remedy.kind for remedy in kept.remedies] == ["branch_dropout"]
    assert kept.train.precision == "bf16-mixed"
    assert kept.name == "Tiny, branch_dropout(strength=0.5), bf16-mixed"


def test_a_lesson_is_one_of_those_that_need_no_task(recipe_file: str, tmp_path: Path) -> None:
    text = written(tmp_path / "text.json", TextConfig(corpus="prose", length=16), 256)
    assert Train(recipe=text, out=tmp_path / "run", lesson="carried(reset=0.5)").run() == 0
    assert load_recipe(tmp_path / "run").lesson.kind == "carried"
    with pytest.raises(ValueError, match="must be one, got 2"):
        Train(recipe=recipe_file, out=tmp_path / "two", lesson="carried, plain").run()
    with pytest.raises(ValueError, match="bandit"):
        Train(recipe=recipe_file, out=tmp_path / "bandit", lesson="bandit").run()


def test_mistakes_leave_no_folder(recipe_file: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'branch_dropout'"):
        Train(recipe=recipe_file, out=tmp_path / "run", remedies="branch_dropuot").run()
    with pytest.raises(ValueError, match=r"WatchConfig\.every"):
        Train(recipe=recipe_file, out=tmp_path / "run", watch=0).run()
    assert not (tmp_path / "run").exists()
