"""Studies of ATLAS on text compute where their settings say, and give figures of the same kind everywhere."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments.atlas.text_paper import GUIDE, PAPER
from mnemoscope.experiments.atlas.text_runs import RUNS
from mnemoscope.experiments.atlas.text_studies import TextStudy, study
from mnemoscope.experiments.shared_runs import run_folder, trained
from mnemoscope.training import load_recipe
from tests.gpu.devices import every_device, on_each

SMALL = {"d_model": 16, "n_layers": 1, "d_ff": 16, "n_heads": 2, "vocab_size": 400, "max_seq_len": 16, "window_size": 8}
SHORT = {"num_masks": 2, "batch_size": 2, "max_steps": 4, "warmup_steps": 1, "phase1_steps": 1, "phase2_steps": 1}
EVERY = {"log_interval": 1, "metrics_interval": 2, "checkpoint_interval": 4}
TEXT = replace(
    PAPER, guide={**GUIDE, **SMALL, **SHORT, **EVERY}, memory=("omega.head_width=8",), eval_words=20, evaluations=2
)
BASE = TextStudy(text=TEXT, corpora=("prose",), steps=4, arms=("base",), n_words=40)


@on_each(["base", "compat", "tied-both", "untied-half"], quick=("base", "compat"))
def test_an_arm_is_measured_on_the_device(name: str, device: Any, tmp_path: Path):
    measured = study(replace(BASE, arms=(name,), device=device), 0, tmp_path)
    assert math.isfinite(measured.figures[f"{name}: utility"])
    assert measured.figures[f"{name}: words"] >= 40
    assert 0 < measured.figures[f"{name}: head"] <= 1


@every_device
def test_what_was_trained_on_a_device_is_what_a_processor_trains(device: Any, tmp_path: Path):
    there = study(replace(BASE, device=device), 0, tmp_path / "there")
    here = study(BASE, 0, tmp_path / "here")
    for figure in ("raw_gate", "head", "embedding"):
        assert there.figures[f"base: {figure}"] == pytest.approx(here.figures[f"base: {figure}"], rel=0.02)
    (folder,) = (tmp_path / "there" / RUNS).iterdir()
    recipe = load_recipe(run_folder(tmp_path / "there", RUNS, folder.name, 0))
    model = trained(tmp_path / "there", RUNS, recipe, 0, device).model
    assert {parameter.device.type for parameter in model.parameters()} == {device}
