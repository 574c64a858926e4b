"""Graphs that tasks ask a model to remember: how they are built, and how well their edges and paths are known.

    star_paths(2, 3)      [[0, 1, 2],           2 - 1 - 0 - 3 - 4
                           [0, 3, 4]]
    tree_edges(...)       [[0, 1], [1, 2], [0, 3], [3, 4]]

An edge list has shape (edges, 2) and holds nodes 0 ... n - 1; each edge stands there once, of a tree parent first.
What a model is trained on are pairs (source, target): an edge in one direction or in both, and self-edges.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Nodes: TypeAlias = NDArray[np.int64]
"""Node numbers; they are the tokens of the nodes as well."""

Directions: TypeAlias = Literal["both", "forward", "backward"]
"""Which way an edge is asked: from the first node to the second, from the second to the first, or both."""

PathTarget: TypeAlias = Literal["full", "hardest", "reverse"]
"""What is asked of a path: all of it, the first node after the root alone, or all of it from the leaf."""

GraphName: TypeAlias = Literal["path_star", "grid", "cycle", "irregular"]

_IRREGULAR = (
    *((0, 1), (1, 2), (1, 3), (2, 3), (3, 4), (4, 5), (5, 6), (5, 8), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11)),
    *((11, 0), (12, 13), (12, 14), (12, 15), (13, 14), (13, 15), (14, 15)),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """An undirected graph without self-edges.

    Args:
        n_nodes: nodes 0 ... n_nodes - 1.
        edges: shape (edges, 2), each once.
    """

    n_nodes: int
    edges: Nodes

    def degrees(self) -> Nodes:
        """Neighbours of every node, shape (n_nodes,)."""
        return np.bincount(self.edges.ravel(), minlength=self.n_nodes)

    def adjacency(self) -> NDArray[np.float64]:
        """1 where two nodes are neighbours, shape (n_nodes, n_nodes)."""
        matrix = np.zeros((self.n_nodes, self.n_nodes))
        matrix[self.edges[:, 0], self.edges[:, 1]] = matrix[self.edges[:, 1], self.edges[:, 0]] = 1
        return matrix


def star_paths(n_arms: int, path_length: int, branching: int = 1) -> Nodes:
    """The paths from the root, node 0, to every leaf of a path-star (branching 1) or a tree-star (2 or more).

    Args:
        n_arms: subtrees of the root, d.
        path_length: nodes of a path, root and leaf included, l, at least 2.
        branching: children of every inner node but the root, b.

    Returns:
        shape (d b^(l - 2), l), arm by arm. The d (1 + b + ... + b^(l - 2)) nodes below the root are numbered arm by
        arm, within an arm level by level.
    """
    n_levels = path_length - 1
    sizes = branching ** np.arange(n_levels)
    leaf = np.arange(sizes[-1])[:, None]
    within_arm = sizes.cumsum() - sizes + leaf // sizes[::-1]
    paths = 1 + sizes.sum() * np.arange(n_arms)[:, None, None] + within_arm
    root = np.zeros((n_arms * leaf.size, 1), dtype=np.int64)
    return np.concatenate([root, paths.reshape(-1, n_levels)], axis=1)


def tree_edges(paths: Nodes) -> Nodes:
    """The edges (parent, child) of a tree from its paths, ordered by child; every node but root 0 has one parent."""
    parent = np.zeros(int(paths.max()) + 1, dtype=np.int64)
    parent[paths[:, 1:]] = paths[:, :-1]
    return np.stack([parent, np.arange(parent.size)], axis=1)[1:]


def grid_edges(n_rows: int, n_columns: int) -> Nodes:
    """The edges of a grid whose nodes are numbered row by row."""
    node = np.arange(n_rows * n_columns).reshape(n_rows, n_columns)
    across = np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()], axis=1)
    down = np.stack([node[:-1].ravel(), node[1:].ravel()], axis=1)
    return np.concatenate([across, down])


def cycle_edges(n_nodes: int) -> Nodes:
    """The edges of a cycle, all in one sense of rotation."""
    node = np.arange(n_nodes)
    return np.stack([node, (node + 1) % n_nodes], axis=1)


def named_graph(name: GraphName) -> Graph:
    """A tiny graph on which memorisation is studied.

    Args:
        name: "path_star": 4 arms and paths of 5 nodes, 17 nodes and 16 edges; "grid": 4 x 4, 24 edges; "cycle": 15
            nodes; "irregular": 16 nodes and 20 edges in two components, nodes 12 ... 15 being a complete graph.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745, and Shahriarnz14/Geometric_Memory.
    """
    if name == "path_star":
        return Graph(n_nodes=17, edges=tree_edges(star_paths(4, 5)))
    if name == "grid":
        return Graph(n_nodes=16, edges=grid_edges(4, 4))
    if name == "cycle":
        return Graph(n_nodes=15, edges=cycle_edges(15))
    return Graph(n_nodes=16, edges=np.array(_IRREGULAR, dtype=np.int64))


def training_pairs(graph: Graph, directions: Directions, self_edges: bool) -> Nodes:
    """The pairs (source, target) of a graph, shape (pairs, 2): forward ones, then backward ones, then self-edges."""
    parts = [graph.edges] if directions != "backward" else []
    if directions != "forward":
        parts.append(graph.edges[:, ::-1])
    if self_edges:
        parts.append(np.repeat(np.arange(graph.n_nodes), 2).reshape(-1, 2))
    return np.concatenate(parts)


def conditional_entropy(contexts: Nodes, targets: Nodes) -> float:
    """Nats per target that one loses who knows the context alone and all frequencies: the entropy H(target | context).

    Of training pairs it is the floor of edge memorisation. A source with k different targets, asked equally often,
    costs ln k, so the floor is sum_u k_u ln k_u / sum_u k_u.

    Args:
        contexts: shape (n,), numbers of at least 0.
        targets: shape (n,), numbers of at least 0.
    """
    counts = np.unique(contexts * (int(targets.max()) + 1) + targets, return_counts=True)[1]
    of_context = np.unique(contexts, return_counts=True)[1]
    log_sums = [float((n * np.log(n)).sum()) for n in (of_context, counts)]
    return max(0.0, (log_sums[0] - log_sums[1]) / contexts.size)


def argmax_ceiling(pairs: Nodes) -> float:
    """The share of training pairs that one guess for every source can get right, for pairs that occur once."""
    return np.unique(pairs[:, 0]).size / len(pairs)


def edge_recall(scores: NDArray[np.floating], pairs: Nodes) -> float:
    """The mean over sources of how many of the k targets of a source are among its k highest scores.

    A node is no candidate for itself unless self-edges are among the pairs. Equal scores and NaN count against the
    model. Scores of a model that knows nothing give k / (n - 1), averaged over sources.

    Args:
        scores: of every target (column) for every source (row), shape (n, n): logits, or products of embeddings.
        pairs: training pairs.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745, who count the neighbours among the top-degree logits.
    Cost: a sort of every row.
    """
    wanted = np.zeros(scores.shape, dtype=np.bool_)
    wanted[pairs[:, 0], pairs[:, 1]] = True
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    if not (pairs[:, 0] == pairs[:, 1]).any():
        np.fill_diagonal(ranked, -np.inf)
    n_wanted = wanted.sum(axis=1)
    order = np.lexsort((wanted, -ranked), axis=1)
    top = np.arange(scores.shape[1]) < n_wanted[:, None]
    hits = (np.take_along_axis(wanted, order, axis=1) & top).sum(axis=1)
    asked = n_wanted > 0
    return float((hits[asked] / n_wanted[asked]).mean())


def node_names(target: PathTarget, path_length: int) -> tuple[str, ...]:
    """The nodes that a path sequence asks for, in order: "root", "v1", "v2", ..., "leaf"."""
    names = ("root", *(f"v{i}" for i in range(1, path_length - 1)), "leaf")
    return {"full": names, "hardest": ("v1",), "reverse": names[::-1]}[target]


def node_accuracies(predicted: Nodes, expected: Nodes, target: PathTarget = "full") -> dict[str, float]:
    """The share of paths with the right token, by the node that is asked for.

    By node and not by position: the first token of a full path is the root, that of a reverse path a copy of the leaf.

    Args:
        predicted: tokens, free-running or teacher-forced, shape (paths, tokens).
        expected: the targets, of the same shape.
        target: which the paths are.

    Raises:
        ValueError: shapes that differ.
    """
    right = _right(predicted, expected).mean(axis=0).tolist()
    return dict(zip(node_names(target, expected.shape[1]), right, strict=True))


def first_hop_accuracy(predicted: Nodes, expected: Nodes, target: PathTarget = "full") -> float:
    """The share of paths whose first node after the root, the hardest token, is right; chance is 1 / d.

    Args and raises: see `node_accuracies`.
    """
    return node_accuracies(predicted, expected, target)["v1"]


def exact_path_accuracy(predicted: Nodes, expected: Nodes, *, skip: int = 0) -> float:
    """The share of paths of which every token is right; chance is about 1 / leaves.

    Args:
        predicted: tokens of free-running decoding, shape (paths, tokens).
        expected: the targets, of the same shape.
        skip: leave out so many first tokens; 1 leaves out the copied leaf of reverse paths, which fails for reasons of
            its own.

    Raises:
        ValueError: shapes that differ.

    Source: arXiv 2510.26745; the copy left out is an addition.
    """
    return float(_right(predicted, expected)[:, skip:].all(axis=1).mean())


def _right(predicted: Nodes, expected: Nodes) -> NDArray[np.bool_]:
    if predicted.shape != expected.shape:
        raise ValueError(
            f"predicted and expected must have one shape (paths, tokens), got {predicted.shape} and {expected.shape}"
        )
    return predicted == expected
