"""`mnemoscope advise`: the decision framework on a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast, get_args

import tyro

from mnemoscope.cli.terminal import columns, filled

if TYPE_CHECKING:
    from mnemoscope.examination.judgement.signs import Aim
    from mnemoscope.runs.advice import Advice, RowAdvice, RowStatus

Want: TypeAlias = Literal[
    "retain longer",
    "respond faster",
    "learn faster",
    "more expressive",
    "more content",
    "more practice",
    "isolation",
    "easier task",
    "check natural use",
]


_HEADS: "dict[RowStatus, str]" = {
    "holds": "rows that ask for a change",
    "fine": "rows that hold and ask for none",
    "does not hold": "rows that do not hold",
    "cannot be told": "rows that cannot be told from this run",
}


@dataclass(frozen=True, kw_only=True)
class Advise:
    """Go through the 25 rows of the Atlas tuning guide's decision framework on a run: what holds, and what to try.

    Each row that holds is shown with what was seen, what the guide says, what was found here, and a command that tries
    its change. Exit code 1 where a row asks for a change, 0 where none does.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run")]
    """Folder of a training; what `mnemoscope examine` left in it is read too."""

    want: tuple[str, ...] = ()
    """What you want of the memory, which no file says, each in quotes: "retain longer", "respond faster", "learn
    faster", "more expressive", "more content", "more practice", "isolation", "easier task", "check natural use"."""

    task: Literal["language", "mathematics", "other"] | None = None
    """What kind of task it is, where the recipe's is not to be believed."""

    all: bool = False
    """Show every row in full, also those that do not hold or cannot be told."""

    json: bool = False
    """Print one JSON object instead: all rows with everything that is known of them."""

    def run(self) -> int:
        """Read, print, and say by the exit code whether a row asks for a change."""
        from mnemoscope.experiments.advising import advise

        advice = advise(self.run_folder, task=self.task, wants=_wants(self.want))
        if self.json:
            print(advice.model_dump_json(indent=2))
        else:
            _print(advice, self.all)
        return int(bool(advice.with_status("holds")))


def _wants(words: tuple[str, ...]) -> "list[Aim]":
    from mnemoscope.contracts.written import nearest

    for word in words:
        if word not in get_args(Want):
            raise ValueError(f"advise: unknown --want {word!r}{nearest(word, get_args(Want))}")
    return [cast("Aim", word) for word in words]


def _print(advice: "Advice", everything: bool) -> None:
    numbered = {name: sorted({row.number for row in advice.with_status(name)}) for name in _HEADS}
    print(f"{advice.run} ({advice.state})")
    for name, head in _HEADS.items():
        rows = advice.with_status(name)
        if not rows:
            continue
        print(f"\n{head}: {', '.join(map(str, numbered[name]))}")
        for row in rows:
            in_full = everything or name == "holds"
            print("\n".join(_full(row) if in_full else _short(row)))
    if advice.log:
        print(_field("to log what is missing", advice.log, hanging=4))


def _full(row: "RowAdvice") -> list[str]:
    lines = [filled(f"row {row.number}  {row.condition}", columns(), hanging=8)]
    fields = {
        "seen": row.evidence,
        "needs": "; ".join(row.to_tell),
        "means": f"{row.diagnosis}: {row.change}",
        "guide": row.guide,
        "here": row.here,
        "read": row.corrected,
        "no command": row.remark,
    }
    lines += [_field(name, text) for name, text in fields.items() if text]
    return [*lines, *(f"    try: {command}" for command in row.commands), ""]


def _short(row: "RowAdvice") -> list[str]:
    told = "; needs ".join(part for part in (row.evidence, "; ".join(row.to_tell)) if part)
    if row.to_tell and not row.evidence:
        told = f"needs {told}"
    return [filled(f"  row {row.number:<2}  {row.condition}: {told}", columns(), hanging=10)]


def _field(name: str, text: str, hanging: int = 6) -> str:
    return filled(f"    {name}: {text}", columns(), hanging=hanging)
