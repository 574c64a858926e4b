"""Examining a subject (a trained run, a Hugging Face model, what a function returns) on held-out data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnemoscope.examination import Budget, examine
from mnemoscope.examination.judgement.subsets import Subset
from mnemoscope.examination.planning import Plan, plan
from mnemoscope.examination.protocol.looks import Progress
from mnemoscope.examination.running.ranks import is_first
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.subjects import Subject, of_run
from mnemoscope.reporting import Case, write
from mnemoscope.runs import Examination, RunDirectory, write_record
from mnemoscope.runs.directory import VERDICTS
from mnemoscope.training.threads import cpu_threads


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What of a subject is examined; see `examine`."""

    sites: Sequence[str] | None = None
    routes: Sequence[str] | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    subsets: Mapping[str, Subset] = field(default_factory=dict)
    local_window: int | None = None
    heads: bool = False


def examine_run(
    directory: str | Path, budget: Budget | None = None, local_window: int | None = None, *, device: str = "cpu"
) -> Examination:
    """Examine every memory of a run and keep the result as its `verdicts.json`.

    Constants are fitted on the validation split, effects measured on the test split.

    Args:
        directory: a run with a checkpoint.
        budget: what it may cost; the splits of a short text may hold fewer sequences than it asks for.
        local_window: see `examine`.
        device: where the model is put.

    Raises:
        ValueError: where there is no run, no checkpoint or no memory.
    """
    budget = budget or Budget()
    subject = of_run(directory, Data(), budget)
    subject.model.to(device)
    examination = examine_subject(subject, budget, Choice(local_window=local_window))
    if is_first():
        RunDirectory.open(directory).write_examination(examination)
    return examination


def examine_subject(subject: Subject, budget: Budget, choice: Choice, progress: Progress | None = None) -> Examination:
    """Verdicts for every memory of a subject; see `examine`."""
    with cpu_threads(subject.threads):
        examination = examine(
            subject.model,
            subject.batches,
            loss=subject.loss,
            sites=choice.sites,
            routes=choice.routes,
            groups=choice.groups,
            subsets=choice.subsets,
            local_window=choice.local_window,
            heads=choice.heads,
            budget=_fitting(subject, budget),
            progress=progress,
        )
    return examination.model_copy(update={"warnings": [*subject.remarks, *examination.warnings]})


def plan_subject(subject: Subject, budget: Budget, choice: Choice) -> Plan:
    """What an examination would do and cost; see `plan`."""
    with cpu_threads(subject.threads):
        return plan(
            subject.model,
            subject.batches,
            loss=subject.loss,
            sites=choice.sites,
            routes=choice.routes,
            groups=choice.groups,
            local_window=choice.local_window,
            heads=choice.heads,
            budget=_fitting(subject, budget),
        )


def keep(subject: Subject, examination: Examination, folder: Path, command: str) -> Path:
    """Write `verdicts.json` and `report.html` into a folder, which is made if absent.

    Returns:
        the path of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / VERDICTS, examination)
    case = Case(
        label=subject.name,
        question=f"Is the memory of {examination.subject} load-bearing or decorative?",
        examination=examination,
    )
    if subject.run is not None:
        resolved = subject.run.read_config().resolved
        case = replace(
            case,
            label=str(resolved.get("name") or subject.name),
            metrics=subject.run.read_metrics(),
            config=resolved,
            manifest=subject.run.read_manifest(),
        )
    return write([case], folder / "report.html", command, f"Mnemoscope report: {subject.name}")


def _fitting(subject: Subject, budget: Budget) -> Budget:
    """The budget of as many sequences as calibrate and test."""
    if subject.sizes is None:
        return budget
    return replace(budget, n_calibration=subject.sizes[0], n_test=subject.sizes[1])
