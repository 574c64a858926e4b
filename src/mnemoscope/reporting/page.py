"""Assembling the page: one offline HTML file, the verdict first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mnemoscope.reporting.canvas import Drawing
from mnemoscope.reporting.case import Case
from mnemoscope.reporting.evidence import controls_table, rests_table, stored_table, subsets_table
from mnemoscope.reporting.figures import case_figures, comparison_figures
from mnemoscope.reporting.glossary import MEANINGS, TERMS
from mnemoscope.reporting.numbers import increase, interval, nats, percent, percent_interval
from mnemoscope.reporting.rendering import environment, rendered, write_page
from mnemoscope.reporting.settling import settling
from mnemoscope.reporting.summary import flip, headline, sentence
from mnemoscope.reporting.tables import (
    Table,
    comparison_table,
    measured,
    measures_table,
    origin,
    settings,
    verdict_table,
)
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.trace import trace_fragment
from mnemoscope.reporting.unmeasured import going_on, unmeasured_table
from mnemoscope.runs import Examination, PrescriptionRecord, SiteRecord
from mnemoscope.runs.examination import ControlRecord

__all__ = ["Section", "case_section", "environment", "render", "write"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One case, in the words, tables and drawings of its section."""

    key: str
    case: Case
    headline: str
    sentences: list[tuple[SiteRecord, str, str, str]]
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


def render(cases: Sequence[Case], command: str, title: str, files: Files | None = None) -> str:
    """The report as the text of one HTML file that asks for nothing outside itself.

    The same cases give the same bytes.

    Args:
        cases: what was examined; with several, a comparison precedes their sections.
        command: rebuilds this report; printed at its end.
        title: of the page.
        files: where its figures and tables go; None for links that hold them.

    Returns:
        The HTML text.

    Raises:
        ValueError: without a case.
    """
    if not cases:
        raise ValueError("cases: a report needs at least one examined case, got none; examine a model first")
    several, files = len(cases) > 1, files or Files()
    traces = [
        None if case.trace is None else Markup(trace_fragment(case.trace, f"case-{i}-trace", files))
        for i, case in enumerate(cases, start=1)
    ]
    return rendered(
        "page.html.j2",
        files,
        title=title,
        command=command,
        sections=[case_section(case, f"case-{i + 1}") for i, case in enumerate(cases)],
        traces=traces,
        comparison=comparison_table(cases) if several else None,
        comparison_drawings=comparison_figures(cases) if several else [],
        meanings=MEANINGS,
        terms=TERMS,
    )


def write(cases: Sequence[Case], path: str | Path, command: str, title: str, files: bool = False) -> Path:
    """Write `render`'s text to a file, whole or not at all; with `files`, figures and tables beside it (`write_page`).

    Raises:
        ValueError: without a case, or with `files` without the packages that make PDFs.
        OSError: if the file cannot be written; what was there before is still there.
    """
    return write_page(path, files, lambda kept: render(cases, command, title, kept))


def case_section(case: Case, key: str, *, drawn: bool = True) -> Section:
    """What the section of a case says.

    Args:
        case: what was examined.
        key: unique on the page.
        drawn: with its figures, which take longer than everything else.
    """
    examination = case.examination
    return Section(
        key=key,
        case=case,
        headline=headline(examination),
        sentences=[
            (site, sentence(site, examination), settling(site), flip(site, examination))
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
        drawings=case_figures(case, key) if drawn else [],
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
