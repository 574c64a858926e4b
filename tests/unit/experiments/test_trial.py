"""A trial from plan to record, in this process: finished once, gone on with, tried again."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.contracts.written import parse_calls, write_calls
from mnemoscope.experiments.trials import TRIALS, Arm, TrialPlan, plan_trial, read_trial, run_trial
from mnemoscope.experiments.trials import jobs as jobs_module
from mnemoscope.experiments.trials.jobs import Job
from mnemoscope.experiments.trials.pilot import claims
from mnemoscope.runs import RunDirectory
from mnemoscope.training import Recipe, load_recipe
from mnemoscope.training.loop import TrainResult
from mnemoscope.training.remedies import REMEDIES, BranchDropout
from tests.unit.experiments.small_trials import RECIPE, Here, small_trial

NAMES = ["control seed 0", "branch_dropout seed 0", "control seed 1", "branch_dropout seed 1"]


def test_two_seeds_of_two_arms_and_a_second_call_that_has_nothing_to_do(tmp_path: Path):
    first, said = Here(), list[str]()
    trial = run_trial(small_trial(), tmp_path / "trial", said.append, executor=first, command="mnemoscope trial x")
    assert first.ran == NAMES
    assert [line.split(": ")[0] for line in said] == [f"[{i}/4] {name}" for i, name in enumerate(NAMES, start=1)]
    assert (trial.name, trial.command, trial.missing) == ("Small recall", "mnemoscope trial x", [])
    assert [[seed.folder for seed in arm.seeds] for arm in trial.arms] == [
        ["control/seed-0", "control/seed-1"],
        ["branch_dropout/seed-0", "branch_dropout/seed-1"],
    ]
    seeds = [seed for arm in trial.arms for seed in arm.seeds]
    assert all(seed.is_finished and seed.verdict and seed.effect and seed.margin for seed in seeds)
    assert [seed.accuracy is not None for seed in seeds] == [True] * 4
    assert len({seed.loss.value for seed in seeds if seed.loss}) == 4
    assert [(row.arm, row.outcome, row.n_seeds) for row in trial.comparisons] == [
        ("branch_dropout", "too few seeds", 2)
    ]
    assert load_recipe(tmp_path / "trial/branch_dropout/seed-1").remedies[0].kind == "branch_dropout"
    assert read_trial(tmp_path / "trial") == trial

    second, said = Here(), []
    again = run_trial(small_trial(), tmp_path / "trial", said.append, executor=second, command=trial.command)
    assert (second.ran, said) == ([], ["4 of 4 runs are finished already"])
    assert again.arms == trial.arms
    assert again.seconds >= trial.seconds
    other = small_trial(recipe=replace(RECIPE, train=replace(RECIPE.train, steps=7)))
    with pytest.raises(ValueError, match=r"control.seed-0: holds a run of another recipe than control seed 0"):
        run_trial(other, tmp_path / "trial", said.append, executor=Here())


def test_a_killed_run_goes_on_and_a_failed_one_is_listed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan, began = small_trial(seeds=1), list[bool]()
    train = jobs_module.train_recipe

    def broken(
        recipe: Recipe, directory: Path, *, resume: bool = False, progress: bool = True, device: str = "cpu"
    ) -> TrainResult:
        if recipe.remedies:
            raise ValueError("no luck")
        train(replace(recipe, train=replace(recipe.train, steps=4)), directory, progress=False)
        as_if_killed(directory, recipe)
        raise KeyboardInterrupt

    def watched(
        recipe: Recipe, directory: Path, *, resume: bool = False, progress: bool = True, device: str = "cpu"
    ) -> TrainResult:
        began.append(resume)
        return train(recipe, directory, resume=resume, progress=progress, device=device)

    monkeypatch.setattr(jobs_module, "train_recipe", broken)
    trial = run_trial(plan, tmp_path, lambda line: None, executor=Here())
    assert trial.missing == ["control seed 0: KeyboardInterrupt: ", "branch_dropout seed 0: ValueError: no luck"]
    assert not any(seed.is_finished for arm in trial.arms for seed in arm.seeds)
    monkeypatch.setattr(jobs_module, "train_recipe", watched)
    executor = Here()
    trial = run_trial(plan, tmp_path, lambda line: None, executor=executor)
    assert (executor.ran, began, trial.missing) == (NAMES[:2], [True, False], [])
    steps = [row["step"] for row in RunDirectory.open(tmp_path / "control/seed-0").read_metrics()]
    assert steps == sorted(set(steps)) == [1, 2, 3, 4, 5, 6]


def as_if_killed(directory: Path, recipe: Recipe) -> None:
    """A training of six steps that was killed after four: the settings are those of six."""
    config, manifest = (directory / name for name in ("config.json", "manifest.json"))
    config.write_text(config.read_text().replace('"steps": 4', f'"steps": {recipe.train.steps}'))
    manifest.write_text(manifest.read_text().replace('"finished"', '"running"'))


def test_a_run_that_is_trained_is_only_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (job, _) = small_trial(seeds=1).jobs(tmp_path)
    jobs_module.run_job(job)
    verdicts = RunDirectory(job.folder).verdicts_path
    verdicts.unlink()
    monkeypatch.setattr(jobs_module, "train_recipe", None)
    jobs_module.run_job(job)
    assert verdicts.exists()


def test_the_pilot_is_what_the_specification_says():
    plan = TRIALS["remedy-pilot"](None)
    assert [(arm.name, plan.seeds_of(arm)) for arm in plan.arms] == [("wide", 8), ("narrow", 2), ("dropout", 8)]
    assert {arm.recipe.train.steps for arm in plan.arms} == {1500}
    assert {arm.recipe.train.steps for arm in TRIALS["remedy-pilot"](7).arms} == {7}
    jobs = plan.jobs(Path("x"))
    assert [job.name for job in jobs[:4]] == ["wide seed 0", "narrow seed 0", "dropout seed 0", "wide seed 1"]
    assert all(job.recipe.train.seed == job.seed and job.local_window == 4 for job in jobs)


def test_the_pilots_claims_are_open_while_seeds_are_missing(tmp_path: Path):
    def nothing(job: Job) -> None:
        raise RuntimeError("not today")

    class Never(Here):
        def run(self, jobs, work):
            return super().run(jobs, nothing)

    trial = run_trial(TRIALS["remedy-pilot"](1), tmp_path, lambda line: None, executor=Never())
    assert [claim.holds for claim in trial.claims] == [None] * 3 == [claim.holds for claim in claims(trial)]
    assert len(trial.missing) == 18


def test_plans_that_cannot_be():
    with pytest.raises(ValueError, match="at least one remedy"):
        plan_trial(RECIPE, [], 3)
    with pytest.raises(ValueError, match="different names"):
        TrialPlan(name="x", arms=(Arm(name="a", recipe=RECIPE),) * 2, seeds=1)


def test_remedies_are_written_as_they_are_read():
    assert write_calls([BranchDropout(strength=0.25, sites=("a", "b")), BranchDropout()]) == (
        "branch_dropout(sites=('a', 'b'), strength=0.25), branch_dropout"
    )
    remedies = (BranchDropout(shared=True, final_strength=0.1), BranchDropout(sites=("blocks.*",)))
    assert parse_calls("remedies", write_calls(remedies), REMEDIES) == remedies
