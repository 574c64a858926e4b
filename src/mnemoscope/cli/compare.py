"""`mnemoscope compare A B ...`: what changed between examinations."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from mnemoscope.reporting.changes import Change, Comparison


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare two or more examinations: effects, verdicts, and whether a change is beyond both intervals.

    The others are compared with the first. What has not been examined yet is examined first. With --html, a page
    draws the curves of all over each other and shows the settings that differ.
    """

    examinations: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Each a run, a checkpoint of a run (RUN/checkpoints/step-...), a folder with a verdicts.json, or such a file."""

    html: Path | None = None
    """Write a page of the comparison, one offline HTML file."""

    files: bool = False
    """With --html: figures and tables as files beside the page (CSV, LaTeX, SVG, PDF), not as links that hold them."""

    title: str = "Mnemoscope comparison"
    """Title of the page."""

    calibration: int = 512
    """Sequences on which constants are fitted, for what has not been examined yet."""

    test: int = 1024
    """Held-out sequences on which effects are measured."""

    fit_steps: int = 300
    """Optimisation steps of an optimal constant."""

    def run(self) -> int:
        """Compare, print, and write the page that is asked for."""
        if len(self.examinations) < 2:
            raise ValueError(
                f"compare: needs at least two examinations, got {len(self.examinations)}; `mnemoscope list runs` shows "
                "what there is"
            )
        if self.files and self.html is None:
            raise ValueError("compare: --files lie beside a page; say which with --html FILE, or leave --files out")
        if self.html is not None and self.html.is_dir():
            raise ValueError(f"compare: --html {self.html} is a folder; name a file in it")
        from mnemoscope.cli.advance import Advance
        from mnemoscope.examination import Budget
        from mnemoscope.experiments.comparing import compare, examination_of, to_compare

        budget = Budget(n_calibration=self.calibration, n_test=self.test, fit_steps=self.fit_steps)
        with Advance() as advance:
            found = [examination_of(path, budget, advance) for path in self.examinations]
        first, *others = map(str, self.examinations)
        for other, examination in zip(others, found[1:], strict=True):
            _print(compare(found[0], examination, (first, other)))
        if self.html is not None:
            from mnemoscope.reporting.comparison import write_comparison

            words = shlex.join(["mnemoscope", *sys.argv[1:]])
            print(write_comparison(to_compare(self.examinations, found), self.html, words, self.title, self.files))
        return 0


def _print(comparison: "Comparison") -> None:
    from rich.console import Console
    from rich.table import Table

    first, second = comparison.names
    table = Table(title=f"A: {first}\nB: {second}", title_justify="left", box=None, pad_edge=False)
    table.add_column("site")
    for name in ("A", "B", "B - A"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for change in comparison.changes:
        effects = [*change.effects, change.difference]
        table.add_row(change.name, *("-" if effect is None else str(effect) for effect in effects), _verdicts(change))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140, highlight=False).print(table)
    for change in comparison.changes:
        if change.difference is not None:
            beyond = "changed by more than" if change.is_beyond_both else "did not change by more than"
            print(f"  {change.name}: the effect of the optimal constant {beyond} both intervals leave open")
    print(f"  loss: B - A {comparison.loss} nats")
    print("  intervals of B - A are those of independent samples: the records hold no losses to pair")
    for remark in comparison.remarks:
        print(f"  {remark}")


def _verdicts(change: "Change") -> str:
    first, second = (verdict or "-" for verdict in change.verdicts)
    return f"{first} -> {second}" if change.is_another_verdict else first
