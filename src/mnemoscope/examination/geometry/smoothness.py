"""How smooth a table is on its graph: are neighbours alike, or the neighbours of neighbours?

With X the table without its trivial part and S = D^-1/2 A D^-1/2 (see `graph`),

    R  = tr(X^T S X)   / tr(X^T X)      the mean eigenvalue of S, in [-1, 1], weighted by the variance along each
    R2 = tr(X^T S^2 X) / tr(X^T X)      the mean square of it, in [0, 1]

Of random positions R is about -c / (n - c), for c components, and R2 about (tr(S^2) - c) / (n - c). High R: neighbours
are close. High R2 alone: the table lies in both ends of the spectrum, as where a model that cannot predict a node from
itself puts neighbours apart and their neighbours together. Either alone misses tables that hold the graph; both are
needed.

Why: a table can hold every edge and yet put neighbours nowhere near each other; this is the first figure that tells.

How to read it: beside the same figure of shuffled rows, as a z-score; negative values are a zigzag, which is geometry
too, and why the two-sided figure stands beside it.

Traps: an offset common to all rows is trivial on regular graphs only; elsewhere it moves a value and its null alike.

Source: R is one less the Rayleigh quotient of the normalised Laplacian (Chung 1997, section 1.2); a deflated table and
R2 are additions.
"""

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.shuffling import (
    EMPTY,
    against_null,
    column_parts,
    gram_factor,
    shuffled,
    unshuffled,
)
from mnemoscope.runs.geometry import GeometryMetric

TRIVIAL_ONLY = "the table has nothing but its trivial part: all nodes are in one place"


def smoothness(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, orders: Int[np.ndarray, "s n"]
) -> tuple[GeometryMetric, GeometryMetric]:
    """R, called "smoothness", and R2, called "two_sided_smoothness", with their nulls.

    Args:
        table: one row for each node.
        graph: of as many nodes.
        orders: shuffles, see `shuffling.orders`.

    Cost: O(edges x m) for each shuffle.
    """
    factor = gram_factor(table)
    value = _ratios(factor, graph, unshuffled(graph.n_nodes))[:, 0]
    null = _ratios(factor, graph, orders)
    first, second = (
        against_null(name, float(value[i]), null[i], graph.n_nodes, "nodes", TRIVIAL_ONLY)
        for i, name in enumerate(("smoothness", "two_sided_smoothness"))
    )
    return first, second


def _ratios(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, orders: Int[np.ndarray, "s n"]
) -> Float[np.ndarray, "2 s"]:
    sums = sum((_sums(part, graph, orders) for part in column_parts(table)), np.zeros((4, len(orders))))
    norm = np.where(sums[2] > EMPTY * sums[3], sums[2], np.nan)
    return sums[:2] / norm


def _sums(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, orders: Int[np.ndarray, "s n"]
) -> Float[np.ndarray, "4 s"]:
    """The traces of X^T S X, X^T S^2 X, X^T X and E^T E for every order."""
    found = [np.zeros((4, 0))]
    for batch in shuffled(table, orders):
        flat = graph.deflated(batch.reshape(len(batch), -1))
        x, image = flat.reshape(batch.shape), (graph.normalised @ flat).reshape(batch.shape)
        pairs = ((x, image), (image, image), (x, x), (batch, batch))
        found.append(np.stack([np.einsum("ncm,ncm->c", left, right) for left, right in pairs]))
    return np.concatenate(found, axis=1)
