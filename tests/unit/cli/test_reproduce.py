"""`mnemoscope reproduce`, with results that are there already: nothing is trained."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tyro

from mnemoscope.cli.reproduce import WITH_FINDINGS, Reproduce
from mnemoscope.experiments import reproducing, reproducing_seeds
from mnemoscope.experiments.executors import Executor, LocalPool, RayCluster
from mnemoscope.experiments.published import EXPERIMENTS, FINDINGS, SURVEY
from mnemoscope.experiments.reproducing import Experiment, Result
from mnemoscope.experiments.stability import PERPGRAD
from mnemoscope.experiments.survey.studies import STUDIES
from mnemoscope.runs import write_record
from tests.unit.cli.calling import Called, called


def reproduce(*words: str) -> Called:
    return called("reproduce", *words)


def result(seed: int, adamw: float) -> Result:
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(PERPGRAD.sizes["small"]).items()}
    drawn = [series for plot in PERPGRAD.plots for series in plot.lines.values()]
    figures = {"rescaled": 1.0, "not rescaled": 0.999, "rescaled since": 125.0, "adamw train": 1.0, "adamw": adamw}
    return Result(
        experiment="perpgrad",
        size="small",
        seed=seed,
        settings=settings,
        figures=figures,
        series={"epoch": [25.0, 300.0]} | {name: [0.1, 1.0] for name in drawn},
        seconds=1.0,
        versions={},
    )


def test_the_table_and_the_exit_code(tmp_path: Path):
    folder = tmp_path / "perpgrad" / "small"
    folder.mkdir(parents=True)
    for seed in (0, 1):
        write_record(folder / f"seed-{seed}.json", result(seed, adamw=0.001))
    done = reproduce("perpgrad", "--seeds", "2", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("AdamW: test accuracy at epoch 300"))
    assert "report.html" in done.stdout + done.stderr
    assert (folder / "report.html").exists()
    assert row.split()[-7:] == ["0.001", "0.001", "0.001", "0.001", "to", "0.001", "yes"]
    write_record(folder / "seed-1.json", result(1, adamw=0.5))
    done = reproduce("perpgrad", "--seeds", "2", "--out", str(tmp_path))
    assert done.returncode == 0, "a finding, and no failure"
    broken = "does not hold: AdamW: test accuracy at epoch 300 of seed 1 must be at most 0.02, is 0.5"
    assert broken in done.stdout
    strict = reproduce("perpgrad", "--seeds", "2", "--out", str(tmp_path), "--strict")
    assert strict.returncode == 1, strict.stderr
    assert broken in strict.stdout


def test_the_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    asked = list[Executor]()

    def on(executor: Executor, experiment: Experiment[Any], *rest: Any) -> list[Result]:
        asked.append(executor)
        return [result(seed, adamw=0.001) for seed in range(2)]

    monkeypatch.setattr(reproducing_seeds, "reproduce_on", on)
    for words in ("--jobs 2", "--executor ray", "--executor ray --processes 4 --address head:6379"):
        options = ["perpgrad", *words.split(), "--seeds", "2", "--out", str(tmp_path)]
        (tmp_path / "perpgrad" / "small").mkdir(parents=True, exist_ok=True)
        assert tyro.cli(Reproduce, args=options).run() == 0
    assert asked == [LocalPool(processes=2), RayCluster(), RayCluster(address="head:6379", at_once=4)]
    assert capsys.readouterr().out.count("report: ") == 3
    for words, message in (("--address auto", "add --executor ray"), ("--jobs 0", "must be None or at least 1, got 0")):
        with pytest.raises(ValueError, match=message):
            tyro.cli(Reproduce, args=["perpgrad", *words.split(), "--out", str(tmp_path)]).run()
    assert len(asked) == 3


def test_names(tmp_path: Path):
    listed = reproduce()
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines() if not line.startswith(" ")] == list(EXPERIMENTS)
    mistakes = (
        (Reproduce(name="perpgrd", out=tmp_path / "new"), "did you mean 'perpgrad'?"),
        (Reproduce(name="perpgrad", size="paper", out=tmp_path / "new"), "give --size small"),
        (Reproduce(name="perpgrad", text=("code",), out=tmp_path / "new"), "perpgrad reads no text"),
    )
    for asked, message in mistakes:
        with pytest.raises(ValueError, match=re.escape(message)):
            asked.run()
    assert not (tmp_path / "new").exists()


def test_mistakes_are_told_before_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for asked, message in (
        (Reproduce(name="three-moons", seeds=0, out=tmp_path), "seeds must be at least 1, got 0"),
        (Reproduce(name="three-moons", processes=0, out=tmp_path), "must be None or at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            asked.run()
    said = capsys.readouterr()
    assert said.out + said.err == ""


def test_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Measured minutes, or an estimate that says it is one; nothing where all seeds are there."""

    def stopped(*arguments: Any) -> list[Result]:
        raise KeyboardInterrupt

    monkeypatch.setattr(reproducing, "reproduce", stopped)
    for size in ("small", "paper"):
        with pytest.raises(KeyboardInterrupt):
            Reproduce(name="three-moons", size=size, out=tmp_path).run()
    small, paper = capsys.readouterr().out.split(f"what is finished is in {tmp_path}")[:2]
    assert "about 4 minutes a seed" in small
    assert "GPU" not in small
    assert "estimated for one NVIDIA H100 SXM from its published rates, not measured" in paper
    assert "3 heads: less than a GPU minute" in paper
    folder = tmp_path / "perpgrad" / "small"
    folder.mkdir(parents=True)
    write_record(folder / "seed-0.json", result(0, adamw=0.001))
    monkeypatch.setattr(reproducing, "reproduce", lambda *arguments: [result(0, adamw=0.001)])
    Reproduce(name="perpgrad", seeds=1, out=tmp_path).run()
    assert "minutes a seed" not in capsys.readouterr().out


