"""Where a table lies in the spectrum of its graph: in smooth directions, in zigzag ones, or anywhere.

With orthonormal eigenvectors e_i of S = D^-1/2 A D^-1/2 (see `eigenspaces`) and X the table without its trivial part,
s_i = |X^T e_i|^2 / |X|^2 are shares that add up to 1; of random positions each is about 1 / (n - c), for c components.

    smooth_share        those of positive eigenvalues
    top_share           those of the Fiedler-like space: the k largest eigenvalues, k being one for each component that
                        has an edge, and all that tie with these
    bottom_share        those of the k smallest, which set neighbours against each other
    fiedler_alignment   sum_j |F^T u_j|^2 / min(k, m), over the min(k, m) principal directions u_j of X, where F spans
                        the Fiedler-like space: 1 where its main directions are the graph's

Alignment asks what the table's main directions are, `top_share` how much of its variance they hold. Equal eigenvalues
share evenly what their space has, and equal singular values of X their alignment: nothing depends on a choice of basis.
Trap: middle layers hold much of a graph in the bottom; the top alone misses it.

Why: smoothness is one number; the spectrum says in which directions of the graph the table lies.

How to read it: energy at the smooth end is a map, at the other end a zigzag, evenly spread is no geometry.

Traps: equal eigenvalues have no eigenvectors of their own and are compared as spaces.

Source: projections on the Laplacian's eigenvectors, Noroozizadeh et al. (2025), arXiv 2510.26745, section 5; shares,
alignment of spaces and nulls are additions.
"""

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.examination.geometry.eigenspaces import (
    DENSE_NODES,
    Eigenspaces,
    Operator,
    eigenspaces,
    spread,
    starts_of_equals,
)
from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.quadrature import smooth_shares, spectral_measure
from mnemoscope.examination.geometry.shuffling import EMPTY, against_null, gram_factor, not_taken, shuffled, unshuffled
from mnemoscope.examination.geometry.smoothness import TRIVIAL_ONLY
from mnemoscope.runs.geometry import GeometryMetric, GraphSpectrum

__all__ = ["Eigenspaces", "Operator", "eigenspaces", "spectral_metrics", "spectrum"]

NAMES = ("smooth_share", "top_share", "bottom_share", "fiedler_alignment")

TIED = 1e-9
"""Squared singular values whose difference is smaller, beside the largest, are equal."""

ABSENT = 1e-12
"""Squared singular values that are smaller, beside the largest, are rounding."""


def spectrum(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, k: int | None = None, spaces: Eigenspaces | None = None
) -> GraphSpectrum:
    """The shares s_i of a table, NaN where it has nothing but its trivial part.

    Args:
        table: one row for each node.
        graph: of as many nodes.
        k: so many at each end, see `eigenspaces`; None for the whole spectrum, from its eigenvectors up to 5000 nodes
            and by quadrature of larger graphs, see `quadrature`.
        spaces: from an earlier call of `eigenspaces`, where k is None; ends alone are no help with the whole.

    Raises:
        ValueError: both k and spaces.
    """
    if k is not None and spaces is not None:
        raise ValueError(f"spectrum: takes k or spaces, got k={k} and spaces; leave one out")
    is_known = graph.n_nodes <= DENSE_NODES if spaces is None else spaces.is_whole
    if k is None and not is_known:
        values, shares = spectral_measure(table, graph)
        return GraphSpectrum(eigenvalues=values.tolist(), shares=shares.tolist())
    spaces = spaces or eigenspaces(graph, k)
    deflated = spaces.deflated(table)
    norm = np.square(deflated).sum()
    norm = norm if norm > EMPTY * np.square(table).sum() else np.nan
    shares = spaces.spread(np.square(spaces.vectors.T @ deflated).sum(axis=1)) / norm
    return GraphSpectrum(eigenvalues=spaces.values.tolist(), shares=shares.tolist(), is_whole=spaces.is_whole)


