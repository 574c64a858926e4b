"""`mnemoscope report`: one offline page over examined runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Report:
    """Draw the report of one or more examined runs, or geometry examinations, side by side where there are several; or
    of a trial or a reproduction.
    """

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of the runs, or of `mnemoscope geometry`; the folder of one trial or one reproduction."""

    out: Path | None = None
    """The HTML file; by default report.html in the first run's folder."""

    title: str = "Mnemoscope report"
    """Title of the page; a trial and a reproduction have their own."""

    files: bool = False
    """Write every figure as SVG and PDF and every table as CSV and LaTeX into NAME-files beside the page, which links
    to them. Without it the page stays one file, whose links hold CSV, LaTeX and SVG."""

    def run(self) -> int:
        """Write the page."""
        from mnemoscope.experiments.reports import report_runs

        if not self.directories:
            raise ValueError("report: needs at least one run's folder; `mnemoscope list runs` shows what there is")
        out = self.out if self.out is not None else self.directories[0] / "report.html"
        print(report_runs(self.directories, out, self.title, files=self.files))
        return 0
