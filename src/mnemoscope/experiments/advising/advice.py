"""The decision framework on a run: every row with its evidence, what the guide says, what was found, what to try."""

from collections.abc import Collection, Sequence
from pathlib import Path

from mnemoscope.examination.judgement.findings import NEEDS, Finding, Need
from mnemoscope.examination.judgement.framework import Assessment, Row, assess
from mnemoscope.examination.judgement.row import ISOLATION
from mnemoscope.examination.judgement.said import SAID
from mnemoscope.examination.judgement.signs import Aim, TaskKind
from mnemoscope.experiments.advising.reading import RunEvidence, read_run
from mnemoscope.experiments.advising.trying import Trial, apart, logging_command, row_name, trial_of
from mnemoscope.runs.advice import Advice, RowAdvice, RowStatus

METRIC_OF: dict[Need, str] = {
    "gate": "raw_gate",
    "rank": "memory_rank",
    "update": "state_magnitude",
    "dimensions": "effective_dimension",
    "cosine": "gradient_weight_cosine",
    "collapse": "softmax_collapse",
}
"""The metric of a training that tells what is needed."""


def advise(run: str | Path, *, task: TaskKind | None = None, wants: Collection[Aim] = ()) -> Advice:
    """Every row of the Atlas decision framework on a run, from its folder alone; nothing is trained or written.

    Args:
        run: the folder of a training; an examination in it is read too.
        task: whether it is one of language, of mathematics, or neither; None for what the recipe's task is.
        wants: what is wanted of the memory, which no file says.

    Returns:
        the rows in order, each with what was seen, or what to log so that it can be told.

    Raises:
        ValueError: a folder that holds no training, or a file of it that cannot be read.
    """
    seen = read_run(run, task, wants)
    columns = list(zip(*(assess(evidence) for evidence in seen.evidence), strict=True))
    assessments = [_merged(column, seen) for column in columns]
    numbers = [each.row.number for each in assessments]
    rows = [
        _advised(each, assessments, Path(run), seen, _label(numbers, index)) for index, each in enumerate(assessments)
    ]
    unknown = any(row.status == "cannot be told" for row in rows)
    log = logging_command(Path(run), seen.recipe) if unknown and seen.recipe is not None else ""
    return Advice(run=str(run), state=seen.manifest.exit_state, rows=rows, log=log)


def _merged(column: Sequence[Assessment], seen: RunEvidence) -> Assessment:
    """One row over all memories: it holds where it holds for one of them."""
    several = len(column) > 1
    names = [evidence.site.name if several and evidence.site else "" for evidence in seen.evidence]
    held = [(name, each.finding) for name, each in zip(names, column, strict=True) if each.finding.holds]
    if held:
        told = {found.says for _, found in held}
        if len(held) == len(column) and len(told) == 1:
            return Assessment(column[0].row, Finding(True, told.pop()))
        says = "; ".join(f"{name}: {found.says}" if name else found.says for name, found in held)
        return Assessment(column[0].row, Finding(True, says))
    return next((each for each in column if each.finding.holds is None), column[0])


def _advised(each: Assessment, all_rows: Sequence[Assessment], run: Path, seen: RunEvidence, label: str) -> RowAdvice:
    row, finding = each.row, each.finding
    status = _status(each)
    said, trial = SAID[row.number], Trial([])
    if status != "cannot be told" or row.aim is not None:
        trial = apart(all_rows, run, seen.recipe) if row.number == ISOLATION else trial_of(row, run, seen.recipe, label)
    if row.number == ISOLATION and status != "holds":
        trial = Trial([])
    return RowAdvice(
        number=row.number,
        condition=row.condition,
        status=status,
        evidence=finding.says,
        to_tell=[_to_tell(need, row, run, seen) for need in finding.needs],
        diagnosis=row.diagnosis,
        change=row.change,
        guide=said.guide,
        here=said.here,
        corrected=row.corrected,
        commands=trial.commands,
        remark=trial.remark,
    )


def _status(each: Assessment) -> RowStatus:
    if each.finding.holds is None:
        return "cannot be told"
    if not each.finding.holds:
        return "does not hold"
    return "fine" if each.row.is_fine else "holds"


def _to_tell(need: Need, row: Row, run: Path, seen: RunEvidence) -> str:
    """What to log, or to say, on this run."""
    if need == "wish":
        return f'--want "{row.aim}", which no file says'
    if need == "task":
        return "--task language, mathematics or other"
    taken = None if seen.recipe is None or seen.recipe.train.metrics is None else seen.recipe.train.metrics.names
    metric = METRIC_OF.get(need)
    text = NEEDS[need]
    if metric is not None and taken is not None and metric in taken:
        text += f" ({metric} was taken and had nothing to say of this model)"
    if need in ("use", "gate", "rank") and not seen.examined:
        text += f"; mnemoscope examine {run}"
    return text


def _label(numbers: Sequence[int], index: int) -> str:
    """Of the folder of a row's trial: the number, with a letter where several rows have it."""
    number = numbers[index]
    letter = "abcdefgh"[numbers[:index].count(number)] if numbers.count(number) > 1 else ""
    return f"{row_name(number)}{letter}"
