"""Figures of effects: each intervention at each site, and each site's share of the headroom in several cases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.reporting.canvas import (
    FOREGROUND,
    GRID,
    MARKERS,
    MUTED,
    SERIES,
    Drawing,
    blank,
    drawing_style,
    inline_svg,
    legend,
    short_names,
    shortened,
)
from mnemoscope.reporting.case import Case
from mnemoscope.reporting.glossary import INTERVENTIONS
from mnemoscope.reporting.numbers import nats, nats_with_interval, percent, percent_interval
from mnemoscope.reporting.summary import at_local_window, primary, shown_level
from mnemoscope.runs import Estimate, Examination, SiteRecord
from mnemoscope.runs.examination import InterventionName, Locus

DRAWN_TOGETHER: tuple[InterventionName, ...] = ("optimal_constant", "zero", "mean", "resample", "random_constant")
"""As many as there are markers; the others stand in the table of numbers."""
MOST_DETAILED_SITES = 4
"""Up to here each intervention has a line of its own; beyond, each site has one line for all of them."""
ROW_INCHES = 0.19
TALL_INCHES = 4.0


@dataclass(frozen=True)
class Bar:
    """One measured effect: where, by which intervention, and how it is marked where each site has one line."""

    site: SiteRecord
    locus: Locus
    label: str
    estimate: Estimate
    style: int | None


def effects_figure(examination: Examination, key: str) -> Drawing | None:
    """Every intervention's effect with its interval, against the margin and the headroom; None without effects."""
    parts = [*examination.sites, *examination.groups, *examination.routes]
    groups = [_bars(site, examination) for site in parts]
    groups = [bars for bars in groups if any(math.isfinite(bar.estimate.value) for bar in bars)]
    if not groups:
        return None
    detailed = len(groups) <= MOST_DETAILED_SITES
    with drawing_style(key):
        figure = (_draw_detailed if detailed else _draw_compact)(groups, examination)
        svg = inline_svg(figure, key, _described(groups, examination))
    return Drawing(
        title="Effect of each intervention",
        caption="How much the loss rises when a part is replaced. Points are means over sequences, bars their "
        f"{shown_level(examination)} intervals; the grey band is the margin, the dashed line the headroom."
        + (" Round: the best constant, which decides." if detailed else ""),
        svg=svg,
        tall=figure.get_figheight() > TALL_INCHES,
        columns=["Site", "Locus", "Intervention", "Loss increase (nats)", "Low", "High"],
        rows=[_numbers(bar) for bars in groups for bar in bars],
    )


def shares_figure(cases: Sequence[Case], key: str) -> Drawing | None:
    """Each memory's share of the headroom, case by case; None when no case has a share."""
    sites = ((i, c, site) for i, c in enumerate(cases) for site in c.examination.sites)
    rows = [(i, c, s, s.share) for i, c, s in sites if s.share and math.isfinite(s.share.value)]
    if not rows:
        return None
    with drawing_style(key):
        figure, (axes,) = blank(0.75 + ROW_INCHES * (len(rows) + len({i for i, *_ in rows})))
        y, labels, names = 0, [], short_names([site.name for _, _, site, _ in rows])
        for n, (i, case, _, share) in enumerate(rows):
            if n == 0 or rows[n - 1][0] != i:
                labels.append((y, shortened(case.label), True))
                y += 1
            labels.append((y, names[n], False))
            _point(axes, y, share, i % len(SERIES), scale=100)
            y += 1
        axes.set_xlabel("share of the headroom (%)")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -3), max(high, 103))
        label_rows(axes, labels)
        description = "; ".join(f"{c.label}, {s.name}: {percent(e.value)}" for _, c, s, e in rows)
        svg = inline_svg(figure, key, f"Share of the headroom carried by each memory. {description}.")
    return Drawing(
        title="How much of the work each memory does",
        caption="Shapley share of the headroom: at 0 % nothing would miss the memory, at 100 % it does all the work.",
        svg=svg,
        columns=["Case", "Site", "Share of the headroom", "Interval"],
        rows=[[c.label, s.name, percent(e.value), percent_interval(e)] for _, c, s, e in rows],
    )


def _bars(site: SiteRecord, examination: Examination) -> list[Bar]:
    """The site's effects at its primary locus, the two tests of memory proper, the effects at the other locus."""
    first = primary(site)
    if first is None:
        return []
    bars = _bars_at(site, first)
    if (cut := at_local_window(site, examination)) is not None:
        bars.append(Bar(site, first, f"last {examination.local_window} tokens only", cut, None))
    if site.conditional is not None:
        bars.append(Bar(site, first, "all else off", site.conditional, None))
    return bars + [bar for locus in site.effects if locus != first for bar in _bars_at(site, locus)]


