"""Training on vectors: bits by binary cross-entropy, numbers by squared error; what is not scored does not count."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import examine_run
from mnemoscope.experiments.recipes import with_changes
from mnemoscope.models import StackConfig, build
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Copying, CopyingConfig, ThreeMoons, ThreeMoonsConfig
from mnemoscope.tasks.bit_vectors import bit_errors
from mnemoscope.training import Recipe, TrainConfig, evaluate, load_recipe, load_run, train, train_recipe
from mnemoscope.training.batches import draw
from mnemoscope.training.loss import absolute_error, binary_cross_entropy, bit_error_rate, is_scored, squared_error
from mnemoscope.training.objective import objective_of

NAN = math.nan
CPU = torch.device("cpu")
LAYOUT = "attention(n_heads=2), gated_delta(n_heads=2)"
TRAIN = TrainConfig(
    steps=6,
    batch_size=4,
    learning_rate=3e-3,
    warmup_steps=2,
    eval_every=3,
    eval_sequences=10,
    log_every=1,
    checkpoint_every=2,
    threads=1,
)
RECIPE = Recipe(
    name="copy",
    model=StackConfig.of_vectors(LAYOUT, n_channels=5, n_outputs=4, d_model=8),
    task=CopyingConfig(n_bits=4, min_length=2, max_length=5),
    train=TRAIN,
)
MOONS = replace(
    RECIPE,
    name="moons",
    model=StackConfig.of_vectors(LAYOUT, n_channels=6, n_outputs=6, d_model=8),
    task=ThreeMoonsConfig(length=12),
)


def some(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(2, (3, 5, 7), generator=generator).to(dtype)
    return outputs, targets.masked_fill(torch.rand(3, 5, 7, generator=generator) >= 0.4, NAN)


def test_losses_against_a_loop():
    outputs, targets = some()
    nats, wrong, squared, absolute = [], [], [], []
    for output, target in zip(outputs.flatten().tolist(), targets.flatten().tolist(), strict=True):
        if not math.isnan(target):
            probability = 1 / (1 + math.exp(-output))
            nats.append(-math.log(probability if target == 1 else 1 - probability))
            wrong.append((probability >= 0.5) != (target == 1))
            squared.append((output - target) ** 2)
            absolute.append(abs(output - target))
    assert 20 < len(nats) < 80
    assert binary_cross_entropy(outputs, targets).item() == pytest.approx(np.mean(nats), rel=1e-12)
    assert bit_error_rate(outputs, targets).item() == pytest.approx(np.mean(wrong), rel=1e-6)
    assert squared_error(outputs, targets).item() == pytest.approx(np.mean(squared), rel=1e-12)
    assert absolute_error(outputs, targets).item() == pytest.approx(np.mean(absolute), rel=1e-12)


@pytest.mark.parametrize("loss", [binary_cross_entropy, squared_error])
def test_no_gradient_comes_from_what_is_not_scored(loss: Any):
    outputs, targets = some()
    outputs.requires_grad_()
    loss(outputs, targets).backward()
    assert outputs.grad is not None
    assert torch.equal(outputs.grad != 0, ~targets.isnan())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [binary_cross_entropy, squared_error, absolute_error])
def test_half_precision_is_summed_in_single(loss: Any, dtype: torch.dtype):
    outputs, targets = some(dtype)
    assert loss(outputs, targets).dtype == torch.float32
    assert loss(outputs, targets).item() == pytest.approx(loss(outputs.double(), targets.double()).item(), rel=1e-6)


def test_what_is_scored():
    assert is_scored(torch.tensor([3, -100, 0])).tolist() == [True, False, True]
    assert is_scored(torch.tensor([3.0, NAN, -100.0])).tolist() == [True, False, True]


def test_outputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the task wants 7 numbers at every position, the model gives 6"):
        binary_cross_entropy(torch.zeros(3, 5, 6), torch.zeros(3, 5, 7))


def test_a_batch_of_vectors_is_the_task_s():
    inputs, targets = draw(Copying(CopyingConfig()), 0, "train", 3, 2)
    assert inputs.dtype == targets.dtype == torch.float32
    assert (tuple(inputs.shape), tuple(targets.shape)) == ((2, 41, 9), (2, 41, 8))


def test_a_batch_without_scored_numbers_is_refused(monkeypatch: pytest.MonkeyPatch):
    nothing = Batch(inputs=np.zeros((2, 3, 9), np.float32), targets=np.full((2, 3, 8), NAN, np.float32))
    monkeypatch.setattr(Copying, "batch", lambda *_: nothing)
    with pytest.raises(ValueError, match="no target of the train batch of step 3 is scored, all are NaN"):
        draw(Copying(CopyingConfig()), 0, "train", 3, 2)


def test_a_unit_that_says_nothing_of_vectors_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Copying, "unit", "accuracy")
    with pytest.raises(ValueError, match="one of the units 'bit errors', 'mean absolute error', got 'accuracy'"):
        objective_of(Copying(CopyingConfig()))


def test_validation_counts_wrong_bits_per_sequence():
    """In batches of 4, 4 and 2 sequences whose lengths differ."""
    task = Copying(CopyingConfig(n_bits=4, min_length=1, max_length=9))
    model = build(RECIPE.model, seed=0)
    found = evaluate(model, task, TRAIN, CPU)
    assert set(found) == {"validation_loss", "validation_bit_errors"}
    nats, errors = [], []
    for index, size in enumerate((4, 4, 2)):
        inputs, targets = draw(task, 0, "validation", index, size)
        with torch.no_grad():
            logits = model(inputs)
        errors += bit_errors(logits.sigmoid().numpy(), targets.numpy()).tolist()
        signs = 1 - 2 * targets[is_scored(targets)]
        nats += torch.nn.functional.softplus(signs * logits[is_scored(targets)]).tolist()
    assert found["validation_bit_errors"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["validation_loss"] == pytest.approx(np.mean(nats), rel=1e-5)


def test_a_stack_learns_to_copy():
    """From ln 2 to well below what a memoryless model reaches."""
    task = Copying(CopyingConfig(n_bits=4, min_length=2, max_length=2))
    config = replace(TRAIN, steps=120, batch_size=16, learning_rate=2e-2, eval_every=120, eval_sequences=32)
    model = build(StackConfig.of_vectors("attention(n_heads=2)", n_channels=5, n_outputs=4, d_model=16), seed=0)
    before = evaluate(model, task, config, CPU)
    result = train(model, task, config, progress=False)
    assert before["validation_loss"] > 0.6
    assert result.validation["validation_loss"] < 0.1 < task.memoryless_loss
    assert result.validation["validation_bit_errors"] < 0.5


def test_a_stack_learns_moons():
    task = ThreeMoons(ThreeMoonsConfig(length=24))
    config = replace(TRAIN, steps=60, batch_size=8, learning_rate=2e-2, eval_every=60)
    model = build(StackConfig.of_vectors("attention(n_heads=2)", n_channels=6, n_outputs=6, d_model=16), seed=0)
    before = evaluate(model, task, config, CPU)
    assert set(before) == {"validation_loss", "validation_mean_absolute_error"}
    after = train(model, task, config, progress=False).validation
    assert after["validation_mean_absolute_error"] < before["validation_mean_absolute_error"] / 3


def test_a_recipe_of_vectors_leaves_a_run_that_is_rebuilt(tmp_path: Path):
    result = train_recipe(RECIPE, tmp_path / "run", progress=False)
    assert set(result.validation) == {"validation_loss", "validation_bit_errors"}
    assert load_recipe(tmp_path / "run") == RECIPE
    run = load_run(tmp_path / "run")
    assert evaluate(run.model, run.task, TRAIN, CPU) == result.validation
    rows = RunDirectory.open(tmp_path / "run").read_metrics()
    assert all({"loss", "bit_errors", "learning_rate", "grad_norm"} <= row.keys() for row in rows)


@pytest.mark.parametrize("recipe", [pytest.param(RECIPE, marks=pytest.mark.long), MOONS], ids=["bits", "numbers"])
def test_a_run_of_vectors_is_examined(tmp_path: Path, recipe: Recipe):
    train_recipe(recipe, tmp_path / "run", progress=False)
    budget = Budget(
        n_calibration=8, n_test=8, fit_steps=2, joint_fit_steps=2, windows=(1,), contribution=False, n_resamples=200
    )
    examination = examine_run(tmp_path / "run", budget)
    assert [site.name for site in examination.sites] == ["blocks.1.mixer"]
    assert examination.constant_output_loss is not None
    if recipe is MOONS:
        assert examination.constant_output_loss == pytest.approx(1, abs=0.3)
        assert "units of the targets' variance" in examination.warnings[0]
    else:
        assert 0 < examination.constant_output_loss <= math.log(2)


def test_another_layout_keeps_the_vectors():
    changed = with_changes(RECIPE, layout="attention(n_heads=4)", steps=None, seed=None)
    assert changed.model == StackConfig.of_vectors("attention(n_heads=4)", n_channels=5, n_outputs=4, d_model=8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (StackConfig.of(LAYOUT, vocab_size=9), r"needs VectorsConfig\(n_channels=5, n_outputs=4\), got None"),
        (
            StackConfig.of_vectors(LAYOUT, n_channels=4, n_outputs=5),
            r"needs VectorsConfig\(n_channels=5, n_outputs=4\), got VectorsConfig\(n_channels=4, n_outputs=5\)",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, model: StackConfig, message: str):
    with pytest.raises(ValueError, match=message):
        train_recipe(replace(RECIPE, model=model), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
