"""Distances: by hand, against pairs one by one and SciPy's rank correlation, all pairs and sampled ones."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.examination.geometry import distances, shuffling
from mnemoscope.examination.geometry.distances import distance_metrics, hop_profile, sampled_sources
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.runs.geometry import GeometryMetric
from tests.unit.examination.geometry.known_graphs import TINY, complete, cycle, gaussian, path_star, tiny

NAMES = ["distance_correlation", "far_distance_correlation", "zigzag", "geometric_level"]


def by_name(table: np.ndarray, graph: SparseGraph, n_shuffles: int = 0, **options) -> dict[str, GeometryMetric]:
    found = distance_metrics(table, graph, orders(graph.n_nodes, n_shuffles, seed=0), **options)
    return {metric.name: metric for metric in found}


def values(table: np.ndarray, graph: SparseGraph, **options) -> dict[str, float]:
    return {name: metric.value for name, metric in by_name(table, graph, **options).items()}


def pairs_of(table: np.ndarray, graph: SparseGraph) -> list[tuple[int, float]]:
    """Hops and cosine of every pair that a path joins."""
    theirs = nx.Graph(graph.edges.tolist())
    hops = dict(nx.all_pairs_shortest_path_length(theirs))
    found = []
    for u, v in combinations(sorted(theirs), 2):
        if v in hops[u]:
            lengths = np.linalg.norm(table[u]) * np.linalg.norm(table[v])
            found.append((hops[u][v], float(table[u] @ table[v] / lengths)))
    return found


def looped(table: np.ndarray, graph: SparseGraph) -> dict[str, float]:
    pairs = pairs_of(table, graph)
    far = [pair for pair in pairs if pair[0] >= 2]
    at = {h: np.mean([c for hops, c in pairs if hops == h]) for h in (1, 2)}
    rho = [stats.spearmanr([h for h, _ in some], [1 - c for _, c in some]).statistic for some in (pairs, far)]
    return dict(zip(NAMES, [*map(float, rho), float(at[2] - at[1]), float(at[1])], strict=True))


@given(st.sampled_from(TINY), st.integers(2, 40), st.integers(0, 1000), st.booleans())
def test_all_four_are_what_pairs_one_by_one_give(name, width, seed, centred):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, width, seed) + 0.3
    found = values(table, graph, centred=centred)
    expected = looped(table - table.mean(axis=0) if centred else table, graph)
    assert list(found) == [f"centred_{key}" if centred else key for key in NAMES]
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-10)


def test_a_path_by_hand():
    """Four rows on a half circle, 45 degrees apart: further on the path is further in angle."""
    angle = np.arange(4) * np.pi / 4
    table = np.stack([np.cos(angle), np.sin(angle)], axis=1) * [[1.0], [3.0], [0.5], [2.0]]
    found = values(table, as_graph([(0, 1), (1, 2), (2, 3)]))
    assert found["distance_correlation"] == pytest.approx(1)
    assert found["far_distance_correlation"] == pytest.approx(1)
    assert found["geometric_level"] == pytest.approx(np.sqrt(0.5))
    assert found["zigzag"] == pytest.approx(-np.sqrt(0.5))
    profile = hop_profile(table, as_graph([(0, 1), (1, 2), (2, 3)]), np.arange(4))
    assert profile.hops == [1, 2, 3]
    assert profile.n_pairs == [3, 2, 1]
    assert profile.cosines == pytest.approx([np.sqrt(0.5), 0, -np.sqrt(0.5)], abs=1e-12)


def test_a_table_of_two_sides_is_a_zigzag():
    side = np.array([[1.0, 0.0], [0.0, 1.0]] * 8)
    found = values(side, cycle(16))
    assert found["zigzag"] == pytest.approx(1)
    assert found["geometric_level"] == pytest.approx(0)


def test_a_common_offset_is_taken_out_by_centring():
    graph, table = tiny("grid"), gaussian(16, 5)
    centred = values(table - table.mean(axis=0), graph)
    moved = values(table + 100 * np.ones(5), graph, centred=True)
    assert list(moved.values()) == pytest.approx(list(centred.values()), abs=1e-9)
    assert values(table + 100 * np.ones(5), graph)["geometric_level"] > 0.99


@pytest.mark.parametrize("name", TINY)
def test_shuffles_are_the_measures_of_the_shuffled_table(name):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, 6) + 0.5
    expected = [looped(table[order], graph) for order in orders(graph.n_nodes, 9, seed=0)]
    for metric_name, metric in by_name(table, graph, 9).items():
        null = np.array([each[metric_name] for each in expected])
        assert metric.null_mean == pytest.approx(null.mean(), abs=1e-10)
        assert metric.null_sd == pytest.approx(null.std(ddof=1), rel=1e-6)


def test_what_each_is_over():
    graph = tiny("irregular")
    found = by_name(gaussian(16, 4), graph, 3)
    pairs = pairs_of(gaussian(16, 4), graph)
    assert found["distance_correlation"].n == len(pairs) == 66 + 6
    assert found["far_distance_correlation"].n == sum(hops > 1 for hops, _ in pairs)
    assert found["zigzag"].n == sum(hops == 2 for hops, _ in pairs)
    assert (found["geometric_level"].n, found["geometric_level"].over) == (20, "edges")


def test_equal_rows_are_equal_cosines_whatever_rounding_makes_of_them():
    table = np.array([[0.1, 0.3], [0.3, 0.9], [0.7, 2.1], [-0.3, 0.1], [-0.6, 0.2]])
    graph = as_graph([(0, 1), (1, 2), (2, 3), (3, 4)])
    exact = np.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0], [-3.0, 1.0], [-3.0, 1.0]])
    pairs = [(hops, round(cosine, 9)) for hops, cosine in pairs_of(exact, graph)]
    expected = stats.spearmanr([h for h, _ in pairs], [1 - c for _, c in pairs]).statistic
    assert values(table, graph)["distance_correlation"] == pytest.approx(float(expected))


def test_a_row_of_zeros_has_cosine_zero():
    table = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = values(table, as_graph([(0, 1), (1, 2), (2, 3)]))
    assert found["geometric_level"] == pytest.approx(0)
    assert found["zigzag"] == pytest.approx(0.5)


def test_what_is_not_defined_is_missing():
    graph, table = complete(5), gaussian(5, 3)
    found = by_name(table, graph, 4)
    assert "as many hops apart" in found["distance_correlation"].missing
    assert "as many hops apart" in found["far_distance_correlation"].missing
    assert "two hops apart" in found["zigzag"].missing
    assert found["geometric_level"].value == pytest.approx(
        np.mean([c for _, c in pairs_of(gaussian(5, 3), complete(5))])
    )
    alike = by_name(np.ones((15, 3)) * 0.1, cycle(15), 4)
    assert alike["distance_correlation"].missing
    assert (alike["geometric_level"].value, alike["geometric_level"].z) == (pytest.approx(1), None)
    centred = by_name(np.ones((15, 3)) * 0.1, cycle(15), 4, centred=True)
    assert centred["centred_geometric_level"].value == 0


@pytest.mark.parametrize("name", TINY)
def test_the_profile_counts_every_pair_once(name):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, 3)
    found = hop_profile(table, graph, np.arange(graph.n_nodes))
    pairs = pairs_of(table, graph)
    for hops, cosine, n_pairs in zip(found.hops, found.cosines, found.n_pairs, strict=True):
        some = [c for h, c in pairs if h == hops]
        assert len(some) == n_pairs
        assert cosine == pytest.approx(np.mean(some), abs=1e-12)
    assert sum(found.n_pairs) == len(pairs)


def test_the_profile_of_some_sources(monkeypatch: pytest.MonkeyPatch):
    graph, table, sources = path_star(5, 4), gaussian(16, 3), np.array([2, 7, 8])
    hops = dict(nx.all_pairs_shortest_path_length(nx.Graph(graph.edges.tolist())))
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    pairs = {(min(u, v), max(u, v)) for u in sources.tolist() for v in range(16) if u != v}
    for block in (20, 2**22):
        monkeypatch.setattr(distances, "BLOCK", block)
        found = hop_profile(table, graph, sources)
        for at, cosine, n_pairs in zip(found.hops, found.cosines, found.n_pairs, strict=True):
            some = [float(unit[u] @ unit[v]) for u, v in pairs if hops[u][v] == at]
            assert len(some) == n_pairs
            assert cosine == pytest.approx(np.mean(some), abs=1e-12)
        assert sum(found.n_pairs) == len(pairs)


def test_large_graphs_are_sampled_and_sources_are_different_nodes():
    assert sampled_sources(1024).tolist() == list(range(1024))
    drawn = sampled_sources(5000, 256, seed=1)
    assert len(np.unique(drawn)) == 256
    assert drawn.max() < 5000
    assert (drawn != sampled_sources(5000, 256, seed=2)).any()


def test_a_sample_that_is_everything_is_the_whole(monkeypatch: pytest.MonkeyPatch):
    """Sources and targets are disjoint; where they are all nodes, pairs between them are checked one by one."""
    graph, table = path_star(6, 5), gaussian(25, 4)
    exact = values(table, graph)
    monkeypatch.setattr(distances, "ALL_PAIRS", 10)
    monkeypatch.setattr(distances, "BLOCK", 60)
    monkeypatch.setattr(shuffling, "BATCH", 60)
    drawn = orders(25, 5, seed=0)
    found = by_name(table, graph, 5, n_sources=9, seed=3)
    nodes = np.random.default_rng(3).permutation(25)
    hops = dict(nx.all_pairs_shortest_path_length(nx.Graph(graph.edges.tolist())))

    def expected(order: np.ndarray) -> tuple[float, float]:
        unit = table[order] / np.linalg.norm(table[order], axis=1, keepdims=True)
        pairs = [(hops[u][v], 1 - float(unit[u] @ unit[v])) for u in nodes[:9].tolist() for v in nodes[9:].tolist()]
        both = (pairs, [pair for pair in pairs if pair[0] > 1])
        return tuple(float(stats.spearmanr(*zip(*some, strict=True)).statistic) for some in both)

    np.testing.assert_allclose([found[name].value for name in NAMES[:2]], expected(np.arange(25)), atol=1e-10)
    null = np.array([expected(order) for order in drawn])
    np.testing.assert_allclose([found[name].null_mean for name in NAMES[:2]], null.mean(axis=0), atol=1e-10)
    assert found["distance_correlation"].over == "pairs of 9 x 16 nodes"
    assert found["geometric_level"].value == pytest.approx(exact["geometric_level"])
    everywhere = by_name(table, graph, 5, n_sources=25)
    assert everywhere["zigzag"].value == pytest.approx(exact["zigzag"])


def test_pairs_at_two_hops_of_some_sources(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distances, "ALL_PAIRS", 10)
    graph, table = tiny("irregular"), gaussian(16, 3)
    sources = sampled_sources(16, 6, seed=1).tolist()
    hops = dict(nx.all_pairs_shortest_path_length(nx.Graph(graph.edges.tolist())))
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    pairs = {(min(u, v), max(u, v)) for u in sources for v in hops[u] if hops[u][v] == 2}
    metric = by_name(table, graph, n_sources=6, seed=1)["zigzag"]
    near = np.mean([float(unit[u] @ unit[v]) for u, v in graph.edges])
    assert metric.n == len(pairs)
    assert metric.value == pytest.approx(np.mean([float(unit[u] @ unit[v]) for u, v in pairs]) - near)
    monkeypatch.setattr(distances, "MOST_PAIRS", 4)
    assert by_name(table, graph, n_sources=6, seed=1)["zigzag"].n == 4


def test_a_sample_is_close_to_all_pairs(monkeypatch: pytest.MonkeyPatch):
    graph = path_star(60, 5)
    first_of_arm = np.append(-1, np.arange(240) // 4)
    table = gaussian(61, 16, 1)[first_of_arm] + 0.3 * gaussian(241, 16, 2)
    exact = values(table, graph)
    monkeypatch.setattr(distances, "ALL_PAIRS", 100)
    sampled = values(table, graph, n_sources=80)
    for name in NAMES:
        assert sampled[name] == pytest.approx(exact[name], abs=0.06)


def test_random_tables_are_within_five_deviations():
    for name in TINY:
        graph = tiny(name)
        for seed in range(5):
            found = distance_metrics(gaussian(graph.n_nodes, 32, seed), graph, orders(graph.n_nodes, 100, seed))
            assert max(abs(metric.z or 0.0) for metric in found) < 5, (name, seed)
