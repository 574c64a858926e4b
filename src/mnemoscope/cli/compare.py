"""`mnemoscope compare A B`: what changed between two examinations."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from mnemoscope.experiments.comparing import Change, Comparison


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare two examinations: effects, verdicts, and whether a change is beyond both intervals.

    What has not been examined yet is examined first.
    """

    first: Annotated[Path, tyro.conf.Positional]
    """A verdicts.json, a folder with one, a run, or a checkpoint of a run (RUN/checkpoints/step-...)."""

    second: Annotated[Path, tyro.conf.Positional]
    """The same, of what came after."""

    calibration: int = 512
    """Sequences on which constants are fitted, for what has not been examined yet."""

    test: int = 1024
    """Held-out sequences on which effects are measured."""

    fit_steps: int = 300
    """Optimisation steps of an optimal constant."""

    def run(self) -> int:
        """Compare and print."""
        from mnemoscope.cli.advance import Advance
        from mnemoscope.examination import Budget
        from mnemoscope.experiments.comparing import compare, examination_of

        budget = Budget(n_calibration=self.calibration, n_test=self.test, fit_steps=self.fit_steps)
        with Advance() as advance:
            found = [examination_of(path, budget, advance) for path in (self.first, self.second)]
        _print(compare(found[0], found[1], (str(self.first), str(self.second))))
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
