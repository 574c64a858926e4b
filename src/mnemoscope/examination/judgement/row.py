"""What a row of the decision framework is.

Changes are settings by owner and name: "train.loss=cross_entropy", "*.initial_retention=0.9" for every part that has
such a setting; names in braces are filled in from the run (half its learning rate, twice its inner step).
"""

import shlex
from dataclasses import dataclass

from mnemoscope.examination.judgement.signs import Aim
from mnemoscope.examination.judgement.symptoms import Symptom

PATIENCE, ISOLATION = 24, 25
"""Rows that propose no change of their own."""


@dataclass(frozen=True)
class Row:
    """A row of the framework.

    Args:
        number: in the guide's table; one condition with several changes has several rows.
        condition: in words.
        found: looks for the condition.
        diagnosis: what is wrong.
        change: what to try.
        corrected: what is read in place of a measurement that could not say it, or what of the guide did not hold.
        sets: settings of the run's recipe that make the change.
        command: tries the change on a recipe that has no such settings; RECIPE and OUT stand for the user's own.
        is_fine: whether nothing is to be changed.
        aim: the wish that the row answers; None for rows that a measurement answers.
    """

    number: int
    condition: str
    found: Symptom
    diagnosis: str
    change: str
    corrected: str = ""
    sets: tuple[str, ...] = ()
    command: str = ""
    is_fine: bool = False
    aim: Aim | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether its change is one of those that are told apart by trying them one by one."""
        return not self.is_fine and self.number not in (PATIENCE, ISOLATION)

    @property
    def generic_command(self) -> str:
        """Tries the change on any recipe that can take it; empty where it depends on the run."""
        if self.command or not self.sets or any("{" in each for each in self.sets):
            return self.command
        return f"mnemoscope train RECIPE --set {shlex.join(self.sets)} --out OUT"
