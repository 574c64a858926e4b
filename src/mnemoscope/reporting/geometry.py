"""The page of a geometry examination: is a table of embeddings a map of its graph, and what does that rest on?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mnemoscope.reporting.canvas import Drawing
from mnemoscope.reporting.geometry_figures import geometry_figures
from mnemoscope.reporting.geometry_glossary import GEOMETRY_FORMS, GEOMETRY_KINDS, GEOMETRY_TERMS
from mnemoscope.reporting.geometry_scenes import turning
from mnemoscope.reporting.geometry_tables import (
    comparison_table,
    headline,
    kind_and_form,
    made_with,
    metrics_table,
    snapshots_table,
    totals,
)
from mnemoscope.reporting.rendering import rendered, write_page
from mnemoscope.reporting.tables import Table
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.turning import Turning, policy, script
from mnemoscope.runs.geometry import GeometryExamination


@dataclass(frozen=True, kw_only=True)
class Section:
    """One examination, in the words, tables and drawings of its section."""

    key: str
    examination: GeometryExamination
    headline: str
    meaning: str
    totals: list[tuple[str, str, str, str]]
    metrics: Table
    snapshots: Table | None
    turning: Turning | None
    drawings: list[Drawing]
    made_with: list[tuple[str, str]]


def render_geometry(
    examination: GeometryExamination | Sequence[GeometryExamination],
    title: str = "Geometry of a memory",
    files: Files | None = None,
) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same examinations give the same bytes.

    Its one script turns the picture of the nodes; without scripts, everything else and a still picture are there.

    Args:
        examination: what was found; with several, a comparison precedes their sections.
        title: of the page.
        files: where its figures and tables go; None for links that hold them.

    Raises:
        ValueError: without an examination.
    """
    examinations = [examination] if isinstance(examination, GeometryExamination) else list(examination)
    if not examinations:
        raise ValueError("examination: a report needs at least one geometry examination, got none; make one first")
    fields = geometry_fields(examinations, title)
    turns = any(section.turning is not None for section in fields["sections"])
    inline = {"policy": Markup(policy()) if turns else "", "script": Markup(script()) if turns else ""}
    return rendered("geometry.html.j2", files, **fields, **inline)


def geometry_fields(examinations: Sequence[GeometryExamination], title: str) -> dict[str, Any]:
    """What the template of the page shows, by name, but for `policy` and `script`."""
    return {
        "title": title,
        "command": next((one.command for one in examinations if one.command), ""),
        "sections": [_section(one, f"geometry-{i}") for i, one in enumerate(examinations, start=1)],
        "comparison": comparison_table(examinations) if len(examinations) > 1 else None,
        "kinds": GEOMETRY_KINDS,
        "forms": GEOMETRY_FORMS,
        "terms": GEOMETRY_TERMS,
    }


def write_geometry(
    examination: GeometryExamination | Sequence[GeometryExamination],
    path: str | Path,
    title: str = "Geometry of a memory",
    files: bool = False,
) -> Path:
    """Write `render_geometry`'s text to a file; with `files`, what it shows beside it (`write_page`).

    Raises:
        ValueError: without an examination, or with `files` without the packages that make PDFs.
        OSError: if the file cannot be written; what was there before is still there.
    """
    return write_page(path, files, lambda kept: render_geometry(examination, title, kept))


def _section(examination: GeometryExamination, key: str) -> Section:
    return Section(
        key=key,
        examination=examination,
        headline=headline(examination),
        meaning=kind_and_form(examination),
        totals=totals(examination),
        metrics=metrics_table(examination),
        snapshots=snapshots_table(examination),
        turning=turning(examination, f"{key}-nodes"),
        drawings=geometry_figures(examination, key),
        made_with=made_with(examination),
    )
