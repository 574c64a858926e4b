"""R and R2: by hand, against plain loops over edges, and what random tables give."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.examination.geometry import shuffling
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.examination.geometry.smoothness import smoothness
from tests.unit.examination.geometry.known_graphs import TINY, complete, cycle, gaussian, path_star, rotation, tiny


def values(table: np.ndarray, graph: SparseGraph) -> tuple[float, float]:
    first, second = smoothness(table, graph, orders(graph.n_nodes, 0, seed=0))
    return first.value, second.value


def looped(table: np.ndarray, graph: SparseGraph) -> tuple[float, float]:
    """R and R2 node by node and edge by edge."""
    rows = [row.copy() for row in table]
    degree = [0] * graph.n_nodes
    for u, v in graph.edges.tolist():
        degree[u] += 1
        degree[v] += 1
    for part in range(graph.n_components):
        nodes = [i for i in range(graph.n_nodes) if graph.component[i] == part]
        weight = {i: math.sqrt(degree[i]) if degree[i] else 1.0 for i in nodes}
        mean = sum(weight[i] * rows[i] for i in nodes) / sum(weight[i] ** 2 for i in nodes)
        for i in nodes:
            rows[i] = rows[i] - weight[i] * mean
    image = [np.zeros(table.shape[1]) for _ in rows]
    product = 0.0
    for u, v in graph.edges.tolist():
        scale = 1 / math.sqrt(degree[u] * degree[v])
        product += 2 * scale * float(rows[u] @ rows[v])
        image[u] += scale * rows[v]
        image[v] += scale * rows[u]
    norm = sum(float(row @ row) for row in rows)
    return product / norm, sum(float(row @ row) for row in image) / norm


def test_a_path_of_three_by_hand():
    """S has eigenvalues 1, 0, -1; its vector of -1 is (1, -sqrt 2, 1), of 0 (1, 0, -1)."""
    graph, zigzag, flat = as_graph([(0, 1), (1, 2)]), np.array([[1.0], [-math.sqrt(2)], [1.0]]), [[1.0], [0.0], [-1.0]]
    assert values(zigzag, graph) == pytest.approx((-1, 1))
    assert values(np.array(flat), graph) == pytest.approx((0, 0))
    assert values(np.concatenate([zigzag, np.sqrt(2) * np.array(flat)], axis=1), graph) == pytest.approx((-0.5, 0.5))


def test_a_wave_round_a_cycle_has_its_eigenvalue():
    for wave in range(1, 8):
        angle = 2 * np.pi * wave * np.arange(15) / 15
        expected = math.cos(2 * np.pi * wave / 15)
        assert values(np.stack([np.cos(angle), np.sin(angle)], axis=1), cycle(15)) == pytest.approx(
            (expected, expected**2)
        )


@given(st.sampled_from(TINY), st.integers(1, 40), st.integers(0, 1000), st.floats(-5, 5))
def test_both_are_sums_over_edges(name, width, seed, offset):
    graph = tiny(name)
    table = gaussian(graph.n_nodes, width, seed) + offset
    assert values(table, graph) == pytest.approx(looped(table, graph), abs=1e-12)


def test_nodes_without_neighbours_count_for_nothing():
    graph, alone = as_graph([(0, 1), (1, 2)], n_nodes=5), gaussian(5, 2)
    assert values(alone, graph) == pytest.approx(looped(alone, graph))
    assert values(alone, graph) == pytest.approx(values(alone[:3], as_graph([(0, 1), (1, 2)])))


@given(st.sampled_from(TINY), st.integers(0, 1000), st.floats(0.01, 100))
def test_rotation_scale_and_width_do_not_matter(name, seed, scale):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, 5, seed)
    padded = np.concatenate([table, np.zeros((len(table), 30))], axis=1) @ rotation(35, seed)
    assert values(scale * padded, graph) == pytest.approx(values(table, graph), abs=1e-12)


def test_shuffles_are_the_measure_of_the_shuffled_table(monkeypatch: pytest.MonkeyPatch):
    graph, drawn = tiny("irregular"), orders(16, 6, seed=1)
    table = gaussian(16, 4) + 1
    expected = np.array([looped(table[order], graph) for order in drawn])
    for batch in (10, 100, 2**20):
        monkeypatch.setattr(shuffling, "BATCH", batch)
        for i, metric in enumerate(smoothness(table, graph, drawn)):
            assert metric.null_mean == pytest.approx(expected[:, i].mean(), abs=1e-13)
            assert metric.null_sd == pytest.approx(expected[:, i].std(ddof=1), rel=1e-9)
            assert (metric.n, metric.over) == (16, "nodes")


def test_on_a_complete_graph_all_tables_are_alike_and_there_is_no_z():
    for metric, expected in zip(
        smoothness(gaussian(5, 3), complete(5), orders(5, 20, 0)), (-1 / 4, 1 / 16), strict=True
    ):
        assert metric.value == pytest.approx(expected)
        assert metric.null_mean == pytest.approx(expected)
        assert metric.z is None


@pytest.mark.parametrize("column", [np.ones(15), np.zeros(15)])
def test_a_table_in_one_place_is_not_measured(column: np.ndarray):
    for metric in smoothness(column[:, None] * [[2.0, -1.0]], cycle(15), orders(15, 5, 0)):
        assert np.isnan(metric.value)
        assert "one place" in metric.missing
        assert metric.z is None


def test_a_table_of_degrees_is_trivial_but_its_shuffles_are_not():
    graph = tiny("path_star")
    metric, _ = smoothness(np.sqrt(graph.degrees)[:, None].astype(float), graph, orders(17, 5, 0))
    assert np.isnan(metric.value)
    assert metric.missing


def test_calibration_on_a_path_star_of_200_arms():
    """Random positions: R 0 +- .006, R2 .500 +- .003 (node-permutation null); the top 64 vectors of S: R .924."""
    graph, drawn = path_star(200, 5), orders(801, 40, seed=0)
    first, second = smoothness(gaussian(801, 64), graph, drawn)
    assert first.null_mean == pytest.approx(-1 / 800, abs=0.003)
    assert first.null_sd == pytest.approx(0.006, abs=0.002)
    assert second.null_mean == pytest.approx(0.5, abs=0.002)
    assert second.null_sd == pytest.approx(0.003, abs=0.0015)
    top = np.linalg.eigh(graph.normalised.toarray())[1][:, -65:-1]
    first, second = smoothness(top, graph, drawn)
    assert (first.value, second.value) == pytest.approx((math.cos(np.pi / 8), math.cos(np.pi / 8) ** 2))
    assert first.z is not None
    assert first.z > 100


def test_random_tables_are_within_four_deviations():
    for name in TINY:
        graph = tiny(name)
        for seed in range(10):
            found = smoothness(gaussian(graph.n_nodes, 32, seed), graph, orders(graph.n_nodes, 200, seed))
            assert max(abs(metric.z or 0.0) for metric in found) < 4, (name, seed)
