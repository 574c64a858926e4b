"""`mnemoscope trial`: what it refuses, what it prints, and what it leaves."""

import json
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tyro
from pydantic import TypeAdapter

from mnemoscope.cli.list import List
from mnemoscope.cli.trial import Trial
from mnemoscope.cli.trial_tables import comparisons_table, seeds_table, trial_lines, utilities_table
from mnemoscope.experiments import executors, trials
from mnemoscope.experiments.trials import plan_trial, read_trial
from mnemoscope.experiments.trials.jobs import Job
from mnemoscope.runs.trial import ArmComparison, Outcome
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import BranchDropout
from tests.unit.cli.calling import called
from tests.unit.experiments.small_trials import BUDGET, RECIPE, Here
from tests.unit.reporting.trial_samples import FAILURE, of_episodes, too_few, trial

LONG = "negative_control_reinitialise_slots+branch_dropout"
OUTCOMES: list[Outcome] = ["accepted", "forced, not useful", "harmful", "no effect", "inconclusive", "too few seeds"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", ["dropout", LONG])
def test_names_verdicts_and_outcomes_are_whole_at_any_width(name: str, width: int):
    lines = trial_lines(trial(name), width)
    assert all(len(line) <= width or name in line for line in lines)
    text = "\n".join(lines)
    for whole in (name, "load-bearing (shared)", "load-bearing (sole)", "too few seeds", "inconclusive"):
        assert whole in text
    assert FAILURE in " ".join(text.split())
    assert "(11 seeds would decide)" in " ".join(text.split())
    assert [line[:6].strip() for line in lines if line.startswith(("yes", "NO", "open"))] == ["yes", "NO", "open"]


def test_the_seeds_at_120_and_80_columns():
    wide, narrow = (seeds_table(trial(), width) for width in (120, 80))
    assert wide[0].split() == narrow[0].split() == ["seed", "loss", "accuracy", "effect", "share", "verdict"]
    assert wide[1] == narrow[1] == "wide: Recall, attention window 48; no remedy"
    assert " ".join(wide[2].split()) == (
        "0 0.020 [0.016, 0.024] 0.988 0.120 [0.070, 0.170] 39% [38%, 41%] load-bearing (shared)"
    )
    assert " ".join(narrow[2].split()) == "0 0.020 0.988 0.120 [0.070, 0.170] 39% load-bearing (shared)"
    assert " ".join(wide[5].split()) == "mean 0.040 [-0.760, 0.840] 13% [0%, 30%]"
    at = wide[0].index("verdict")
    assert all(line[at:] in ("decorative", "redundant", "", "verdict") or "load" in line[at:] for line in wide[2:6])


def test_the_comparisons_at_120_and_80_columns():
    wide, narrow = (comparisons_table(trial(), width) for width in (120, 80))
    assert wide[0].split("  ")[0] == narrow[0].split("  ")[0] == "arm"
    assert wide[2].split() == ["branch_dropout", "1.240", "1.280", "42%", "-0.004", "0.006", "0.250", "inconclusive"]
    assert " ".join(wide[3].split()).startswith("[-3.360, 5.840] [-3.320, 5.880] [-48%, 132%] [-0.016, 0.008]")
    assert narrow[2].split() == ["branch_dropout", "1.240", "-0.004", "0.006", "0.250", "inconclusive"]
    assert wide[4] == "narrow: 1 seed is finished in both arms; 3 allow a statement"


def test_utilities_of_trainings_in_episodes():
    rows = [line.split() for line in utilities_table(of_episodes(), 80)]
    assert rows[0] == ["arm", "seed", "utility"]
    assert rows[1] == ["wide", "0", "0.010", "[-0.040,", "0.060]"]
    assert rows[-1] == ["branch_dropout", "gain", "0.300", "[0.180,", "0.420]"]
    assert len(rows) == 1 + 3 + 4 + 1
    assert utilities_table(trial(), 80) == []
    assert "[" not in "".join(utilities_table(of_episodes(), 30))


def test_presets_are_arms():
    plan = Trial(recipe="atlas-tiny", presets="option-a, option-b", steps=7)._plan()
    assert [arm.name for arm in plan.arms] == ["control", "option-a", "option-b"]
    assert {arm.recipe.train.steps for arm in plan.arms} == {7}
    assert plan.seeds == 5


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_stands_in_its_row(outcome: Outcome):
    row: ArmComparison = too_few("arm").model_copy(update={"outcome": outcome})
    lines = comparisons_table(trial().model_copy(update={"comparisons": [row]}), 80)
    assert lines[1].endswith(f"  {outcome}")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Trial(recipe="recall-short-window", remedies="branch_dropuot"), "did you mean 'branch_dropout'"),
        (Trial(recipe="recall-short-window", remedies="branch_dropout(strenth=1)"), "did you mean 'strength'"),
        (Trial(recipe="recall-short-window"), "at least one remedy"),
        (Trial(recipe="recall-short-window", remedies="branch_dropout", seeds=0), "seeds must be at least 1"),
        (Trial(recipe="recall-short-window", remedies="branch_dropout", steps=0), "TrainConfig.steps"),
        (Trial(recipe="remedy-pilot", remedies="branch_dropout"), "has its own arms"),
        (Trial(recipe="remedy-pilot", together=True), "has its own arms"),
        (Trial(recipe="remedy-pilot", presets="option-a"), "has its own arms"),
        (Trial(recipe="atlas-tiny", presets="option-a", together=True), "leave out --remedies and --together"),
        (Trial(recipe="atlas-tiny", presets="option-c"), "did you mean 'option-"),
        (Trial(recipe="atlas-tiny+option-c", presets="option-a"), "no preset is called 'option-c'"),
        (Trial(recipe="atlas-tniy+option-a", presets="option-a"), "did you mean 'atlas-tiny"),
        (Trial(recipe="remedy-pilot", seeds=0), "seeds must be at least 1"),
        (Trial(recipe="remedy-pilot", steps=0), "TrainConfig.steps"),
        (Trial(recipe="remedy-pilto"), "did you mean 'remedy-pilot'"),
        (Trial(recipe="recall-short-windw", remedies="branch_dropout"), "did you mean 'recall-short-window'"),
        (Trial(recipe="remedy-pilot", processes=0), "processes must be None or at least 1"),
        (Trial(recipe="remedy-pilot", address="auto"), "--address auto .*add --executor ray"),
        (Trial(recipe="remedy-pilot", gpus_per_run=0.5), "--gpus-per-run 0.5 needs a Ray cluster; add --executor ray"),
        (Trial(recipe="remedy-pilot", executor="ray", processes=0), "at_once must be None or at least 1"),
        (Trial(recipe="remedy-pilot", executor="ray", address="ray://head:10001"), "Ray Client"),
    ],
)
def test_mistakes_are_refused_before_anything_is_made(
    asked: Trial, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        asked.run()
    assert not list(tmp_path.iterdir())


def test_a_mistake_ends_with_2():
    done = called("trial", "recall-short-window", "--remedies", "branch_dropuot")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("mnemoscope: remedies: unknown 'branch_dropuot'; did you mean 'branch_dropout'?")


def test_the_pilot_with_other_seeds():
    plan = Trial(recipe="remedy-pilot", seeds=9, steps=5)._plan()
    assert [plan.seeds_of(arm) for arm in plan.arms] == [9, 2, 9]
    plan = Trial(recipe="remedy-pilot", seeds=1)._plan()
    assert [plan.seeds_of(arm) for arm in plan.arms] == [1, 1, 1]


def test_a_trial_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "trial", "small.json", "--seeds", "1"])
    monkeypatch.setattr(trials, "plan_trial", partial(plan_trial, budget=BUDGET))
    monkeypatch.setattr(executors, "LocalPool", lambda processes: Here())
    recipe = TypeAdapter(Recipe).dump_python(RECIPE, mode="json")
    Path("small.json").write_text(json.dumps({"schema_version": 1, "passed": {}, "resolved": recipe}))
    remedies = "branch_dropout(strength=0.25), stochastic_depth"
    asked = Trial(recipe="small.json", remedies=remedies, together=True, seeds=1)
    assert asked.run() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 runs: control, branch_dropout+stochastic_depth"
    assert said[1].startswith("[1/2] control seed 0: loss ")
    assert "branch_dropout+stochastic_depth  -            -            too few seeds" in said
    assert said[-1] == "runs/trial-small/report.html"
    assert "mnemoscope trial small.json --seeds 1" in Path("runs/trial-small/report.html").read_text()
    found = read_trial("runs/trial-small")
    assert found.arms[1].what == "Small recall; branch_dropout(strength=0.25), stochastic_depth"
    Path("runs/trial-small/control/seed-0/verdicts.json").unlink()
    monkeypatch.setattr(executors, "LocalPool", lambda processes: Fails())
    assert asked.run() == 1
    assert "  seed 0: not finished: no luck" in capsys.readouterr().out.splitlines()


