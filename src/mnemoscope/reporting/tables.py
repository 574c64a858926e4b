"""The tables of the report, as plain cells that one template macro draws."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mnemoscope.reporting.case import Case
from mnemoscope.reporting.glossary import MEASURES
from mnemoscope.reporting.numbers import ABSENT, interval, nats, percent, percent_interval, plain
from mnemoscope.reporting.summary import at_local_window, effect, shown_level
from mnemoscope.runs import Estimate, Examination, Manifest, SiteRecord
from mnemoscope.runs.examination import InterventionName, Verdict
from mnemoscope.runs.geometry import GeometryKind
from mnemoscope.runs.trial import Outcome


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, a smaller note under it, or a verdict or outcome to be drawn as a badge."""

    text: str
    note: str = ""
    verdict: Verdict | Outcome | GeometryKind | None = None


@dataclass(frozen=True)
class Group:
    """Rows under a common heading; the first cell of each row names it."""

    heading: str
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Table:
    """A table with a caption for those who cannot see where it stands; its files have its `name`, or the caption."""

    caption: str
    columns: list[str]
    groups: list[Group] = field(default_factory=list)
    name: str = ""


def verdict_table(examination: Examination) -> Table:
    """Per site: the verdict and every number it was decided by; groups and alternative routes below the memories."""
    e = examination
    parts = [("", e.sites), ("Switched off together", e.groups), ("Alternative routes", e.routes)]
    timed = any(effect(site, "position_constant") for _, sites in parts for site in sites)
    interventions: dict[InterventionName, str] = {
        name: words for name, words in _COLUMNS.items() if timed or name != "position_constant"
    }
    names = list(interventions)
    return Table(
        caption="Effects are loss increases in nats per scored token; brackets are their "
        f"{shown_level(e)} intervals, each on its own.",
        columns=[
            "Site",
            "Verdict",
            *interventions.values(),
            f"Last {e.local_window} tokens",
            "Conditional",
            "Share",
            "Necessity",
            "Sufficiency",
        ],
        groups=[Group(heading, [_verdict_row(site, e, names) for site in sites]) for heading, sites in parts if sites],
        name="verdicts",
    )


_COLUMNS: dict[InterventionName, str] = {
    "optimal_constant": "Best constant",
    "position_constant": "Best per position",
    "zero": "Zero",
    "mean": "Mean",
    "resample": "Resample",
}


def measures_table(examination: Examination) -> Table | None:
    """Evidence beside the verdicts: one row per measure, one column per site; None when nothing was measured."""
    sites = [site for site in [*examination.sites, *examination.routes] if site.measures]
    names = dict.fromkeys(name for site in sites for name in site.measures)
    if not sites:
        return None
    rows = [
        [Cell(_words(name), MEASURES.get(name, "")), *(Cell(plain(site.measures.get(name))) for site in sites)]
        for name in names
    ]
    return Table("Measures per site", ["Measure", *(site.name for site in sites)], [Group("", rows)], "measures")


def comparison_table(cases: Sequence[Case]) -> Table:
    """The cases side by side: site by site, those that most cases share first, then the whole model."""
    examinations = [case.examination for case in cases]
    overall = [
        [Cell("Loss (nats)"), *(estimate_cell(e.base_loss) for e in examinations)],
        [Cell("Headroom (nats)"), *(estimate_cell(e.headroom) for e in examinations)],
        [Cell("Share of all memories"), *(share_cell(e.memories_share) for e in examinations)],
        [Cell("Margin (nats)"), *(Cell(nats(e.margin)) for e in examinations)],
        *_last_metrics(cases),
    ]
    times = Counter(name for e in examinations for name in {site.name: None for site in e.sites})
    names = sorted(times, key=lambda name: -times[name])
    groups = [Group(name, _site_rows(name, examinations)) for name in names] + [Group("Whole model", overall)]
    return Table("The cases side by side", ["", *(case.label for case in cases)], groups, "side by side")


