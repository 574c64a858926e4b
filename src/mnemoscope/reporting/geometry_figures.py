"""Figures of a geometry examination: spectrum, hops, measures beside their nulls, and what training did to them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mnemoscope.reporting.canvas import (
    DASHES,
    FOREGROUND,
    MARKERS,
    MUTED,
    SERIES,
    Drawing,
    blank,
    drawing_style,
    inline_svg,
    legend,
    shortened,
)
from mnemoscope.reporting.forest import ROW_INCHES, TALL_INCHES, label_rows
from mnemoscope.reporting.geometry_tables import metric_name, null_text, snapshots_of, steps_of, z_text
from mnemoscope.reporting.heat_maps import heat_map_figure
from mnemoscope.reporting.numbers import nats, percent, plain
from mnemoscope.runs.geometry import GeometryExamination, GeometryMetric, GeometrySnapshot

MOST_BARS = 60
STRUCTURED = 3.5
"""The z-score from which on a verdict speaks of structure."""

FOLLOWED = ("far_distance_correlation", "smoothness", "two_sided_smoothness", "geometric_level", "edge_recall")


@dataclass(frozen=True)
class Bar:
    """Eigenvectors that share a bar: from the first to the last of them, counted from 1."""

    first: int
    last: int
    share: float
    laplacian: float


def geometry_figures(examination: GeometryExamination, key: str) -> list[Drawing]:
    """Those that the record has numbers for: nulls, spectrum, hops, training, heat maps.

    Args:
        examination: what was found.
        key: unique to the examination on the page.
    """
    drawings = [
        nulls_figure(examination, f"{key}-nulls"),
        spectrum_figure(examination, f"{key}-spectrum"),
        hops_figure(examination, f"{key}-hops"),
        training_figure(examination, f"{key}-training"),
        *(heat_map_figure(heat_map, f"{key}-map-{i}") for i, heat_map in enumerate(examination.heat_maps, start=1)),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def nulls_figure(examination: GeometryExamination, key: str) -> Drawing | None:
    """Each measure between -1 and 1 beside what it is where nodes are shuffled; None without one."""
    metrics = [metric for metric in examination.metrics if _has_null(metric)]
    if not metrics:
        return None
    with drawing_style(key):
        figure, (axes,) = blank(1.0 + ROW_INCHES * len(metrics))
        axes.axvline(0, color=MUTED, linewidth=0.7)
        for y, metric in enumerate(metrics):
            _null(axes, y, metric, first=y == 0)
        axes.set_xlabel("value of the measure")
        label_rows(axes, [(y, shortened(metric_name(metric.name), 34), False) for y, metric in enumerate(metrics)])
        legend(figure, axes)
        said = "; ".join(f"{metric_name(m.name)} {nats(m.value)}, shuffled {null_text(m)}" for m in metrics)
        svg = inline_svg(figure, key, f"Measures beside their nulls. {said}.")
    return Drawing(
        title="Measures beside chance",
        caption="Points: the table. Bars: the null, the same table with its nodes shuffled, mean ± one standard "
        "deviation.",
        svg=svg,
        tall=figure.get_figheight() > TALL_INCHES,
        columns=["Measure", "Value", "Null mean", "Null sd", "z"],
        rows=[[metric_name(m.name), nats(m.value), nats(m.null_mean), nats(m.null_sd), z_text(m.z)] for m in metrics],
    )


def spectrum_figure(examination: GeometryExamination, key: str) -> Drawing | None:
    """The table's variance over the graph's eigenvectors, above the Laplacian's eigenvalues; None without them."""
    spectrum = examination.spectrum
    bars = _bars(spectrum.eigenvalues, spectrum.shares, spectrum.is_whole)
    if not bars:
        return None
    n = len(spectrum.eigenvalues)
    with drawing_style(key):
        figure, (above, below) = blank(3.6, 2)
        x = range(len(bars))
        above.bar(x, [100 * bar.share for bar in bars], width=0.8, color=SERIES[0], linewidth=0, label="the table")
        if spectrum.is_whole:
            even = [100 * (bar.last - bar.first + 1) / n for bar in bars]
            above.step(x, even, where="mid", color=FOREGROUND, linewidth=1, linestyle=DASHES[1], label="spread evenly")
        below.plot(x, [bar.laplacian for bar in bars], MARKERS[0], color=SERIES[1], markersize=2.5)
        below.axhline(1, color=MUTED, linewidth=0.7)
        below.set_ylim(-0.05, 2.05)
        above.set_ylabel("share of variance (%)")
        below.set_ylabel("Laplacian, 1 - mu")
        below.set_xlabel("eigenvectors, smoothest first")
        below.set_xticks([0, len(bars) - 1], [str(bars[0].first), str(bars[-1].last)])
        legend(figure, above)
        smooth = sum(share for mu, share in zip(spectrum.eigenvalues, spectrum.shares, strict=True) if mu > 1e-9)
        svg = inline_svg(
            figure, key, f"Variance over {n} eigenvectors; {percent(smooth)} lies where 1 - mu is below 1."
        )
    joined = f" A bar sums up to {max(bar.last - bar.first + 1 for bar in bars)} eigenvectors." if n > len(bars) else ""
    part = "" if spectrum.is_whole else " Only both ends of the spectrum were computed."
    return Drawing(
        title="Variance over the graph's eigenvectors",
        caption="Left, smooth: neighbours alike. Right, zigzag: neighbours opposite. A table without the graph is "
        f"spread evenly. Below, the eigenvalues of the normalised Laplacian; at 1, neither.{joined}{part}",
        svg=svg,
        columns=["Eigenvectors", "1 - mu", "Share of variance"],
        rows=[[_range(bar), nats(bar.laplacian), percent(bar.share)] for bar in bars],
    )


