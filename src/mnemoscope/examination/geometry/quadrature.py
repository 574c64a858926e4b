"""Where a table lies in the spectrum of a graph that is too large for its eigenvectors.

Lanczos iterations of S = D^-1/2 A D^-1/2 from a column x of the table give a tridiagonal matrix; its eigenvalues theta
and the squared first components w of its eigenvectors are a Gauss quadrature,

    x^T f(S) x = |x|^2 sum_j w_j f(theta_j),

exact for polynomials f up to degree 2 steps - 1, and for every f where S has no more distinct eigenvalues than there
are steps, however many eigenvectors each has: a path-star of thousands of arms has a dozen. Elsewhere the ends of the
spectrum are sharp, its middle is blurred about as far as 2 / steps, and a share up to some eigenvalue there is off by
about half of what one theta holds; the null is blurred alike. Rounding makes copies of eigenvalues, which share the
weight of one: sums are right without orthogonalising anew.

Source: Golub & Meurant 1994; Bai, Fahey & Golub 1996.
"""

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.shuffling import EMPTY, column_parts, shuffled

STEPS = 32
"""Lanczos iterations of each column."""

INVARIANT = 1e-8
"""What is left of a vector of length 1, where iterations have found all that there is."""

POOLED = 0.005
"""Eigenvalues of a spectrum that are closer to the largest of them are given as one, their mean."""

ZERO = 1e-9
"""Eigenvalues that are smaller are no smooth ones."""


def spectral_measure(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, n_steps: int = STEPS
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Eigenvalues of S, falling, and the shares that a table without its trivial part has along each.

    Args:
        table: one row for each node.
        graph: of as many nodes.
        n_steps: Lanczos iterations, at least 1.

    Returns:
        values that are no closer than `POOLED`, and shares that add up to 1; NaN for a table of its trivial part alone.

    Cost: O(edges x m x n_steps).
    """
    parts = [_quadrature(graph.deflated(part), graph, n_steps) for part in column_parts(table)]
    values = np.concatenate([part[0].ravel() for part in parts])
    energies = np.concatenate([part[1].ravel() for part in parts])
    norm = energies.sum() if energies.sum() > EMPTY * np.square(table).sum() else np.nan
    falling = np.argsort(-values, kind="stable")
    values, shares = values[falling], energies[falling] / norm
    if not np.isfinite(norm):
        return values[:1], shares[:1]
    values, shares = values[shares > EMPTY], shares[shares > EMPTY]
    starts = _pools(values)
    pooled = np.add.reduceat(shares, starts)
    return np.add.reduceat(shares * values, starts) / pooled, pooled


def smooth_shares(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, orders: Int[np.ndarray, "s n"], n_steps: int = STEPS
) -> Float[np.ndarray, "s"]:
    """The share of the table on positive eigenvalues for each order of its rows; NaN as in `spectral_measure`."""
    sums = np.zeros((3, len(orders)))
    for part in column_parts(table):
        found = [np.zeros((3, 0))]
        for batch in shuffled(part, orders):
            values, energies = _quadrature(graph.deflated(batch.reshape(len(batch), -1)), graph, n_steps)
            per_column = (np.where(values > ZERO, energies, 0).sum(axis=1), energies.sum(axis=1))
            rows = [*(each.reshape(batch.shape[1:]).sum(axis=1) for each in per_column), np.square(batch).sum((0, 2))]
            found.append(np.stack(rows))
        sums += np.concatenate(found, axis=1)
    return sums[0] / np.where(sums[1] > EMPTY * sums[2], sums[1], np.nan)


def _quadrature(
    columns: Float[np.ndarray, "n w"], graph: SparseGraph, n_steps: int
) -> tuple[Float[np.ndarray, "w p"], Float[np.ndarray, "w p"]]:
    """theta and |x|^2 w of each column; columns must be deflated."""
    length = np.linalg.norm(columns, axis=0)
    current = columns / np.where(length > 0, length, 1)
    previous, beside = np.zeros_like(current), np.zeros(len(length))
    matrix = np.zeros((len(length), n_steps, n_steps))
    for step in range(n_steps):
        image = graph.deflated(graph.normalised @ current) - beside * previous
        matrix[:, step, step] = np.einsum("nw,nw->w", current, image)
        image -= matrix[:, step, step] * current
        beside = np.linalg.norm(image, axis=0)
        goes_on = beside > INVARIANT
        if not goes_on.any():
            break
        beside = np.where(goes_on, beside, 0)
        if step + 1 < n_steps:
            matrix[:, step, step + 1] = matrix[:, step + 1, step] = beside
        previous, current = current, np.where(goes_on, image, 0) / np.where(goes_on, beside, 1)
    values, vectors = np.linalg.eigh(matrix)
    return values, np.square(length[:, None] * vectors[:, 0])


def _pools(values: Float[np.ndarray, "k"]) -> Int[np.ndarray, "pools"]:
    """Where values, falling, are further than `POOLED` below the first of their pool."""
    starts = [0]
    for i, value in enumerate(values.tolist()):
        if values[starts[-1]] - value > POOLED:
            starts.append(i)
    return np.array(starts)
