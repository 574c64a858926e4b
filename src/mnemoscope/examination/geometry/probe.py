"""Can one read off two rows how far apart their nodes are, or whether they are of one group, for groups never seen?

The probe is bilinear: x_u^T (B + b I) x_v with a symmetric B on the first principal coordinates for each answer, and
beside it the cosine and the squared distance of the two rows, all centred; it is fitted by ridge regression. B may
weigh directions, of which other groups need not have any; b I, cosine and distance ask nothing of directions. It is
fitted on pairs of nodes of one half of the groups (arms, say) and judged on pairs of the other half, so that knowing
the training nodes by heart is of no use.

selectivity    what it gets right minus what the same probe gets right on random tables of the same shape

How to read it: above its null, relations of nodes can be read linearly from products of coordinates, as of a map. 0 is
what a probe finds in anything. Few nodes leave few pairs: look at n.

Why: what can be read off two rows by a fixed form is there in a usable shape, for pairs never seen.

Traps: a probe finds what it is fitted to, so only groups that were held out count.

Source: bilinear probes after Hewitt and Manning (2019); selectivity after Hewitt and Liang (2019), arXiv 1909.03368,
with a random table in place of random labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.stats import rankdata

from mnemoscope.examination.geometry.graph import UNREACHABLE, SparseGraph
from mnemoscope.examination.geometry.shuffling import against_null, not_taken
from mnemoscope.runs.geometry import GeometryMetric

FAR = 4
"""Hops from which on distances are one class: 1, 2, 3, and 4 or more."""

N_COORDINATES = 8
"""Principal coordinates on which B is free."""

N_RANDOM = 20
"""Random tables of the null."""

N_SOURCES, N_PAIRS = 128, 400
"""Nodes that hops are counted from, and pairs of each class, in each half."""

_RIDGE = 0.3
"""Beside the variance of a feature."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    nodes: NDArray[np.int64]
    """(pairs, 2)"""
    classes: NDArray[np.int64]


def probe_metrics(
    table: Float[np.ndarray, "n m"], graph: SparseGraph, groups: Int[np.ndarray, "n"] | None = None, seed: int = 0
) -> list[GeometryMetric]:
    """Selectivity of the probes of hop class (balanced accuracy) and of group (AUC of one group against two).

    Args:
        table: one row for each node.
        graph: n nodes.
        groups: of each node, from 0; negative for a node of none, which is left out. Without groups nodes are split by
            component where there are four or more, else node by node, and the second measure is missing.
        seed: of the split, the pairs and the random tables.

    Returns:
        `hop_probe_selectivity` and `group_probe_selectivity`.

    Cost: 21 tables, each with its principal coordinates, O(n m^2), and a regression of at most 1,600 pairs on 39
    features; a breadth-first search from 256 nodes.
    """
    rng = np.random.default_rng(seed)
    halves = _halves(_units(graph, groups), rng)
    hops = [_hop_pairs(graph, half, rng) for half in halves]
    tables = [table, *(rng.standard_normal(table.shape) for _ in range(N_RANDOM))]
    coordinates = [_coordinates(each) for each in tables]
    found = [_selectivity("hop_probe_selectivity", coordinates, hops, _balanced_accuracy)]
    if groups is None:
        found.append(not_taken("group_probe_selectivity", "no groups were given", "pairs"))
    else:
        same = [_group_pairs(groups, half, rng) for half in halves]
        found.append(_selectivity("group_probe_selectivity", coordinates, same, _auc))
    return found


def _selectivity(
    name: str,
    coordinates: list[NDArray[np.float64]],
    pairs: list[_Pairs],
    score: Callable[[NDArray[np.float64], NDArray[np.int64]], float],
) -> GeometryMetric:
    """Of the first table, the others being random."""
    seen, unseen = pairs
    shared = np.intersect1d(seen.classes, unseen.classes)
    if len(shared) < 2:
        return not_taken(name, "the halves of the nodes have fewer than two classes of pairs in common", "pairs")
    (seen_nodes, seen_classes), (nodes, classes) = (_only(each, shared) for each in pairs)
    right = np.array(
        [score(_answers(each, seen_nodes, seen_classes, nodes, len(shared)), classes) for each in coordinates]
    )
    mean = right[1:].mean()
    return against_null(name, float(right[0] - mean), right[1:] - mean, len(classes), "pairs")


