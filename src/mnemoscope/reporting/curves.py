"""Figures of curves: loss by position, cost of a shorter horizon, training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mnemoscope.reporting.canvas import (
    DASHES,
    FOREGROUND,
    GRID,
    MARKERS,
    MOST_SERIES,
    MUTED,
    SERIES,
    Drawing,
    blank,
    drawing_style,
    inline_svg,
    legend,
    short_names,
)
from mnemoscope.reporting.numbers import ABSENT, nats, nats_with_interval, plain
from mnemoscope.reporting.summary import effect
from mnemoscope.runs import Estimate, Examination, PositionCurve, SiteRecord

MOST_POINTS = 64
"""Longer curves are averaged in equal steps: more points than this neither fit a phone nor a table."""
LEGEND_ROW_INCHES = 0.15


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a figure: points in increasing `x`, with intervals where they were measured."""

    name: str
    x: list[float]
    y: list[float]
    intervals: list[Estimate] = field(default_factory=list)


def positions_figure(examination: Examination, key: str) -> Drawing | None:
    """Loss at each scored position, with everything in place and without each of the most costly memories."""
    with_curve = [site for site in examination.sites if site.without and site.without.positions]
    shown = _most_costly(with_curve)
    if examination.base is None or not examination.base.positions:
        return None
    named = [("everything in place", examination.base)] + [(f"without {s.name}", s.without) for s in shown if s.without]
    width = bin_width([position for _, curve in named for position in curve.positions])
    curves = [binned_curve(name, curve, width) for name, curve in named]
    with drawing_style(key):
        figure, (axes,) = blank(2.4 + LEGEND_ROW_INCHES * len(curves))
        draw_lines(axes, curves, first_is_reference=True)
        _margin_above(axes, curves[0], examination.margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="position (tokens)", ylabel="loss (nats per scored token)")
        legend(figure, axes)
        svg = inline_svg(figure, key, f"Loss by position, {len(curves)} curves: {names_of(curves)}.")
    averaged = f" Each point averages {width} positions." if width > 1 else ""
    return Drawing(
        title="Loss by position",
        caption="Where in the sequence a memory pays: the gap above the plain line is what it saves; inside "
        "the grey band, the margin, it counts as nothing." + averaged + _omitted(len(with_curve), len(shown)),
        svg=svg,
        columns=["Position (tokens)", *(f"Loss, {curve.name} (nats)" for curve in curves)],
        rows=numbers_of(curves),
    )


def horizon_figure(examination: Examination, key: str) -> Drawing | None:
    """Loss increase when a memory keeps only its last tokens, over the number of tokens kept."""
    measured = [s for s in examination.sites if any(math.isfinite(point.effect.value) for point in s.horizon)]
    shown = _most_costly(measured)
    if not shown:
        return None
    curves = [horizon_curve(site) for site in shown]
    with drawing_style(key):
        figure, (axes,) = blank(2.4 + LEGEND_ROW_INCHES * len(curves))
        draw_lines(axes, curves)
        margin_band(axes, examination.margin)
        windows_axis(axes, sorted({x for curve in curves for x in curve.x}), examination.local_window)
        axes.set(xlabel="tokens kept in memory", ylabel="loss increase (nats)")
        legend(figure, axes)
        svg = inline_svg(figure, key, f"Loss increase over tokens kept in memory: {names_of(curves)}.")
    return Drawing(
        title="How far back the memory is used",
        caption=f"Loss increase when only the last tokens are kept; the grey band is the margin. Right of the dashed "
        f"line, the local window of {examination.local_window} tokens, a cost is the work of memory; left of it, of "
        "local mixing." + _omitted(len(measured), len(shown)),
        svg=svg,
        columns=["Tokens kept", *(f"Loss increase, {curve.name} (nats)" for curve in curves)],
        rows=numbers_of(curves),
    )


