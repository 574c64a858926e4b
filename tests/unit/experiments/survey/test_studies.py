"""Every study of the survey: what it claims it measures, and its trainings are its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments.published import EXPERIMENTS, SURVEY
from mnemoscope.experiments.survey import forgetting
from mnemoscope.experiments.survey.frame import Study, verdict
from mnemoscope.experiments.survey.studies import STUDIES
from tests.unit.experiments.survey.tiny import SETTINGS

FAST = "survey-recall-state"
BY_NAME = {study.experiment.name: study for study in STUDIES}
ONE = [pytest.param(name, marks=() if name == FAST else pytest.mark.long) for name in BY_NAME]


def test_studies_can_be_reproduced_by_name():
    assert [study.experiment.name for study in STUDIES] == [experiment.name for experiment in SURVEY]
    assert set(BY_NAME) <= set(EXPERIMENTS)
    assert all(name.startswith("survey-") for name in BY_NAME)


def test_every_finding_has_a_page_of_its_own():
    slugs = [finding.slug for study in STUDIES for finding in study.findings]
    assert len(set(slugs)) == len(slugs) >= 15
    assert "index" not in slugs


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.experiment.name)
def test_small_sizes_are_of_the_cpu_and_large_ones_of_a_gpu(study: Study):
    experiment = study.experiment
    assert experiment.trainings is not None
    small, paper = (list(experiment.trainings(experiment.sizes[size])) for size in ("small", "paper"))
    assert sum(each.train.steps for each in small) < sum(each.train.steps for each in paper)
    assert len({each.name for each in small}) == len(small)
    devices = {size: _device(experiment.sizes[size]) for size in ("small", "paper")}
    assert devices == {"small": "cpu", "paper": "auto"}


def _device(settings: Any) -> str:
    shared = (getattr(settings, name, None) for name in ("window", "machine", "hybrid", "recall", "heads"))
    owner = next(each for each in (settings, *shared) if hasattr(each, "training"))
    return owner.training.device


@pytest.mark.parametrize("name", ONE)
def test_a_seed_gives_every_figure_and_curve(name: str, tmp_path: Path):
    study, settings = BY_NAME[name], SETTINGS[name]
    experiment = replace(study.experiment, sizes={"small": settings})
    measured = experiment.of_seed("small", 0, tmp_path)
    lines = {part for plot in experiment.plots for line in plot.lines.values() for part in line.split(" -> ")}
    if name == FAST:
        assert _deciding(study) <= set(measured.figures)
        assert {"delta net: bytes", "delta net: accuracy", "attention: validation"} <= set(measured.series)
        assert measured.series["delta net: bytes"] == sorted(measured.series["delta net: bytes"])
    elif name == "survey-forgetting":
        assert {claim.figure for claim in forgetting.claims_of(settings)} <= set(measured.figures)
        assert len(measured.series["8 channels, T 16: loss"]) == len(measured.series["8 channels, T 16: tokens"]) == 16
    else:
        assert {claim.figure for claim in experiment.claims} <= set(measured.figures)
        assert lines <= set(measured.series)
    runs = tmp_path / "survey-runs"
    made = {path: path.stat().st_mtime_ns for path in runs.rglob("manifest.json")}
    assert made
    again = experiment.of_seed("small", 0, tmp_path)
    assert again.figures == pytest.approx(measured.figures, nan_ok=True)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("manifest.json")} == made


def _deciding(study: Study) -> set[str]:
    return {figure for finding in study.findings for figure in (*finding.decided_by, *finding.requires)}


def test_nothing_is_answered_before_it_is_measured():
    answers = {verdict(finding, study.experiment.claims, []).answer for study in STUDIES for finding in study.findings}
    assert answers == {"not measured yet"}
