"""Nodes in three dimensions: principal axes of a table, UMAP of it, and what the graph alone would draw.

A picture shows, and proves nothing: three axes can look like a map where the table has none. The measures decide.

Source: the pictures of Noroozizadeh et al. (2025, arXiv 2510.26745): principal components or UMAP with the graph's
edges drawn, beside eigenvectors 2, 3 and 4 of the Laplacian. What differs: the Laplacian here is I - S, which keeps its
scale where a hub has thousands of neighbours; several components are set apart along the first axis.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.sparse import csgraph

from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.runs.geometry import NodePicture

PictureMethod: TypeAlias = Literal["pca", "umap"]

MOST_DRAWN = 2000
TINY = 100
"""Up to here UMAP looks at few neighbours and lets points keep their distance."""

_N_AXES = 3
_HUB = 0.1


def picture(
    table: Float[np.ndarray, "n m"],
    method: PictureMethod,
    step: int | None,
    nodes: Int[np.ndarray, "drawn"],
    seed: int = 0,
) -> NodePicture:
    """A table in three dimensions.

    Args:
        table: one row per node; finite.
        method: "pca", principal axes of all rows; "umap", fitted to the drawn rows alone.
        step: of the training, or None.
        nodes: those that are drawn.
        seed: of UMAP; principal axes need none.

    Raises:
        ValueError: UMAP without umap-learn, or of fewer than five nodes.
    """
    if method == "pca":
        axes, explained = _principal_axes(table)
        points = (table[nodes] - table.mean(axis=0)) @ axes
    else:
        points, explained = _umap(table[nodes], seed), np.zeros(0)
    return _record(step, method, nodes, points, explained)


def require_umap() -> Any:
    """The module `umap`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import umap  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            'method: "umap" needs the package umap-learn, which is not installed; pip install "mnemoscope[geometry]", '
            'or draw with "pca"'
        ) from None
    return umap


def laplacian_picture(graph: SparseGraph, nodes: Int[np.ndarray, "drawn"]) -> NodePicture:
    """What the graph alone draws: its smoothest eigenvectors, the trivial ones left out.

    The axes are D^-1/2 times eigenvectors of S with the largest eigenvalues, of the part of the graph that is drawn.
    Where that has several components, the first axis sets them apart and the other two are eigenvectors; where
    eigenvalues are equal, which of their vectors are drawn means nothing.

    Args:
        graph: of any size.
        nodes: those that are drawn, a few thousand at most: dense eigenvectors of these.
    """
    part = _part(graph, nodes)
    apart = part.n_components > 1
    vectors = _smoothest(part, _N_AXES - apart) / np.sqrt(np.maximum(part.degrees, 1))[:, None]
    vectors = vectors / max(float(np.abs(vectors).max()), 1e-12)
    if apart:
        vectors = np.column_stack([2 * part.component / (part.n_components - 1) - 1, vectors])
    return _record(None, "laplacian", nodes, vectors, np.zeros(0))


def drawn_nodes(graph: SparseGraph, most: int = MOST_DRAWN, seed: int = 0) -> Int[np.ndarray, "drawn"]:
    """All nodes of a small graph, in order; of a large one connected pieces, so that their edges can be drawn.

    From a hub (with at least a tenth of `most` neighbours) whole branches are followed to their ends, from other nodes
    everything around them; the largest component comes first.

    Args:
        graph: of any size.
        most: nodes that are drawn.
        seed: of where to begin and which branches to follow.
    """
    if graph.n_nodes <= most:
        return np.arange(graph.n_nodes)
    order = np.random.default_rng(seed).permutation(graph.n_nodes)
    shuffled = sparse.csr_array(graph.adjacency[order][:, order])
    shuffled.sort_indices()  # searches follow the order in which neighbours are stored
    degrees, component = graph.degrees[order], graph.component[order]
    found: list[NDArray[np.int64]] = []
    for part in np.argsort(-np.bincount(component), kind="stable")[:most]:
        members = np.flatnonzero(component == part)
        hub = members[np.argmax(degrees[members])]
        is_hub = degrees[hub] >= _HUB * most
        follow = csgraph.depth_first_order if is_hub else csgraph.breadth_first_order
        start = int(hub if is_hub else members[0])
        found.append(np.asarray(follow(shuffled, start, directed=False, return_predecessors=False), dtype=np.int64))
        if sum(map(len, found)) >= most:
            break
    return np.sort(order[np.concatenate(found)[:most]])


