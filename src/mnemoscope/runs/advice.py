"""The record of advice on a run: every row of the decision framework with its evidence."""

from typing import Literal

from mnemoscope.runs.manifest import ExitState
from mnemoscope.runs.record import SCHEMA_VERSION, Record

RowStatus = Literal["holds", "fine", "does not hold", "cannot be told"]
"""A row that holds asks for a change; a fine one holds and asks for none."""


class RowAdvice(Record):
    """One row of the framework on one run.

    Args:
        number: in the framework; one condition with several changes has several rows.
        condition: in words.
        status: whether it holds.
        evidence: what was seen; empty where nothing was.
        to_tell: what to log or to say, where it cannot be told.
        diagnosis: what it would mean.
        change: what to try.
        guide: what the guide says.
        here: what this project found, and where that is written.
        corrected: what is read in place of the guide's measurement.
        commands: try the change on this run, each in a new folder; several where they are to be told apart.
        remark: why there is no command.
    """

    number: int
    condition: str
    status: RowStatus
    evidence: str
    to_tell: list[str]
    diagnosis: str
    change: str
    guide: str
    here: str
    corrected: str
    commands: list[str]
    remark: str


class Advice(Record):
    """All rows on a run.

    Args:
        run: its folder.
        state: how the training ended; "running" may also be a killed one.
        rows: in order.
        log: trains it again with the figures that were missing; empty where none were.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    state: ExitState
    rows: list[RowAdvice]
    log: str = ""

    def with_status(self, *statuses: RowStatus) -> list[RowAdvice]:
        """The rows of some statuses, in order."""
        return [row for row in self.rows if row.status in statuses]