def _bars_at(site: SiteRecord, locus: Locus) -> list[Bar]:
    effects = site.effects[locus]
    styles: dict[str, int] = {name: style for style, name in enumerate(DRAWN_TOGETHER)}
    measured: list[InterventionName] = [name for name in INTERVENTIONS if name in effects]
    return [Bar(site, locus, INTERVENTIONS[name], effects[name], styles.get(name)) for name in measured]


def _names(groups: list[list[Bar]]) -> list[str]:
    """Names for the axis: memories, groups and routes are shortened apart, having little path in common."""
    sites = [bars[0].site for bars in groups]
    apart = ([site.name for site in sites if site.role == role] for role in ("memory", "group", "route"))
    return [short for names in apart for short in short_names(names)]


def _draw_detailed(groups: list[list[Bar]], examination: Examination) -> Figure:
    """A line for each intervention at the primary locus; of the other locus only the best constant."""
    groups = [[bar for bar in bars if bar.locus == bars[0].locus or bar.style == 0] for bars in groups]
    n_rows = sum(len(bars) + 1 for bars in groups)
    figure, (axes,) = blank(0.75 + ROW_INCHES * n_rows)
    y, labels = 0, []
    for name, bars in zip(_names(groups), groups, strict=True):
        labels.append((y, name, True))
        y += 1
        for bar in bars:
            place = "" if bar.locus == bars[0].locus else f" ({bar.locus})"
            labels.append((y, bar.label + place, False))
            _point(axes, y, bar.estimate, 0 if bar.label == "best constant" else 1)
            y += 1
    _references(axes, examination)
    label_rows(axes, labels)
    return figure


def _draw_compact(groups: list[list[Bar]], examination: Examination) -> Figure:
    """One line for each site, the best constant drawn last and on top."""
    figure, (axes,) = blank(1.1 + ROW_INCHES * len(groups))
    named: set[str] = set()
    for y, bars in enumerate(groups):
        first = bars[0].locus
        for bar in reversed(bars):
            if bar.style is not None and bar.locus == first:
                _point(axes, y, bar.estimate, bar.style, name="" if bar.label in named else bar.label)
                named.add(bar.label)
    _references(axes, examination)
    label_rows(axes, [(y, name, False) for y, name in enumerate(_names(groups))])
    legend(figure, axes, reverse=True)
    return figure


def _point(axes: Axes, y: float, estimate: Estimate, style: int, name: str = "", scale: float = 1.0) -> None:
    """A point and its interval; what is not a number leaves its line empty."""
    value, low, high = (scale * x for x in (estimate.value, estimate.low, estimate.high))
    if not math.isfinite(value):
        return
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], color=SERIES[style], linewidth=1.3, solid_capstyle="butt")
    axes.plot([value], [y], MARKERS[style], color=SERIES[style], label=name or "_nolegend_")


def _references(axes: Axes, examination: Examination) -> None:
    """Zero, the margin around it, and the headroom; the axis always shows all three."""
    axes.axvline(0, color=MUTED, linewidth=0.7)
    if math.isfinite(examination.margin):
        axes.axvspan(-examination.margin, examination.margin, color=GRID, alpha=0.8, linewidth=0)
    headroom = examination.headroom.value
    if math.isfinite(headroom):
        axes.axvline(headroom, color=FOREGROUND, linewidth=1.0, linestyle=(0, (4, 2)))
        top = axes.get_xaxis_transform()
        axes.annotate(
            f"headroom {nats(headroom)}",
            (headroom, 1),
            xycoords=top,
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xlabel("loss increase (nats per scored token)")


def label_rows(axes: Axes, labels: Sequence[tuple[float, str, bool]]) -> None:
    """Names at the left, group names in bold, first row on top, a faint rule under each row."""
    axes.set_yticks([y for y, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, bold) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if bold else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_ylim(len(labels) - 0.4, -0.6)


def _numbers(bar: Bar) -> list[str]:
    estimate = bar.estimate
    ends = [nats(estimate.value), nats(estimate.low), nats(estimate.high)]
    return [bar.site.name, bar.locus, bar.label, *ends]


def _described(groups: list[list[Bar]], examination: Examination) -> str:
    parts = [f"{bars[0].site.name}, {bars[0].label}: {nats_with_interval(bars[0].estimate)}" for bars in groups]
    return (
        f"Loss increase by intervention, in nats; margin {nats(examination.margin)}, "
        f"headroom {nats(examination.headroom.value)}. " + "; ".join(parts) + "."
    )