def _only(pairs: _Pairs, classes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of these classes, which are numbered anew."""
    of_these = np.isin(pairs.classes, classes)
    return pairs.nodes[of_these], np.searchsorted(classes, pairs.classes[of_these])


def _answers(
    coordinates: NDArray[np.float64],
    seen: NDArray[np.int64],
    classes: NDArray[np.int64],
    unseen: NDArray[np.int64],
    n_classes: int,
) -> NDArray[np.float64]:
    """Ridge regression of the classes, one against the rest, every class counting the same: (unseen, classes)."""
    features, asked = _products(coordinates, seen), _products(coordinates, unseen)
    weight = (1 / (n_classes * np.bincount(classes, minlength=n_classes)))[classes]
    mean = weight @ features
    spread = np.sqrt(weight @ (features - mean) ** 2) + 1e-12
    features, asked = (features - mean) / spread, (asked - mean) / spread
    wanted = np.eye(n_classes)[classes] - 1 / n_classes
    weighted = weight[:, None] * features
    inner = features.T @ weighted + _RIDGE * np.eye(features.shape[1])
    return asked @ np.linalg.solve(inner, weighted.T @ wanted)


def _products(coordinates: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the probe weighs of two rows: (pairs, products of coordinates, inner product, cosine, squared distance)."""
    left, right = coordinates[pairs[:, 0]], coordinates[pairs[:, 1]]
    i, j = np.triu_indices(min(N_COORDINATES, coordinates.shape[1]))
    products = left[:, i] * right[:, j] + left[:, j] * right[:, i]
    inner = (left * right).sum(axis=1)
    length = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine = np.divide(inner, length, out=np.zeros_like(inner), where=length > 0)
    return np.column_stack([products, inner, cosine, np.square(left - right).sum(axis=1)])


def _coordinates(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """All principal coordinates, falling; rows are of length 1 in the mean."""
    centred = table - table.mean(axis=0)
    found = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    size = np.sqrt(np.square(found).sum(axis=1).mean())
    return found / size if size > 0 else found


def _balanced_accuracy(answers: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    right = answers.argmax(axis=1) == classes
    return float(np.mean([right[classes == each].mean() for each in np.unique(classes)]))


def _auc(answers: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    of_one = classes == 1
    ranks = rankdata(answers[:, 1])
    n_one, n_two = of_one.sum(), (~of_one).sum()
    return float((ranks[of_one].sum() - n_one * (n_one + 1) / 2) / (n_one * n_two))


def _units(graph: SparseGraph, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """What is never split: the number of each node's, negative for a node that is left out."""
    if groups is not None:
        return groups
    return graph.component if graph.n_components >= 4 else np.arange(graph.n_nodes)


def _halves(units: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """The nodes of a random half of the units, and those of the others."""
    there = rng.permutation(np.unique(units[units >= 0]))
    first = np.isin(units, there[: (len(there) + 1) // 2])
    return [np.flatnonzero(first), np.flatnonzero(~first & (units >= 0))]


def _hop_pairs(graph: SparseGraph, nodes: NDArray[np.int64], rng: np.random.Generator) -> _Pairs:
    """Pairs of these nodes, classed by the edges between them, no class much larger than another."""
    if not len(nodes):
        return _Pairs(nodes=np.zeros((0, 2), dtype=np.int64), classes=np.zeros(0, dtype=np.int64))
    sources = rng.choice(nodes, min(N_SOURCES, len(nodes)), replace=False)
    hops = graph.hops_from(sources)[:, nodes]
    is_source = np.isin(nodes, sources)
    # A pair of two sources is counted from the smaller one.
    once = ~is_source | (nodes > sources[:, None])
    hops = np.where(once & (hops != UNREACHABLE), np.minimum(hops, FAR), 0)
    chosen = []
    for each in range(1, FAR + 1):
        rows, columns = np.nonzero(hops == each)
        some = rng.permutation(len(rows))[:N_PAIRS]
        chosen.append(np.stack([sources[rows[some]], nodes[columns[some]]], axis=1))
    classes = np.repeat(np.arange(1, FAR + 1), [len(pairs) for pairs in chosen])
    return _Pairs(nodes=np.concatenate(chosen), classes=classes)


def _group_pairs(groups: NDArray[np.int64], nodes: NDArray[np.int64], rng: np.random.Generator) -> _Pairs:
    """Pairs of these nodes: class 1 of one group, class 0 of two."""
    if len(nodes) < 2:
        return _Pairs(nodes=np.zeros((0, 2), dtype=np.int64), classes=np.zeros(0, dtype=np.int64))
    ordered = nodes[np.argsort(groups[nodes], kind="stable")]
    _, start, size = np.unique(groups[ordered], return_index=True, return_counts=True)
    at = rng.integers(len(ordered), size=4 * N_PAIRS)
    of = np.searchsorted(start, at, side="right") - 1
    within = start[of] + (at - start[of] + 1 + rng.integers(np.maximum(size[of] - 1, 1))) % size[of]
    anywhere = rng.integers(len(ordered), size=4 * N_PAIRS)
    one = _distinct(ordered[np.stack([at, within], axis=1)])
    two = _distinct(ordered[np.stack([at, anywhere], axis=1)])
    two = two[groups[two[:, 0]] != groups[two[:, 1]]]
    one, two = (pairs[rng.permutation(len(pairs))[:N_PAIRS]] for pairs in (one, two))
    return _Pairs(nodes=np.concatenate([one, two]), classes=np.repeat([1, 0], [len(one), len(two)]))


def _distinct(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each pair of two different nodes once."""
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return pairs[pairs[:, 0] != pairs[:, 1]]
