"""What a measure is where positions know nothing of the graph: the rows of the table in random orders.

A shuffled table has the same rows, lengths and angles; only which node has which row is drawn anew. So whatever a
measure owes to the table alone, its width, its offset, its clusters, is in the null as well, and z says how much more
there is. Every measure deflates a table after its rows were shuffled.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.runs.geometry import GeometryMetric

FLAT = 1e-12
"""Nulls whose standard deviation is smaller, beside 1 or the largest of them, differ by rounding only."""

BATCH = 2**20
"""Numbers that are worked on at once, 8 MB."""

EMPTY = 1e-24
"""Beside the squared length of a table, what is left of it when it was deflated but for rounding."""


def orders(n_nodes: int, n_shuffles: int, seed: int) -> Int[np.ndarray, "s n"]:
    """Random orders of the nodes, one a row: `table[orders(...)[i]]` is the table of shuffle i.

    Raises:
        ValueError: fewer than one node or than zero shuffles.
    """
    if n_nodes < 1 or n_shuffles < 0:
        raise ValueError(
            f"orders: needs n_nodes of at least 1 and n_shuffles of at least 0, got {n_nodes} and {n_shuffles}; "
            "give the number of rows of the table, and 20 shuffles or more"
        )
    in_order = np.tile(np.arange(n_nodes), (n_shuffles, 1))
    return np.random.default_rng(seed).permuted(in_order, axis=1)


def unshuffled(n_nodes: int) -> Int[np.ndarray, "1 n"]:
    """The one order that leaves every row where it is: a measure over it is the measure of the table itself."""
    return np.arange(n_nodes)[None]


def against_null(
    name: str, value: float, null_values: Float[np.ndarray, "s"], n: int, over: str, missing: str = ""
) -> GeometryMetric:
    """A measure beside its shuffles.

    p = (1 + #{i : |null_i - mean| >= |value - mean|}) / (1 + shuffles), two-sided, mean and standard deviation (of a
    sample) being those of the null. A null without spread, as of R on a complete graph, has no z; shuffles in which
    the measure could not be taken (NaN) are left out, and without any other there is no null.

    Args:
        name: of the measure.
        value: of the table as it is; NaN where it could not be taken.
        null_values: of its shuffles.
        n: how many nodes, pairs or paths it is over.
        over: which of these.
        missing: why the value is NaN.
    """
    if not np.isfinite(value):
        return not_taken(name, missing or "not defined for this table", over)
    null = null_values[np.isfinite(null_values)]
    if null.size == 0:
        return GeometryMetric(name=name, value=float(value), n=n, over=over)
    mean = float(null.mean())
    rounding = FLAT * max(1.0, float(np.abs(null).max()))
    sd = float(null.std(ddof=1)) if null.size > 1 else None
    as_far = int((np.abs(null - mean) >= abs(value - mean) - rounding).sum())
    return GeometryMetric(
        name=name,
        value=float(value),
        null_mean=mean,
        null_sd=sd,
        z=(float(value) - mean) / sd if sd is not None and sd > rounding else None,
        p=(1 + as_far) / (1 + null.size),
        n=n,
        over=over,
    )


def not_taken(name: str, reason: str, over: str) -> GeometryMetric:
    """A measure that could not be taken, and why."""
    return GeometryMetric(name=name, value=float("nan"), n=0, over=over, missing=reason)


def gram_factor(table: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n r"]:
    """A table of the same inner products whose rows are no longer than there are rows: r = min(n, m).

    With E^T = Q L^T and Q of orthonormal columns, E E^T = L L^T. What depends on inner products alone can be measured
    on L.
    """
    n, m = table.shape
    return table if m <= n else np.asarray(np.linalg.qr(table.T, mode="r")).T


def shuffled(table: Float[np.ndarray, "n m"], shuffles: Int[np.ndarray, "s n"]) -> Iterator[Float[np.ndarray, "n c m"]]:
    """The table in each order, as many at once as fill a batch; the second axis runs through the orders."""
    at_once = max(1, BATCH // table.size)
    for start in range(0, len(shuffles), at_once):
        yield table[shuffles[start : start + at_once].T]


def column_parts(table: Float[np.ndarray, "n m"]) -> Iterator[Float[np.ndarray, "n w"]]:
    """The columns of a table, as many at once as fill a batch: for what is a sum over columns, on large graphs."""
    width = max(1, BATCH // len(table))
    for left in range(0, table.shape[1], width):
        yield np.ascontiguousarray(table[:, left : left + width])
