"""The page of a comparison: verdicts of several runs, their curves over each other, and the settings that differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemoscope.reporting.case import Case
from mnemoscope.reporting.changes import Change, Comparison, compare
from mnemoscope.reporting.forest import shares_figure
from mnemoscope.reporting.glossary import MEANINGS, TERMS
from mnemoscope.reporting.numbers import ABSENT
from mnemoscope.reporting.overlaid import overlaid_figures
from mnemoscope.reporting.rendering import rendered, write_page
from mnemoscope.reporting.summary import headline
from mnemoscope.reporting.tables import (
    Cell,
    Group,
    Table,
    comparison_table,
    estimate_cell,
    measured,
    origin,
    settings,
)
from mnemoscope.reporting.takeaway import Files
from mnemoscope.runs import SiteRecord

NOT_SET = "not set"


def render_comparison(cases: Sequence[Case], command: str, title: str, files: Files | None = None) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same cases give the same bytes.

    Args:
        cases: at least two, with labels that differ; the others are compared with the first.
        command: makes this page again; printed at its end.
        title: of the page.
        files: where its figures and tables go; None for links that hold them.

    Raises:
        ValueError: fewer than two cases, or two of one label.
    """
    labels = [case.label for case in cases]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(
            f"a comparison needs at least two cases with labels that differ, got {', '.join(labels) or 'none'}; name "
            "another run, or label them apart"
        )
    return rendered("comparison.html.j2", files, title=title, command=command, **comparison_fields(cases))


def write_comparison(cases: Sequence[Case], path: str | Path, command: str, title: str, files: bool = False) -> Path:
    """Write `render_comparison`'s text to a file, whole or not at all; see `write_page`.

    Raises:
        ValueError: see `render_comparison`; with `files`, without the packages that make PDFs.
        OSError: if the file cannot be written; what was there before is still there.
    """
    return write_page(path, files, lambda kept: render_comparison(cases, command, title, kept))


def comparison_fields(cases: Sequence[Case]) -> dict[str, Any]:
    """What the template of the page shows, by name."""
    first, others = cases[0], cases[1:]
    found = [compare(first.examination, other.examination, (first.label, other.label)) for other in others]
    shares, differing = shares_figure(cases, "overlaid-shares"), differing_settings(cases)
    return {
        "question": f"What differs between {_listed([case.label for case in cases])}?",
        "headline": comparison_headline(cases),
        "cases": [(case, headline(case.examination), case.examination.sites) for case in cases],
        "remarks": [f"{one.names[0]} and {one.names[1]}: {remark}" for one in found for remark in one.remarks],
        "side_by_side": comparison_table(cases),
        "changes": changes_table(found),
        "drawings": [*overlaid_figures(cases), *([shares] if shares else [])],
        "settings": differing,
        "n_same": _n_settings(cases) - sum(len(group.rows) for group in differing.groups) if differing else None,
        "have_settings": any(case.config for case in cases),
        "made_with": [(case.label, [*measured(case.examination), *origin(case.manifest)]) for case in cases],
        "meanings": MEANINGS,
        "terms": TERMS,
    }


def comparison_headline(cases: Sequence[Case]) -> str:
    """In how many of the memories that several cases have the verdicts differ."""
    verdicts: dict[str, list[SiteRecord]] = {}
    for case in cases:
        for site in case.examination.sites:
            verdicts.setdefault(site.name, []).append(site)
    shared = [sites for sites in verdicts.values() if len(sites) > 1]
    if not shared:
        return "No memory of one has the name of a memory of another: their whole effects are compared."
    differing = sum(len({site.verdict for site in sites}) > 1 for sites in shared)
    if len(shared) == 1:
        if differing:
            return f"The verdict on {shared[0][0].name} differs."
        return f"The verdict on {shared[0][0].name} is the same: {shared[0][0].verdict or 'none'}."
    if not differing:
        return f"All {len(shared)} memories have the same verdict everywhere."
    return f"The verdicts differ on {differing} of {len(shared)} memories."


def changes_table(comparisons: Sequence[Comparison]) -> Table:
    """Effects of the optimal constant, the others' less the first's; a group of rows for each of the others."""
    return Table(
        "The effect of the optimal constant, in nats per scored token: the first, the other, and the other less the "
        "first. Brackets of a difference are those of independent samples, since records hold no losses to pair: what "
        "is called a change is one, what is not may still be.",
        ["Site", "First", "Other", "Difference", "Beyond both intervals", "Verdict of the first", "Of the other"],
        [
            Group(f"{one.names[1]}, compared with {one.names[0]}", [*map(_changed, one.changes), _loss(one)])
            for one in comparisons
        ],
        name="changes",
    )


def differing_settings(cases: Sequence[Case]) -> Table | None:
    """The settings of which not all cases have one value; None where no case has settings, or none differs."""
    known = [dict(settings(case.config)) for case in cases]
    names = dict.fromkeys(name for values in known for name in values)
    rows = [
        [Cell(name), *(Cell(values.get(name, NOT_SET)) for values in known)]
        for name in names
        if len({values.get(name) for values in known}) > 1
    ]
    columns = ["Setting", *(case.label for case in cases)]
    return Table("Settings that differ", columns, [Group("", rows)]) if rows else None


def _n_settings(cases: Sequence[Case]) -> int:
    return len({name for case in cases for name, _ in settings(case.config)})


def _changed(change: Change) -> list[Cell]:
    beyond = {True: "yes", False: "no"}[change.is_beyond_both] if change.difference else ABSENT
    before, after = change.verdicts
    return [
        Cell(change.name),
        *(estimate_cell(estimate) for estimate in (*change.effects, change.difference)),
        Cell(beyond),
        Cell(ABSENT, verdict=before),
        Cell(ABSENT, verdict=after),
    ]


def _loss(comparison: Comparison) -> list[Cell]:
    moved = not comparison.loss.low <= 0 <= comparison.loss.high
    first, other = (estimate_cell(loss) for loss in comparison.losses)
    difference = estimate_cell(comparison.loss)
    return [
        Cell("Loss, everything in place"),
        first,
        other,
        difference,
        Cell("yes" if moved else "no"),
        *[Cell(ABSENT)] * 2,
    ]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
