"""The page of a geometry examination: is a table of embeddings a map of its graph, and what does that rest on?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from mnemoscope.reporting.page import environment
from mnemoscope.reporting.tables import Table
from mnemoscope.reporting.turning import Turning, policy, script
from mnemoscope.runs import write_text
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
    examination: GeometryExamination | Sequence[GeometryExamination], title: str = "Geometry of a memory"
) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same examinations give the same bytes.

    Its one script turns the picture of the nodes; without scripts, everything else and a still picture are there.

    Args:
        examination: what was found; with several, a comparison precedes their sections.
        title: of the page.

    Raises:
        ValueError: without an examination.
    """
    examinations = [examination] if isinstance(examination, GeometryExamination) else list(examination)
    if not examinations:
        raise ValueError("examination: a report needs at least one geometry examination, got none; make one first")
    sections = [_section(one, f"geometry-{i}") for i, one in enumerate(examinations, start=1)]
    turns = any(section.turning is not None for section in sections)
    text = (
        environment()
        .get_template("geometry.html.j2")
        .render(
            title=title,
            command=next((one.command for one in examinations if one.command), ""),
            sections=sections,
            comparison=comparison_table(examinations) if len(examinations) > 1 else None,
            kinds=GEOMETRY_KINDS,
            forms=GEOMETRY_FORMS,
            terms=GEOMETRY_TERMS,
            policy=Markup(policy()) if turns else "",
            script=Markup(script()) if turns else "",
        )
    )
    return text + "\n"


def write_geometry(
    examination: GeometryExamination | Sequence[GeometryExamination],
    path: str | Path,
    title: str = "Geometry of a memory",
) -> Path:
    """Write `render_geometry`'s text to a file, whole or not at all; its folder is made if absent.

    Raises:
        ValueError: without an examination.
        OSError: if the file cannot be written; what was there before is still there.
    """
    text = render_geometry(examination, title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


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