def spectral_metrics(
    table: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    orders: Int[np.ndarray, "s n"],
    spaces: Eigenspaces | None = None,
    k: int | None = None,
    n_bottom: int | None = None,
) -> list[GeometryMetric]:
    """The measures of `NAMES`, each with its null; NaN where `spaces` do not hold what one needs.

    Where `spaces` are not the whole spectrum, `smooth_share` is by quadrature, see `quadrature`.

    Args:
        table: one row for each node.
        graph: of as many nodes.
        orders: shuffles, see `shuffling.orders`.
        spaces: from an earlier call of `eigenspaces`; None to decompose the graph.
        k: dimensions of the top; None for those of the Fiedler-like space.
        n_bottom: dimensions of the bottom; None for k. Tiny graphs have been described with 3.

    Raises:
        ValueError: k or n_bottom below 1.

    Cost: for each shuffle O(n m) times the eigenvectors that are used, O((n + m) m^2) for the principal directions, and
    by quadrature 32 times that of `smoothness`.
    """
    spaces = spaces or eigenspaces(graph)
    k = spaces.fiedler_size if k is None else k
    n_bottom = k if n_bottom is None else n_bottom
    if min(k, n_bottom) < 1:
        raise ValueError(f"spectral_metrics: k and n_bottom must be at least 1, got {k} and {n_bottom}; try 1")
    weights = (spaces.smooth(), spaces.top(k), spaces.bottom(n_bottom))
    known = np.stack([np.zeros(len(spaces.values)) if each is None else each for each in weights])
    factor = gram_factor(table)

    def measured(shuffles: Int[np.ndarray, "s n"]) -> Float[np.ndarray, "4 s"]:
        found = _measured(factor, spaces, known, k, shuffles)
        if weights[0] is None:
            found[0] = smooth_shares(factor, graph, shuffles)
        return found

    value, null = measured(unshuffled(graph.n_nodes))[:, 0], measured(orders)
    top = "" if weights[1] is not None else _too_few(k, "largest", spaces.n_top)
    bottom = "" if weights[2] is not None else _too_few(n_bottom, "smallest", len(spaces.values) - spaces.n_top)
    return [
        not_taken(name, unknown, "nodes")
        if unknown
        else against_null(name, float(value[i]), null[i], graph.n_nodes, "nodes", TRIVIAL_ONLY)
        for i, (name, unknown) in enumerate(zip(NAMES, ("", top, bottom, top), strict=True))
    ]


def _too_few(needed: int, which: str, known: int) -> str:
    return (
        f"needs the spaces of the {needed} {which} eigenvalues whole, and only {known} are: larger spaces were cut; "
        "give eigenspaces a larger k"
    )


def _measured(
    table: Float[np.ndarray, "n m"],
    spaces: Eigenspaces,
    weights: Float[np.ndarray, "3 k"],
    k: int,
    orders: Int[np.ndarray, "s n"],
) -> Float[np.ndarray, "4 s"]:
    """The three weighted sums of shares, and the alignment with the weights of the second."""
    used = np.flatnonzero(weights.any(axis=0))
    weights, basis = weights[:, used], spaces.vectors[:, used]
    leading = np.flatnonzero(weights[1])
    found = [np.zeros((4, 0))]
    for batch in shuffled(table, orders):
        flat = spaces.deflated(batch.reshape(len(batch), -1))
        x, along = flat.reshape(batch.shape), (basis.T @ flat).reshape(-1, *batch.shape[1:])
        norm = np.einsum("ncm,ncm->c", x, x)
        norm = np.where(norm > EMPTY * np.einsum("ncm,ncm->c", batch, batch), norm, np.nan)
        shares = weights @ np.square(along).sum(axis=2) / norm
        aligned = [_alignment(x[:, i], along[leading, i], weights[1, leading], k) for i in range(batch.shape[1])]
        found.append(np.concatenate([shares, np.where(np.isnan(norm), np.nan, aligned)[None]]))
    return np.concatenate(found, axis=1)


def _alignment(
    table: Float[np.ndarray, "n m"], along: Float[np.ndarray, "t m"], weights: Float[np.ndarray, "t"], k: int
) -> float:
    """sum_j |F^T u_j|^2 / min(k, m): with X^T X = Q diag(q) Q^T, u_j = X Q_j / sqrt(q_j), and F^T X is `along`."""
    if len(weights) == 0:
        return np.nan
    squares, directions = (each[..., ::-1] for each in np.linalg.eigh(table.T @ table))
    present = squares > max(ABSENT * squares[0], np.finfo(float).tiny)
    squares, directions = squares[present], directions[:, present]
    n_directions = min(k, table.shape[1])
    first = (np.arange(len(squares)) < n_directions).astype(float)
    chosen = spread(first, starts_of_equals(squares, TIED * squares[0])) if len(squares) else first
    return float(chosen @ (weights @ np.square(along @ directions) / squares) / n_directions)
