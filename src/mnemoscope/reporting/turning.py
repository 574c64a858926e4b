"""A picture in three dimensions that turns in the page: points, edges, and a slider through its frames.

The page holds the scenes as JSON and one plain script, which only runs because the page's policy names its checksum.
Without scripts a still drawing of the last frame stands in their place.
"""

import base64
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

from markupsafe import Markup

from mnemoscope.reporting.canvas import FOREGROUND, MUTED, SERIES, blank, drawing_style, inline_svg
from mnemoscope.reporting.numbers import printable
from mnemoscope.reporting.tables import Cell, Group, Table

Point = tuple[float, float, float]

YAW, PITCH = math.radians(-35), math.radians(20)
"""How a scene is turned at first; the script begins there too."""

_DECIMALS = 3


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where the points are at one moment.

    Args:
        label: of the moment, "step 500"; empty if there is but one.
        points: one for each name of the scene.
    """

    label: str
    points: Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Points that move from frame to frame, joined by edges.

    Args:
        name: of the way they are drawn, for the choice among several scenes.
        frames: at least one, in order.
        edges: pairs of places in `names`.
        groups: of each point, a place in `group_names`, or -1 for none.
        group_names: what the colours say; empty where there is one colour.
        names: of the points.
        one_scale: fit all frames together, so that distances compare between them; else each by itself.

    Raises:
        ValueError: no frame, or points, groups or edges that do not fit the names.
    """

    name: str
    frames: Sequence[Frame]
    edges: Sequence[tuple[int, int]]
    groups: Sequence[int]
    group_names: Sequence[str] = ()
    names: Sequence[str] = field(default_factory=list)
    one_scale: bool = False

    def __post_init__(self) -> None:
        n = len(self.names)
        if not self.frames:
            raise ValueError(f"Scene {self.name!r}: needs at least one frame, got none")
        for frame in self.frames:
            if len(frame.points) != n or any(len(point) != 3 for point in frame.points):
                raise ValueError(
                    f"Scene {self.name!r}: every frame needs 3 coordinates for each of {n} names, got "
                    f"{len(frame.points)} points in {frame.label!r}"
                )
        if len(self.groups) != n or any(not -1 <= group < len(self.group_names) for group in self.groups):
            raise ValueError(f"Scene {self.name!r}: needs a group of -1 ... {len(self.group_names) - 1} for each name")
        if any(not 0 <= end < n for edge in self.edges for end in edge):
            raise ValueError(f"Scene {self.name!r}: edges must join two of {n} points by their places")


@dataclass(frozen=True, kw_only=True)
class Turning:
    """The figure as the template wants it.

    Args:
        key: unique on the page.
        title: what is drawn.
        caption: how to read it.
        description: what a reader who does not see it should know.
        scenes: ways to draw it.
        columns: headings of the table of coordinates.
        rows: of the last frame of the first scene.
        through: what the slider goes through.
    """

    key: str
    title: str
    caption: str
    description: str
    scenes: Sequence[Scene]
    columns: list[str]
    rows: list[list[str]]
    through: str = "Training"

    @property
    def table(self) -> Table:
        """The coordinates."""
        rows = [[Cell(text) for text in row] for row in self.rows]
        return Table(f"Coordinates: {self.title}", self.columns, [Group("", rows)])

    @property
    def data(self) -> Markup:
        """The scenes as JSON that can stand inside a `<script type="application/json">`."""
        return as_json({"scenes": [_plain(scene) for scene in self.scenes]})

    @property
    def still(self) -> Markup:
        """The last frame of the first scene, drawn once and for all."""
        return Markup(still_svg(self.scenes[0], f"{self.key}-still", self.description))

    @property
    def colour_keys(self) -> list[tuple[str, str]]:
        """Colour and name of each group, where they are few enough for a list."""
        names = self.scenes[0].group_names
        if not 0 < len(names) <= len(SERIES):
            return []
        return [(f"var(--series-{i + 1})", name) for i, name in enumerate(names)]


def as_json(value: object) -> Markup:
    """JSON without the characters that could end or open an element, and without hidden ones."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@functools.cache
def script() -> str:
    """The script that turns every scene of its page."""
    return source("turning.js")


@functools.cache
def policy() -> str:
    """What the page's content security policy must say for the script to run, and nothing else to."""
    digest = hashlib.sha256(script().encode()).digest()
    return f"; script-src 'sha256-{base64.b64encode(digest).decode()}'"


def source(name: str) -> str:
    """A file among the templates, as it is."""
    return (resources.files("mnemoscope.reporting") / "templates" / name).read_text(encoding="utf-8")


def still_svg(scene: Scene, key: str, description: str) -> str:
    """The last frame, turned as the script turns it at first."""
    points = [_turned(point) for point in _placed(scene)[-1]]
    with drawing_style(key):
        figure, (axes,) = blank(3.4)
        x = [value for a, b in scene.edges for value in (points[a][0], points[b][0], math.nan)]
        y = [value for a, b in scene.edges for value in (points[a][1], points[b][1], math.nan)]
        axes.plot(x, y, color=MUTED, linewidth=0.6, alpha=0.6)
        for group in sorted(set(scene.groups)):
            members = [point for point, its in zip(points, scene.groups, strict=True) if its == group]
            colour = FOREGROUND if group < 0 and scene.group_names else SERIES[max(group, 0) % len(SERIES)]
            size = 4 if len(points) <= 100 else 2
            axes.plot([p[0] for p in members], [p[1] for p in members], "o", color=colour, markersize=size)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_axis_off()
        return inline_svg(figure, key, description)


def _plain(scene: Scene) -> dict[str, object]:
    return {
        "name": printable(scene.name),
        "frames": [
            {
                "label": printable(frame.label),
                "points": [[round(x, _DECIMALS) for x in point] for point in points],
            }
            for frame, points in zip(scene.frames, _placed(scene), strict=True)
        ],
        "edges": [list(edge) for edge in scene.edges],
        "groups": list(scene.groups),
        "groupNames": [printable(name) for name in scene.group_names],
        "names": [printable(name) for name in scene.names],
    }


def _placed(scene: Scene) -> list[list[Point]]:
    """The points of every frame as they are drawn."""
    if not scene.one_scale:
        return [_fitted(frame.points) for frame in scene.frames]
    n = len(scene.names)
    fitted = _fitted([point for frame in scene.frames for point in frame.points])
    return [fitted[i * n : (i + 1) * n] for i in range(len(scene.frames))]


def _fitted(points: Sequence[Sequence[float]]) -> list[Point]:
    """Around their middle, the one farthest from it at distance 1; what is not finite is put into the middle."""
    finite = [point for point in points if all(map(math.isfinite, point))] or [(0.0, 0.0, 0.0)]
    middle = [math.fsum(point[i] for point in finite) / len(finite) for i in range(3)]
    farthest = max(math.dist(point, middle) for point in finite) or 1.0
    return [_moved(point, middle, farthest) for point in points]


def _moved(point: Sequence[float], middle: Sequence[float], farthest: float) -> Point:
    if not all(map(math.isfinite, point)):
        return (0.0, 0.0, 0.0)
    x, y, z = ((a - b) / farthest for a, b in zip(point, middle, strict=True))
    return (x, y, z)


def _turned(point: Point) -> tuple[float, float]:
    x, y, z = point
    x, z = x * math.cos(YAW) + z * math.sin(YAW), z * math.cos(YAW) - x * math.sin(YAW)
    return x, y * math.cos(PITCH) - z * math.sin(PITCH)
