"""A matrix as a picture of its values, with the numbers beside it."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnemoscope.reporting.canvas import WIDTH_INCHES, Drawing, drawing_style, inline_svg, short_names, shortened
from mnemoscope.reporting.numbers import nats
from mnemoscope.runs.geometry import HeatMap

COLOURS = "cividis"
"""Even in lightness, so that it can be read in grey and with any colour vision, on light and dark paper."""

MOST_NAMED = 24
MOST_LISTED = 16
"""Up to here the table of numbers is the matrix itself; beyond, what is lowest and highest in each row."""


def heat_map_figure(heat_map: HeatMap, key: str) -> Drawing | None:
    """The matrix, first row on top; None where no value is finite."""
    values = np.array(heat_map.values, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).any():
        return None
    n_rows, n_columns = values.shape
    with drawing_style(key):
        figure = Figure(
            figsize=(WIDTH_INCHES, 0.9 + 3.1 * min(max(n_rows / n_columns, 0.25), 1.3)), layout="constrained"
        )
        axes = figure.subplots()
        drawn = axes.imshow(values, cmap=COLOURS, aspect="auto", interpolation="none")
        for spine in axes.spines.values():
            spine.set_visible(False)
        _named(axes, heat_map)
        bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=30)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.set_label(shortened(heat_map.unit, 30))
        low, high = np.nanmin(values), np.nanmax(values)
        svg = inline_svg(
            figure, key, f"{heat_map.title}: {n_rows} rows, {n_columns} columns, from {nats(low)} to {nats(high)}."
        )
    columns, rows = _numbers(heat_map, values)
    return Drawing(title=heat_map.title, caption=_caption(values), svg=svg, columns=columns, rows=rows)


def _named(axes: Axes, heat_map: HeatMap) -> None:
    """Every row and column by its name where there is room; else how many there are."""
    crowded = len(heat_map.columns) * max(map(len, heat_map.columns), default=0) > 40
    for names, axis, turned in ((heat_map.rows, axes.yaxis, 0), (heat_map.columns, axes.xaxis, 90 if crowded else 0)):
        if len(names) <= MOST_NAMED:
            axis.set_ticks(range(len(names)), short_names(names, 14), rotation=turned)
        else:
            axis.set_ticks([0, len(names) - 1], ["1", str(len(names))])
    axes.tick_params(length=0)


def _caption(values: NDArray[np.float64]) -> str:
    """What the diagonal says where there is one."""
    n_rows, n_columns = values.shape
    if n_rows != n_columns or n_rows < 2:
        return f"{n_rows} rows, {n_columns} columns, in the same order as in the table of numbers."
    on, off = float(np.diagonal(values).mean()), float(values[~np.eye(n_rows, dtype=bool)].mean())
    return f"{n_rows} by {n_columns}; mean on the diagonal {nats(on)}, off it {nats(off)}."


def _numbers(heat_map: HeatMap, values: NDArray[np.float64]) -> tuple[list[str], list[list[str]]]:
    if max(values.shape) <= MOST_LISTED:
        rows = [[name, *map(nats, row)] for name, row in zip(heat_map.rows, values, strict=True)]
        return ["", *heat_map.columns], rows
    square = values.shape[0] == values.shape[1]
    head = ["Row", *(["Diagonal"] if square else []), "Lowest", "at", "Highest", "at"]
    return head, [_extremes(heat_map, i, row, square) for i, row in enumerate(values)]


def _extremes(heat_map: HeatMap, i: int, row: NDArray[np.float64], square: bool) -> list[str]:
    own = [nats(row[i])] if square else []
    if not np.isfinite(row).any():
        return [heat_map.rows[i], *own, nats(math.nan), "", nats(math.nan), ""]
    low, high = int(np.nanargmin(row)), int(np.nanargmax(row))
    ends = [nats(row[low]), heat_map.columns[low], nats(row[high]), heat_map.columns[high]]
    return [heat_map.rows[i], *own, *ends]
