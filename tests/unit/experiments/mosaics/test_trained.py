"""Where the trainings that several figures share compute."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments import shared_runs as module
from mnemoscope.experiments.mosaics.induction import InductionStudy
from mnemoscope.experiments.mosaics.trained import trained
from mnemoscope.experiments.published import EXPERIMENTS, MOSAICS
from mnemoscope.training import Recipe

RECIPE = InductionStudy(vocab_size=8, length=16, n_triggers=4, d_model=8, n_heads=1, steps=1, batch_size=4).recipe(
    "mosaic", 1
)
INNER = {
    "three-moons": "training",
    "mosaic-examined": "language",
    "mosaic-middle-tier": "mosaic",
    "mosaic-persistent-bias": "mosaic",
}
"""Experiments whose settings hold the device in a part."""


def on_device(settings: Any, name: str, device: str) -> Any:
    """Settings of an experiment with another device."""
    part = INNER.get(name)
    if part is None:
        return replace(settings, device=device)
    return replace(settings, **{part: replace(getattr(settings, part), device=device)})


def device_of(settings: Any, name: str) -> str:
    """The device in the settings of an experiment."""
    part = INNER.get(name)
    return (settings if part is None else getattr(settings, part)).device


def test_a_recipe_is_trained_where_the_model_is_then_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen, train = list[str](), module.train_recipe

    def recording(*arguments: Any, device: str, **rest: Any) -> Any:
        seen.append(device)
        return train(*arguments, device=device, **rest)

    monkeypatch.setattr(module, "train_recipe", recording)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert trained(tmp_path, RECIPE, 0, "auto").step == 1
    assert seen == ["cpu"]
    trained(tmp_path, RECIPE, 0)
    assert seen == ["cpu"]


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device cuda: there is no CUDA device here") as refused:
        trained(tmp_path, RECIPE, 0, "cuda")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [each.name for each in MOSAICS if each.name != "mosaic-prose"])
def test_every_experiment_hands_its_device_on(name: str, tmp_path: Path):
    experiment = EXPERIMENTS[name]
    measured = replace(experiment, sizes={"small": on_device(experiment.sizes["small"], name, "abacus")})
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, auto, got 'abacus'"):
        measured.of_seed("small", 0, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("experiment", MOSAICS, ids=lambda each: each.name)
def test_small_sizes_are_of_the_cpu_and_published_ones_of_a_gpu_where_there_is_one(experiment: Any):
    assert device_of(experiment.sizes["small"], experiment.name) == "cpu"
    if "paper" in experiment.sizes:
        assert device_of(experiment.sizes["paper"], experiment.name) == "auto"


@pytest.mark.parametrize(
    ("name", "recipe_of"),
    [
        ("mosaic-stories", lambda settings: settings.recipe("mosaic", 1)),
        ("mosaic-profiles", lambda settings: settings.recipe("rotary")),
        ("mosaic-v2", lambda settings: settings.recipe("rotary")),
        ("mosaic-v2-levels", lambda settings: settings.recipe("rotary")),
    ],
)
def test_published_sizes_of_language_are_trained_in_bfloat16(name: str, recipe_of: Callable[[Any], Recipe]):
    sizes = EXPERIMENTS[name].sizes
    tiny = {size: replace(settings, d_model=24, n_heads=1) for size, settings in sizes.items()}
    found = {size: recipe_of(settings).train.precision for size, settings in tiny.items()}
    assert found == {"small": "32-true", "paper": "bf16-mixed"}