def measured(examination: Examination) -> list[tuple[str, str]]:
    """How the examination was made: pairs of a name and a value."""
    e = examination
    methods = dict.fromkeys(site.horizon_method for site in e.sites if site.horizon_method != "none")
    return [
        ("Subject", e.subject),
        ("Sequences", f"{e.n_test:,} to measure, {e.n_calibration:,} others to fit the constants" + _tuning(e)),
        ("Looks at them", _looks(e)),
        ("Seed", str(e.seed)),
        ("Margin ε", f"{nats(e.margin)} nats"),
        ("Local window", f"{e.local_window} tokens"),
        ("Loss of a constant output", _with_unit(nats(e.constant_output_loss))),
        ("Routes", ", ".join(r.name for r in e.routes) or ("none" if e.routes_known else "unknown")),
        ("Horizon method", ", ".join(methods) or "not measured"),
        ("Replay", e.replay),
        ("Time", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in e.seconds.items()) or "not recorded"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in e.versions.items()) or "not recorded"),
    ]


def origin(manifest: Manifest | None) -> list[tuple[str, str]]:
    """Where the examined model came from: pairs of a name and a value; none without a manifest."""
    if manifest is None:
        return []
    ended = manifest.exit_state + (f": {manifest.message}" if manifest.message else "")
    seeds = ", ".join(f"{name} {seed}" for name, seed in manifest.seeds.items())
    return [
        ("Run's command", shlex.join(manifest.command)),
        ("Run's revision", manifest.revision or "outside a repository"),
        ("Run's seeds", seeds or "not recorded"),
        ("Run's device", f"{manifest.device}, {manifest.threads} threads"),
        ("Run started", manifest.started.isoformat(sep=" ", timespec="seconds")),
        ("Run ended as", ended),
    ]


def settings(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """A nested configuration as dotted names and values, in its own order."""
    rows: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += settings(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return rows


def _tuning(examination: Examination) -> str:
    return f", {examination.n_tuning:,} of which chose among the fitted" if examination.n_tuning else ""


def _looks(examination: Examination) -> str:
    """How often the test sequences could have been looked at, and when the verdicts were there."""
    e = examination
    if e.looks == 1:
        return "one, after the last"
    return f"decided at look {e.look} of {e.looks} planned ones, which leaves intervals of {shown_level(e)}"


def _verdict_row(site: SiteRecord, examination: Examination, names: Sequence[InterventionName]) -> list[Cell]:
    effects = (effect(site, name) for name in names)
    return [
        Cell(site.name, site.part),
        Cell(ABSENT, verdict=site.verdict),
        *(estimate_cell(estimate) for estimate in effects),
        estimate_cell(at_local_window(site, examination)),
        estimate_cell(site.conditional),
        share_cell(site.share),
        Cell(percent(site.necessity)),
        Cell(percent(site.sufficiency)),
    ]


def _site_rows(name: str, examinations: Sequence[Examination]) -> list[list[Cell]]:
    found = [next((site for site in e.sites if site.name == name), None) for e in examinations]
    return [
        [Cell("Verdict"), *(Cell(ABSENT, verdict=site.verdict if site else None) for site in found)],
        [
            Cell("Best constant (nats)"),
            *(estimate_cell(effect(site, "optimal_constant") if site else None) for site in found),
        ],
        [Cell("Share of the headroom"), *(share_cell(site.share if site else None) for site in found)],
    ]


def _last_metrics(cases: Sequence[Case]) -> list[list[Cell]]:
    """The last logged value of each accuracy and validation loss, where any case logged one."""
    names = dict.fromkeys(
        name
        for case in cases
        for row in case.metrics
        for name in row
        if "accuracy" in name or (name.startswith("validation") and "loss" in name)
    )
    return [
        [Cell(f"{_words(name)}, end of training"), *(Cell(nats(_last(case, name))) for case in cases)] for name in names
    ]


def _last(case: Case, name: str) -> float | None:
    values = [row[name] for row in case.metrics if row.get(name) is not None]
    return values[-1] if values else None


def estimate_cell(estimate: Estimate | None) -> Cell:
    """A number in nats over its interval."""
    return Cell(nats(estimate.value if estimate else None), interval(estimate))


def share_cell(share: Estimate | None) -> Cell:
    """A fraction in per cent over its interval."""
    return Cell(percent(share.value if share else None), percent_interval(share))


def _with_unit(number: str) -> str:
    return "not measured" if number == ABSENT else f"{number} nats"


def _words(name: str) -> str:
    return name.replace("_", " ")