def hops_figure(examination: GeometryExamination, key: str) -> Drawing | None:
    """Mean cosine by distance in the graph; None where no distance was measured."""
    profile = examination.hop_profile
    rows = list(zip(profile.hops, profile.cosines, profile.n_pairs, strict=True))
    drawn = [(hops, cosine) for hops, cosine, _ in rows if math.isfinite(cosine)]
    if not drawn:
        return None
    with drawing_style(key):
        figure, (axes,) = blank(2.5)
        axes.axhline(0, color=MUTED, linewidth=0.7)
        hops, cosines = zip(*drawn, strict=True)
        axes.plot(hops, cosines, color=SERIES[0], marker=MARKERS[0] if len(drawn) <= MOST_BARS else "")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set(xlabel="edges between two nodes", ylabel="mean cosine")
        axes.grid(axis="y")
        said = "; ".join(f"{hops}: {nats(cosine)}" for hops, cosine in drawn[:12])
        svg = inline_svg(figure, key, f"Mean cosine by number of edges between two nodes. {said}.")
    return Drawing(
        title="Closeness by distance in the graph",
        caption="A map falls step by step; a list of edges is high at one edge and flat beyond; a zigzag is lower at "
        "one edge than at two.",
        svg=svg,
        columns=["Edges between", "Mean cosine", "Pairs"],
        rows=[[str(hops), nats(cosine), f"{pairs:,}"] for hops, cosine, pairs in rows],
    )


