"""`mnemoscope report`: one offline page over examined runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Report:
    """Draw the report of one or more examined runs, or geometry examinations; several are shown side by side."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of the runs, or of `mnemoscope geometry`."""

    out: Path | None = None
    """The HTML file; by default report.html in the first run's folder."""

    title: str = "Mnemoscope report"
    """Title of the page."""

    def run(self) -> int:
        """Write the page."""
        from mnemoscope.experiments.reports import report_runs

        if not self.directories:
            raise ValueError("report: needs at least one run's folder; `mnemoscope list runs` shows what there is")
        out = self.out if self.out is not None else self.directories[0] / "report.html"
        print(report_runs(self.directories, out, self.title))
        return 0
