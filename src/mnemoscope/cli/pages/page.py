"""A page under the fixed headings, and the parts it is made of.

Every memory, task, measure, remedy and experiment has one. It is made of what stands in the code (the docstring of the
file that holds it, its settings, its claims) and printed by `mnemoscope show` and by the documentation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

HEADINGS = (
    "What it does",
    "Why",
    "Example",
    "How to read it",
    "Known limits",
    "Source",
    "What differs from the source",
)
"""Of every page, in this order."""


@dataclass(frozen=True)
class Prose:
    """Paragraphs, and indented drawings between them, as a docstring has them."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines to be typed: `python`, `bash` or `text`."""

    language: str
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of plain words, the head first."""

    rows: Sequence[Sequence[str]]


Part: TypeAlias = Prose | Code | Table


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is to be known of one thing.

    Args:
        kind: memory, task, measure, remedy or experiment.
        name: as the command line calls it.
        title: what it is, in a line.
        parts: below each of `HEADINGS`.
        module: where it is defined, dotted.

    Raises:
        ValueError: other headings, or one with nothing below it.
    """

    kind: str
    name: str
    title: str
    parts: Mapping[str, Sequence[Part]]
    module: str

    def __post_init__(self) -> None:
        empty = [heading for heading in HEADINGS if not self.parts.get(heading)]
        if empty or set(self.parts) != set(HEADINGS):
            got = ", ".join(self.parts)
            raise ValueError(
                f"page of {self.kind} {self.name}: needs {', '.join(HEADINGS)}, got {got}, with nothing below "
                f"{', '.join(empty) or 'none'}; write it into the docstring of {self.module}"
            )

    @property
    def path(self) -> str:
        """Of the page in the documentation, without an ending."""
        return f"{FOLDERS[self.kind]}/{self.name}"


FOLDERS = {
    "memory": "memories",
    "task": "tasks",
    "measure": "measures",
    "remedy": "remedies",
    "experiment": "experiments",
}
"""Of the pages of each kind."""
