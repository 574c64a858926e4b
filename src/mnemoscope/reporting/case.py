"""One examined model, as the report wants it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.runs import Examination, Manifest, RunDirectory
from mnemoscope.runs.trace import TRACE, Trace, load_trace


@dataclass(frozen=True, kw_only=True)
class Case:
    """One examined model: a section of the report, a column of its comparison.

    Args:
        label: what the reader calls it, for example "Recall, before".
        question: one sentence: what was asked of this model, or what it was trained on.
        examination: what was measured.
        metrics: rows of the training log, each with "step" and floats; names that contain "loss" or "accuracy"
            are drawn.
        config: the run's settings, nested or flat; shown as they are.
        manifest: where the trained model came from, or None if no run directory tells.
        trace: of one sequence, token by token; None where none was made.
    """

    label: str
    question: str
    examination: Examination
    metrics: Sequence[Mapping[str, float]] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    manifest: Manifest | None = None
    trace: Trace | None = None

    def __post_init__(self) -> None:
        """Refuse a log that cannot be placed on an axis."""
        for i, row in enumerate(self.metrics):
            if "step" not in row:
                raise ValueError(
                    f"metrics[{i}] of case {self.label!r}: a row needs a 'step', got only {sorted(row)}; "
                    "add the training step at which these numbers were measured"
                )


def from_run(directory: str | Path, label: str | None = None, question: str | None = None) -> Case:
    """The case of a run that has been examined, from its files alone.

    Args:
        directory: the run's folder.
        label: what the reader calls it; by default the name in the run's settings, or else the folder's.
        question: one sentence; by default the one question that every examination answers.

    Raises:
        ValueError: if this is no run, it has not been examined yet, or one of its files is damaged.
    """
    run = RunDirectory.open(directory)
    if not run.verdicts_path.exists():
        raise ValueError(
            f"{directory}: a report needs {run.verdicts_path.name}, and this run has not been examined; "
            f"examine it first: mnemoscope examine {directory}"
        )
    examination, resolved = run.read_examination(), run.read_config().resolved
    name = str(resolved.get("name") or run.path.resolve().name)
    return Case(
        label=name if label is None else label,
        question=f"Is the memory of {examination.subject} load-bearing or decorative?"
        if question is None
        else question,
        examination=examination,
        metrics=run.read_metrics(),
        config=resolved,
        manifest=run.read_manifest(),
        trace=load_trace(run.path) if (run.path / TRACE).is_file() else None,
    )
