"""Do nodes that are further apart on the graph lie further apart in the table?

With hops the edges of the shortest path between two nodes, and the cosine of their rows:

    distance_correlation        Spearman's rank correlation of 1 - cosine with hops, over pairs of nodes
    far_distance_correlation    the same over pairs at 2 hops or more, which storing edges alone does not touch
    geometric_level             mean cosine over edges
    zigzag                      mean cosine at 2 hops less that over edges: positive where a node lies nearer to its
                                neighbours' neighbours than to its neighbours

`centred` takes the mean row out first, and puts "centred_" before the names: a common offset makes all cosines alike.
A row of zeros has cosine 0 to all. Pairs without a path between them are left out.

Shuffles keep the pairs, and their hops, and shuffle rows. Up to 1024 nodes all pairs are taken. Of larger graphs a
random set of sources and a disjoint one of 1024 targets are drawn once, all pairs between these two being an unbiased
sample of all pairs; of pairs at 2 hops all of the same sources are taken, or as many as 2^19. Edges are taken all.

Why: edges alone can be a list; what lies beyond an edge shows whether positions mean anything.

How to read it: as a correlation beside that of shuffled rows; read it among pairs that share no edge.

Traps: with few distinct distances ties are many; edges alone make a correlation without any map.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, for the mean cosine over edges ("geometric level"); correlations,
zigzag and nulls are additions.
"""

import numpy as np
from jaxtyping import Float, Int, UInt
from scipy import sparse

from mnemoscope.examination.geometry.graph import UNREACHABLE, SparseGraph
from mnemoscope.examination.geometry.hop_ranks import DIGITS, HopRanks, all_pairs, pairs_between
from mnemoscope.examination.geometry.shuffling import against_null, column_parts, gram_factor, shuffled, unshuffled
from mnemoscope.runs.geometry import GeometryMetric, HopProfile

ALL_PAIRS = 1024
"""Nodes of a graph of which all pairs are taken."""

TARGETS = 1024
"""Of larger graphs, the nodes to which distances from the sources are taken."""

MOST_PAIRS = 2**19
"""Pairs at 2 hops of larger graphs."""

BLOCK = 2**22
"""Pairs whose hops are held at once."""

UNDEFINED = "all pairs are as many hops apart, or have the same cosine"


def sampled_sources(n_nodes: int, n_sources: int = 256, seed: int = 0) -> Int[np.ndarray, "s"]:
    """All nodes of a graph of up to 1024, else so many at random, in order."""
    if n_nodes <= ALL_PAIRS:
        return np.arange(n_nodes)
    return np.sort(np.random.default_rng(seed).permutation(n_nodes)[:n_sources])


def hop_profile(table: Float[np.ndarray, "n m"], graph: SparseGraph, sources: Int[np.ndarray, "s"]) -> HopProfile:
    """Mean cosine by hops, of every source with every node; pairs of two sources are counted once.

    Args:
        table: one row for each node.
        graph: of as many nodes.
        sources: different nodes, see `sampled_sources`.

    Cost: a breadth-first search and n m operations for each source.
    """
    unit = _unit_rows(table, centred=False)
    place = np.full(graph.n_nodes, len(sources))
    place[sources] = np.arange(len(sources))
    n_pairs, sums = np.zeros(1, dtype=np.int64), np.zeros(1)
    for part in _parts(sources, graph):
        hops, cosines = graph.hops_from(part), unit[part] @ unit.T
        counted = (hops != UNREACHABLE) & (place > place[part][:, None])
        length = max(len(sums), int(hops.max()) + 1)
        n_pairs = np.bincount(hops[counted], minlength=length) + np.pad(n_pairs, (0, length - len(n_pairs)))
        sums = np.bincount(hops[counted], cosines[counted], length) + np.pad(sums, (0, length - len(sums)))
    found = np.flatnonzero(n_pairs)
    return HopProfile(
        hops=found.tolist(), cosines=(sums[found] / n_pairs[found]).tolist(), n_pairs=n_pairs[found].tolist()
    )


def distance_metrics(
    table: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    orders: Int[np.ndarray, "s n"],
    n_sources: int = 256,
    centred: bool = False,
    seed: int = 0,
) -> list[GeometryMetric]:
    """The four measures of this file, each with its null; NaN where all pairs are as far apart.

    Args:
        table: one row for each node.
        graph: of as many nodes.
        orders: shuffles, see `shuffling.orders`.
        n_sources: breadth-first searches where there are more than 1024 nodes; fewer nodes are sources all.
        centred: take the mean row out first.
        seed: of the sample of sources and targets.

    Cost: O(pairs) for each shuffle of up to 1024 nodes, else a sort of n_sources x 1024 cosines, and O(edges x m).
    """
    unit = gram_factor(_unit_rows(table, centred))
    prefix = "centred_" if centred else ""
    sources = sampled_sources(graph.n_nodes, n_sources, seed)
    two_hops = _two_hop_pairs(graph, sources, seed)
    return [
        *_correlations(unit, graph, sources, orders, prefix=prefix, seed=seed),
        *_levels(unit, graph, two_hops, orders, prefix),
    ]


