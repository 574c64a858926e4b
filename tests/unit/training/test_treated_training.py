"""Trainings with remedies: what they add is trained, logged, kept in checkpoints, and gone afterwards."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mnemoscope.models import StackConfig, build
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import MqarConfig, build_task
from mnemoscope.training import Recipe, TrainConfig, build_optimiser, list_checkpoints, load_recipe, train, train_recipe
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.optimiser import set_learning_rate
from mnemoscope.training.remedies import BranchDropout, GateOpening, Prediction, treated

CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    warmup_steps=1,
    eval_every=3,
    eval_sequences=4,
    log_every=1,
    checkpoint_every=3,
    seed=1,
    threads=1,
    metrics=MetricsConfig(every=2, detail=False),
)
RECIPE = Recipe(
    name="treated",
    model=StackConfig.of("gated_delta | attention(window=8)", vocab_size=32, d_model=16),
    task=MqarConfig(vocab_size=32, length=24, n_pairs=3),
    train=CONFIG,
    remedies=(
        BranchDropout(strength=0.5, final_strength=0.1, shape="cosine"),
        Prediction(strength=0.3, hidden=8, span=4),
        GateOpening(),
    ),
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = list_checkpoints(RunDirectory(folder).checkpoints_path)[-1]
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def test_a_treated_run_resumes_to_the_bit(tmp_path: Path):
    train_recipe(RECIPE, tmp_path / "whole", progress=False)
    train_recipe(RECIPE, tmp_path / "cut", progress=False)
    run = RunDirectory(tmp_path / "cut")
    shutil.rmtree(list_checkpoints(run.checkpoints_path)[-1])
    train_recipe(load_recipe(tmp_path / "cut"), tmp_path / "cut", resume=True, progress=False)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert any(name.startswith("remedies.1.decoder") for name in whole), "the decoder of the prediction is trained"
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
    assert RunDirectory(tmp_path / "whole").read_metrics() == run.read_metrics()


def test_figures_of_remedies_are_logged(tmp_path: Path):
    train_recipe(RECIPE, tmp_path / "run", progress=False)
    rows = RunDirectory(tmp_path / "run").read_metrics()
    strengths = [row["remedy.branch_dropout.strength"] for row in rows]
    assert strengths[0] == 0.5
    assert strengths[-1] == pytest.approx(0.1)
    assert strengths == sorted(strengths, reverse=True)
    assert all(row["auxiliary"] > 0 for row in rows)
    assert [row["step"] for row in rows if "raw_gate.mean" in row] == [2, 4, 6]


def test_without_remedies_nothing_changes(tmp_path: Path):
    plain = replace(RECIPE, remedies=(), train=replace(CONFIG, metrics=None))
    train_recipe(plain, tmp_path / "recipe", progress=False)
    model = build(plain.model, CONFIG.seed)
    train(model, build_task(plain.task), plain.train, RunDirectory.create(tmp_path / "direct"), progress=False)
    assert all(torch.equal(value, weights(tmp_path / "direct")[k]) for k, value in weights(tmp_path / "recipe").items())
    assert not any("remedies." in name or "#beside" in name for name in weights(tmp_path / "recipe"))


def test_the_model_is_as_it_was_after_training():
    model = build(RECIPE.model, 0)
    before = {path: (id(module), len(module._forward_hooks)) for path, module in model.named_modules()}
    train(model, build_task(RECIPE.task), CONFIG, progress=False, remedies=RECIPE.remedies)
    assert {path: (id(module), len(module._forward_hooks)) for path, module in model.named_modules()} == before


def test_a_run_of_other_remedies_is_not_resumed(tmp_path: Path):
    train_recipe(RECIPE, tmp_path, progress=False)
    other = replace(RECIPE, remedies=RECIPE.remedies[1:])
    with pytest.raises(ValueError, match=r"resumes with the recipe it began with; different: remedies"):
        train_recipe(other, tmp_path, resume=True, progress=False)


def test_memories_learn_at_their_own_rate():
    model = build(RECIPE.model, 0)
    with treated(model, (GateOpening(rate=3.0),)) as treatments:
        optimiser = build_optimiser(model, CONFIG, treatments)
        treatments[0].on_step(1, 10)
        set_learning_rate(optimiser, 0.01, treatments)
        rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    memory = {id(p) for p in model.blocks[0].mixer.memory.inner.parameters()}  # pyright: ignore[reportAttributeAccessIssue]
    assert memory
    assert [rate for key, rate in rates.items() if key in memory] == pytest.approx([0.03] * len(memory))
    assert 0.01 in {rate for key, rate in rates.items() if key not in memory}
