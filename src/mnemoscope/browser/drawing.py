"""Curves that grow, as SVG in the colours, dashes and words of the reports.

Written directly and not by matplotlib, which takes a tenth of a second for what is drawn anew with every step. What
stands here has no colours of its own: `browser.css` gives line i the i-th of the reports' series.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import LogLocator, MaxNLocator

from mnemoscope.browser.series import Curve
from mnemoscope.browser.thinning import thinned
from mnemoscope.reporting.numbers import plain, printable

WIDTH, HEIGHT = 400, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 26
N_STYLES = 25
"""Five colours times five dashes."""
BUCKETS = 160


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve of a panel.

    Args:
        name: what the legend says.
        curve: every point.
        unit: of the legend's figures, if any.
    """

    name: str
    curve: Curve

    @property
    def finite(self) -> np.ndarray:
        """Its values that are numbers."""
        return self.curve.values[np.isfinite(self.curve.values)]

    @property
    def last(self) -> float:
        """The last value that was logged."""
        return float(self.curve.values[-1]) if len(self.curve.values) else math.nan

    @property
    def n_lost(self) -> int:
        """Values that are not finite."""
        return int(len(self.curve.values) - len(self.finite))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """From values to places in the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Places; what cannot be placed, such as zero on a logarithmic axis, is NaN."""
        low, high = self._scaled(np.array([self.low, self.high]))
        return self.start + (self._scaled(values) - low) / (high - low or 1.0) * (self.end - self.start)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        values = np.where(np.isfinite(values), values, np.nan)
        return np.log10(np.where(values > 0, values, np.nan)) if self.log else values

    def ticks(self, most: int) -> list[float]:
        """Round values within the axis."""
        found = (LogLocator() if self.log else MaxNLocator(most)).tick_values(self.low, self.high)
        slack = 1e-9 * (self.high - self.low)
        inside = [float(tick) for tick in found if self.low - slack <= tick <= self.high + slack]
        return inside[:: max(1, math.ceil(len(inside) / (most + 1)))]


def panel_svg(lines: Sequence[Line], title: str, *, log: bool = False) -> Markup:
    """The drawing of one panel; empty where no line has a number.

    Args:
        lines: at most `N_STYLES`, drawn in their order.
        title: what they are.
        log: the vertical axis is logarithmic, where every line has a positive value.
    """
    drawn = [(i, Line(name=line.name, curve=thinned(line.curve, BUCKETS))) for i, line in enumerate(lines)]
    values = np.concatenate([np.zeros(0), *(line.finite for _, line in drawn)])
    values = values[values > 0] if log else values
    if not len(values):
        return Markup()
    steps = np.concatenate([line.curve.steps for _, line in drawn])
    x = Axis(low=float(steps.min()), high=float(steps.max()), start=LEFT, end=WIDTH - RIGHT)
    y = Axis(**_padded(values, log), start=HEIGHT - BOTTOM, end=TOP, log=log)
    body = [*_grid(x, y), *(_path(i, line.curve, x, y) for i, line in drawn)]
    # What stands in data-… is what the script needs to say a value under the pointer.
    return Markup(
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(described(lines, title))}" '
        f'data-x="{x.low!r},{x.high!r},{x.start},{x.end}" data-y="{y.low!r},{y.high!r},{y.start},{y.end}" '
        f'data-log="{int(log)}">{"".join(body)}</svg>'
    )


@functools.lru_cache(maxsize=4096)
def spark_svg(points: tuple[tuple[float, float], ...], what: str) -> Markup:
    """The small curve of a list; empty below two numbers."""
    curve = Curve(np.array([p[0] for p in points]), np.array([p[1] for p in points]))
    finite = curve.values[np.isfinite(curve.values)]
    if len(finite) < 2:
        return Markup()
    x = Axis(low=curve.steps[0], high=curve.steps[-1], start=1, end=99)
    y = Axis(low=float(finite.min()), high=float(finite.max()), start=21, end=2)
    told = f"{what} from {plain(float(finite[0]))} to {plain(float(finite[-1]))}, least {plain(float(finite.min()))}"
    return Markup(
        f'<svg class="spark" viewBox="0 0 100 23" role="img" aria-label="{escape(printable(told))}">'
        f"{_path(0, curve, x, y)}</svg>"
    )


def described(lines: Sequence[Line], title: str) -> str:
    """What a reader who does not see the drawing should know."""
    return printable(f"{title}. " + " ".join(_described(line) for line in lines))


def _described(line: Line) -> str:
    finite = line.finite
    if not len(finite):
        return f"{line.name}: no number."
    steps = line.curve.steps
    least = int(np.where(np.isfinite(line.curve.values), line.curve.values, np.inf).argmin())
    return (
        f"{line.name}: {plain(float(finite[0]))} at step {steps[0]:,.0f}, {plain(float(finite[-1]))} at step "
        f"{steps[-1]:,.0f}, least {plain(float(finite.min()))} at step {steps[least]:,.0f}."
    )


def _padded(values: np.ndarray, log: bool) -> dict[str, float]:
    """The ends of the vertical axis: a little beyond the values, and apart even where all are equal."""
    low, high = float(values.min()), float(values.max())
    if log:
        return {"low": low / 1.1, "high": high * 1.1}
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return {"low": max(low - room, -1e300), "high": min(high + room, 1e300)}


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick, place in _places(y, 4):
        parts.append(f'<path class="rule" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 5}" y="{place + 3.5:.1f}">{escape(plain(tick))}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    for tick, place in _places(x, 4):
        # The last label ends with the drawing, where its middle would run over the edge.
        edge = " last" if place > WIDTH - 40 else ""
        parts.append(f'<text class="tick x{edge}" x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}">{tick:,.0f}</text>')
    return parts


def _places(axis: Axis, most: int) -> list[tuple[float, float]]:
    ticks = axis.ticks(most)
    places = axis(np.array(ticks)).tolist()
    return [(tick, place) for tick, place in zip(ticks, places, strict=True) if math.isfinite(place)]


def _path(style: int, curve: Curve, x: Axis, y: Axis) -> str:
    """A line with gaps where a value is no number; a number alone between gaps is a dot."""
    places = np.stack([x(curve.steps), y(curve.values)], axis=1)
    commands, open_ = [], False
    for px, py in places.tolist():
        if py != py or px != px:
            open_ = False
            continue
        commands.append(f"{'L' if open_ else 'M'}{px:.1f} {py:.2f}{'' if open_ else 'h0'}")
        open_ = True
    return f'<path class="line c{style % 5} d{(style + style // 5) % 5}" data-line="{style}" d="{"".join(commands)}"/>'