def _unit_rows(table: Float[np.ndarray, "n m"], centred: bool) -> Float[np.ndarray, "n m"]:
    longest = np.linalg.norm(table, axis=1).max()
    table = table - table.mean(axis=0) if centred else table
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    present = norms > 10.0**-DIGITS * longest
    return np.where(present, table, 0) / np.where(present, norms, 1)


def _two_hop_pairs(graph: SparseGraph, sources: Int[np.ndarray, "s"], seed: int) -> Int[np.ndarray, "p 2"]:
    """Every pair two hops apart of which one is a source, once; a sample where there are many."""
    near = graph.adjacency[sources]
    walks = sparse.coo_array(near @ graph.adjacency - (graph.n_nodes + 1) * near)
    start, end = sources[walks.coords[0]], walks.coords[1]
    found = (walks.data > 0) & (start != end) & ~(np.isin(end, sources) & (end < start))
    pairs = np.stack([start[found], end[found]], axis=1).astype(np.int64)
    if graph.n_nodes > ALL_PAIRS and len(pairs) > MOST_PAIRS:
        pairs = pairs[np.random.default_rng(seed).choice(len(pairs), MOST_PAIRS, replace=False)]
    return pairs


def _correlations(
    unit: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    sources: Int[np.ndarray, "s"],
    orders: Int[np.ndarray, "o n"],
    *,
    prefix: str,
    seed: int,
) -> list[GeometryMetric]:
    if len(sources) == graph.n_nodes:
        codes = _codes(graph.hops_from(sources))
        in_order, counts = all_pairs(unit, codes), np.bincount(codes[np.triu_indices(len(codes), 1)])
        over = "pairs"
    else:
        others = np.setdiff1d(np.arange(graph.n_nodes), sources)
        targets = np.random.default_rng(seed).permutation(others)[:TARGETS]
        codes = np.concatenate([_codes(graph.hops_from(part)[:, targets]) for part in _parts(sources, graph)])
        in_order, counts = pairs_between(unit, codes, sources, targets), np.bincount(codes.ravel())
        over = f"pairs of {len(sources)} x {len(targets)} nodes"
    named = {"distance_correlation": HopRanks(counts, 1), "far_distance_correlation": HopRanks(counts, 2)}

    def measured(order: Int[np.ndarray, "n"]) -> list[float]:
        pairs = in_order(order)
        return [-ranks.correlation(*pairs) for ranks in named.values()]

    value = measured(unshuffled(graph.n_nodes)[0])
    null = np.array([measured(order) for order in orders]).reshape(-1, 2)
    return [
        against_null(f"{prefix}{name}", value[i], null[:, i], ranks.n_pairs, over, UNDEFINED)
        for i, (name, ranks) in enumerate(named.items())
    ]


def _codes(hops: Int[np.ndarray, "r c"]) -> UInt[np.ndarray, "r c"]:
    """Hops in as few bytes as they need, 0 where there is no path: what shuffles move about."""
    return np.where(hops == UNREACHABLE, 0, hops).astype(np.min_scalar_type(max(int(hops.max()), 0)))


def _parts(sources: Int[np.ndarray, "s"], graph: SparseGraph) -> list[Int[np.ndarray, "..."]]:
    """Sources of which the hops to all nodes are held at once."""
    at_once = max(1, BLOCK // graph.n_nodes)
    return [sources[start : start + at_once] for start in range(0, len(sources), at_once)]


def _levels(
    unit: Float[np.ndarray, "n m"],
    graph: SparseGraph,
    two_hops: Int[np.ndarray, "p 2"],
    orders: Int[np.ndarray, "s n"],
    prefix: str,
) -> list[GeometryMetric]:
    everyone = unshuffled(len(unit))
    (near, near_null), (next_near, next_null) = (
        (_mean_cosine(unit, pairs, everyone), _mean_cosine(unit, pairs, orders)) for pairs in (graph.edges, two_hops)
    )
    n, missing = len(two_hops), "no two nodes are two hops apart"
    return [
        against_null(f"{prefix}zigzag", float((next_near - near)[0]), next_null - near_null, n, "pairs", missing),
        against_null(f"{prefix}geometric_level", float(near[0]), near_null, len(graph.edges), "edges"),
    ]


def _mean_cosine(
    unit: Float[np.ndarray, "n m"], pairs: Int[np.ndarray, "p 2"], orders: Int[np.ndarray, "s n"]
) -> Float[np.ndarray, "s"]:
    """Over the pairs, for each order: tr(U^T P U) / p with P_ij = 1 where (i, j) is a pair."""
    if len(pairs) == 0:
        return np.full(len(orders), np.nan)
    matrix = sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(unit), len(unit)))
    total = np.zeros(len(orders))
    for part in column_parts(unit):
        found = [np.zeros(0)]
        for batch in shuffled(part, orders):
            image = (matrix @ batch.reshape(len(batch), -1)).reshape(batch.shape)
            found.append(np.einsum("ncm,ncm->c", batch, image))
        total += np.concatenate(found)
    return total / len(pairs)
