"""The page of a reproduced figure: which claims hold in every seed, what was published, and the curves redrawn."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatter

from mnemoscope.reporting.canvas import (
    DASHES,
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
from mnemoscope.reporting.heat_maps import heat_map_figure
from mnemoscope.reporting.moving import moving
from mnemoscope.reporting.numbers import ABSENT
from mnemoscope.reporting.rendering import rendered, write_page
from mnemoscope.reporting.tables import Cell, Group, Table
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.turning import policy, script
from mnemoscope.runs.reproduction import Chart, ChartLine, ClaimResult, Reproduction, TextTable

LEGEND_ROW_INCHES = 0.15
MOST_ROWS = 40
"""Longer curves are thinned in their table, not in the drawing."""
MARKED_POINTS = 20
"""Of logarithmic axes, whose own labels are mathematics that these drawings do not set."""
HOLDS = {True: "yes", False: "NO", None: ABSENT}


def render_reproduction(reproduction: Reproduction, files: Files | None = None) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same record gives the same bytes."""
    inline = {
        "policy": Markup(policy()) if reproduction.moving else "",
        "script": Markup(script()) if reproduction.moving else "",
    }
    return rendered("reproduction.html.j2", files, **reproduction_fields(reproduction), **inline)


def reproduction_fields(reproduction: Reproduction, beside: str = "") -> dict[str, Any]:
    """What the template of the page shows, by name, but for `policy` and `script`.

    Args:
        reproduction: the record.
        beside: what goes before the names of pages of what was examined, to make addresses of them.
    """
    return {
        "title": f"Reproduction: {reproduction.experiment}",
        "command": reproduction.command,
        "reproduction": reproduction,
        "beside": beside,
        "headline": headline(reproduction),
        "broken": [claim for claim in reproduction.claims if claim.holds is False],
        "claims": claims_table(reproduction),
        "shown": shown_table(reproduction),
        "drawings": drawings(reproduction),
        "moving": [moving(picture, f"moving-{i}") for i, picture in enumerate(reproduction.moving)],
        "texts": [_texts(table) for table in reproduction.tables],
        "made_with": made_with(reproduction),
    }


def write_reproduction(reproduction: Reproduction, path: str | Path, files: bool = False) -> Path:
    """Write `render_reproduction`'s text to a file; with `files`, what it shows beside it (`write_page`).

    Raises:
        ValueError: with `files`, without the packages that make PDFs.
        OSError: if the file cannot be written; what was there before is still there.
    """
    return write_page(path, files, lambda kept: render_reproduction(reproduction, kept))


def headline(reproduction: Reproduction) -> str:
    """How many claims hold, of how many seeds."""
    bounded = [claim for claim in reproduction.claims if claim.holds is not None]
    n = len(reproduction.seeds)
    if not bounded:
        return f"Nothing is claimed; figures of {n} {'seed' if n == 1 else 'seeds'} are shown."
    holding = sum(claim.holds is True for claim in bounded)
    seeds = {1: "the one seed", 2: "both seeds"}.get(n, f"all {n} seeds")
    missing = reproduction.wanted_seeds - n
    more = f"; {missing} of {reproduction.wanted_seeds} seeds are not finished" if missing else ""
    return f"{holding} of {len(bounded)} claims hold in {seeds}{more}."


def claims_table(reproduction: Reproduction) -> Table | None:
    """What has a bound; None where nothing has."""
    rows = [claim for claim in reproduction.claims if claim.bar != "-"]
    return _table("What must come out, and what did.", rows, reproduction.seeds) if rows else None


def shown_table(reproduction: Reproduction) -> Table | None:
    """What is shown beside it; None where everything has a bound."""
    rows = [claim for claim in reproduction.claims if claim.bar == "-"]
    return _table("Figures without a bound.", rows, reproduction.seeds) if rows else None


def drawings(reproduction: Reproduction) -> list[Drawing]:
    """Curves, then matrices."""
    charts = [chart_figure(chart, f"chart-{i}") for i, chart in enumerate(reproduction.charts)]
    maps = [heat_map_figure(heat_map, f"map-{i}") for i, heat_map in enumerate(reproduction.heat_maps)]
    return [drawing for drawing in [*charts, *maps] if drawing is not None]


