"""The tables beside the verdicts: what each rests on, parts of the data, probes and patching, control arms."""

from mnemoscope.reporting.glossary import EFFECTS
from mnemoscope.reporting.numbers import (
    ABSENT,
    confidence,
    nats,
    percent,
    plain,
)
from mnemoscope.reporting.summary import effect, shown_level
from mnemoscope.reporting.tables import Cell, Group, Table, estimate_cell, share_cell
from mnemoscope.runs import Examination, SiteRecord
from mnemoscope.runs.examination import ComparisonRecord, ControlRecord, SubsetRecord

_SIDES = {"above": "above the margin", "below": "below the margin", "open": "on both sides: open"}


def rests_table(examination: Examination) -> Table | None:
    """What each verdict rests on, site by site; None for a record without comparisons."""
    compared = [site for site in [*examination.sites, *examination.groups] if site.comparisons]
    if not compared:
        return None
    return Table(
        f"Every effect that decides, against the margin of {nats(examination.margin)} nats, at the level that Holm's "
        "adjustment over all of them leaves to it.",
        ["Effect", "Loss increase (nats)", "Level", "Side"],
        [Group(site.name, [_compared(comparison) for comparison in site.comparisons]) for site in compared],
        name="what verdicts rest on",
    )


def subsets_table(examination: Examination) -> Table | None:
    """Verdicts on parts of the data, one group of rows each; None without parts."""
    if not examination.subsets:
        return None
    return Table(
        "Verdicts on parts of the data, each with its own headroom and margin; effects in nats per scored token of the "
        f"part, brackets are their {shown_level(examination)} intervals.",
        ["Site", "Verdict", "Best constant", "Zero", "Share", "Because"],
        [Group(_described(subset), _part_rows(subset)) for subset in examination.subsets],
        name="parts of the data",
    )


def stored_table(examination: Examination) -> Table | None:
    """Probes of the answer and patched states; None where neither was made."""
    sites = [site for site in [*examination.sites, *examination.groups] if site.probe or site.patching]
    if not sites:
        return None
    return Table(
        f"What is stored, and what the state alone carries; brackets are {shown_level(examination)} intervals.",
        [
            "Site",
            "Probe's gain (nats)",
            "Untrained copy (nats)",
            "Shuffled (nats)",
            "Answers",
            "Patched at token",
            "By",
            "Restored",
            "Destroyed",
        ],
        [Group("", [_stored(site) for site in sites])],
        name="stored",
    )


def controls_table(examination: Examination) -> Table | None:
    """Every control arm, failures first; None where none ran."""
    if not examination.controls:
        return None
    ordered = sorted(examination.controls, key=lambda control: control.passed)
    return Table(
        "What must not happen, tried on this model.",
        ["Control", "Outcome", "Seen"],
        [Group("", [_control(control) for control in ordered])],
        name="control arms",
    )


def _compared(comparison: ComparisonRecord) -> list[Cell]:
    words = EFFECTS.get(comparison.name, comparison.name.replace("_", " "))
    return [
        Cell(words),
        estimate_cell(comparison.effect),
        Cell(confidence(comparison.effect.level)),
        Cell(_SIDES.get(comparison.outcome, comparison.outcome)),
    ]


def _described(subset: SubsetRecord) -> str:
    part = "" if subset.share is None else f"{percent(subset.share)} of the scored positions, "
    return (
        f"{subset.name}: {part}{subset.n_sequences:,} sequences, headroom {nats(subset.headroom.value)} nats, "
        f"margin {nats(subset.margin)} nats"
    )


def _part_rows(subset: SubsetRecord) -> list[list[Cell]]:
    return [
        [
            Cell(site.name),
            Cell(ABSENT, verdict=site.verdict),
            estimate_cell(effect(site, "optimal_constant")),
            estimate_cell(effect(site, "zero")),
            share_cell(site.share),
            Cell(site.because or ABSENT),
        ]
        for site in [*subset.sites, *subset.groups]
    ]


def _stored(site: SiteRecord) -> list[Cell]:
    probe, patching = site.probe, site.patching
    return [
        Cell(site.name),
        estimate_cell(probe.gain if probe else None),
        estimate_cell(probe.untrained if probe else None),
        estimate_cell(probe.shuffled if probe else None),
        Cell(plain(probe.n_answers) if probe else ABSENT),
        Cell(plain(patching.at) if patching else ABSENT),
        Cell(patching.by if patching else ABSENT),
        share_cell(patching.denoise if patching else None),
        share_cell(patching.noise if patching else None),
    ]


def _control(control: ControlRecord) -> list[Cell]:
    return [Cell(control.name), Cell("✓ passed" if control.passed else "✗ failed"), Cell(control.seen)]
