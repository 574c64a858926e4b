"""The size "paper" of ATLAS on text: its recipe fits a text, its cost is estimated, the device changes nothing kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.atlas.text_collapse import ATLAS_COLLAPSE_TEXT
from mnemoscope.experiments.atlas.text_paper import GUIDE, PAPER
from mnemoscope.experiments.atlas.text_studies import ATLAS_TEXT, study
from mnemoscope.experiments.gpu_hours import estimates
from mnemoscope.experiments.reproducing import Experiment
from tests.unit.experiments.atlas.test_text_studies import TINY, never

ALL = {
    f"prose-4-1500-{head}, {head}-stablemax, {head}-perpgrad, {head}-both, {head}-half": 7500
    for head in ("tied", "untied")
}


@pytest.mark.parametrize(
    ("experiment", "steps", "counted"),
    [
        (ATLAS_TEXT, 8000, {"prose-4-8000-base": 8000, "prose-4-8000-compat, compat-slow": 16_000}),
        (ATLAS_COLLAPSE_TEXT, 1500, ALL),
    ],
    ids=["atlas-text", "atlas-collapse-text"],
)
def test_the_sizes_are_those_of_the_specification(experiment: Experiment[Any], steps: int, counted: dict[str, int]):
    settings = experiment.sizes["paper"]
    assert (settings.steps, settings.device, settings.text) == (steps, "auto", PAPER)
    assert experiment.trainings is not None
    found = experiment.trainings(settings)
    assert {target.name: target.train.steps for target in found} == counted
    target = found[0]
    assert target.stack is not None
    assert (target.stack.d_model, target.stack.vocab_size, target.batch) == (128, 8000, 32)
    assert target.tokens == 4 * 256


def test_both_modes_read_the_same_encoded_text_at_the_same_rate():
    ours, published = (PAPER.recipe("prose", compat=compat) for compat in (False, True))
    for recipe in (ours, published):
        assert (recipe.task.text_unit, recipe.task.vocab_size, recipe.train.learning_rate) == ("bpe", 8000, 3e-3)
    (memory,) = {mixer.memory for mixer in ours.model.mixers}
    assert memory.head_width == GUIDE["storage_samples"] * GUIDE["max_seq_len"] == 512


def test_gpu_hours_are_estimated():
    """Of a small network: counting that of the size takes its time."""
    small = replace(ATLAS_TEXT, sizes={"paper": TINY})
    one, other = estimates(small, "paper")
    assert (one.name, other.name) == ("stories-1-4-base", "stories-1-4-compat, compat-slow")
    assert 0 < one.hours.low < one.hours.high
    assert one.fits


def test_what_is_kept_does_not_depend_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = replace(TINY, arms=("base",), steps=2)
    measured = study(settings, 0, tmp_path)
    monkeypatch.setattr(shared_runs, "train_recipe", never)
    assert study(replace(settings, device="auto"), 0, tmp_path).figures == measured.figures


def test_bars_of_the_size_paper_are_the_specifications():
    bars = {
        size: {claim.figure: claim.bar for claim in ATLAS_COLLAPSE_TEXT.at(size).claims} for size in ("small", "paper")
    }
    assert bars["small"]["tied-stablemax: head"] == "at most 0.35"
    assert bars["paper"]["tied-stablemax: head"] == "at most 0.1"
    assert {figure for figure, bar in bars["small"].items() if bar != bars["paper"][figure]} == {"tied-stablemax: head"}
