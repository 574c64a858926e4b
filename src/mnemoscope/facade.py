"""Short forms for the three-line user."""

from pathlib import Path

from mnemoscope.reporting import Case, write
from mnemoscope.reporting.geometry import write_geometry
from mnemoscope.runs import Examination
from mnemoscope.runs.geometry import GeometryExamination


def report(
    examination: Examination | GeometryExamination,
    path: str | Path = "report.html",
    *,
    title: str = "Mnemoscope report",
    files: bool = False,
) -> Path:
    """Write an examination as one offline HTML file.

    Args:
        examination: what `examine` or `examine_geometry` returned.
        path: the file.
        title: of the page.
        files: every figure as SVG and PDF, every table as CSV and LaTeX, in a folder beside the page (the extra
            `figures`); else links of the page hold CSV, LaTeX and SVG.

    Returns:
        The file's path.
    """
    if isinstance(examination, GeometryExamination):
        return write_geometry(examination, path, title, files)
    question = f"Is the memory of {examination.subject} load-bearing or decorative?"
    case = Case(label=examination.subject, question=question, examination=examination)
    return write([case], path, f"mnemoscope.report(examination, {str(path)!r})", title, files)
