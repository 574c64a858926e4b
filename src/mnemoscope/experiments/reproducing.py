"""Reproducing published figures: what must come out, what came out of each seed, and whether it holds.

    OUT/perpgrad/small/seed-0.json          the figures of one seed, written when it is finished
    OUT/path-star/small/geometry-0.html     embeddings that were examined, and beside it their records
    OUT/perpgrad/small/reproduction.json    claims and curves of all seeds, and report.html

A seed that is there already is not done again: the same command goes on where it was stopped. A file that was written
under other settings is refused.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from pydantic import Field

from mnemoscope.experiments.calibrate import versions
from mnemoscope.experiments.trials.acceptance import over_seeds
from mnemoscope.reporting.geometry import write_geometry
from mnemoscope.runs import SCHEMA_VERSION, Record, read_record, write_record
from mnemoscope.runs.geometry import GeometryExamination, HeatMap
from mnemoscope.runs.reproduction import MovingPicture, TextTable

if TYPE_CHECKING:
    from mnemoscope.experiments.planning.targets import Target

Size = Literal["small", "paper"]
"""Minutes on two CPU cores, or what was published (hours, or a GPU)."""

Say = Callable[[str], None]
Settings = TypeVar("Settings")
Series: TypeAlias = Mapping[str, Sequence[float]]
"""By name."""

HEADS = ("what", "published", "must be")
GEOMETRY = "geometry"
LEAST_FOR_INTERVAL = 2
MOST_LINES = 5
"""Of one figure, whose colours can be told apart."""


def _nothing(settings: Any, series: Any) -> tuple[()]:
    """Most experiments draw curves only."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one figure must be, of every seed.

    Args:
        figure: its name in what is measured.
        what: it is, with its unit.
        published: the figure or finding of the source; "-" where there is none.
        least: smallest value that passes; None for no such bound.
        most: largest value that passes; None for no such bound. Without either, the figure is only shown.
        in_seeds: share of the seeds that must pass, for findings that are published as frequent.
        by_interval: the bounds are for the interval (95 %) of the mean over seeds, not for every seed; for directions
            and equalities that are published without a size. It takes two seeds at least.
    """

    figure: str
    what: str
    published: str = "-"
    least: float | None = None
    most: float | None = None
    in_seeds: float = 1.0
    by_interval: bool = False

    @property
    def bar(self) -> str:
        """The bounds in words; "-" without any."""
        bounds = [] if self.least is None else [f"at least {self.least:g}"]
        bounds += [] if self.most is None else [f"at most {self.most:g}"]
        words = ", ".join(bounds)
        return f"{words} (interval over seeds)" if words and self.by_interval else words or "-"

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds; NaN is within none."""
        if self.least is None and self.most is None:
            return True
        above, below = self.least is None or value >= self.least, self.most is None or value <= self.most
        return above and below

    def needed(self, n_seeds: int) -> int:
        """In how many seeds it must hold."""
        return math.ceil(self.in_seeds * n_seeds - 1e-9)

    def is_met(self, figures: Sequence[Mapping[str, float]]) -> bool:
        """Whether enough seeds, each with its figures, or the interval of their mean, are within the bounds."""
        values = [each[self.figure] for each in figures]
        if not self.by_interval:
            return sum(map(self.holds, values)) >= self.needed(len(values))
        if len(values) < LEAST_FOR_INTERVAL:
            return not values
        mean = over_seeds(values)
        return self.holds(mean.low) and self.holds(mean.high)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure that is redrawn from series; see `reproduction_page`.

    Args:
        title: of the figure.
        caption: how to read it.
        y_label: quantity and unit.
        lines: the series of each line, by what to call it; several lines are drawn together.
        x: the series of the horizontal axis; a line that has one of its own gives it before its series, "x -> y".
        x_label: quantity and unit.
        log_x: logarithmic axis.
        log_y: logarithmic axis.
        marks: places on the horizontal axis that a line across the figure marks, by what stands there.
    """

    title: str
    caption: str
    y_label: str
    lines: Mapping[str, str]
    x: str = "step"
    x_label: str = "training step"
    log_x: bool = False
    log_y: bool = False
    marks: Mapping[str, float] = field(default_factory=dict)

    def split(self, most: int = MOST_LINES) -> "list[Plot]":
        """The same lines in as many figures as it takes, each of nearly as many; itself where they can be told apart.

        Args:
            most: lines of a figure.
        """
        names = list(self.lines)
        n = -(-len(names) // most)
        if n <= 1:
            return [self]
        size = -(-len(names) // n)
        groups = [names[i : i + size] for i in range(0, len(names), size)]
        return [
            replace(self, title=f"{self.title} ({i} of {n})", lines={name: self.lines[name] for name in group})
            for i, group in enumerate(groups, start=1)
        ]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one seed gave.

    Args:
        figures: by name; one for every claim.
        series: what a figure would be drawn of, by name.
        geometry: tables of embeddings that were examined, by what they are called; they get a page.
        texts: what was written, by name.
    """

    figures: Mapping[str, float]
    series: Series = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    geometry: Mapping[str, GeometryExamination] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Claims and plots of one size; see `Experiment`."""

    claims: Sequence[Claim]
    plots: Sequence[Plot]


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[Settings]):
    """A published figure or table.

    Args:
        name: what to call it; also its folder.
        what: it asks, in a line.
        source: of the published figures.
        claims: what must come out.
        sizes: settings of each size that there is; a dataclass of plain values.
        measure: settings and seed -> figures; a pure function of both. None where `measure_in` does it.
        measure_in: the same, with the folder of all experiments, where it may keep its trainings, so that one that was
            stopped goes on.
        minutes: of one seed on one thread, by size, where they were measured.
        plots: what its page draws.
        heat_maps: settings and series, the mean over seeds -> matrices that its page draws.
        seed_heat_maps: settings and the series of one seed -> matrices that its page draws for every seed.
        moving: settings and the series of the first seed -> pictures that move.
        tables: settings and all results -> tables of words.
        shown: claims and plots of the sizes that have others.
        trainings: settings -> the trainings of one seed, as the planner takes them; see `gpu_hours`.

    Raises:
        ValueError: neither, or both, of `measure` and `measure_in`.
    """

    name: str
    what: str
    source: str
    claims: Sequence[Claim]
    sizes: Mapping[Size, Settings]
    measure: Callable[[Settings, int], Measured] | None = None
    measure_in: Callable[[Settings, int, Path], Measured] | None = None
    minutes: Mapping[Size, float] = field(default_factory=dict)
    plots: Sequence[Plot] = ()
    heat_maps: Callable[[Settings, Series], Sequence[HeatMap]] = _nothing
    seed_heat_maps: Callable[[Settings, Series], Sequence[HeatMap]] = _nothing
    moving: Callable[[Settings, Series], Sequence[MovingPicture]] = _nothing
    tables: "Callable[[Settings, Sequence[Result]], Sequence[TextTable]]" = _nothing
    shown: Mapping[Size, Shown] = field(default_factory=dict)
    trainings: "Callable[[Settings], Sequence[Target]] | None" = None

    def __post_init__(self) -> None:
        if (self.measure is None) == (self.measure_in is None):
            raise ValueError(f"Experiment {self.name}: needs either measure or measure_in")

    def at(self, size: Size) -> "Experiment[Settings]":
        """The experiment with the claims and plots of a size."""
        shown = self.shown.get(size)
        return self if shown is None else replace(self, claims=shown.claims, plots=shown.plots, shown={})

    def of_seed(self, size: Size, seed: int, out: Path) -> Measured:
        """What one seed gives; `out` is the folder of all experiments."""
        if self.measure_in is not None:
            return self.measure_in(self.sizes[size], seed, out)
        assert self.measure is not None
        return self.measure(self.sizes[size], seed)


class Result(Record):
    """The figures of one seed, and what they were measured with."""

    schema_version: int = SCHEMA_VERSION
    experiment: str
    size: str
    seed: int
    settings: dict[str, Any]
    figures: dict[str, float]
    series: dict[str, list[float]]
    texts: dict[str, list[str]] = Field(default_factory=dict)
    seconds: float
    versions: dict[str, str]


def reproduce(experiment: Experiment[Any], n_seeds: int, size: Size, out: str | Path, say: Say) -> list[Result]:
    """Measure every seed that is not there yet, on one thread, each on the disk before the next begins.

    Args:
        experiment: what to measure.
        n_seeds: seeds 0 ... n_seeds - 1.
        size: one that the experiment has.
        out: folder of all experiments; made if absent.
        say: told what happens.

    Raises:
        ValueError: fewer than one seed, a size that the experiment has not, or results of other settings.
    """
    there = {result.seed: result for result in finished(experiment, n_seeds, size, out)}
    for seed in range(n_seeds):
        if seed in there:
            say(f"{experiment.name} seed {seed}: in {seed_file(experiment, size, out, seed)} already")
            continue
        there[seed] = reproduce_seed(experiment, seed, size, out)
        say(f"{experiment.name} seed {seed}: {there[seed].seconds:.0f} s")
    return [there[seed] for seed in range(n_seeds)]


def reproduce_seed(experiment: Experiment[Any], seed: int, size: Size, out: str | Path) -> Result:
    """Measure one seed, on one thread, and write what came out; see `reproduce`."""
    result, examined = _measured(experiment, seed, size, Path(out))
    folder = experiment_folder(experiment, size, out)
    folder.mkdir(parents=True, exist_ok=True)
    _write_geometry(folder, seed, experiment.name, examined)
    write_record(seed_file(experiment, size, out, seed), result)
    return result


def finished(experiment: Experiment[Any], n_seeds: int, size: Size, out: str | Path) -> list[Result]:
    """What is there of the first seeds, in their order.

    Raises:
        ValueError: fewer than one seed, a size that the experiment has not, or results that are damaged or of other
            settings.
    """
    if n_seeds < 1:
        raise ValueError(f"reproduce: seeds must be at least 1, got {n_seeds}; 3 are enough for a table")
    settings = resolved_settings(experiment, size)
    files = [seed_file(experiment, size, out, seed) for seed in range(n_seeds)]
    found = [(file, read_record(file, Result)) for file in files if file.exists()]
    for file, result in found:
        if result.settings != settings:
            raise ValueError(
                f"reproduce: {file} was measured with {result.settings}, {experiment.name} has {settings}; name "
                "another --out folder, or remove the file"
            )
    return [result for _, result in found]


def table(claims: Sequence[Claim], found: Sequence[Result]) -> list[list[str]]:
    """A row of heads, and one row for each claim: what was published, each seed, mean and spread, passed or not."""
    rows = [[*HEADS, *(f"seed {result.seed}" for result in found), "mean", "spread", "passed"]]
    return rows + [_row(claim, [result.figures[claim.figure] for result in found]) for claim in claims]


def failures(claims: Sequence[Claim], found: Sequence[Result]) -> list[str]:
    """Every claim that a seed, or the interval over the seeds, breaks, in words."""
    figures = [result.figures for result in found]
    return [line for claim in claims if not claim.is_met(figures) for line in _broken(claim, found)]


def _broken(claim: Claim, found: Sequence[Result]) -> list[str]:
    if claim.by_interval:
        return [f"{claim.what} must be {claim.bar}, is {_interval([each.figures[claim.figure] for each in found])}"]
    return [
        f"{claim.what} of seed {result.seed} must be {claim.bar}, is {result.figures[claim.figure]:.4g}"
        for result in found
        if not claim.holds(result.figures[claim.figure])
    ]


def _interval(values: Sequence[float]) -> str:
    """Of the mean over seeds, in words."""
    if len(values) < LEAST_FOR_INTERVAL:
        return "of one seed, which has no interval"
    mean = over_seeds(values)
    return f"{mean.low:.4g} to {mean.high:.4g}"


def _row(claim: Claim, values: Sequence[float]) -> list[str]:
    spread = f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else "-"
    mean = f"{np.mean(values):.4g}" if values else "-"
    holding, n = sum(map(claim.holds, values)), len(values)
    passed = "yes" if claim.is_met([{claim.figure: value} for value in values]) else "no"
    if claim.by_interval:
        passed += f" ({_interval(values)})"
    elif holding < n:
        passed += f" ({holding} of {n})"
    verdict = "-" if claim.bar == "-" or not values else passed
    return [claim.what, claim.published, claim.bar, *(f"{value:.4g}" for value in values), mean, spread, verdict]


def _measured(
    experiment: Experiment[Any], seed: int, size: Size, out: Path
) -> tuple[Result, Mapping[str, GeometryExamination]]:
    began = time.perf_counter()
    with _one_thread():
        measured = experiment.of_seed(size, seed, out)
    result = Result(
        experiment=experiment.name,
        size=size,
        seed=seed,
        settings=resolved_settings(experiment, size),
        figures={name: float(value) for name, value in measured.figures.items()},
        series={name: [float(value) for value in values] for name, values in measured.series.items()},
        texts={name: list(texts) for name, texts in measured.texts.items()},
        seconds=time.perf_counter() - began,
        versions=versions(),
    )
    return result, measured.geometry


def _write_geometry(folder: Path, seed: int, name: str, examined: Mapping[str, GeometryExamination]) -> None:
    """The page of what was examined, and its records."""
    for called, one in examined.items():
        kept = folder / f"{GEOMETRY}-{seed}" / called / "geometry.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_record(kept, one)
    if examined:
        write_geometry(list(examined.values()), geometry_page(folder, seed), f"Geometry: {name}, seed {seed}")


def geometry_page(folder: Path, seed: int) -> Path:
    """Where the page of what was examined stands."""
    return folder / f"{GEOMETRY}-{seed}.html"


def resolved_settings(experiment: Experiment[Any], size: Size) -> dict[str, Any]:
    """The settings as JSON gives them back."""
    if size not in experiment.sizes:
        raise ValueError(
            f"reproduce: {experiment.name} has the size {', '.join(experiment.sizes)}, got {size}; give --size "
            f"{next(iter(experiment.sizes))}"
        )
    return json.loads(json.dumps(asdict(experiment.sizes[size])))


def spelt(setting: Any) -> str:
    """A setting as a page shows it: of settings within it each by its name, of a list its members."""
    if isinstance(setting, Mapping):
        return ", ".join(f"{name} {_bracketed(value)}" for name, value in setting.items())
    return ", ".join(map(spelt, setting)) if isinstance(setting, list | tuple) else str(setting)


def _bracketed(setting: Any) -> str:
    return f"({spelt(setting)})" if isinstance(setting, Mapping | list | tuple) else spelt(setting)


def experiment_folder(experiment: Experiment[Any], size: Size, out: str | Path) -> Path:
    """Where the results of an experiment stand."""
    return Path(out) / experiment.name / size


def seed_file(experiment: Experiment[Any], size: Size, out: str | Path, seed: int) -> Path:
    """Where the results of one seed stand."""
    return experiment_folder(experiment, size, out) / f"seed-{seed}.json"


@contextmanager
def _one_thread() -> Iterator[None]:
    """More would only change the last bits: an experiment is to give the same figures everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
