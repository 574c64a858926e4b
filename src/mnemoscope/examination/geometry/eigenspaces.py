"""The eigenvectors of a graph, less the trivial ones, grouped by equal eigenvalues.

Two operators. "normalised", S = D^-1/2 A D^-1/2 with eigenvalues in [-1, 1], which measures use. "laplacian", W + W^T
with W = D^-1 A: -L = W + W^T - 2I, by which the tiny graphs were first described, has the same vectors, and its
eigenvalues less 2. Where a hub has many neighbours W + W^T has a vector for the hub at either end, and hardly anything
else is seen.

The trivial vector of a component is the one without change of sign; it says how frequent nodes are, not who is whose
neighbour. Eigenvalues that are equal have no eigenvectors of their own, only a space: whatever is measured must not
depend on the basis of it that a library returned, so amounts are spread evenly over each such space (`spread`), and a
space of which only a part was computed is left out.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, for -L; Chung 1997 for S.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse import linalg

from mnemoscope.examination.geometry.graph import SparseGraph

Operator: TypeAlias = Literal["normalised", "laplacian"]

DENSE_NODES = 5000
"""Graphs of so many nodes are decomposed whole."""

END = 64
"""Eigenvectors at each end of the spectrum of larger graphs."""

EQUAL = 1e-9
"""Eigenvalues that are closer are equal."""

OUTSIDE = 4.0
"""How far a vector's eigenvalue is moved to be out of the way: S has none beyond -1 and 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Eigenspaces:
    """Eigenvalues and eigenvectors without the trivial ones; `eigenspaces` builds it once for all tables of a graph.

    Args:
        operator: what they are of.
        values: eigenvalues, falling; of "laplacian" those of W + W^T.
        vectors: orthonormal columns.
        starts: index of the first of every run of equal eigenvalues.
        trivial: the trivial vectors, orthonormal columns, one for each component.
        n_top: how many are of the upper end of the spectrum, without a gap; all where it is whole.
        is_whole: all that are not trivial are there.
    """

    operator: Operator
    values: Float[np.ndarray, "k"]
    vectors: Float[np.ndarray, "n k"]
    starts: Int[np.ndarray, "spaces"]
    trivial: sparse.csr_array
    n_top: int
    is_whole: bool

    @property
    def fiedler_size(self) -> int:
        """Dimensions of the Fiedler-like space: one for each component with an edge, and all that tie with these."""
        wanted = int((np.diff(self.trivial.tocsc().indptr) > 1).sum())
        ends = np.append(self.starts[1:], len(self.values))
        return int(ends[np.searchsorted(ends, wanted)]) if wanted <= self.n_top else wanted

    def deflated(self, table: Float[np.ndarray, "n *m"]) -> Float[np.ndarray, "n *m"]:
        """The table without its part along the trivial vectors."""
        return table - self.trivial @ (self.trivial.T @ table)

    def spread(self, amounts: Float[np.ndarray, "*rows k"]) -> Float[np.ndarray, "*rows k"]:
        """Amounts per vector, evenly over each space."""
        return spread(amounts, self.starts)

    def smooth(self) -> Float[np.ndarray, "k"] | None:
        """1 where the eigenvalue is positive; None where not all of these were computed."""
        return (self.values > EQUAL).astype(float) if self.is_whole else None

    def top(self, k: int) -> Float[np.ndarray, "k"] | None:
        """A weight for each vector, k in all: 1 for the largest, the last space evenly; None where k is too many."""
        return self.spread((np.arange(len(self.values)) < k).astype(float)) if k <= self.n_top else None

    def bottom(self, k: int) -> Float[np.ndarray, "k"] | None:
        """As `top`, for the smallest eigenvalues."""
        n = len(self.values)
        n_bottom = n if self.is_whole else n - self.n_top
        return self.spread((np.arange(n)[::-1] < k).astype(float)) if k <= n_bottom else None


def eigenspaces(graph: SparseGraph, k: int | None = None, operator: Operator = "normalised") -> Eigenspaces:
    """The eigenvectors of a graph.

    Args:
        graph: of any number of components.
        k: so many at each end; fewer where a space would be cut, all where both ends would meet. None for all of up to
            5000 nodes, and for 64 of larger graphs.
        operator: see the head of the file; "laplacian" is there whole only.

    Raises:
        ValueError: k below 1, or an end of "laplacian".

    Cost: whole, O(n^3) for a component of n nodes, and 8 n^2 bytes; the ends, Lanczos iterations, one run or two where
    spaces are small and up to k where they are large.
    """
    if k is not None and k < 1:
        raise ValueError(f"eigenspaces.k: must be at least 1, got {k}; give None for the default")
    n_proper = graph.n_nodes - graph.n_components
    k = END if k is None and graph.n_nodes > DENSE_NODES else k
    if k is None or 2 * k >= n_proper:
        return _whole(graph, operator)
    if operator == "laplacian":
        raise ValueError(
            f"eigenspaces: operator 'laplacian' needs all eigenvectors, at most {DENSE_NODES} nodes and k=None; got "
            f"{graph.n_nodes} nodes and k={k}; take operator='normalised', which does not depend on hubs"
        )
    return _ends(graph, k)