def loads_figure(examination: Examination, key: str) -> Drawing | None:
    """Accuracy over the number of items to remember; None for data of one load."""
    loads = [load for load in examination.loads if math.isfinite(load.accuracy)]
    if len(loads) < 2:
        return None
    curve = Curve(name="accuracy", x=[float(load.load) for load in loads], y=[load.accuracy for load in loads])
    with drawing_style(key):
        figure, (axes,) = blank(2.2)
        draw_lines(axes, [curve])
        axes.set_ylim(-0.03, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="items to remember", ylabel="accuracy (fraction)")
        described = "; ".join(f"{load.load}: {load.accuracy:.3f}" for load in loads)
        svg = inline_svg(figure, key, f"Accuracy by number of items to remember. {described}.")
    return Drawing(
        title="Accuracy by load",
        caption="The share of right answers over how much a sequence asks to be remembered; a memory that is full "
        "falls with the load.",
        svg=svg,
        columns=["Items to remember", "Accuracy", "Sequences"],
        rows=[[str(load.load), nats(load.accuracy), f"{load.n_sequences:,}"] for load in loads],
    )


def training_figure(metrics: Sequence[Mapping[str, float]], key: str) -> Drawing | None:
    """Losses over training steps and, where logged, accuracies in a panel below; None if nothing finite was logged."""
    losses, accuracies = (
        [logged_curve(metrics, n) for n in logged_names(metrics, word)] for word in ("loss", "accuracy")
    )
    panels = [
        (curves, word) for curves, word in ((losses, "loss (nats)"), (accuracies, "accuracy (fraction)")) if curves
    ]
    if not panels:
        return None
    with drawing_style(key):
        figure, axes = blank(1.3 + 1.4 * len(panels), len(panels))
        for place, (curves, label) in zip(axes, panels, strict=True):
            draw_lines(place, curves[:MOST_SERIES])
            place.set_ylabel(label)
            if len(curves) > 1 or len(panels) == 1:
                place.legend(loc="upper right" if label.startswith("loss") else "lower right")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[-1].set_xlabel("training step")
        svg = inline_svg(figure, key, f"Training curves: {names_of(losses + accuracies)}.")
    return Drawing(
        title="Training",
        caption="A falling loss does not tell whether the memory works; it tells whether there was something to judge.",
        svg=svg,
        columns=["Step", *(curve.name for curve in losses + accuracies)],
        rows=numbers_of(losses + accuracies),
    )


def draw_lines(axes: Axes, curves: Sequence[Curve], first_is_reference: bool = False) -> None:
    """Each curve in its own colour, dash and marker; a reference is drawn in the colour of the text."""
    names = [curve.name for curve in curves[:1] if first_is_reference]
    names += short_names([curve.name for curve in curves[len(names) :]], 40)
    for i, (name, curve) in enumerate(zip(names, curves, strict=True)):
        style = (i - first_is_reference) % MOST_SERIES
        reference = first_is_reference and i == 0
        colour = FOREGROUND if reference else SERIES[style]
        every = max(1, len(curve.x) // 8)
        for x, estimate in zip(curve.x, curve.intervals, strict=False):
            if math.isfinite(estimate.low) and math.isfinite(estimate.high):
                axes.plot([x, x], [estimate.low, estimate.high], color=colour, linewidth=1.2)
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            linestyle="-" if reference else DASHES[style],
            marker="" if reference else MARKERS[style],
            markevery=every,
            label=name,
        )
    axes.grid(axis="y")


def _margin_above(axes: Axes, reference: Curve, margin: float) -> None:
    """The margin on top of the reference; the axis never zooms into gaps that count as nothing."""
    if not math.isfinite(margin):
        return
    axes.fill_between(reference.x, reference.y, [y + margin for y in reference.y], color=GRID, alpha=0.8, linewidth=0)
    low, high = axes.get_ylim()
    if high - low < 4 * margin:
        low = max(0.0, low - margin) if low >= 0 else low - margin
        axes.set_ylim(low, max(high, low + 4 * margin))


def margin_band(axes: Axes, margin: float) -> None:
    """Zero and the margin around it; the axis never zooms into effects that count as nothing."""
    axes.axhline(0, color=MUTED, linewidth=0.7)
    if math.isfinite(margin):
        axes.axhspan(-margin, margin, color=GRID, alpha=0.8, linewidth=0)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -1.5 * margin), max(high, 1.5 * margin))


