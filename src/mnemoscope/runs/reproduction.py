"""What a reproduced figure or table says: its claims beside what came out, and the curves it is drawn from."""

from pydantic import Field

from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.record import SCHEMA_VERSION, Record


class ClaimResult(Record):
    """One figure of every seed beside what was published and what it must be.

    `bar` is the bound in words, "-" for a figure that is only shown; `holding` counts the seeds within it, and `needed`
    is how many there must be, None for all of them. `met` decides where the interval over the seeds is judged; it is
    None where seeds are counted.
    """

    what: str
    published: str = "-"
    bar: str = "-"
    values: list[float]
    holding: int
    needed: int | None = None
    met: bool | None = None

    @property
    def holds(self) -> bool | None:
        """Whether enough seeds are within the bound; None without a bound, or without a seed."""
        if self.bar == "-" or not self.values:
            return None
        if self.met is not None:
            return self.met
        return self.holding >= (len(self.values) if self.needed is None else self.needed)


class ChartLine(Record):
    """One quantity over the horizontal axis; `y` has a row for each seed, and may be NaN."""

    name: str
    x: list[float]
    y: list[list[float]]


class Chart(Record):
    """Curves to be drawn together; axes are logarithmic where it says so, `marks` are lines across, by their names."""

    title: str
    caption: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    lines: list[ChartLine]
    marks: dict[str, float] = Field(default_factory=dict)


class SceneFrame(Record):
    """Where the points of a scene are at one moment: three coordinates each."""

    label: str
    points: list[tuple[float, float, float]]


class MovingScene(Record):
    """Points that move, joined by edges; `groups` are places in `group_names`, or -1."""

    name: str
    names: list[str]
    groups: list[int]
    group_names: list[str]
    edges: list[tuple[int, int]]
    frames: list[SceneFrame]


class MovingPicture(Record):
    """Scenes of one figure, any of which can be chosen; `through` is what its slider goes through."""

    title: str
    caption: str
    through: str
    scenes: list[MovingScene]


class TextTable(Record):
    """A table of words."""

    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


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
    moving: list[MovingPicture] = Field(default_factory=list)
    tables: list[TextTable] = Field(default_factory=list)
    pages: list[str] = Field(default_factory=list)
    """Files beside this one with what was examined."""
    seconds: float
    settings: dict[str, str]
    versions: dict[str, str]