def starts_of_equals(values: Float[np.ndarray, "k"], tolerance: float) -> Int[np.ndarray, "spaces"]:
    """The index at which every run of equal values starts; values must fall."""
    return np.flatnonzero(np.append(True, -np.diff(values) > tolerance)[: len(values)])


def spread(amounts: Float[np.ndarray, "*rows k"], starts: Int[np.ndarray, "spaces"]) -> Float[np.ndarray, "*rows k"]:
    """The mean of every run in place of its members."""
    if amounts.shape[-1] == 0:
        return amounts
    sizes = np.diff(np.append(starts, amounts.shape[-1]))
    return np.repeat(np.add.reduceat(amounts, starts, axis=-1) / sizes, sizes, axis=-1)


def _whole(graph: SparseGraph, operator: Operator) -> Eigenspaces:
    """Component by component: the largest eigenvalue of each is simple, and its vector the trivial one."""
    matrix = graph.normalised if operator == "normalised" else _walks_both_ways(graph)
    by_component = np.argsort(graph.component, kind="stable")
    members = np.split(by_component, np.cumsum(np.bincount(graph.component))[:-1])
    n_proper = graph.n_nodes - graph.n_components
    values, vectors = np.zeros(n_proper), np.zeros((graph.n_nodes, n_proper))
    leading, done = np.zeros(graph.n_nodes), 0
    for nodes in members:
        found, basis = np.linalg.eigh(matrix[nodes][:, nodes].toarray())
        part = slice(done, done + len(nodes) - 1)
        values[part], vectors[nodes, part], leading[nodes] = found[:-1], basis[:, :-1], np.abs(basis[:, -1])
        done = part.stop
    falling = np.argsort(-values, kind="stable")
    trivial = sparse.csr_array((leading, (np.arange(graph.n_nodes), graph.component)))
    return Eigenspaces(
        operator=operator,
        values=values[falling],
        vectors=vectors[:, falling],
        starts=starts_of_equals(values[falling], EQUAL),
        trivial=trivial,
        n_top=n_proper,
        is_whole=True,
    )


def _walks_both_ways(graph: SparseGraph) -> sparse.csr_array:
    """W + W^T."""
    walk = sparse.diags_array(1 / np.maximum(graph.degrees, 1)) @ graph.adjacency
    return sparse.csr_array(walk + walk.T)


def _ends(graph: SparseGraph, k: int) -> Eigenspaces:
    rng = np.random.default_rng(0)
    top = _largest(graph, 1, k, rng)
    bottom = _largest(graph, -1, k, rng)
    values = np.concatenate([top[0], -bottom[0][::-1]])
    vectors = np.concatenate([top[1], bottom[1][:, ::-1]], axis=1)
    return Eigenspaces(
        operator="normalised",
        values=values,
        vectors=vectors,
        starts=starts_of_equals(values, EQUAL),
        trivial=graph.trivial,
        n_top=len(top[0]),
        is_whole=False,
    )


@final
class _Moved(linalg.LinearOperator):
    """S or -S, with the trivial vectors and those that were found moved to the lower end."""

    def __init__(self, graph: SparseGraph, sign: int, found: Float[np.ndarray, "n k"]) -> None:
        super().__init__(np.float64, (graph.n_nodes, graph.n_nodes))
        self.graph, self.sign, self.found = graph, sign, found

    def _matvec(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "n"]:
        x = x.ravel()
        trivial, found = self.graph.trivial, self.found
        moved = trivial @ (trivial.T @ x) + found @ (found.T @ x)
        return self.sign * (self.graph.normalised @ x) - OUTSIDE * moved


def _largest(
    graph: SparseGraph, sign: int, k: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "j"], Float[np.ndarray, "n j"]]:
    """The k largest eigenvalues of S or -S, as many of them as make whole spaces; none where Lanczos does not converge.

    Lanczos iterations start from one vector, so of a space they find one dimension, and further ones by rounding only.
    What was found is therefore moved out of the way, and sought again, until nothing as large is left.
    """
    values, vectors = np.zeros(0), np.zeros((graph.n_nodes, 0))
    while True:
        found = _lanczos(_Moved(graph, sign, vectors), max(1, k if len(values) < k else k // 8), rng)
        if found is None:
            return np.zeros(0), np.zeros((graph.n_nodes, 0))
        if len(values) == k and found[0].max() < values[-1] + EQUAL:
            break
        vectors = np.linalg.qr(np.concatenate([vectors, found[1]], axis=1))[0]
        small = sign * (vectors.T @ (graph.normalised @ vectors))
        rising, rotation = np.linalg.eigh((small + small.T) / 2)
        values, vectors = rising[::-1][:k], vectors @ rotation[:, ::-1][:, :k]
    whole = k if found[0].max() < values[-1] - EQUAL else int(starts_of_equals(values, EQUAL)[-1])
    return values[:whole], vectors[:, :whole]


def _lanczos(
    operator: _Moved, k: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "n k"]] | None:
    """The k largest eigenvalues of an operator and their vectors."""
    try:
        values, vectors = linalg.eigsh(operator, k=k, which="LA", v0=rng.standard_normal(operator.shape[0]))
    except linalg.ArpackNoConvergence:
        return None
    return values, vectors