def windows_axis(axes: Axes, windows: list[float], local_window: int) -> None:
    """A doubling axis, labelled at windows that were measured, with the local window marked."""
    axes.axvline(local_window, color=FOREGROUND, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.set_xscale("symlog", base=2, linthresh=1)
    first, last = min(windows[0], local_window), max(windows[-1], local_window)
    axes.set_xlim(first / 1.25 if first >= 1 else -0.25, last * 1.25 + 0.25)
    ticks = [float(local_window)]
    for window in reversed(windows):
        if all(max(window, tick) >= 1.7 * min(window, tick) for tick in ticks):
            ticks.append(window)
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _most_costly(sites: list[SiteRecord]) -> list[SiteRecord]:
    """At most as many sites as there are line styles, in the model's order, chosen by their best-constant effect."""

    def cost(site: SiteRecord) -> float:
        estimate = effect(site, "optimal_constant")
        return estimate.value if estimate and math.isfinite(estimate.value) else -math.inf

    chosen = sorted(sites, key=cost, reverse=True)[:MOST_SERIES]
    return [site for site in sites if any(site is other for other in chosen)]


def _omitted(n: int, n_shown: int) -> str:
    return f" The {n_shown} most costly of {n} memories are shown." if n > n_shown else ""


def horizon_curve(site: SiteRecord) -> Curve:
    """What a shorter memory costs, with intervals, over the tokens kept."""
    points = sorted(site.horizon, key=lambda point: point.window)
    return Curve(
        name=site.name,
        x=[float(point.window) for point in points],
        y=[point.effect.value for point in points],
        intervals=[point.effect for point in points],
    )


def bin_width(x: Sequence[float]) -> int:
    """How many units of `x` one point averages so that a curve has at most `MOST_POINTS`."""
    return 1 if len(set(x)) <= MOST_POINTS else math.ceil((max(x) - min(x) + 1) / MOST_POINTS)


def binned_curve(name: str, curve: PositionCurve, width: int) -> Curve:
    """The curve averaged over `width` positions, weighted by sequences, each point in the middle of its bin."""
    x, y, weight = (np.asarray(v, dtype=float) for v in (curve.positions, curve.loss, curve.n_sequences))
    means = _means(x // width, y, weight)
    return Curve(name=name, x=[b * width + (width - 1) / 2 for b in means], y=list(means.values()))


def _means(bins: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[float, float]:
    """The weighted mean in each bin, in increasing order; NaN where a bin holds no number."""
    means: dict[float, float] = {}
    for b in np.unique(bins):
        here = (bins == b) & np.isfinite(y) & (weight > 0)
        means[float(b)] = float(np.average(y[here], weights=weight[here])) if here.any() else math.nan
    return means


def logged_names(metrics: Sequence[Mapping[str, float]], word: str) -> list[str]:
    """The quantities whose name contains a word and of which a finite value was logged."""
    names = {name: None for row in metrics for name in row if word in name}
    return [name for name in names if any(_is_finite(row.get(name)) for row in metrics)]


def logged_curve(metrics: Sequence[Mapping[str, float]], name: str) -> Curve:
    """A logged quantity over steps; where rows are many, each point stands at the last step that it averages."""
    steps = [float(row["step"]) for row in metrics]
    width = bin_width(steps)
    last = {step // width: step for step in sorted(steps)}
    rows = [(float(row["step"]), float(row[name])) for row in metrics if name in row]
    x, y = np.asarray(rows).T
    means = _means(x // width, y, np.ones_like(y))
    return Curve(name=name.replace("_", " "), x=[last[b] for b in means], y=list(means.values()))


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def numbers_of(curves: Sequence[Curve]) -> list[list[str]]:
    """One row per distinct `x`, one column per curve."""
    columns = [dict(zip(curve.x, _cells(curve), strict=True)) for curve in curves]
    return [[plain(x), *(column.get(x, ABSENT) for column in columns)] for x in sorted({x for c in columns for x in c})]


def _cells(curve: Curve) -> list[str]:
    return [nats_with_interval(e) for e in curve.intervals] or [nats(y) for y in curve.y]


def names_of(curves: Sequence[Curve]) -> str:
    """Their names, by comma."""
    return ", ".join(curve.name for curve in curves)