def test_claims_of_a_size_are_those_that_its_settings_measure():
    """The published depths differ from the small ones."""
    stories = EXPERIMENTS["mosaic-stories"]
    assert "gain_4" in {claim.figure for claim in stories.at("small").claims}
    paper = stories.at("paper")
    figures = {claim.figure for claim in paper.claims}
    assert {f"gain_{depth}" for depth in stories.sizes["paper"].depths} <= figures
    assert "gain_4" not in figures
    assert any("mosaic_18: validation" in series for series in paper.plots[0].lines.values())


def test_the_survey_is_listed_and_its_pages_are_written_from_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert tyro.cli(Reproduce, args=["survey", "--list"]).run() == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("survey-")]
    assert [line.split()[0] for line in listed] == [experiment.name for experiment in SURVEY]
    assert tyro.cli(Reproduce, args=["perpgrad", "--list"]).run() == 0
    assert capsys.readouterr().out.startswith("perpgrad ")
    pages = tmp_path / "pages"
    assert tyro.cli(Reproduce, args=["survey", "--out", str(tmp_path), "--findings", str(pages)]).run() == 0
    assert f"findings: {pages / 'index.md'}" in capsys.readouterr().out.replace("\n", "")
    names = {path.stem for path in pages.iterdir()}
    assert names == {"index", *(finding.slug for study in STUDIES for finding in study.findings)}
    with pytest.raises(ValueError, match="--findings goes with survey or parallax"):
        tyro.cli(Reproduce, args=["perpgrad", "--findings", str(pages)]).run()
    with pytest.raises(ValueError, match="--text goes with one experiment; leave it out, or name one of parallax"):
        tyro.cli(Reproduce, args=["parallax", "--text", "code", "--out", str(tmp_path)]).run()
    with pytest.raises(ValueError, match="--text goes with one"):
        tyro.cli(Reproduce, args=["survey", "--text", "code", "--findings", str(pages)]).run()
    assert set(FINDINGS) == set(WITH_FINDINGS)


def test_parallax_has_a_list_of_its_own_beside_the_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = Reproduce.run
    named = list[str | None]()

    def recorded(self: Reproduce) -> int:
        named.append(self.name)
        return run(self) if self.name == "parallax" else 0

    monkeypatch.setattr(Reproduce, "run", recorded)
    assert tyro.cli(Reproduce, args=["parallax", "--out", str(tmp_path)]).run() == 0
    names = [study.experiment.name for study in FINDINGS["parallax"][1]]
    assert named == ["parallax", *names]
    assert (tmp_path / "findings" / "parallax" / "index.md").exists()
    assert not (tmp_path / "findings" / "index.md").exists()


def test_the_survey_reproduces_every_study_then_writes_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    named, run = list[str | None](), Reproduce.run

    def recorded(self: Reproduce) -> int:
        named.append(self.name)
        return run(self) if self.name == "survey" else int(self.name == "survey-retnet")

    monkeypatch.setattr(Reproduce, "run", recorded)
    assert tyro.cli(Reproduce, args=["survey", "--out", str(tmp_path)]).run() == 1
    assert named == ["survey", *(experiment.name for experiment in SURVEY)]
    assert (tmp_path / "findings" / "index.md").exists()
