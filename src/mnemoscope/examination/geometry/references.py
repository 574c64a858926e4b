"""How near a table is to what an exact method makes of the same graph: Node2Vec and the Laplacian eigenmap.

Two tables are compared up to rotation and scale, columns centred: by linear CKA, 1 for the same, and by the Procrustes
residual, 0 for the same. Node2Vec is tied and goes over all nodes at once (`node2vec`), with columns as many as the
table's; the eigenmap has the smoothest eigenvectors of S = D^-1/2 A D^-1/2, as many as the table has columns and those
with an equal eigenvalue, each times the root of its eigenvalue where that is above 0.

How to read it: against the null, in which the table's rows change places. A table that stores edges one by one has CKA
no higher than its null. CKA below 1 does not make a table less of a map: hops weigh differently in other maps. Where
a graph has more equal eigenvalues than the table has columns, as a star of many arms, even two runs of Node2Vec with
different seeds lie in different parts of that space, far from 1.

Why: what an exact method makes of the same graph is the nearest thing to a known answer.

Traps: being unlike both references is no proof against geometry.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mnemoscope.examination.geometry.eigenspaces import DENSE_NODES, Eigenspaces, eigenspaces
from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.node2vec import Node2VecConfig, node2vec
from mnemoscope.examination.geometry.shuffling import against_null, not_taken, orders
from mnemoscope.runs.geometry import GeometryMetric

NAMES = ("cka_node2vec", "cka_eigenmap", "procrustes_node2vec", "procrustes_eigenmap")
REFERENCE_STEPS, FEW_STEPS, MANY_NODES = 300, 100, 1500
"""Steps of Node2Vec, and those of graphs of many nodes."""

N_SHUFFLES = 20
SEED_APART = 51_000_007
"""Added to the seed of Node2Vec: a table that was drawn like the reference would agree with it for that alone."""


def laplacian_eigenmap(
    graph: SparseGraph,
    width: int,
    *,
    scaled: bool = True,
    whole_spaces: bool = False,
    spaces: Eigenspaces | None = None,
) -> Float[np.ndarray, "n m"]:
    """The smoothest non-trivial eigenvectors of S as columns.

    Args:
        graph: n nodes.
        width: columns; those that the graph has no eigenvectors for are 0.
        scaled: each times sqrt(max(eigenvalue, 0)), so that products of rows approach S; else of length 1.
        whole_spaces: have more columns than `width` where further eigenvalues are equal to the last; without it, which
            of them are there is arbitrary.
        spaces: `eigenspaces` of the graph, where they are at hand.

    Raises:
        ValueError: width below 1, or a graph of more than 5000 nodes with so many equal eigenvalues that Lanczos
            iterations did not find them.

    Source: Belkin and Niyogi (2003), in the symmetric normalisation.
    """
    if width < 1:
        raise ValueError(f"laplacian_eigenmap: width must be at least 1 column, got {width}; nearest valid: 1")
    spaces = spaces or eigenspaces(graph, None if graph.n_nodes <= DENSE_NODES else width)
    k = whole_top(spaces, width) if whole_spaces else min(width, spaces.n_top)
    if not spaces.is_whole and k < width:
        raise ValueError(
            f"laplacian_eigenmap: needs {width} eigenvectors, and of {graph.n_nodes} nodes only {k} were found in "
            "whole spaces; ask for fewer, or use node2vec"
        )
    found = spaces.vectors[:, :k] * (np.sqrt(spaces.values[:k].clip(0)) if scaled else 1.0)
    return np.pad(found, ((0, 0), (0, max(0, width - k))))


def netmf(graph: SparseGraph, width: int, window: int = 10, negatives: float = 1.0) -> Float[np.ndarray, "n m"]:
    """The factors of what DeepWalk with long enough walks converges to.

    U sqrt(Sigma) of the truncated SVD of log max(M, 1), M = vol / (b T) sum_(r = 1 ... T) (D^-1 A)^r D^-1.

    Args:
        graph: n nodes, at most `DENSE_NODES`.
        width: columns; 0 where the matrix has no more singular values than that.
        window: T, steps.
        negatives: b, negative samples for each positive one.

    Raises:
        ValueError: a number below 1, negatives not above 0, or a larger graph.

    Source: Qiu et al. (2018), arXiv 1710.02971, equation 3 and algorithm 3.
    Cost: O(n^3), and T products of a sparse and a dense matrix.
    """
    if width < 1 or window < 1 or not negatives > 0:
        raise ValueError(
            f"netmf: width and window must be at least 1 and negatives above 0, got {width}, {window} and {negatives}"
        )
    if graph.n_nodes > DENSE_NODES:
        raise ValueError(f"netmf: the graph must have at most {DENSE_NODES} nodes, got {graph.n_nodes}; use node2vec")
    inverse = 1 / np.maximum(graph.degrees, 1)
    step = graph.adjacency.multiply(inverse[:, None]).tocsr()
    power, total = np.eye(graph.n_nodes), np.zeros((graph.n_nodes, graph.n_nodes))
    for _ in range(window):
        power = step @ power
        total += power
    total *= inverse * graph.degrees.sum() / (negatives * window)
    logarithm = np.log(np.maximum(total, 1))
    values, vectors = np.linalg.eigh((logarithm + logarithm.T) / 2)
    order = np.argsort(-np.abs(values), kind="stable")[:width]
    found = vectors[:, order] * np.sqrt(np.abs(values[order]))
    return np.pad(found, ((0, 0), (0, max(0, width - len(order)))))


def linear_cka(x: Float[np.ndarray, "n a"], y: Float[np.ndarray, "n b"]) -> float:
    """||X^T Y||^2 / (||X^T X|| ||Y^T Y||) of centred columns, in [0, 1]; 0 where a table has equal rows only.

    Source: Kornblith et al. (2019), arXiv 1905.00414. Cost: O(n (a + b)^2).
    """
    x, y = _centred(x), _centred(y)
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / size) if size > 0 else 0.0


def procrustes_residual(x: Float[np.ndarray, "n a"], y: Float[np.ndarray, "n b"]) -> float:
    """The share of one table's variance that no rotation and scale of the other accounts for, in [0, 1].

    With centred columns, min over orthogonal Q and scales s of ||Y - s X Q||^2 / ||Y||^2 = 1 - (sum of the singular
    values of X^T Y)^2 / (||X||^2 ||Y||^2), the same both ways round; the narrower table has columns of 0 added. 1 where
    a table has equal rows only.

    Source: Schönemann (1966), with a free scale. Cost: O(n a b).
    """
    x, y = _centred(x), _centred(y)
    size = np.sum(x**2) * np.sum(y**2)
    shared = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    return float(1 - min(1.0, shared**2 / size)) if size > 0 else 1.0


def reference_metrics(
    table: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    seed: int = 0,
    *,
    n_shuffles: int = N_SHUFFLES,
    steps: int | None = None,
    spaces: Eigenspaces | None = None,
) -> list[GeometryMetric]:
    """CKA and Procrustes residual of a table with Node2Vec and with the eigenmap of the same graph, beside a null.

    Args:
        table: one row for each node, at most `DENSE_NODES`; above that the four are missing, and say so.
        graph: n nodes.
        seed: of Node2Vec's draws and of the null's shuffles.
        n_shuffles: of the rows of the table, for the null.
        steps: of Node2Vec; None for 300, or 100 above 1,500 nodes.
        spaces: `eigenspaces` of the graph, where they are at hand.
    """
    n = graph.n_nodes
    if n > DENSE_NODES:
        reason = f"references are computed for at most {DENSE_NODES} nodes, and there are {n}"
        return [not_taken(name, reason, "nodes") for name in NAMES]
    steps = steps or (REFERENCE_STEPS if n <= MANY_NODES else FEW_STEPS)
    references = {
        "node2vec": _node2vec_table(graph, table.shape[1], seed, steps),
        "eigenmap": laplacian_eigenmap(graph, table.shape[1], whole_spaces=True, spaces=spaces),
    }
    shuffles = orders(n, n_shuffles, seed)
    found = {}
    for measure, of_two in (("cka", linear_cka), ("procrustes", procrustes_residual)):
        for name, reference in references.items():
            null = np.array([of_two(table[order], reference) for order in shuffles])
            full = f"{measure}_{name}"
            found[full] = against_null(full, of_two(table, reference), null, n, "nodes")
    return [found[name] for name in NAMES]


def _node2vec_table(graph: SparseGraph, width: int, seed: int, steps: int) -> NDArray[np.float64]:
    config = Node2VecConfig(
        width=width,
        steps=steps,
        step_size=stable_step_size(graph),
        initial_std=0.5,
        seed=SEED_APART + seed,
        dtype="float32",
        block_rows=512,
    )
    return node2vec(graph.edges, config, graph.n_nodes).source.astype(np.float64)


def whole_top(spaces: Eigenspaces, k: int) -> int:
    """How many of the largest eigenvalues are at least k, and do not cut through equal ones; fewer where it ends."""
    ends = np.append(spaces.starts[1:], len(spaces.values))
    ends = ends[ends <= spaces.n_top]
    return int(ends[min(np.searchsorted(ends, k), len(ends) - 1)]) if len(ends) else 0


def stable_step_size(graph: SparseGraph) -> float:
    """A step size for Node2Vec that hubs do not make diverge, at most 0.01.

    It is half of 2 / |lowest eigenvalue of W + W^T - 2 I|, of which ||W||^2 <= ||W||_1 ||W||_inf gives a bound: W has
    rows that sum to 1, so the eigenvalue is not below -2 - 2 sqrt(largest column sum of W).
    """
    columns = graph.adjacency @ (1 / np.maximum(graph.degrees, 1))
    return float(min(0.01, 1 / (2 + 2 * np.sqrt(columns.max()))))


def _centred(table: NDArray[np.floating]) -> NDArray[np.float64]:
    return table - table.mean(axis=0, dtype=np.float64)
