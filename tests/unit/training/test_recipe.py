import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemoscope.models import StackConfig
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Mqar, MqarConfig
from mnemoscope.training import Recipe, TrainConfig, list_checkpoints, load_recipe, load_run, train_recipe

RECIPE = Recipe(
    name="small",
    model=StackConfig.of("attention(window=4), gated_delta(n_heads=2)", vocab_size=12, d_model=8),
    task=MqarConfig(vocab_size=12, length=12, n_pairs=2, power_a=1.0),
    train=TrainConfig(
        steps=6,
        batch_size=4,
        warmup_steps=2,
        eval_every=3,
        eval_sequences=4,
        log_every=1,
        checkpoint_every=2,
        threads=1,
    ),
)


def test_a_run_can_be_rebuilt_from_its_directory(tmp_path: Path):
    result = train_recipe(RECIPE, tmp_path / "run", progress=False)
    assert result.exit_state == "finished"
    assert load_recipe(tmp_path / "run") == RECIPE
    loaded = load_run(tmp_path / "run")
    assert (loaded.recipe, loaded.step, loaded.task.vocab_size) == (RECIPE, 6, 12)
    with torch.no_grad():
        logits = loaded.model(torch.zeros(1, 12, dtype=torch.int64))
    assert logits.shape == (1, 12, 12)
    config = RunDirectory.open(tmp_path / "run").read_config()
    assert config.passed["train"] == {
        "steps": 6,
        "batch_size": 4,
        "warmup_steps": 2,
        "eval_every": 3,
        "eval_sequences": 4,
        "log_every": 1,
        "checkpoint_every": 2,
        "threads": 1,
    }
    train: Any = config.resolved["train"]
    assert train["learning_rate"] == 1e-3


def test_it_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train_recipe(RECIPE, tmp_path / "whole", progress=False)
    draw, drawn = Mqar.batch, []

    def interrupted(*arguments: Any) -> Any:
        drawn.append(arguments)
        if len(drawn) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Mqar, "batch", interrupted)
        assert train_recipe(RECIPE, tmp_path / "run", progress=False).exit_state == "interrupted"
    train_recipe(load_recipe(tmp_path / "run"), tmp_path / "run", resume=True, progress=False)
    ours, theirs = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "whole")
    assert ours.read_metrics() == theirs.read_metrics()
    files = [list_checkpoints(run.checkpoints_path)[-1] / "model.safetensors" for run in (ours, theirs)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_run_without_a_checkpoint_resumes_from_its_seed(tmp_path: Path):
    whole = train_recipe(RECIPE, tmp_path / "whole", progress=False)
    run = RunDirectory.create(tmp_path / "run")
    run.write_config({}, RunDirectory(tmp_path / "whole").read_config().resolved)
    with pytest.raises(ValueError, match="the run has no checkpoint yet"):
        load_run(run.path)
    resumed = train_recipe(RECIPE, run.path, resume=True, progress=False)
    assert resumed.validation == whole.validation


def test_another_recipe_is_refused(tmp_path: Path):
    train_recipe(RECIPE, tmp_path / "run", progress=False)
    other = replace(RECIPE, model=replace(RECIPE.model, d_model=16), train=replace(RECIPE.train, seed=9))
    with pytest.raises(ValueError, match="a run resumes with the recipe it began with") as refused:
        train_recipe(other, tmp_path / "run", resume=True)
    assert "different: model.d_model (was 8, got 16), train.seed (was 0, got 9); take" in str(refused.value)
    with pytest.raises(ValueError, match="holds a run already; resume it, or choose another folder"):
        train_recipe(RECIPE, tmp_path / "run")
    with pytest.raises(ValueError, match="there is no run to resume"):
        train_recipe(RECIPE, tmp_path / "absent", resume=True)


def test_a_model_too_small_for_the_task_is_refused(tmp_path: Path):
    small = replace(RECIPE, model=replace(RECIPE.model, vocab_size=11))
    with pytest.raises(ValueError, match="the task needs at least 12, got 11; set it to 12"):
        train_recipe(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("train", "lr"), 0.1, "train.lr: unexpected keyword argument, got 0.1"),
        (("train", "steps"), "6", "train.steps: input should be a valid integer, got '6'"),
        (("train", "steps"), 0, "TrainConfig.steps: must be at least 1, got 0"),
        (("model", "width"), 3, "model.stack.width: unexpected keyword argument, got 3"),
        (("task", "kind"), "nbody", "input tag 'nbody'"),
    ],
)
def test_an_unknown_or_spoiled_setting_is_named(tmp_path: Path, path: tuple[str, str], value: object, problem: str):
    train_recipe(RECIPE, tmp_path / "run", progress=False)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["resolved"][path[0]][path[1]] = value
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="resolved is not a recipe") as refused:
        load_recipe(tmp_path / "run")
    assert problem in str(refused.value)


def test_a_recipe_needs_a_name():
    with pytest.raises(ValueError, match=r"Recipe\.name: must not be empty"):
        replace(RECIPE, name=" ")
