"""Closed forms, against figures from the specification and against matrices of whole graphs."""

import numpy as np
import pytest

from mnemoscope.examination.geometry.closed_forms import (
    cycle_stationary,
    edge_entropy_floor,
    node_entropy_floor,
    path_star_eigenvalues,
)
from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.tasks.graphs import conditional_entropy, named_graph, star_paths, training_pairs, tree_edges


@pytest.mark.parametrize(
    ("n", "kappa", "projection", "loss", "rates"),
    [
        (15, 6.0773, 6.7513, 1.4349, [-0.0605, -0.2885, -0.7131]),
        (30, 23.139, 18.630, 1.4227, [-0.0038, -0.0218, -0.0675]),
    ],
)
def test_cycle_goldens(n, kappa, projection, loss, rates):
    found = cycle_stationary(n)
    assert found.kappa == pytest.approx(kappa, rel=5e-5)
    assert found.projection == pytest.approx(projection, rel=5e-5)
    assert found.loss == pytest.approx(loss, abs=5e-5)
    np.testing.assert_allclose(found.rates[:2], 0, atol=1e-9)
    np.testing.assert_allclose(found.rates[2:5], rates, atol=5e-5)


@pytest.mark.parametrize("n", [5, 6, 15, 101])
def test_cycle_stands_still(n):
    found = cycle_stationary(n)
    angle = 2 * np.pi * np.arange(n) / n
    table = np.sqrt(found.kappa) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(np.linalg.norm(table, axis=0), found.projection)
    scores = np.exp(table @ table.T)
    adjacency = as_graph(np.stack([np.arange(n), (np.arange(n) + 1) % n], axis=1)).adjacency.toarray()
    residual = adjacency / 2 - scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose((residual + residual.T) @ table, 0, atol=1e-9)
    values = np.sort(np.linalg.eigvalsh(residual + residual.T))
    waves = found.rates[np.minimum(np.arange(n), n - np.arange(n))]
    np.testing.assert_allclose(values, np.sort(waves), atol=1e-9)


def test_short_cycles_are_refused():
    with pytest.raises(ValueError, match="at least 5 nodes, got 4"):
        cycle_stationary(4)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (4, [1.8028, 0, -1.8028]),
        (5, [1.9053, 0.7873, -0.7873, -1.9053]),
        (6, [1.9504, 1.2024, 0, -1.2024, -1.9504]),
    ],
)
def test_arm_modes_of_walks(length, expected):
    np.testing.assert_allclose(path_star_eigenvalues(4, length).walk_arm, expected, atol=5e-5)


@pytest.mark.parametrize("n_arms", [2, 4, 50])
@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_path_star_spectra_are_those_of_the_graph(n_arms, length):
    graph = as_graph(tree_edges(star_paths(n_arms, length)))
    walk = graph.adjacency.toarray() / graph.degrees[:, None]
    found = path_star_eigenvalues(n_arms, length)
    for matrix, arm, symmetric in (
        (walk + walk.T, found.walk_arm, found.walk_symmetric),
        (graph.normalised.toarray(), found.normalised_arm, found.normalised_symmetric),
    ):
        expected = np.sort(np.concatenate([np.repeat(arm, found.multiplicity), symmetric]))
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix), expected, atol=1e-9)


def test_a_hub_has_the_ends_of_the_spectrum():
    found = path_star_eigenvalues(200, 5)
    assert found.walk_symmetric[0] - 2 == pytest.approx(5.21, abs=0.005)
    assert found.walk_symmetric[-1] - 2 == pytest.approx(-9.21, abs=0.005)
    with pytest.raises(ValueError, match="n_arms must be at least 2, got 1"):
        path_star_eigenvalues(1, 5)
    with pytest.raises(ValueError, match="length must be at least 2, got 1"):
        path_star_eigenvalues(2, 1)


@pytest.mark.parametrize(
    ("name", "expected"), [("path_star", 0.6931), ("grid", 1.1269), ("cycle", 0.6931), ("irregular", 0.9364)]
)
@pytest.mark.parametrize("self_edges", [False, True])
def test_floors(name, expected, self_edges):
    graph = named_graph(name)
    pairs = training_pairs(graph, "both", self_edges=self_edges)
    found = edge_entropy_floor(as_graph(graph.edges), float(self_edges))
    assert found == pytest.approx(conditional_entropy(pairs[:, 0], pairs[:, 1]))
    if not self_edges:
        assert found == pytest.approx(expected, abs=5e-5)


def test_floors_of_weighted_self_edges():
    graph = as_graph([[0, 1], [1, 2]], 4)
    laws = [[2 / 3, 1 / 3], [0.4, 0.4, 0.2], [2 / 3, 1 / 3], [1]]
    entropies = np.array([-sum(p * np.log(p) for p in law) for law in laws])
    weights = np.array([1.5, 2.5, 1.5, 0.5])
    assert edge_entropy_floor(graph, 0.5) == pytest.approx(weights @ entropies / weights.sum())
    assert node_entropy_floor(graph, 0.5) == pytest.approx(entropies.mean())
    assert node_entropy_floor(graph) == pytest.approx(np.log(2) / 4)
