"""The Atlas decision framework at work: every row on what is known of a training, and what the rows that hold propose.

The rows themselves are data, in `rows`; what each looks for is in `symptoms`; what the guide says and what was measured
here is in `said`. A row holds, does not hold, or cannot be told, and then it says what would tell. A verdict of an
examination, where there is one, is better evidence than a gate.

Source: r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md. Levels for "steadily" and "plateau" are ours; see `signs`.
"""

from dataclasses import dataclass, replace

from mnemoscope.examination.judgement.findings import Finding
from mnemoscope.examination.judgement.row import Row
from mnemoscope.examination.judgement.rows import FRAMEWORK
from mnemoscope.examination.judgement.signs import Evidence
from mnemoscope.runs.examination import PrescriptionRecord

__all__ = ["FRAMEWORK", "Assessment", "Row", "advise", "assess"]

GUIDE = "tuning guide of r3d91ll/Todd_Atlas"


@dataclass(frozen=True)
class Assessment:
    """A row, and what looking for its condition gave."""

    row: Row
    finding: Finding

    def record(self, evidence: Evidence) -> PrescriptionRecord:
        """The row, as it stands in the record of an examination."""
        row = self.row
        corrected = f"; corrected: {row.corrected}" if row.corrected else ""
        return PrescriptionRecord(
            site="training" if evidence.site is None else evidence.site.name,
            condition=row.condition,
            diagnosis=row.diagnosis,
            change=row.change,
            source=f"{GUIDE}, row {row.number}{corrected}",
            evidence=self.finding.says,
            command=row.generic_command,
        )


def assess(evidence: Evidence) -> list[Assessment]:
    """Every row, in order; the last ones know how many changes the others propose."""
    held = [row for row in FRAMEWORK if row.is_suspect and row.found(evidence).holds]
    numbers = dict.fromkeys(row.number for row in held)
    changes = {tuple(row.sets or (row.change,) for row in held if row.number == number) for number in numbers}
    evidence = replace(evidence, n_suspects=len(changes))
    return [Assessment(row, row.found(evidence)) for row in FRAMEWORK]


def advise(evidence: Evidence, *, fine: bool = True) -> list[PrescriptionRecord]:
    """The rows that hold, in order.

    Args:
        evidence: what is known.
        fine: also give rows that ask for no change.
    """
    assessed = [each for each in assess(evidence) if each.finding.holds and (fine or not each.row.is_fine)]
    return [each.record(evidence) for each in assessed]