def chart_figure(chart: Chart, key: str) -> Drawing | None:
    """Thick: the mean over seeds; thin: each seed. None where no value is finite."""
    lines = [line for line in chart.lines if np.isfinite(np.array(line.y, dtype=float)).any()]
    if not lines:
        return None
    with drawing_style(key):
        figure, (axes,) = blank(2.5 + LEGEND_ROW_INCHES * len(lines))
        names = short_names([line.name for line in lines], 40)
        for i, (name, line) in enumerate(zip(names, lines, strict=True)):
            _line(axes, name, line, i)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
        if chart.log_x:
            axes.set_xscale("symlog" if min(min(line.x) for line in lines) <= 0 else "log")
            _plain_labels(axes.xaxis)
        if chart.log_y:
            axes.set_yscale("log")
            _plain_labels(axes.yaxis)
        _marks(axes, chart)
        legend(figure, axes)
        svg = inline_svg(figure, key, f"{chart.title}: {chart.y_label} over {chart.x_label}, {', '.join(names)}.")
    return Drawing(title=chart.title, caption=chart.caption, svg=svg, columns=_columns(chart, lines), rows=_rows(lines))


class PlainLogarithmic(LogFormatter):
    """Plain numbers at the ticks that Matplotlib would label, small ones too where an axis spans about a decade."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick; empty for none."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def _plain_labels(axis: Axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(PlainLogarithmic(labelOnlyBase=False))


def made_with(reproduction: Reproduction) -> list[tuple[str, str]]:
    """How it was made: pairs of a name and a value."""
    versions = ", ".join(f"{name} {version}" for name, version in reproduction.versions.items())
    seeds = ", ".join(map(str, reproduction.seeds)) or "none"
    return [
        ("Source", reproduction.source),
        ("Size", reproduction.size),
        ("Seeds", seeds),
        ("Time", f"{reproduction.seconds / 60:,.1f} minutes of all seeds, on one thread unless the settings say more"),
        *reproduction.settings.items(),
        ("Versions", versions or "not recorded"),
    ]


def _line(axes: Axes, name: str, line: ChartLine, i: int) -> None:
    colour, dash, marker = SERIES[i % MOST_SERIES], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]
    each = np.array(line.y, dtype=float)
    for one in each if len(each) > 1 else []:
        axes.plot(line.x, one, color=colour, linewidth=0.6, alpha=0.55)
    marker = marker if len(line.x) <= MARKED_POINTS else ""
    axes.plot(line.x, each.mean(axis=0), color=colour, linestyle=dash, marker=marker, label=name)


def _marks(axes: Axes, chart: Chart) -> None:
    """Lines across the figure, each with its name below the top, where curves often lie."""
    for name, x in chart.marks.items():
        axes.axvline(x, color=MUTED, linewidth=0.6, linestyle=":", zorder=0)
        axes.annotate(
            name,
            (x, 0.9),
            xycoords=("data", "axes fraction"),
            xytext=(2, 0),
            textcoords="offset points",
            color=MUTED,
            fontsize="x-small",
            rotation=90,
            va="top",
        )


def _texts(table: TextTable) -> tuple[str, Table]:
    rows = [[Cell(text) for text in row] for row in table.rows]
    return table.title, Table(table.caption, table.columns, [Group("", rows)], table.title)


def _columns(chart: Chart, lines: list[ChartLine]) -> list[str]:
    return [chart.x_label, *(f"{line.name}, mean (range)" for line in lines)]


def _rows(lines: list[ChartLine]) -> list[list[str]]:
    points = sorted({x for line in lines for x in line.x})
    kept = points[:: -(-len(points) // MOST_ROWS)]
    kept = kept if kept[-1] == points[-1] else [*kept, points[-1]]
    return [[f"{x:g}", *(_at(line, x) for line in lines)] for x in kept]


def _at(line: ChartLine, x: float) -> str:
    if x not in line.x:
        return ABSENT
    values = np.array(line.y, dtype=float)[:, line.x.index(x)]
    spread = f" ({values.min():.4g} to {values.max():.4g})" if len(values) > 1 else ""
    return f"{values.mean():.4g}{spread}"


def _table(caption: str, claims: list[ClaimResult], seeds: list[int]) -> Table:
    bounded = any(claim.bar != "-" for claim in claims)
    columns = ["Figure", "Published", *(["Must be", "Holds"] if bounded else []), "Mean"]
    return Table(
        caption,
        [*columns, *(f"Seed {seed}" for seed in seeds)],
        [Group("", [_claim(claim, bounded) for claim in claims])],
        name="claims" if bounded else "figures without a bound",
    )


def _claim(claim: ClaimResult, bounded: bool) -> list[Cell]:
    counted = claim.holds is False and claim.met is None
    held = f"NO, in {claim.holding} of {len(claim.values)}" if counted else HOLDS[claim.holds]
    mean = f"{np.mean(claim.values):.4g}" if claim.values else ABSENT
    return [
        Cell(claim.what),
        Cell(claim.published),
        *([Cell(claim.bar), Cell(held)] if bounded else []),
        Cell(mean),
        *(Cell(f"{value:.4g}") for value in claim.values),
    ]
