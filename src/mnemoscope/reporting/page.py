"""Assembling the page: one offline HTML file, the verdict first."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from mnemoscope.reporting.canvas import Drawing
from mnemoscope.reporting.case import Case
from mnemoscope.reporting.evidence import controls_table, rests_table, stored_table, subsets_table
from mnemoscope.reporting.figures import case_figures, comparison_figures
from mnemoscope.reporting.geometry_glossary import GEOMETRY_KINDS
from mnemoscope.reporting.glossary import MEANINGS, OUTCOMES, TERMS
from mnemoscope.reporting.numbers import increase, interval, nats, percent, percent_interval, printable
from mnemoscope.reporting.summary import flip, headline, sentence
from mnemoscope.reporting.tables import (
    Cell,
    Group,
    Table,
    comparison_table,
    measured,
    measures_table,
    origin,
    settings,
    verdict_table,
)
from mnemoscope.reporting.unmeasured import going_on, unmeasured_table
from mnemoscope.runs import Examination, PrescriptionRecord, SiteRecord, write_text
from mnemoscope.runs.examination import ControlRecord


@dataclass(frozen=True, kw_only=True)
class Section:
    """One case, in the words, tables and drawings of its section."""

    key: str
    case: Case
    headline: str
    sentences: list[tuple[SiteRecord, str, str]]
    failed: list[ControlRecord]
    totals: list[tuple[str, str, str, str]]
    verdicts: Table
    subsets: Table | None
    rests: Table | None
    measures: Table | None
    stored: Table | None
    unmeasured: Table | None
    controls: Table | None
    drawings: list[Drawing]
    prescriptions: list[list[PrescriptionRecord]]
    measured: list[tuple[str, str]]
    settings: list[tuple[str, str]]


def render(cases: Sequence[Case], command: str, title: str) -> str:
    """The report as the text of one HTML file that asks for nothing outside itself.

    The same cases give the same bytes.

    Args:
        cases: what was examined; with several, a comparison precedes their sections.
        command: rebuilds this report; printed at its end.
        title: of the page.

    Returns:
        The HTML text.

    Raises:
        ValueError: without a case.
    """
    if not cases:
        raise ValueError("cases: a report needs at least one examined case, got none; examine a model first")
    several = len(cases) > 1
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            command=command,
            sections=[_section(case, f"case-{i + 1}") for i, case in enumerate(cases)],
            comparison=comparison_table(cases) if several else None,
            comparison_drawings=comparison_figures(cases) if several else [],
            meanings=MEANINGS,
            terms=TERMS,
        )
    )
    return text + "\n"


def write(cases: Sequence[Case], path: str | Path, command: str, title: str) -> Path:
    """Write `render`'s text to a file, whole or not at all; its folder is made if absent.

    Raises:
        ValueError: without a case.
        OSError: if the file cannot be written; what was there before is still there.
    """
    text = render(cases, command, title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _section(case: Case, key: str) -> Section:
    examination = case.examination
    return Section(
        key=key,
        case=case,
        headline=headline(examination),
        sentences=[
            (site, sentence(site, examination), flip(site, examination))
            for site in [*examination.sites, *examination.groups]
        ],
        failed=[control for control in examination.controls if not control.passed],
        totals=_totals(examination),
        verdicts=verdict_table(examination),
        subsets=subsets_table(examination),
        rests=rests_table(examination),
        measures=measures_table(examination),
        stored=stored_table(examination),
        unmeasured=unmeasured_table(examination),
        controls=controls_table(examination),
        drawings=case_figures(case, key),
        prescriptions=_grouped(examination.prescriptions),
        measured=[
            *measured(examination),
            ("Going on from a state", going_on(examination.continuation)),
            *origin(case.manifest),
        ],
        settings=settings(case.config),
    )


def _grouped(prescriptions: list[PrescriptionRecord]) -> list[list[PrescriptionRecord]]:
    """The same advice for several sites, once."""
    groups: dict[tuple[str, ...], list[PrescriptionRecord]] = {}
    for row in prescriptions:
        groups.setdefault((row.condition, row.diagnosis, row.change, row.source, row.command), []).append(row)
    return list(groups.values())


def _totals(examination: Examination) -> list[tuple[str, str, str, str]]:
    """The numbers of the whole model: name, value, unit, interval."""
    e = examination
    increases = [("Headroom", e.headroom), ("All memories off", e.memories_off), ("All routes off", e.routes_off)]
    totals = [("Loss", nats(e.base_loss.value), "nats", interval(e.base_loss))]
    totals += [(name, increase(x.value), "nats", interval(x)) for name, x in increases if x is not None]
    if e.memories_share is not None:
        share = percent(e.memories_share.value)
        totals.append(("Share of all memories", share, "of headroom", percent_interval(e.memories_share)))
    return [*totals, ("Margin ε", nats(e.margin), "nats", "")]


def _numbers_table(drawing: Drawing) -> Table:
    rows = [[Cell(text) for text in row] for row in drawing.rows]
    return Table(f"Numbers of the figure: {drawing.title}", drawing.columns, [Group("", rows)])


def _breakable(name: str) -> Markup:
    """The name, escaped, with a place to break the line after each dot and underscore between letters."""
    return Markup(re.sub(r"([._])(?!\d)", r"\1<wbr>", str(escape(printable(name)))))


def _visible(value: object) -> object:
    """What the template prints, without hidden characters; line breaks of a command stay."""
    return printable(value, kept="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def environment() -> jinja2.Environment:
    """Of all templates: names and numbers are escaped and hidden characters shown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnemoscope.reporting"),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = Markup
    environment.filters["breakable"] = _breakable
    environment.filters["numbers_table"] = _numbers_table
    environment.globals["MEANINGS"] = {**OUTCOMES, **GEOMETRY_KINDS, **MEANINGS}
    return environment
