"""Examinations to compare, by the words of a command line; what has not been examined yet is examined first."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnemoscope.examination import Budget
from mnemoscope.examination.protocol.looks import Progress
from mnemoscope.experiments.examining import Choice, examine_subject, keep
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.subjects import of_run, run_of_checkpoint
from mnemoscope.reporting import Case
from mnemoscope.reporting.changes import compare, difference
from mnemoscope.runs import Examination, RunDirectory, read_record
from mnemoscope.runs.directory import VERDICTS

__all__ = ["compare", "difference", "examination_of", "labels_of", "to_compare"]


def examination_of(source: str | Path, budget: Budget, progress: Progress | None = None) -> Examination:
    """The examination that a path names: a verdicts.json, a folder with one, a run, or a checkpoint of a run.

    A run or checkpoint without one is examined first, and its verdicts.json written beside it.

    Raises:
        ValueError: where there is nothing of the kind.
    """
    path = Path(source)
    if path.is_file():
        return read_record(path, Examination)
    if (path / VERDICTS).is_file():
        return read_record(path / VERDICTS, Examination)
    run = run_of_checkpoint(path)
    if run is None and not (path.is_dir() and RunDirectory(path).begun):
        raise ValueError(
            f"compare: {source} is neither a verdicts.json, nor a folder with one, nor a run or checkpoint of a run; "
            "examine it first: mnemoscope examine"
        )
    subject = of_run(run or path, Data(), budget, None if run is None else path)
    examination = examine_subject(subject, budget, Choice(), progress)
    keep(subject, examination, path, f"mnemoscope examine {path}")
    return examination


def to_compare(sources: Sequence[str | Path], examinations: Sequence[Examination]) -> list[Case]:
    """The examinations as a page of comparison wants them: with labels that differ, and what their runs logged.

    Args:
        sources: as `examination_of` takes them.
        examinations: what it returned for each.
    """
    cases = []
    for label, source, examination in zip(labels_of(sources), sources, examinations, strict=True):
        question = f"Is the memory of {examination.subject} load-bearing or decorative?"
        case = Case(label=label, question=question, examination=examination)
        run = _run_of(Path(source))
        if run is not None:
            case = replace(
                case, metrics=run.read_metrics(), config=run.read_config().resolved, manifest=run.read_manifest()
            )
        cases.append(case)
    return cases


def labels_of(sources: Sequence[str | Path]) -> list[str]:
    """What to call each: the shortest ends of the paths that tell them apart; a number where a path comes twice."""
    parts = [_named(Path(source)).parts for source in sources]
    lengths = range(1, max(map(len, parts), default=1) + 1)
    apart = (["/".join(path[-n:]) for path in parts] for n in lengths)
    labels = next((found for found in apart if len(set(found)) == len(set(parts))), [str(path) for path in sources])
    seen: dict[str, int] = {}
    for i, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        labels[i] = label if seen[label] == 1 else f"{label} ({seen[label]})"
    return labels


def _named(path: Path) -> Path:
    """What a path is called after: of a verdicts.json, its folder."""
    return path.parent if path.name == VERDICTS else path


def _run_of(path: Path) -> RunDirectory | None:
    """The run that an examination is one of, if any."""
    folder = _named(path)
    run = RunDirectory(run_of_checkpoint(folder) or folder)
    return run if run.config_path.is_file() and run.manifest_path.is_file() else None
