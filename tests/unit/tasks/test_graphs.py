"""Graphs: constructions against networkx, entropy and recall against slow counts."""

import math
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.tasks.graphs import (
    Graph,
    argmax_ceiling,
    conditional_entropy,
    edge_recall,
    exact_path_accuracy,
    first_hop_accuracy,
    named_graph,
    node_accuracies,
    node_names,
    star_paths,
    training_pairs,
    tree_edges,
)


def as_networkx(graph):
    theirs = nx.Graph()
    theirs.add_nodes_from(range(graph.n_nodes))
    theirs.add_edges_from(graph.edges.tolist())
    return theirs


def counted_entropy(pairs):
    """H(target | source) of pairs, in nats, by counting in dictionaries."""
    pairs = [tuple(pair) for pair in pairs]
    counts, of_source = Counter(pairs), Counter(source for source, _ in pairs)
    return -sum(n / len(pairs) * math.log(n / of_source[source]) for (source, _), n in counts.items())


def test_the_star_of_the_docstring():
    paths = star_paths(2, 3)
    assert paths.tolist() == [[0, 1, 2], [0, 3, 4]]
    assert tree_edges(paths).tolist() == [[0, 1], [1, 2], [0, 3], [3, 4]]


def test_a_tree_star_by_hand():
    assert star_paths(2, 4, 2).tolist() == [
        *([0, 1, 2, 4], [0, 1, 2, 5], [0, 1, 3, 6], [0, 1, 3, 7]),
        *([0, 8, 9, 11], [0, 8, 9, 12], [0, 8, 10, 13], [0, 8, 10, 14]),
    ]


@given(n_arms=st.integers(1, 6), path_length=st.integers(2, 6), branching=st.integers(1, 3))
def test_star_paths_are_those_of_a_tree(n_arms, path_length, branching):
    paths = star_paths(n_arms, path_length, branching)
    graph = Graph(n_nodes=int(paths.max()) + 1, edges=tree_edges(paths))
    theirs = as_networkx(graph)
    assert nx.is_tree(theirs)
    assert len(paths) == n_arms * branching ** (path_length - 2)
    leaves = [node for node in theirs if node and theirs.degree(node) == 1]
    assert sorted(paths[:, -1].tolist()) == leaves
    assert all(nx.shortest_path(theirs, 0, path[-1]) == path for path in paths.tolist())
    inner = set(range(1, graph.n_nodes)) - set(leaves)
    assert theirs.degree(0) == n_arms
    assert {theirs.degree(node) for node in inner} <= {branching + 1}
    assert graph.degrees().tolist() == [theirs.degree(node) for node in range(graph.n_nodes)]


ARMS = nx.from_edgelist((4 * arm + k if k else 0, 4 * arm + k + 1) for arm in range(4) for k in range(4))
CHORDED = nx.from_edgelist([*((i, (i + 1) % 12) for i in range(12)), (1, 3), (5, 8)])


@pytest.mark.parametrize(
    ("name", "theirs", "ceiling"),
    [
        ("path_star", ARMS, 0.5312),
        ("grid", nx.grid_2d_graph(4, 4), 0.3333),
        ("cycle", nx.cycle_graph(15), 0.5),
        ("irregular", nx.disjoint_union(CHORDED, nx.complete_graph(4)), 0.4),
    ],
)
def test_named_graphs_are_the_published_ones(name, theirs, ceiling):
    graph = named_graph(name)
    assert nx.is_isomorphic(as_networkx(graph), theirs)
    assert np.array_equal(graph.adjacency(), nx.to_numpy_array(as_networkx(graph)))
    assert len(set(map(frozenset, graph.edges.tolist()))) == len(graph.edges) == theirs.number_of_edges()
    assert argmax_ceiling(training_pairs(graph, "both", False)) == pytest.approx(ceiling, abs=1e-4)


def test_the_grid_is_numbered_row_by_row():
    edges = set(map(tuple, named_graph("grid").edges.tolist()))
    assert {(0, 1), (0, 4), (10, 14), (14, 15)} <= edges
    assert not {(3, 4), (0, 5)} & edges


def test_rings_go_round_one_way():
    """Forward edges of a ring ask every node once; released files list the edge that closes it from the last node."""
    assert named_graph("cycle").edges[[0, -1]].tolist() == [[0, 1], [14, 0]]
    assert [11, 0] in named_graph("irregular").edges.tolist()


