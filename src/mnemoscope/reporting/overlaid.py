"""Figures of several cases over each other: the horizon of each memory, loss by position, training."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mnemoscope.reporting.canvas import MOST_SERIES, Drawing, blank, drawing_style, inline_svg, legend, shortened
from mnemoscope.reporting.case import Case
from mnemoscope.reporting.curves import (
    LEGEND_ROW_INCHES,
    Curve,
    bin_width,
    binned_curve,
    draw_lines,
    horizon_curve,
    logged_curve,
    logged_names,
    margin_band,
    names_of,
    numbers_of,
    windows_axis,
)
from mnemoscope.reporting.summary import effect
from mnemoscope.runs import SiteRecord

MOST_SITES = 6
"""Memories with a figure of their own; the tables have them all."""


def overlaid_figures(cases: Sequence[Case]) -> list[Drawing]:
    """What the records of several cases have numbers for; each figure has one curve for a case.

    Args:
        cases: with labels that differ.
    """
    positions = _positions_figure(cases, "overlaid-positions")
    return [*horizon_figures(cases), *training_figures(cases), *([positions] if positions else [])]


def horizon_figures(cases: Sequence[Case]) -> list[Drawing]:
    """A figure for each memory that several cases have; one of each case's most costly memory where they share none."""
    times = Counter(site.name for case in cases for site in case.examination.sites if _has_horizon(site))
    shared = [name for name, n in times.items() if n > 1]
    chosen = sorted(shared, key=lambda name: -_cost(cases, name))[:MOST_SITES]
    more = f" The {len(chosen)} most costly of {len(shared)} memories are shown." if len(shared) > len(chosen) else ""
    named = [(name, [(c, _site(c, name)) for c in cases]) for name in shared if name in chosen]
    if not shared:
        named = [("the most costly memory of each", [(case, _most_costly(case)) for case in cases])]
    drawings = (
        _horizon_figure(f"How far back {name} is used", [(c, s) for c, s in found if s], f"overlaid-horizon-{i}", more)
        for i, (name, found) in enumerate(named)
    )
    return [drawing for drawing in drawings if drawing is not None]


def training_figures(cases: Sequence[Case]) -> list[Drawing]:
    """A figure for each loss and accuracy that was logged, validation first."""
    names = dict.fromkeys(
        name for word in ("loss", "accuracy") for case in cases for name in logged_names(case.metrics, word)
    )
    drawings = []
    for i, name in enumerate(sorted(names, key=lambda name: (not name.startswith("validation"), "loss" not in name))):
        curves = [
            _renamed(logged_curve([row for row in case.metrics if name in row], name), case.label)
            for case in cases
            if name in logged_names(case.metrics, "")
        ]
        words, unit = shortened(name.replace("_", " "), 40), "nats" if "loss" in name else "fraction"
        drawings.append(
            _figure(
                curves,
                f"overlaid-training-{i}",
                title=f"Training: {words}",
                caption="A falling loss does not tell whether the memory works; it tells whether there was something "
                "to judge.",
                axis=("training step", f"{words} ({unit})"),
                prepared=_whole_numbers,
                column="Step",
            )
        )
    return drawings


def _positions_figure(cases: Sequence[Case], key: str) -> Drawing | None:
    bases = [(case.label, case.examination.base) for case in cases]
    known = [(label, base) for label, base in bases if base is not None and base.positions]
    if not known:
        return None
    width = bin_width([position for _, base in known for position in base.positions])
    averaged = f" Each point averages {width} positions." if width > 1 else ""
    return _figure(
        [binned_curve(label, base, width) for label, base in known],
        key,
        title="Loss by position, everything in place",
        caption=f"Where in the sequence one model is better than another.{averaged}",
        axis=("position (tokens)", "loss (nats per scored token)"),
        prepared=_whole_numbers,
        column="Position (tokens)",
    )


def _horizon_figure(title: str, found: Sequence[tuple[Case, SiteRecord]], key: str, more: str) -> Drawing | None:
    measured = [(case, site) for case, site in found if _has_horizon(site)]
    if not measured:
        return None
    windows = {case.examination.local_window for case, _ in measured}
    margin = max((case.examination.margin for case, _ in measured if math.isfinite(case.examination.margin)), default=0)
    curves = [_renamed(horizon_curve(site), case.label) for case, site in measured]

    def prepared(axes: Axes) -> None:
        margin_band(axes, margin)
        windows_axis(axes, sorted({x for curve in curves for x in curve.x}), max(windows))

    line = "the local window" if len(windows) == 1 else "the longest of their local windows"
    return _figure(
        curves,
        key,
        title=title,
        caption="Loss increase when only the last tokens are kept in memory; the grey band is the widest margin, the "
        f"dashed line {line}, {max(windows)} tokens.{more}",
        axis=("tokens kept in memory", "loss increase (nats)"),
        prepared=prepared,
        column="Tokens kept",
    )


def _figure(
    curves: Sequence[Curve],
    key: str,
    *,
    title: str,
    caption: str,
    axis: tuple[str, str],
    prepared: Callable[[Axes], None],
    column: str,
) -> Drawing:
    """A line for each curve, as many as there are styles; the table of numbers has all."""
    drawn = curves[:MOST_SERIES]
    with drawing_style(key):
        figure, (axes,) = blank(2.4 + LEGEND_ROW_INCHES * len(drawn))
        draw_lines(axes, drawn)
        prepared(axes)
        axes.set(xlabel=axis[0], ylabel=axis[1])
        legend(figure, axes)
        svg = inline_svg(figure, key, f"{title}: {axis[1]} over {axis[0]}, of {names_of(drawn)}.")
    left = f" Drawn are the first {len(drawn)} of {len(curves)}." if len(drawn) < len(curves) else ""
    columns = [column, *(f"{axis[1]}: {curve.name}" for curve in curves)]
    return Drawing(title=title, caption=caption + left, svg=svg, columns=columns, rows=numbers_of(curves))


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _renamed(curve: Curve, name: str) -> Curve:
    return Curve(name=name, x=curve.x, y=curve.y, intervals=curve.intervals)


def _has_horizon(site: SiteRecord) -> bool:
    return any(math.isfinite(point.effect.value) for point in site.horizon)


def _site(case: Case, name: str) -> SiteRecord | None:
    return next((site for site in case.examination.sites if site.name == name), None)


def _effect_of(site: SiteRecord | None) -> float:
    estimate = effect(site, "optimal_constant") if site else None
    return estimate.value if estimate and math.isfinite(estimate.value) else -math.inf


def _cost(cases: Sequence[Case], name: str) -> float:
    return max(_effect_of(_site(case, name)) for case in cases)


def _most_costly(case: Case) -> SiteRecord | None:
    measured = [site for site in case.examination.sites if _has_horizon(site)]
    return max(measured, key=_effect_of, default=None)