def aligned(pictures: Sequence[NodePicture]) -> list[NodePicture]:
    """Pictures of the same nodes over a training, each turned (or mirrored) onto the one after it; the last stays.

    Distances stay as they are, so that what moves between two steps is the table and not the choice of axes. The shares
    of the variance are those along the turned axes.

    Args:
        pictures: of one method and the same nodes, in order of their steps.

    Raises:
        ValueError: pictures of different methods or nodes.
    """
    if len({(one.method, tuple(one.nodes)) for one in pictures}) > 1:
        raise ValueError("pictures: must be of one method and the same nodes, got several; align each method by itself")
    turned = list(pictures[-1:])
    for one in reversed(pictures[:-1]):
        turned.append(_onto(one, turned[-1]))
    return turned[::-1]


def _onto(one: NodePicture, after: NodePicture) -> NodePicture:
    points, goal = (np.asarray(each.coordinates, dtype=np.float64) for each in (one, after))
    rotation, _ = linalg.orthogonal_procrustes(points - points.mean(axis=0), goal - goal.mean(axis=0))
    # Scores on principal axes are uncorrelated, so variances along turned axes are sums with squared weights.
    shares = (rotation**2).T @ np.asarray(one.explained) if one.explained else np.zeros(0)
    return _record(one.step, one.method, np.asarray(one.nodes), points @ rotation, shares)


def _principal_axes(table: Float[np.ndarray, "n m"]) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "3"]]:
    """Directions of the largest variance with a fixed sign, and their shares of it."""
    centred = table - table.mean(axis=0)
    n, width = centred.shape
    n_axes = min(_N_AXES, n, width)
    if width <= n:
        values, vectors = linalg.eigh(centred.T @ centred, subset_by_index=[width - n_axes, width - 1])
    else:
        values, left = linalg.eigh(centred @ centred.T, subset_by_index=[n - n_axes, n - 1])
        vectors = centred.T @ (left / np.sqrt(np.maximum(values, np.finfo(np.float64).tiny)))
    total = max(float((centred**2).sum()), np.finfo(np.float64).tiny)
    axes, shares = np.zeros((width, _N_AXES)), np.zeros(_N_AXES)
    axes[:, :n_axes] = vectors[:, ::-1]
    shares[:n_axes] = np.clip(values[::-1] / total, 0, 1)
    return axes * _signs(centred @ axes), shares


def _signs(columns: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "k"]:
    """Those that make the entry farthest from zero positive."""
    farthest = columns[np.abs(columns).argmax(axis=0), np.arange(columns.shape[1])]
    return np.where(farthest < 0, -1.0, 1.0)


def _part(graph: SparseGraph, nodes: Int[np.ndarray, "drawn"]) -> SparseGraph:
    """The drawn nodes, numbered in their order, and the edges between them."""
    place = np.full(graph.n_nodes, -1)
    place[nodes] = np.arange(len(nodes))
    edges = place[graph.edges]
    return SparseGraph(n_nodes=len(nodes), edges=edges[(edges >= 0).all(axis=1)])


def _smoothest(graph: SparseGraph, k: int) -> Float[np.ndarray, "n k"]:
    """Eigenvectors of S with the largest eigenvalues, the trivial ones left out; zero where there are no more."""
    n, k_there = graph.n_nodes, min(k, graph.n_nodes - graph.n_components)
    vectors = np.zeros((n, k))
    if k_there > 0:
        # Adding the identity leaves the trivial vectors, and they alone, at 0: S + I has eigenvalues of 0 to 2.
        deflated = graph.deflated(np.eye(n))
        shifted = graph.deflated(graph.normalised @ deflated + deflated)
        _, found = linalg.eigh(shifted, subset_by_index=[n - k_there, n - 1])
        vectors[:, :k_there] = found[:, ::-1] * _signs(found[:, ::-1])
    return vectors


def _umap(rows: Float[np.ndarray, "drawn m"], seed: int) -> Float[np.ndarray, "drawn 3"]:
    umap = require_umap()
    tiny = len(rows) <= TINY
    if len(rows) < _N_AXES + 2:
        raise ValueError(f'method: "umap" needs at least {_N_AXES + 2} nodes, got {len(rows)}; draw with "pca"')
    model = umap.UMAP(
        n_components=_N_AXES,
        n_neighbors=min(5 if tiny else 15, len(rows) - 1),
        min_dist=0.3 if tiny else 0.1,
        init="pca",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(model.fit_transform(rows), dtype=np.float64)


def _record(
    step: int | None,
    method: str,
    nodes: Int[np.ndarray, "drawn"],
    points: Float[np.ndarray, "drawn 3"],
    explained: Float[np.ndarray, "axes"],
) -> NodePicture:
    return NodePicture(
        step=step,
        method=method,
        nodes=[int(node) for node in nodes],
        coordinates=[[float(f"{x:.6g}") for x in point] for point in points],
        explained=[float(share) for share in explained],
    )