def training_figure(examination: GeometryExamination, key: str) -> Drawing | None:
    """Measures and z-scores over the steps of a training; None with fewer than two snapshots."""
    snapshots = snapshots_of(examination)
    if len(snapshots) < 2:
        return None
    with drawing_style(key):
        figure, (above, below) = blank(4.2, 2)
        _follow(above, snapshots, lambda snapshot: snapshot.metrics)
        _follow(below, snapshots, lambda snapshot: snapshot.z_scores)
        above.axhline(0, color=MUTED, linewidth=0.7)
        below.axhline(STRUCTURED, color=FOREGROUND, linewidth=0.8, linestyle=DASHES[1])
        above.set_ylabel("value")
        below.set(ylabel="z", xlabel="training step")
        _steps_axis(below, [snapshot.step for snapshot in snapshots])
        legend(figure, above)
        kinds = "; ".join(f"step {snapshot.step}: {snapshot.kind}" for snapshot in snapshots)
        svg = inline_svg(figure, key, f"Measures over training. {kinds}.")
    columns, rows = steps_of(snapshots)
    return Drawing(
        title="What training did",
        caption=f"Above, measures; below, their distance from the null in standard deviations, dashed at {STRUCTURED}, "
        "from where on a verdict speaks of structure. Early geometry comes and goes.",
        svg=svg,
        tall=True,
        columns=columns,
        rows=rows,
    )


def _has_null(metric: GeometryMetric) -> bool:
    """Whether it can be drawn on an axis from -1 to 1 beside its null."""
    if metric.null_mean is None or metric.null_sd is None:
        return False
    return all(math.isfinite(x) and abs(x) <= 1.05 for x in (metric.value, metric.null_mean, metric.null_sd))


def _null(axes: Axes, y: int, metric: GeometryMetric, first: bool) -> None:
    mean, sd = metric.null_mean or 0.0, metric.null_sd or 0.0
    axes.plot(
        [mean - sd, mean + sd],
        [y, y],
        color=MUTED,
        linewidth=5,
        solid_capstyle="butt",
        label="shuffled" if first else "_nolegend_",
    )
    axes.plot([mean], [y], "|", color=FOREGROUND, markersize=7)
    axes.plot([metric.value], [y], MARKERS[0], color=SERIES[0], label="the table" if first else "_nolegend_")


def _bars(eigenvalues: Sequence[float], shares: Sequence[float], is_whole: bool) -> list[Bar]:
    """One bar for each eigenvector, or for runs of equal length where there are too many; never across a gap."""
    n = len(eigenvalues)
    if n == 0 or not all(math.isfinite(share) for share in shares):
        return []
    drops = [eigenvalues[i] - eigenvalues[i + 1] for i in range(n - 1)]
    gap = n if is_whole or not drops else 1 + drops.index(max(drops))
    length = math.ceil(n / MOST_BARS)
    starts = [*range(0, gap, length), *range(gap, n, length)]
    ends = [*starts[1:], n]
    return [
        Bar(a + 1, b, math.fsum(shares[a:b]), 1 - math.fsum(eigenvalues[a:b]) / (b - a))
        for a, b in zip(starts, ends, strict=True)
    ]


def _range(bar: Bar) -> str:
    return str(bar.first) if bar.first == bar.last else f"{bar.first} – {bar.last}"


def _follow(
    axes: Axes, snapshots: Sequence[GeometrySnapshot], values: Callable[[GeometrySnapshot], dict[str, float]]
) -> None:
    for i, name in enumerate(FOLLOWED):
        points = [(s.step, values(s)[name]) for s in snapshots if math.isfinite(values(s).get(name, math.nan))]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(
                x, y, color=SERIES[i], marker=MARKERS[i], markersize=3, linestyle=DASHES[i], label=metric_name(name)
            )
    axes.grid(axis="y")


def _steps_axis(axes: Axes, steps: Sequence[int]) -> None:
    """Logarithmic from the first step after 0 on, where steps are spread over more than a factor of 30."""
    positive = [step for step in steps if step > 0]
    if positive and max(positive) > 30 * min(positive):
        axes.set_xscale("symlog", linthresh=min(positive))
        axes.set_xticks([*([0] if 0 in steps else []), *_powers(min(positive), max(positive))])
        axes.xaxis.set_major_formatter(lambda step, _: plain(step))
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _powers(low: int, high: int) -> list[int]:
    """Powers of ten from `low` to `high`."""
    return [10**i for i in range(math.ceil(math.log10(max(low, 1))), math.floor(math.log10(high)) + 1)]
