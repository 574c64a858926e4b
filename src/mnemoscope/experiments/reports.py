"""Reports of runs, trials, reproductions and geometry examinations, with the command that makes them again."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mnemoscope.reporting import from_run, write
from mnemoscope.reporting.geometry import write_geometry
from mnemoscope.reporting.reproduction import write_reproduction
from mnemoscope.reporting.trial import write_trial
from mnemoscope.runs import RunDirectory, read_record
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.runs.reproduction import Reproduction
from mnemoscope.runs.trial import Trial

GEOMETRY, TRIAL, REPRODUCTION = "geometry.json", "trial.json", "reproduction.json"


def report_runs(
    directories: Sequence[str | Path], out: str | Path, title: str = "Mnemoscope report", *, files: bool = False
) -> Path:
    """One offline HTML file over examined runs, over folders of geometry examinations, or of one trial or reproduction.

    Args:
        directories: their folders.
        out: the file.
        title: of the page; a trial and a reproduction have their own.
        files: every figure as SVG and PDF, every table as CSV and LaTeX, in a folder beside the page.

    Raises:
        ValueError: where a folder is not a run, or has not been examined, where kinds are asked for together, or with
            `files` the packages that make PDFs are missing.
    """
    folders = [Path(directory) for directory in directories]
    for name in (TRIAL, REPRODUCTION):
        if any(_holds(folder, name) for folder in folders):
            return _alone(folders, name, out, files)
    if any(_holds(folder, GEOMETRY) for folder in folders):
        without = next((folder for folder in folders if not _holds(folder, GEOMETRY)), None)
        if without is not None:
            raise ValueError(
                f"{without}: holds no {GEOMETRY}, and others do; report geometry examinations and runs apart"
            )
        examinations = [read_record(folder / GEOMETRY, GeometryExamination) for folder in folders]
        return write_geometry(examinations, out, title, files)
    cases = [from_run(directory) for directory in directories]
    words = ["mnemoscope", "report", *map(str, directories), "--out", str(out), "--title", title]
    return write(cases, out, shlex.join([*words, *(["--files"] if files else [])]), title, files)


def _alone(folders: Sequence[Path], name: str, out: str | Path, files: bool) -> Path:
    """The page of a trial or of a reproduction."""
    if len(folders) > 1:
        raise ValueError(f"report: a folder with {name} has a page of its own, got {len(folders)} folders; give one")
    path = folders[0] / name
    if name == TRIAL:
        return write_trial(read_record(path, Trial), out, files)
    return write_reproduction(read_record(path, Reproduction), out, files)


def _holds(folder: Path, name: str) -> bool:
    """A run's folder is one of a run, whatever else lies in it."""
    return (folder / name).is_file() and not RunDirectory(folder).begun
