"""Reports of runs, with the command that makes them again."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mnemoscope.reporting import from_run, write
from mnemoscope.reporting.geometry import write_geometry
from mnemoscope.runs import RunDirectory, read_record
from mnemoscope.runs.geometry import GeometryExamination

GEOMETRY = "geometry.json"


def report_runs(directories: Sequence[str | Path], out: str | Path, title: str = "Mnemoscope report") -> Path:
    """One offline HTML file over examined runs, or over folders of geometry examinations.

    Raises:
        ValueError: where a folder is not a run, or has not been examined, or where both kinds are asked for together.
    """
    folders = [Path(directory) for directory in directories]
    if any(_holds_geometry(folder) for folder in folders):
        without = next((folder for folder in folders if not _holds_geometry(folder)), None)
        if without is not None:
            raise ValueError(
                f"{without}: holds no {GEOMETRY}, and others do; report geometry examinations and runs apart"
            )
        return write_geometry([read_record(folder / GEOMETRY, GeometryExamination) for folder in folders], out, title)
    cases = [from_run(directory) for directory in directories]
    words = ["mnemoscope", "report", *map(str, directories), "--out", str(out), "--title", title]
    return write(cases, out, shlex.join(words), title)


def _holds_geometry(folder: Path) -> bool:
    """A run's folder is one of a run, whatever else lies in it."""
    return (folder / GEOMETRY).is_file() and not RunDirectory(folder).begun
