"""`mnemoscope calibrate`: does the examination recognise memories whose verdict is known?"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnemoscope.experiments.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Examine planted memories of every kind and count what the verdict got right; what is finished is kept."""

    instances: int = 20
    """Models of each kind; one takes some 2 s of one core."""

    kinds: str | None = None
    """Some kinds only, as G1,G7; without it all of them, and whether intervals hold at one look and at three."""

    jobs: int = 2
    """Processes, one thread each."""

    out: Path | None = None
    """A page of the results to write, in Markdown."""

    def run(self) -> int:
        """Examine and print; 1 where something is below acceptance."""
        from mnemoscope.cli.printing import say
        from mnemoscope.cli.terminal import columns, filled
        from mnemoscope.experiments.calibrate import calibrate
        from mnemoscope.experiments.calibration import markdown, summary
        from mnemoscope.experiments.planted import KINDS, kinds_named
        from mnemoscope.runs import write_text
        from mnemoscope.tasks.cache import cache_path

        kinds = kinds_named([] if self.kinds is None else [name.strip() for name in self.kinds.split(",")])
        if self.out is not None and not self.out.parent.is_dir():
            raise ValueError(f"calibrate: --out must be in a folder that is there, got {self.out}")
        kept = cache_path("calibration", "instances.jsonl")
        try:
            found = calibrate(kinds, self.instances, self.jobs, kept, say, coverage=len(kinds) == len(KINDS))
        except KeyboardInterrupt:
            say(f"what is finished is in {kept}; the same command goes on from there")
            raise
        _print_table(found)
        for line in summary(found):
            say(filled(line, columns(), 2))
        if self.out is not None:
            command = shlex.join(["mnemoscope", *sys.argv[1:]])
            write_text(self.out, markdown(found, "Calibration of the verdict on planted memories", command))
            say(str(self.out))
        return 1 if found.failures else 0


def _print_table(found: "Calibration") -> None:
    """Aligned; plain when piped."""
    from rich.console import Console
    from rich.table import Table

    from mnemoscope.experiments.calibration import table

    head, *rows = table(found)
    drawn = Table(*head, box=None, pad_edge=False)
    for row in rows:
        drawn.add_row(*row)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(drawn)
