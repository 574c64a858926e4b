"""The graph that a table is held against, as sparse matrices.

For adjacency A and degrees D, S = D^-1/2 A D^-1/2 has eigenvalues in [-1, 1]; the trivial one, 1, has one eigenvector
for each component, D^1/2 times its indicator. `deflated` takes these out of a table: they say how frequent nodes are,
and nothing about who their neighbours are. S, unlike D^-1 A + A D^-1, keeps its scale where a hub has thousands of
neighbours.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Edges: TypeAlias = Any
"""Shape (edges, 2) of node numbers, as an array, a tensor or a list of pairs; a SciPy sparse adjacency; or a networkx
graph whose nodes are 0 ... n - 1."""

UNREACHABLE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseGraph:
    """An undirected graph without self-edges.

    Args:
        n_nodes: nodes 0 ... n_nodes - 1.
        edges: shape (edges, 2), each once, the smaller node first, in order.
    """

    n_nodes: int
    edges: Int[np.ndarray, "e 2"]

    @cached_property
    def adjacency(self) -> sparse.csr_array:
        """1 where two nodes are neighbours, (n, n), float64."""
        both = np.concatenate([self.edges, self.edges[:, ::-1]])
        return sparse.csr_array((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(self.n_nodes, self.n_nodes))

    @cached_property
    def degrees(self) -> Int[np.ndarray, "n"]:
        """Neighbours of every node."""
        return np.bincount(self.edges.ravel(), minlength=self.n_nodes)

    @cached_property
    def normalised(self) -> sparse.csr_array:
        """S = D^-1/2 A D^-1/2, (n, n); rows of nodes without neighbours are 0."""
        root = sparse.diags_array(1 / np.sqrt(np.maximum(self.degrees, 1)))
        return sparse.csr_array(root @ self.adjacency @ root)

    @cached_property
    def component(self) -> Int[np.ndarray, "n"]:
        """The number of each node's component, from 0."""
        return csgraph.connected_components(self.adjacency, directed=False)[1].astype(np.int64)

    @property
    def n_components(self) -> int:
        """Nodes without neighbours are components too."""
        return int(self.component.max()) + 1

    @cached_property
    def trivial(self) -> sparse.csr_array:
        """The trivial eigenvectors of S as orthonormal columns, (n, components)."""
        weight = np.sqrt(np.where(self.degrees > 0, self.degrees, 1))
        norm = np.sqrt(np.bincount(self.component, weight**2))
        return sparse.csr_array(
            (weight / norm[self.component], (np.arange(self.n_nodes), self.component)),
            shape=(self.n_nodes, self.n_components),
        )

    def deflated(self, table: Float[np.ndarray, "n *m"]) -> Float[np.ndarray, "n *m"]:
        """The table without its part along the trivial eigenvectors."""
        return table - self.trivial @ (self.trivial.T @ table)

    def hops_from(self, sources: Int[np.ndarray, "s"]) -> Int[np.ndarray, "s n"]:
        """Edges on the shortest path from each source to every node; UNREACHABLE where there is none.

        Cost: one breadth-first search for each source.
        """
        found = csgraph.dijkstra(self.adjacency, directed=False, indices=sources, unweighted=True)
        return np.where(np.isfinite(found), found, UNREACHABLE).astype(np.int64)


def as_graph(edges: Edges, n_nodes: int | None = None) -> SparseGraph:
    """A graph from an edge list, whichever way it is held; self-edges and repetitions are dropped.

    Args:
        edges: see `Edges`.
        n_nodes: of the table; None for one more than the largest node.

    Raises:
        ValueError: no edges, or nodes that are no numbers of 0 ... n_nodes - 1.
    """
    pairs = _pairs(edges)
    if pairs.size == 0:
        raise ValueError("edges: must be at least one pair of nodes, got none; give an array of shape (edges, 2)")
    low, high = int(pairs.min()), int(pairs.max())
    n = high + 1 if n_nodes is None else n_nodes
    if low < 0 or high >= n:
        raise ValueError(
            f"edges: nodes must be 0 ... {n - 1}, a row of the table each, got {low if low < 0 else high}; number "
            "nodes as the rows of the table"
        )
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    if len(pairs) == 0:
        raise ValueError("edges: must join two different nodes somewhere, got self-edges only; give the graph's edges")
    return SparseGraph(n_nodes=n, edges=pairs)


def as_table(embeddings: Any, n_nodes: int | None = None) -> NDArray[np.float64]:
    """A table in float64.

    Args:
        embeddings: shape (n, m), an array or a tensor on any device.
        n_nodes: rows that it must have; None for any number.

    Raises:
        ValueError: another shape, or values that are not finite, as of a training that diverged.
    """
    if isinstance(embeddings, torch.Tensor):
        embeddings = embeddings.detach().cpu().double().numpy()
    table = np.asarray(embeddings, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"embeddings: must have shape (nodes, width), got {table.shape}; give one row for each node")
    if n_nodes is not None and len(table) != n_nodes:
        raise ValueError(
            f"embeddings: must have {n_nodes} rows, one for each node, got {len(table)}; select the rows of the nodes"
        )
    finite = np.isfinite(table)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise ValueError(
            f"embeddings: must be finite, got {table[row][~finite[row]][0]} in row {row} ({(~finite).sum()} of "
            f"{table.size} values); a table that diverged has no geometry, take an earlier checkpoint"
        )
    return table


def _pairs(edges: Edges) -> NDArray[np.int64]:
    if sparse.issparse(edges):
        rows, columns = edges.nonzero()
        return np.stack([rows, columns], axis=1).astype(np.int64)
    if isinstance(edges, nx.Graph):
        edges = list(edges.edges)
    elif isinstance(edges, torch.Tensor):
        edges = edges.detach().cpu().numpy()
    found = np.asarray(edges)
    if found.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    whole = np.issubdtype(found.dtype, np.integer) or (
        np.issubdtype(found.dtype, np.floating) and bool((found == np.round(found)).all())
    )
    if found.ndim != 2 or found.shape[1] != 2 or not whole:
        raise ValueError(
            f"edges: must be whole numbers of shape (edges, 2), got {found.dtype} of shape {found.shape}; give the "
            "two nodes of each edge"
        )
    return found.astype(np.int64)
