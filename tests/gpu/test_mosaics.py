"""Experiments on Memory Mosaics compute where their settings say, and give figures of the same kind everywhere."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.contracts.devices import chosen_device
from mnemoscope.experiments.mosaics.examined import ExaminedStudy
from mnemoscope.experiments.mosaics.induction import InductionStudy
from mnemoscope.experiments.mosaics.language import LanguageStudy, language
from mnemoscope.experiments.mosaics.middle_tier import MiddleTierStudy
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining
from mnemoscope.experiments.mosaics.open_questions import PersistentBiasStudy, StoryMosaic
from mnemoscope.experiments.mosaics.planetary_study import PlanetaryStudy
from mnemoscope.experiments.mosaics.profile_study import ProfilesStudy
from mnemoscope.experiments.mosaics.regbench import RegBenchStudy
from mnemoscope.experiments.mosaics.three_moons import ThreeMoonsStudy
from mnemoscope.experiments.mosaics.trained import trained
from mnemoscope.experiments.mosaics.v2_levels import LevelsStudy
from mnemoscope.experiments.mosaics.v2_recall import RecallStudy
from mnemoscope.experiments.published import EXPERIMENTS
from tests.gpu.devices import every_device, on_each

LANGUAGE = LanguageStudy(
    depths=(1,), length=32, d_model=16, steps=4, batch_size=2, n_test=4, prompt_tokens=4, new_tokens=3
)


def study(name: str, device: Any) -> Any:
    """Small settings of an experiment, on a device."""
    short: Any = {"d_model": 16, "steps": 2, "batch_size": 2, "device": device}
    levels = {"persistent": 32, "short_window": 8, "long_delay": 2, "longest_delay": 6}
    regbench: Any = {"d_model": 16, "n_heads": 2, "batch_size": 4, "max_string_length": 4}
    stories, moons = StoryMosaic(length=48, n_test=5, **short), MoonsTraining(batch_size=2, steps=2, device=device)
    match name:
        case "mosaic-stories":
            return replace(LANGUAGE, device=device)
        case "regbench":
            return RegBenchStudy(environments=(8,), epochs=(2,), n_held_out=4, device=device, **regbench)
        case "mosaic-profiles":
            return ProfilesStudy(length=48, n_heads=4, n_windows=6, **short)
        case "mosaic-induction":
            return InductionStudy(depths=(1, 2), n_test=8, **(short | {"batch_size": 8}))
        case "mosaic-v2":
            return RecallStudy(length=64, stages=((16, 0.5),), vocab_size=64, n_test=2, **levels, **short)
        case "mosaic-v2-levels":
            return LevelsStudy(length=96, n_test=8, **levels, **short)
        case "mosaic-planetary":
            counts: Any = {"n_test": 4, "n_examined": 16, "fit_steps": 2, "steps": 2, "batch_size": 2}
            return PlanetaryStudy(depths=(1, 2), widths=(48, 32), length=40, device=device, **counts)
        case "mosaic-timescales":
            return stories
        case "mosaic-persistent-bias":
            return PersistentBiasStudy(mosaic=stories, slots=(1, 4))
        case "mosaic-middle-tier":
            return MiddleTierStudy(mosaic=stories, kept=(0, 3), gradient_steps=2, learning_rates=(1e-2,))
        case "three-moons":
            return ThreeMoonsStudy(training=moons, n_sequences=2, every=100, n_seen=300, n_moments=10)
        case "mosaic-examined":
            return ExaminedStudy(
                language=replace(LANGUAGE, device=device),
                regbench=RegBenchStudy(
                    environments=(8,), epochs=(2,), n_held_out=20, n_layers=1, device=device, **regbench
                ),
                moons=replace(moons, length=30),
                n_calibration=8,
                n_test=8,
                windows=(2,),
                moon_windows=(8,),
                n_moon_sequences=8,
                fit_steps=2,
            )
        case _:
            raise AssertionError(name)


NAMES = [
    "mosaic-stories",
    "regbench",
    "mosaic-profiles",
    "mosaic-induction",
    "mosaic-v2",
    "mosaic-v2-levels",
    "mosaic-planetary",
    "mosaic-timescales",
    "mosaic-persistent-bias",
    "mosaic-middle-tier",
    "three-moons",
    "mosaic-examined",
]


@on_each(NAMES, quick=("mosaic-profiles", "mosaic-middle-tier"))
def test_a_seed_is_measured_on_the_device(name: str, device: str, tmp_path: Path):
    experiment = replace(EXPERIMENTS[name], sizes={"small": study(name, device)})
    measured = experiment.of_seed("small", 0, tmp_path)
    known = [claim for claim in experiment.claims if claim.figure in measured.figures]
    assert known
    # Of networks that learned nothing, a ratio of two gains may be anything.
    losses = [value for figure, value in measured.figures.items() if figure.endswith(("_loss", "_late", "effect"))]
    assert all(map(math.isfinite, losses))


@every_device
def test_what_was_trained_on_a_device_is_what_a_processor_trains(device: Any, tmp_path: Path):
    found = language(replace(LANGUAGE, device=device), 0, tmp_path / "there")
    here = language(LANGUAGE, 0, tmp_path / "here")
    for figure in ("mosaic_1_loss", "transformer_1_loss", "mosaic_1_parameters"):
        assert found.figures[figure] == pytest.approx(here.figures[figure], rel=2e-3)
    model = trained(tmp_path / "there", LANGUAGE.recipe("mosaic", 1), 0, device).model
    assert {parameter.device.type for parameter in model.parameters()} == {chosen_device(device).type}


@every_device
def test_mixed_precision_trains_where_it_is_asked_to(device: Any, tmp_path: Path):
    measured = language(replace(LANGUAGE, precision="bf16-mixed", device=device), 0, tmp_path)
    exact = language(LANGUAGE, 0, tmp_path / "exact")
    assert measured.figures["mosaic_1_loss"] == pytest.approx(exact.figures["mosaic_1_loss"], rel=0.02)
