"""What scores of edges say: are the edges known, and is it the embeddings or the map between them that knows them?

Scores are what a model says of every node as an answer (column) to every node as a question (row). They are an array
(n, n), or a function of row numbers (r,) that gives an array (r, n), so that those of large graphs need not be held.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse

from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.shuffling import not_taken
from mnemoscope.runs.geometry import GeometryMetric

Scores: TypeAlias = Any
"""Shape (n, n), an array or a tensor; or a function of row numbers (r,) that gives (r, n)."""

_ENTRIES = 1 << 23
"""Of scores that are held at once."""


def edge_recall_of(
    scores: Scores,
    graph: SparseGraph,
    *,
    pairs: Int[np.ndarray, "p 2"] | None = None,
    self_edges: bool = False,
) -> GeometryMetric:
    """The mean over nodes of how many of a node's k answers are among its k highest scores.

    A node is no candidate for itself unless self-edges are asked. Equal scores and NaN count against the model. Scores
    that know nothing give k / (n - 1), averaged over nodes.

    Args:
        scores: see `Scores`.
        graph: n nodes; its neighbours are the answers.
        pairs: (source, target) in place of the graph's edges both ways, as where only one direction was trained.
        self_edges: every node is an answer to itself too.

    Raises:
        ValueError: scores of another shape.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745, who count the neighbours among the top-degree logits.
    Cost: O(n^2), a selection in every row.
    """
    wanted = _wanted(graph, pairs, self_edges)
    with_self = bool(wanted.diagonal().any())
    hits = np.zeros(graph.n_nodes)
    asked = np.flatnonzero(np.diff(wanted.indptr) > 0)
    for rows, block in _blocks(scores, graph.n_nodes, asked):
        hits[rows] = _share_found(_ranked(block, rows, with_self), wanted[rows].toarray() > 0)
    return GeometryMetric(name="edge_recall", value=float(hits[asked].mean()), n=len(asked), over="nodes")


def gram_share(
    scores: Scores,
    table: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    *,
    n_rows: int = 2048,
    seed: int = 0,
) -> list[GeometryMetric]:
    """How much of the scores is the products of the embeddings, and whether the rest is the list of edges.

    With Z the scores and G = E E^T, both with rows centred, `gram_share` is the R^2 of Z = b G, b at least 0: 1 where
    embeddings alone hold the graph. `residual_edge_correlation` is that of Z - b G with D^-1 A, rows centred: near 1
    where what embeddings leave is an association of neighbours.

    Args:
        scores: see `Scores`; the row of a node without neighbours is left out.
        table: E.
        graph: n nodes.
        n_rows: rows that are drawn where there are more.
        seed: of the draw.

    Raises:
        ValueError: scores of another shape.
    """
    rows = np.flatnonzero(graph.degrees > 0)
    if len(rows) > n_rows:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n_rows, replace=False))
    sums = np.zeros((3, 3))
    for some, block in _blocks(scores, graph.n_nodes, rows):
        walk = graph.adjacency[some].toarray() / graph.degrees[some, None]
        parts = np.stack([_row_centred(each).ravel() for each in (block, table[some] @ table.T, walk)])
        sums += parts @ parts.T
    (zz, zg, za), (_, gg, ga), (_, _, aa) = sums
    slope = max(0.0, zg / gg) if gg > 0 else 0.0
    rest = zz - 2 * slope * zg + slope**2 * gg
    # A residual of rounding alone has no direction.
    correlation = (za - slope * ga) / np.sqrt(rest * aa) if rest > 1e-12 * zz and aa > 0 else None
    return [
        _over_rows(
            "gram_share", None if zz == 0 else 1 - rest / zz, "the scores of each node are all equal", len(rows)
        ),
        _over_rows(
            "residual_edge_correlation", correlation, "embeddings leave nothing of the scores to explain", len(rows)
        ),
    ]


def _over_rows(name: str, value: float | None, missing: str, n_rows: int) -> GeometryMetric:
    if value is None:
        return not_taken(name, missing, "rows of scores")
    return GeometryMetric(name=name, value=float(value), n=n_rows, over="rows of scores")


def margins(
    table: Float[np.ndarray, "n m"], core: Float[np.ndarray, "m m"], graph: SparseGraph
) -> list[GeometryMetric]:
    """Margins of logits E W E^T, as they are and with W acting along the principal axes of E alone.

    With E = U S Q^T, the skewed logits are E W' E^T, W' = Q diag(Q^T W Q) Q^T. A margin is the mean over nodes of the
    highest logit of a neighbour minus the highest of another node, the node itself left out; `skewed_accuracy` is the
    share of nodes whose highest skewed logit is a neighbour's, a tie being none. Where edges survive in W', it is E and
    not W that holds the graph.

    Args:
        table: E, rows u of logits being sources and columns targets.
        core: W.
        graph: n nodes; those with no neighbours, or with none but neighbours, are left out.

    Returns:
        `margin`, `skewed_margin` and `skewed_accuracy`.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745, and Shahriarnz14/Geometric_Memory ("skewed low-rank margin").
    Cost: O(n^2 m).
    """
    names = ("margin", "skewed_margin", "skewed_accuracy")
    if not len(_comparable(graph)):
        return [not_taken(name, "no node has both neighbours and others", "nodes") for name in names]
    axes = np.linalg.svd(table, full_matrices=False)[2].T
    skewed = (axes * np.einsum("mr,mk,kr->r", axes, core, axes)) @ axes.T
    original, low_rank = (_gaps(table, each, graph) for each in (core, skewed))
    values = (original.mean(), low_rank.mean(), (low_rank > 0).mean())
    return [
        GeometryMetric(name=name, value=float(value), n=len(original), over="nodes")
        for name, value in zip(names, values, strict=True)
    ]


def _comparable(graph: SparseGraph) -> NDArray[np.int64]:
    """Nodes that have both neighbours and others."""
    return np.flatnonzero((graph.degrees > 0) & (graph.degrees < graph.n_nodes - 1))


def _gaps(table: NDArray[np.float64], core: NDArray[np.float64], graph: SparseGraph) -> NDArray[np.float64]:
    """For each node that can be compared, its best neighbour's logit minus the best other's."""
    gaps = []
    for rows, logits in _blocks(lambda rows: table[rows] @ core @ table.T, graph.n_nodes, _comparable(graph)):
        neighbour = graph.adjacency[rows].toarray() > 0
        other = ~neighbour
        other[np.arange(len(rows)), rows] = False
        best = [np.where(mask, logits, -np.inf).max(axis=1) for mask in (neighbour, other)]
        gaps.append(best[0] - best[1])
    return np.concatenate(gaps)


def _wanted(graph: SparseGraph, pairs: NDArray[np.int64] | None, self_edges: bool) -> sparse.csr_array:
    n = graph.n_nodes
    wanted = graph.adjacency
    if pairs is not None:
        wanted = sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    if self_edges:
        wanted = wanted + sparse.eye_array(n)
    return sparse.csr_array(wanted)


def _blocks(
    scores: Scores, n_nodes: int, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Row numbers and their scores, in float64, some at a time."""
    of_rows: Callable[[NDArray[np.int64]], Any] = scores if callable(scores) else lambda some: scores[some]
    if not callable(scores) and tuple(scores.shape) != (n_nodes, n_nodes):
        raise ValueError(
            f"scores: must have shape ({n_nodes}, {n_nodes}), a row and a column for each node, got "
            f"{tuple(scores.shape)}; leave out what is no node"
        )
    for some in np.array_split(rows, max(1, -(-len(rows) * n_nodes // _ENTRIES))):
        found = of_rows(some)
        if isinstance(found, torch.Tensor):
            found = found.detach().cpu().double().numpy()
        block = np.array(found, dtype=np.float64)
        if block.shape != (len(some), n_nodes):
            raise ValueError(
                f"scores: must have shape ({len(some)}, {n_nodes}) for {len(some)} rows, got {block.shape}; give one "
                "score for each node"
            )
        yield some, block


def _ranked(block: NDArray[np.float64], rows: NDArray[np.int64], with_self: bool) -> NDArray[np.float64]:
    ranked = np.where(np.isnan(block), -np.inf, block)
    if not with_self:
        ranked[np.arange(len(rows)), rows] = -np.inf
    return ranked


def _share_found(ranked: NDArray[np.float64], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each row, the share of its k wanted among its k highest; of equal ones the unwanted come first."""
    n_wanted = wanted.sum(axis=1)
    share = np.zeros(len(ranked))
    for k in np.unique(n_wanted):
        rows = n_wanted == k
        some, want = ranked[rows], wanted[rows]
        least = np.partition(some, some.shape[1] - k, axis=1)[:, -k, None]
        above, level = some > least, some == least
        room = k - above.sum(axis=1) - (level & ~want).sum(axis=1)
        tied = np.clip(room, 0, (level & want).sum(axis=1))
        share[rows] = ((above & want).sum(axis=1) + tied) / k
    return share


def _row_centred(block: NDArray[np.float64]) -> NDArray[np.float64]:
    return block - block.mean(axis=1, keepdims=True)
