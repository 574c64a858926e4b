"""The pictures of a geometry examination as scenes that turn: which nodes, joined how, in which colours."""

import math
from collections.abc import Sequence

from mnemoscope.reporting.geometry_tables import METHODS
from mnemoscope.reporting.numbers import percent, plain
from mnemoscope.reporting.turning import Frame, Scene, Turning
from mnemoscope.runs.geometry import GeometryExamination, NodePicture

MOST_LISTED = 2000


def turning(examination: GeometryExamination, key: str) -> Turning | None:
    """All pictures of an examination in one figure; None where there is none with a node.

    Args:
        examination: what was found.
        key: unique on the page.
    """
    scenes = [scene for method in METHODS if (scene := _scene(examination, method)) is not None]
    if not scenes:
        return None
    first, drawn = scenes[0], _last(examination, scenes[0].name)
    part = "" if len(first.names) == examination.n_nodes else f" of {examination.n_nodes:,}"
    groups = f" Colours: {_coloured_by(examination, first)}." if first.group_names else ""
    steps = " Every step is drawn at the same size and turned onto the next." if len(first.frames) > 1 else ""
    return Turning(
        key=key,
        title="The nodes in three dimensions",
        caption=f"{len(first.names):,}{part} nodes, lines are the graph's edges.{groups}{_explained(drawn)}{steps} A "
        "picture shows three directions of many: the measures decide.",
        description=f"{len(first.names):,}{part} nodes and {len(first.edges):,} edges in three dimensions, by "
        f"{first.name}. Coordinates are in the table below.",
        scenes=scenes,
        columns=["Node", *(["Group"] if first.group_names else []), "x", "y", "z"],
        rows=_rows(first, drawn),
    )


def _scene(examination: GeometryExamination, method: str) -> Scene | None:
    """All pictures of a method, in order of their steps."""
    pictures = [picture for picture in examination.pictures if picture.method == method and picture.nodes]
    if not pictures:
        return None
    pictures = sorted(pictures, key=lambda picture: -1 if picture.step is None else picture.step)
    nodes = pictures[-1].nodes
    pictures = [picture for picture in pictures if picture.nodes == nodes]
    place = {node: i for i, node in enumerate(nodes)}
    edges = [(place[a], place[b]) for a, b in examination.edges if a in place and b in place]
    groups, names = _groups(examination, nodes, edges)
    return Scene(
        name=METHODS[method],
        frames=[Frame(label=_label(picture), points=picture.coordinates) for picture in pictures],
        edges=edges,
        groups=groups,
        group_names=names,
        names=[_name(examination, node) for node in nodes],
    )


def _groups(
    examination: GeometryExamination, nodes: Sequence[int], edges: Sequence[tuple[int, int]]
) -> tuple[list[int], list[str]]:
    """Groups that were given, else components, else the branches of a hub, else none; and their names."""
    given = examination.node_groups
    if given:
        known = sorted({given[node] for node in nodes if node < len(given) and given[node] >= 0})
        place = {group: i for i, group in enumerate(known)}
        found = [place.get(given[node], -1) if node < len(given) else -1 for node in nodes]
        return found, [f"group {group}" for group in known]
    parts = _components(len(nodes), edges)
    if max(parts, default=0) > 0:
        return parts, [f"component {i + 1}" for i in range(max(parts) + 1)]
    hub = _hub(len(nodes), edges)
    if hub is not None:
        branches = _components(len(nodes), [edge for edge in edges if hub not in edge], without=hub)
        if max(branches) >= 2:
            return branches, [f"branch {i + 1}" for i in range(max(branches) + 1)]
    return [-1] * len(nodes), []


def _components(n: int, edges: Sequence[tuple[int, int]], without: int | None = None) -> list[int]:
    """The component of each node, numbered from 0 in order of their first nodes; -1 for the node that is left out."""
    root = list(range(n))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for a, b in edges:
        root[find(b)] = find(a)
    numbers: dict[int, int] = {}
    return [-1 if node == without else numbers.setdefault(find(node), len(numbers)) for node in range(n)]


def _hub(n: int, edges: Sequence[tuple[int, int]]) -> int | None:
    """The one node that has more neighbours than any other, at least three."""
    degrees = [0] * n
    for edge in edges:
        for node in edge:
            degrees[node] += 1
    most = max(degrees, default=0)
    return degrees.index(most) if most >= 3 and degrees.count(most) == 1 else None


def _label(picture: NodePicture) -> str:
    return "" if picture.step is None else f"step {picture.step:,}"


def _name(examination: GeometryExamination, node: int) -> str:
    names = examination.node_names
    return names[node] if node < len(names) else f"node {node}"


def _last(examination: GeometryExamination, words: str) -> NodePicture:
    pictures = [picture for picture in examination.pictures if METHODS.get(picture.method) == words and picture.nodes]
    return max(pictures, key=lambda picture: -1 if picture.step is None else picture.step)


def _coloured_by(examination: GeometryExamination, scene: Scene) -> str:
    if examination.node_groups:
        return "the groups that were given"
    return "components" if scene.group_names[0].startswith("component") else "branches from the hub"


def _explained(picture: NodePicture) -> str:
    if not picture.explained:
        return ""
    each = ", ".join(percent(share) for share in picture.explained)
    return f" Principal axes hold {percent(math.fsum(picture.explained))} of the variance ({each})."


def _rows(scene: Scene, picture: NodePicture) -> list[list[str]]:
    rows = []
    for name, group, point in list(zip(scene.names, scene.groups, picture.coordinates, strict=True))[:MOST_LISTED]:
        of = [scene.group_names[group] if group >= 0 else ""] if scene.group_names else []
        rows.append([name, *of, *map(plain, point)])
    return rows
