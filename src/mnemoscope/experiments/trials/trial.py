"""Running a trial: every run of every arm, whatever is missing; then what they say together.

FOLDER/control/seed-0/                 a run directory with its verdicts.json
FOLDER/control/seed-0.attempts.json    the processes that worked on it
FOLDER/trial.json                      what all runs that are finished say, rewritten after each
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mnemoscope.contracts.written import write_calls
from mnemoscope.experiments.calibrate import versions
from mnemoscope.experiments.executors import Executor, LocalPool
from mnemoscope.experiments.trained.truth import all_memories
from mnemoscope.experiments.trials.acceptance import compare, pooled
from mnemoscope.experiments.trials.jobs import Job, run_job
from mnemoscope.experiments.trials.plan import Arm, TrialPlan
from mnemoscope.models import build_model
from mnemoscope.runs import Estimate, Row, RunDirectory, read_record, write_record
from mnemoscope.runs.trial import ArmRecord, SeedRecord, Trial
from mnemoscope.training import load_recipe
from mnemoscope.training.remedies import treated

TRIAL = "trial.json"
Say = Callable[[str], None]


def run_trial(
    plan: TrialPlan,
    folder: str | Path,
    say: Say,
    *,
    executor: Executor | None = None,
    command: str = "",
    device: str = "cpu",
) -> Trial:
    """Train and examine what is missing, and say what all of it says.

    Runs that are finished are not done again, those that were stopped or killed go on from their last checkpoint, and
    those that failed are tried once more. A run that fails does not stop the others.

    Args:
        plan: what to train.
        folder: of the trial; made if absent.
        say: told what happens.
        executor: where; None for local processes.
        command: that makes it, for the record.
        device: where every run is trained and examined, for instance "cpu" or "cuda".

    Raises:
        ValueError: a folder that holds runs of other recipes, or a remedy that the model has no place for.
        KeyboardInterrupt: what is finished is kept, and the same call goes on.
    """
    folder = Path(folder)
    jobs = [replace(job, device=device) for job in plan.jobs(folder.absolute())]
    _check_recipes(jobs)
    _check_remedies(plan)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [job for job in jobs if not job.is_finished]
    failures, began, seconds = dict[str, str](), time.perf_counter(), _seconds_before(folder)
    if len(waiting) < len(jobs):
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already")
    for number, ended in enumerate((executor or LocalPool()).run(waiting, run_job), start=1):
        if ended.failure:
            failures[ended.job.name] = ended.failure
        taken = time.perf_counter() - began
        left = taken / number * (len(waiting) - number)
        trial = _summary(plan, jobs, failures, command, seconds + taken)
        write_record(folder / TRIAL, trial)
        say(f"[{number}/{len(waiting)}] {_line(trial, ended.job)}; about {left / 60:.0f} min left")
    trial = _summary(plan, jobs, failures, command, seconds + time.perf_counter() - began)
    write_record(folder / TRIAL, trial)
    return trial


def read_trial(folder: str | Path) -> Trial:
    """What a trial found so far.

    Raises:
        ValueError: where there is none.
    """
    return read_record(Path(folder) / TRIAL, Trial)


def _check_remedies(plan: TrialPlan) -> None:
    """Refuse, before anything is trained, what no run of an arm could begin with."""
    for arm in plan.arms:
        try:
            with treated(build_model(arm.recipe.model, 0), arm.recipe.remedies):
                pass
        except ValueError as error:
            raise ValueError(f"trial: arm {arm.name}: {error}") from error


def _check_recipes(jobs: list[Job]) -> None:
    """Refuse a folder of another trial, before anything is trained or believed."""
    for job in jobs:
        if RunDirectory(job.folder).config_path.exists() and load_recipe(job.folder) != job.recipe:
            raise ValueError(
                f"{job.folder}: holds a run of another recipe than {job.name} of this trial; name another folder"
            )


def _summary(plan: TrialPlan, jobs: list[Job], failures: dict[str, str], command: str, seconds: float) -> Trial:
    arms = [_arm(arm, [job for job in jobs if job.arm == arm.name], failures) for arm in plan.arms]
    control, *others = arms
    trial = Trial(
        name=plan.name,
        command=command,
        arms=arms,
        comparisons=[compare(control, arm, len(others)) for arm in others],
        missing=[f"{arm.name} seed {seed.seed}: {seed.failure}" for arm in arms for seed in arm.seeds if seed.failure],
        seconds=seconds,
        versions=versions(),
    )
    return trial.model_copy(update={"claims": plan.claims(trial)})


def _arm(arm: Arm, jobs: list[Job], failures: dict[str, str]) -> ArmRecord:
    seeds = [_seed(job, failures.get(job.name, "")) for job in jobs]
    shares, effects = ([getattr(seed, name) for seed in seeds] for name in ("share", "effect"))
    return ArmRecord(
        name=arm.name,
        what=_what(arm),
        seeds=seeds,
        share=pooled([share for share in shares if share is not None]),
        effect=pooled([effect for effect in effects if effect is not None]),
    )


def _what(arm: Arm) -> str:
    """The remedies of an arm, as they are written."""
    return f"{arm.recipe.name}; {write_calls(arm.recipe.remedies) or 'no remedy'}"


def _seed(job: Job, failure: str) -> SeedRecord:
    if not job.is_finished:
        return SeedRecord(seed=job.seed, folder=_place(job), failure=failure or "not finished")
    run = RunDirectory.open(job.folder)
    examination, rows = run.read_examination(), run.read_metrics()
    memory = all_memories(examination)
    accuracies = [row["validation_accuracy"] for row in rows if "validation_accuracy" in row]
    return SeedRecord(
        seed=job.seed,
        folder=_place(job),
        loss=examination.base_loss,
        demanded_loss=next((part.base_loss for part in examination.subsets if part.name == "demanding"), None),
        accuracy=accuracies[-1] if accuracies else None,
        utility=_utility(rows),
        effect=memory.effects["read"].get("optimal_constant"),
        share=examination.memories_share,
        margin=examination.margin,
        verdict=memory.verdict,
        seconds=max((float(row["seconds"]) for row in run.read_timings()), default=0.0),
    )


def _utility(rows: Sequence[Row]) -> Estimate | None:
    """Of the last evaluation, with 1.96 standard errors to either side; None of what has no episodes."""
    found = [row for row in rows if "validation_utility" in row]
    if not found:
        return None
    mean, error = found[-1]["validation_utility"], 1.96 * found[-1]["validation_utility_se"]
    return Estimate(value=mean, low=mean - error, high=mean + error)


def _place(job: Job) -> str:
    """The run's folder within the trial's."""
    return "/".join(job.folder.parts[-2:])


def _line(trial: Trial, job: Job) -> str:
    (seed,) = (seed for arm in trial.arms if arm.name == job.arm for seed in arm.seeds if seed.seed == job.seed)
    if seed.failure:
        return f"{job.name}: not finished: {seed.failure}"
    share = "unknown" if seed.share is None else f"{max(seed.share.value, 0):.0%}"
    return f"{job.name}: loss {seed.loss}, effect {seed.effect}, share {share}, {seed.verdict}"


def _seconds_before(folder: Path) -> float:
    """What earlier calls took."""
    return read_trial(folder).seconds if (folder / TRIAL).exists() else 0.0
