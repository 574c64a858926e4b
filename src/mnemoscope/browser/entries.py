"""What the browser lists: runs, trials, reproductions and examinations of embeddings, each in a line."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from mnemoscope.browser.untrusted import Stamp

Kind = Literal["run", "trial", "reproduction", "geometry"]
State = Literal["running", "silent", "finished", "interrupted", "failed", "damaged"]
"""Of a run as its manifest says; `silent`: it says running, and has written nothing for a while, as a killed process
does. A trial or a reproduction that lacks seeds is `running`."""

FILES: dict[Kind, tuple[str, ...]] = {
    "run": ("config.json", "manifest.json", "metrics.jsonl", "timings.jsonl", "verdicts.json"),
    "trial": ("trial.json",),
    "reproduction": ("reproduction.json",),
    "geometry": ("geometry.json",),
}
"""What each is read from; the first of them must be there, of a run the first two."""

SILENT_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the list.

    Args:
        kind: what it is.
        name: its path below the folder that is served, with slashes; what addresses are made of.
        path: its folder.
        stamps: of the files it was read from.
        title: what people call it.
        state: how it ended, or that it has not.
        about: a sentence, or why it cannot be read.
        badges: verdicts or outcomes, most frequent first, each with its number.
        started: when it began.
        changed: seconds since 1970, of the youngest file.
        step: of the last row that was logged.
        steps: that are wanted; None where nobody says.
        loss: the last one that was logged.
        loss_name: what that figure is called.
        spark: steps and losses, few.
        report: whether a stored page lies beside it.
        trace: whether a stored trace lies beside it.
    """

    kind: Kind
    name: str
    path: Path
    stamps: tuple[Stamp | None, ...]
    title: str
    state: State
    about: str = ""
    badges: tuple[tuple[str, int], ...] = ()
    started: datetime | None = None
    changed: float = 0.0
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    loss_name: str = ""
    spark: tuple[tuple[float, float], ...] = ()
    report: bool = False
    trace: bool = False

    def at(self, now: float) -> "Entry":
        """The same, `silent` where it says that it runs and has written nothing for ten minutes."""
        if self.kind == "run" and self.state == "running" and now - self.changed > SILENT_SECONDS:
            return replace(self, state="silent")
        return self
