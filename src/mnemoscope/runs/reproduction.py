"""What a reproduced figure or table says: its claims beside what came out, and the curves it is drawn from."""

from pydantic import Field

from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.record import SCHEMA_VERSION, Record


class ClaimResult(Record):
    """One figure of every seed beside what was published and what it must be.

    `bar` is the bound in words, "-" for a figure that is only shown; `holding` counts the seeds within it.
    """

    what: str
    published: str = "-"
    bar: str = "-"
    values: list[float]
    holding: int

    @property
    def holds(self) -> bool | None:
        """Whether every seed is within the bound; None without a bound, or without a seed."""
        return None if self.bar == "-" or not self.values else self.holding == len(self.values)


class ChartLine(Record):
    """One quantity over the horizontal axis; `y` has a row for each seed, and may be NaN."""

    name: str
    x: list[float]
    y: list[list[float]]


class Chart(Record):
    """Curves to be drawn together; axes are logarithmic where it says so."""

    title: str
    caption: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    lines: list[ChartLine]


class Reproduction(Record):
    """An experiment at one size over the seeds that are finished."""

    schema_version: int = SCHEMA_VERSION
    experiment: str
    what: str
    source: str
    size: str
    command: str
    seeds: list[int]
    wanted_seeds: int
    claims: list[ClaimResult]
    charts: list[Chart] = Field(default_factory=list)
    heat_maps: list[HeatMap] = Field(default_factory=list)
    pages: list[str] = Field(default_factory=list)
    """Files beside this one with what was examined."""
    seconds: float
    settings: dict[str, str]
    versions: dict[str, str]
