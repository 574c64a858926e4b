"""The record and the page of a reproduced figure, from the results of its seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope.experiments.reproducing import (
    Claim,
    Experiment,
    Plot,
    Result,
    Size,
    experiment_folder,
    geometry_page,
    resolved_settings,
    spelt,
)
from mnemoscope.reporting.reproduction import write_reproduction
from mnemoscope.runs import write_record
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.reproduction import Chart, ChartLine, ClaimResult, Reproduction

RECORD, PAGE = "reproduction.json", "report.html"
ARROW = " -> "


def write_page(
    experiment: Experiment[Any], size: Size, found: Sequence[Result], n_seeds: int, out: str | Path, command: str
) -> Path:
    """Write the record and the page of an experiment beside the results of its seeds.

    Args:
        experiment: what was measured.
        size: of it.
        found: the seeds that are finished.
        n_seeds: that were wanted.
        out: folder of all experiments.
        command: that makes it.

    Returns:
        The page.
    """
    folder = experiment_folder(experiment, size, out)
    record = reproduction_of(experiment, size, found, n_seeds, command)
    pages = [page.name for result in found if (page := geometry_page(folder, result.seed)).exists()]
    record = record.model_copy(update={"pages": pages})
    write_record(folder / RECORD, record)
    return write_reproduction(record, folder / PAGE)


def reproduction_of(
    experiment: Experiment[Any], size: Size, found: Sequence[Result], n_seeds: int, command: str
) -> Reproduction:
    """Claims, curves and matrices of the seeds that are finished; see `write_page`."""
    settings = resolved_settings(experiment, size)
    return Reproduction(
        experiment=experiment.name,
        what=experiment.what,
        source=experiment.source,
        size=size,
        command=command,
        seeds=[result.seed for result in found],
        wanted_seeds=n_seeds,
        claims=[_claim(claim, found) for claim in experiment.claims],
        charts=[_chart(plot, found) for plot in experiment.plots] if found else [],
        heat_maps=_heat_maps(experiment, size, found),
        moving=list(experiment.moving(experiment.sizes[size], found[0].series)) if found else [],
        tables=list(experiment.tables(experiment.sizes[size], found)) if found else [],
        seconds=sum(result.seconds for result in found),
        settings={name: spelt(value) for name, value in settings.items()},
        versions=found[-1].versions if found else {},
    )


def _claim(claim: Claim, found: Sequence[Result]) -> ClaimResult:
    values = [result.figures[claim.figure] for result in found]
    return ClaimResult(
        what=claim.what,
        published=claim.published,
        bar=claim.bar,
        values=values,
        holding=sum(map(claim.holds, values)),
        needed=None if claim.in_seeds == 1 else claim.needed(len(values)),
        met=claim.is_met([result.figures for result in found]) if claim.by_interval else None,
    )


def _heat_maps(experiment: Experiment[Any], size: Size, found: Sequence[Result]) -> list[HeatMap]:
    if not found:
        return []
    settings = experiment.sizes[size]
    of_seeds = [
        heat_map.model_copy(update={"title": f"{heat_map.title}, seed {result.seed}"})
        for result in found
        for heat_map in experiment.seed_heat_maps(settings, result.series)
    ]
    return [*experiment.heat_maps(settings, _mean_series(found)), *of_seeds]


def _chart(plot: Plot, found: Sequence[Result]) -> Chart:
    return Chart(
        title=plot.title,
        caption=plot.caption,
        x_label=plot.x_label,
        y_label=plot.y_label,
        log_x=plot.log_x,
        log_y=plot.log_y,
        lines=[_line(name, series, plot.x, found) for name, series in plot.lines.items()],
        marks=dict(plot.marks),
    )


def _line(name: str, series: str, shared_x: str, found: Sequence[Result]) -> ChartLine:
    """A seed that stopped early is NaN from there on."""
    x_name, y_name = series.split(ARROW) if ARROW in series else (shared_x, series)
    x = max((result.series[x_name] for result in found), key=len)
    each = [result.series[y_name] for result in found]
    return ChartLine(name=name, x=x, y=[[*values, *[float("nan")] * (len(x) - len(values))] for values in each])


def _mean_series(found: Sequence[Result]) -> dict[str, list[float]]:
    """Of the series that are as long in every seed."""
    return {
        name: np.mean([result.series[name] for result in found], axis=0).tolist()
        for name in found[0].series
        if len({len(result.series.get(name, [])) for result in found}) == 1
    }
