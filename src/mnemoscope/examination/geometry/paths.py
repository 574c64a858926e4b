"""Where the nodes of paths lie: is a leaf near the first hop of its own path, and an arm a cluster of its own?

A path of a path-star or tree-star goes from the root over its first hop to a leaf. The first hop is what a model cannot
read off the node before it; where leaf and first hop are close, finding it is one step in the embeddings.

Why: in a path-star a leaf and its first hop share no edge, so their nearness cannot be a stored pair.

How to read it: as a share beside that of shuffled nodes; held-out paths count, trained ones may be stored.

Traps: it needs paths; a root near everything makes nearest neighbours alike.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from mnemoscope.examination.geometry.shuffling import against_null, not_taken
from mnemoscope.runs.geometry import GeometryMetric, HeatMap

MOST_DRAWN = 64
"""Rows and columns of a heat map."""

MOST_SHUFFLES = 100
_ENTRIES = 1 << 22
"""Of cosines that are held at once."""


def path_metrics(
    table: Float[np.ndarray, "n m"],
    first_hops: Int[np.ndarray, "hops"],
    leaves: Int[np.ndarray, "leaves"],
    orders: Int[np.ndarray, "s n"],
    held_out: Bool[np.ndarray, "leaves"] | None = None,
) -> list[GeometryMetric]:
    """How the cosine of a leaf with its own first hop compares with those of the other first hops.

    first_hop_top1   share of leaves whose own first hop is the nearest, a tie being none; chance is 1 / first hops
    first_hop_auc    mean share of other first hops that are further away, a tie counting half; chance is 1/2
    first_hop_gap    mean cosine with the own first hop minus that with the others; chance is 0

    In the null the paths exchange their first hops.

    Args:
        table: one row for each node.
        first_hops: of each path; several paths may share one, as in a tree-star.
        leaves: of each path.
        orders: random orders of the nodes, from which those of the paths are taken; at most `MOST_SHUFFLES` are used.
        held_out: which paths were not trained. With it each measure is there three times: over all paths, and with
            "_trained" and "_held_out" after its name over those. All first hops are candidates everywhere.

    Raises:
        ValueError: first hops and leaves that are not as many, or of a node without a row.

    Cost: O(paths x first hops x (m + log first hops)).
    """
    _check_paths(table, first_hops, leaves, held_out)
    candidates, own = np.unique(first_hops, return_inverse=True)
    if len(candidates) < 2:
        return [
            not_taken(f"first_hop_{name}", "all paths have one first hop", "paths") for name in ("top1", "auc", "gap")
        ]
    # A random order of the nodes puts the leaves, and with them the paths, in a random order.
    shuffles = [np.argsort(order[leaves], kind="stable") for order in orders[:MOST_SHUFFLES]]
    values = _own_values(table, candidates, leaves, np.stack([own, *(own[shuffle] for shuffle in shuffles)]))
    parts = {"": np.ones(len(leaves), dtype=np.bool_)}
    if held_out is not None:
        parts |= {"_trained": ~held_out, "_held_out": held_out}
    return [_metric(name, suffix, each[:, part]) for suffix, part in parts.items() for name, each in values.items()]


def first_hop_matrix(
    table: Float[np.ndarray, "n m"],
    first_hops: Int[np.ndarray, "hops"],
    leaves: Int[np.ndarray, "leaves"],
    most: int = MOST_DRAWN,
) -> HeatMap:
    """Cosine distances of leaves (rows) and first hops (columns), path by path: the diagonal is a path's own.

    Args:
        table: one row for each node.
        first_hops: of each path.
        leaves: of each path.
        most: paths that are drawn, evenly spread, where there are more.

    Raises:
        ValueError: see `path_metrics`.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745.
    """
    _check_paths(table, first_hops, leaves)
    drawn = _spread(len(leaves), most)
    distance = 1 - _unit(table[leaves[drawn]]) @ _unit(table[first_hops[drawn]]).T
    return HeatMap(
        title="Leaves and first hops",
        rows=[f"leaf {node}" for node in leaves[drawn]],
        columns=[f"first hop {node}" for node in first_hops[drawn]],
        values=distance.tolist(),
        unit="cosine distance",
    )


def arm_distances(table: Float[np.ndarray, "n m"], arms: Int[np.ndarray, "n"], most: int = MOST_DRAWN) -> HeatMap:
    """Mean cosine distances of the nodes of each two arms; on the diagonal, of the pairs within an arm, 0 without any.

    Args:
        table: one row for each node.
        arms: of each node, from 0; negative for a node of none, as the root.
        most: arms that are drawn, evenly spread, where there are more.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745. Cost: O(n m + drawn^2 m).
    """
    names, sums, sizes = _arm_sums(table, arms)
    drawn = _spread(len(names), most)
    means = sums[drawn] / sizes[drawn, None]
    distance = 1 - means @ means.T
    np.fill_diagonal(distance, 1 - _within(sums, sizes)[drawn])
    headings = [f"arm {arm}" for arm in names[drawn]]
    return HeatMap(
        title="Arms",
        rows=headings,
        columns=headings,
        values=np.nan_to_num(distance, nan=0.0).tolist(),
        unit="mean cosine distance",
    )


def arm_gap(
    table: Float[np.ndarray, "n m"], arms: Int[np.ndarray, "n"], orders: Int[np.ndarray, "s n"]
) -> GeometryMetric:
    """Mean cosine distance between arms minus that within one: above 0 where arms are clusters.

    Args:
        table: one row for each node.
        arms: see `arm_distances`; an arm of one node has no pairs, and is left out within.
        orders: random orders of the rows, for the null; at most `MOST_SHUFFLES` are used.
    """
    if len(np.unique(arms[arms >= 0])) < 2 or np.bincount(arms[arms >= 0]).max() < 2:
        return not_taken("arm_gap", "needs at least two arms, and one of at least two nodes", "arms")
    unit = _unit(table)
    null = np.array([_gap(unit[order], arms) for order in orders[:MOST_SHUFFLES]])
    return against_null("arm_gap", _gap(unit, arms), null, len(np.unique(arms[arms >= 0])), "arms")


def _metric(name: str, suffix: str, values: NDArray[np.float64]) -> GeometryMetric:
    full = f"first_hop_{name}{suffix}"
    if values.shape[1] == 0:
        return not_taken(full, "there are no such paths", "paths")
    means = values.mean(axis=1)
    return against_null(full, float(means[0]), means[1:], values.shape[1], "paths")


def _own_values(
    table: NDArray[np.float64], candidates: NDArray[np.int64], leaves: NDArray[np.int64], own: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """The three measures of each path (columns) for each assignment of first hops to paths (rows)."""
    hops, count = _unit(table[candidates]), len(candidates)
    found = {name: np.zeros(own.shape) for name in ("top1", "auc", "gap")}
    for some in _parts(len(leaves), count):
        cosines = _unit(table[leaves[some]]) @ hops.T
        picked = own[:, some].T
        own_cosine = np.take_along_axis(cosines, picked, axis=1).T
        # Of equal cosines the mean rank, so that a tie is half a win, and none at the top.
        rank = np.take_along_axis(rankdata(cosines, axis=1), picked, axis=1).T
        found["top1"][:, some] = rank == count
        found["auc"][:, some] = (rank - 1) / (count - 1)
        found["gap"][:, some] = own_cosine - (cosines.sum(axis=1) - own_cosine) / (count - 1)
    return found


def _check_paths(
    table: NDArray[np.float64],
    first_hops: NDArray[np.int64],
    leaves: NDArray[np.int64],
    held_out: NDArray[np.bool_] | None = None,
) -> None:
    if len(first_hops) != len(leaves) or not len(leaves):
        raise ValueError(
            f"paths: must have one first hop and one leaf each, got {len(first_hops)} first hops and {len(leaves)} "
            "leaves; give the two nodes of every path, in one order"
        )
    if held_out is not None and len(held_out) != len(leaves):
        raise ValueError(
            f"paths: held_out must say of each of {len(leaves)} paths, got {len(held_out)} values; give one for each"
        )
    for name, nodes in (("first_hops", first_hops), ("leaves", leaves)):
        if nodes.min() < 0 or nodes.max() >= len(table):
            raise ValueError(
                f"paths: {name} must be 0 ... {len(table) - 1}, a row of the table each, got "
                f"{nodes.min() if nodes.min() < 0 else nodes.max()}; number nodes as the rows of the table"
            )


def _arm_sums(
    table: NDArray[np.float64], arms: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The arms, the sums of their rows at length 1, and their sizes."""
    of_arms = arms >= 0
    names, arm = np.unique(arms[of_arms], return_inverse=True)
    members = sparse.csr_array((np.ones(len(arm)), (arm, np.arange(len(arm)))), shape=(len(names), len(arm)))
    sums = members @ _unit(table[of_arms])
    return names, sums, np.bincount(arm, minlength=len(names))


def _within(sums: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean cosine of two different nodes of each arm; NaN where there are none."""
    pairs = (sizes * (sizes - 1)).astype(np.float64)
    pairs[pairs == 0] = np.nan
    return (np.square(sums).sum(axis=1) - sizes) / pairs


def _gap(unit: NDArray[np.float64], arms: NDArray[np.int64]) -> float:
    names, sums, sizes = _arm_sums(unit, arms)
    means = sums / sizes[:, None]
    between = (np.square(means.sum(axis=0)).sum() - np.square(means).sum()) / (len(names) * (len(names) - 1))
    return float(np.nanmean(_within(sums, sizes)) - between)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _parts(n_rows: int, width: int) -> Iterator[slice]:
    step = max(1, _ENTRIES // width)
    return (slice(start, start + step) for start in range(0, n_rows, step))