@pytest.mark.parametrize(
    ("name", "published"), [("path_star", 0.6931), ("grid", 1.1269), ("cycle", 0.6931), ("irregular", 0.9364)]
)
@pytest.mark.parametrize("directions", ["both", "forward", "backward"])
@pytest.mark.parametrize("self_edges", [False, True])
def test_the_floor_of_edges_is_their_entropy(name, published, directions, self_edges):
    graph = named_graph(name)
    pairs = training_pairs(graph, directions, self_edges)
    assert len(pairs) == len(graph.edges) * (1 + (directions == "both")) + graph.n_nodes * self_edges
    floor = conditional_entropy(pairs[:, 0], pairs[:, 1])
    assert floor == pytest.approx(counted_entropy(pairs.tolist()), abs=1e-12)
    k = np.bincount(pairs[:, 0])
    assert floor == pytest.approx((k * np.log(np.maximum(k, 1))).sum() / k.sum(), abs=1e-12)
    if directions == "both" and not self_edges:
        assert floor == pytest.approx(published, abs=5e-5)


def test_pairs_by_hand():
    graph = Graph(n_nodes=3, edges=np.array([[0, 1], [0, 2]]))
    assert training_pairs(graph, "forward", False).tolist() == [[0, 1], [0, 2]]
    assert training_pairs(graph, "backward", True).tolist() == [[1, 0], [2, 0], [0, 0], [1, 1], [2, 2]]
    assert training_pairs(graph, "both", False).tolist() == [[0, 1], [0, 2], [1, 0], [2, 0]]


@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_entropy_counts_repetitions(pairs):
    contexts, targets = np.array(pairs).T
    assert conditional_entropy(contexts, targets) == pytest.approx(counted_entropy(pairs), abs=1e-12)


def slow_recall(scores, pairs):
    shares = []
    for source in sorted({source for source, _ in pairs}):
        wanted = {target for u, target in pairs if u == source}
        themselves = any(u == v for u, v in pairs)
        candidates = [v for v in range(len(scores)) if themselves or v != source]
        best = sorted(candidates, key=lambda v: (-scores[source][v], v in wanted))[: len(wanted)]
        shares.append(len(wanted & set(best)) / len(wanted))
    return sum(shares) / len(shares)


@given(seed=st.integers(0, 2**32), levels=st.integers(1, 6), self_edges=st.booleans())
def test_recall_is_the_slow_count(seed, levels, self_edges):
    graph = named_graph("irregular")
    pairs = training_pairs(graph, "both", self_edges)
    scores = np.random.default_rng(seed).integers(levels, size=(16, 16)).astype(float)
    assert edge_recall(scores, pairs) == pytest.approx(slow_recall(scores.tolist(), pairs.tolist()))


def test_recall_by_hand():
    pairs = np.array([[0, 1], [0, 2], [1, 0]])
    scores = np.array([[9.0, 3.0, 1.0, 2.0], [0.0, 9.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4])
    assert edge_recall(scores, pairs) == pytest.approx((0.5 + 0) / 2)
    assert scores[0, 0] == 9
    scores[1, 0] = 0.1
    assert edge_recall(scores, pairs) == pytest.approx((0.5 + 1) / 2)
    assert edge_recall(np.full((4, 4), np.nan), pairs) == 0
    assert edge_recall(scores, np.array([[0, 0], [1, 1]])) == 1


def test_the_adjacency_matrix_recalls_every_edge():
    for name in ("path_star", "grid", "cycle", "irregular"):
        graph = named_graph(name)
        assert edge_recall(graph.adjacency(), training_pairs(graph, "both", False)) == 1
        assert edge_recall(-graph.adjacency(), training_pairs(graph, "both", False)) < 0.4


EXPECTED = np.array([[9, 1, 2], [9, 3, 4], [9, 5, 6], [9, 7, 8]])
PREDICTED = np.array([[9, 1, 2], [9, 3, 0], [9, 0, 6], [0, 7, 8]])


def test_path_metrics_by_hand():
    assert node_accuracies(PREDICTED, EXPECTED) == {"root": 0.75, "v1": 0.75, "leaf": 0.75}
    assert exact_path_accuracy(PREDICTED, EXPECTED) == 0.25
    assert exact_path_accuracy(PREDICTED, EXPECTED, skip=1) == 0.5
    assert first_hop_accuracy(PREDICTED[:3], EXPECTED[:3]) == pytest.approx(2 / 3)
    assert first_hop_accuracy(PREDICTED[:3, ::-1], EXPECTED[:3, ::-1], "reverse") == pytest.approx(2 / 3)
    assert first_hop_accuracy(np.array([[1], [2]]), np.array([[1], [1]]), "hardest") == 0.5
    assert node_names("reverse", 5) == ("leaf", "v3", "v2", "v1", "root")


@pytest.mark.parametrize("metric", [node_accuracies, first_hop_accuracy, exact_path_accuracy])
def test_path_metrics_refuse_shapes_that_differ(metric):
    with pytest.raises(ValueError, match=r"must have one shape \(paths, tokens\), got \(4, 3\) and \(3, 3\)"):
        metric(PREDICTED, EXPECTED[:3])