def test_options_reach_the_executor_and_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked, devices = list[dict[str, Any]](), list[str]()

    class Cluster(Here):
        def run(self, jobs, work):
            devices.extend(job.device for job in jobs)
            return super().run(jobs, fail)

    def cluster(**options: Any) -> Here:
        asked.append(options)
        return Cluster()

    monkeypatch.setattr(executors, "RayCluster", cluster)
    command = "recall-short-window --remedies branch_dropout --seeds 1 --processes 3 --executor ray --gpus-per-run 0.5"
    words = [*command.split(), "--address", "head:6379", "--out", str(tmp_path / "trial")]
    assert tyro.cli(Trial, args=words).run() == 1
    assert asked == [{"address": "head:6379", "at_once": 3, "gpus_per_run": 0.5}]
    assert devices == ["cuda", "cuda"]


def fail(job: Job) -> None:
    raise RuntimeError("not today")


class Fails(Here):
    def run(self, jobs, work):
        return (ended._replace(failure="no luck") for ended in super().run(jobs, lambda job: None))


def test_trials_are_listed(capsys: pytest.CaptureFixture[str]):
    assert List(what="trials").run() == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("trials: remedy-pilot The remedy pilot: recall with a window of 4")


PAGE = (Path(__file__).parents[3] / "docs" / "trials.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_are_plans():
    commands = [line for line in PAGE.splitlines() if line.startswith("mnemoscope trial ")]
    plans = [tyro.cli(Trial, args=shlex.split(command)[2:])._plan() for command in commands]
    assert [len(plan.arms) for plan in plans] == [3, 3, 3]


def test_the_executor_of_the_page_reports_every_job(tmp_path: Path):
    scope: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], scope)
    jobs = plan_trial(RECIPE, [BranchDropout()], 2).jobs(tmp_path)

    def work(job: Job) -> None:
        if job.arm == "control":
            raise RuntimeError("no luck")

    found = {ended.job.name: ended.failure for ended in scope["OneAfterTheOther"]().run(jobs, work)}
    assert found == {job.name: "RuntimeError: no luck" if job.arm == "control" else "" for job in jobs}


def test_the_page_names_every_outcome():
    assert all(f"| `{outcome}` |" in PAGE for outcome in OUTCOMES)
