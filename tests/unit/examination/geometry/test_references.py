"""References and how tables are compared with them."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial import procrustes

from mnemoscope.examination.geometry import references as module
from mnemoscope.examination.geometry.closed_forms import path_star_eigenvalues
from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.node2vec import Node2VecConfig, node2vec
from mnemoscope.examination.geometry.references import (
    laplacian_eigenmap,
    linear_cka,
    netmf,
    procrustes_residual,
    reference_metrics,
    stable_step_size,
)
from mnemoscope.tasks.graphs import cycle_edges, named_graph, star_paths, tree_edges

IRREGULAR = as_graph(named_graph("irregular").edges)
STAR = as_graph(tree_edges(star_paths(6, 4)))


def drawn(n: int, m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, m))


def test_cka_and_procrustes_know_neither_rotation_nor_scale_nor_shift():
    table = drawn(20, 5)
    turned = 3 * table @ np.linalg.qr(drawn(5, 5, 1))[0] + 7
    assert linear_cka(table, turned) == pytest.approx(1)
    assert procrustes_residual(table, turned) == pytest.approx(0, abs=1e-12)
    other = drawn(20, 5, 2)
    assert linear_cka(turned, other) == pytest.approx(linear_cka(table, other))
    assert procrustes_residual(turned, other) == pytest.approx(procrustes_residual(other, table))


def test_procrustes_is_that_of_scipy():
    table, other = drawn(20, 5), drawn(20, 3, 1)
    assert procrustes_residual(table, other) == pytest.approx(procrustes(table, np.pad(other, ((0, 0), (0, 2))))[2])


def test_cka_is_the_cosine_of_gram_matrices():
    table, other = drawn(20, 5), drawn(20, 3, 1)
    grams = [centred @ centred.T for centred in (table - table.mean(axis=0), other - other.mean(axis=0))]
    cosine = (grams[0] * grams[1]).sum() / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])
    assert linear_cka(table, other) == pytest.approx(cosine)


def test_tables_without_variance_are_like_nothing():
    assert linear_cka(np.ones((4, 2)), drawn(4, 2)) == 0
    assert procrustes_residual(drawn(4, 2), np.ones((4, 2))) == 1


def test_eigenmap_has_the_products_of_the_smooth_part():
    found = laplacian_eigenmap(IRREGULAR, 20)
    assert found.shape == (16, 20)
    values, vectors = np.linalg.eigh(IRREGULAR.normalised.toarray())
    smooth = (vectors * values.clip(0)) @ vectors.T - (IRREGULAR.trivial @ IRREGULAR.trivial.T).toarray()
    np.testing.assert_allclose(found @ found.T, smooth, atol=1e-12)
    flat = laplacian_eigenmap(IRREGULAR, 3, scaled=False)
    np.testing.assert_allclose(flat.T @ flat, np.eye(3), atol=1e-12)
    rayleigh = np.diag(flat.T @ IRREGULAR.normalised @ flat)
    np.testing.assert_allclose(rayleigh, values[[-3, -4, -5]])


def test_eigenmap_may_end_with_a_whole_space():
    assert laplacian_eigenmap(STAR, 2).shape == (19, 2)
    whole = laplacian_eigenmap(STAR, 2, whole_spaces=True)
    assert whole.shape == (19, 5)
    np.testing.assert_allclose((whole**2).sum(axis=0), path_star_eigenvalues(6, 4).normalised_arm[0])
    with pytest.raises(ValueError, match="width must be at least 1 column, got 0"):
        laplacian_eigenmap(STAR, 0)


@pytest.mark.parametrize("window", [1, 3])
def test_netmf_factorises_its_matrix(window):
    walk = IRREGULAR.adjacency.toarray() / IRREGULAR.degrees[:, None]
    powers = sum(np.linalg.matrix_power(walk, r) for r in range(1, window + 1))
    matrix = IRREGULAR.degrees.sum() / (2.0 * window) * powers / IRREGULAR.degrees
    logarithm = np.log(np.maximum(matrix, 1))
    found = netmf(IRREGULAR, 16, window, negatives=2.0)
    np.testing.assert_allclose(found @ found.T, sqrtm(logarithm @ logarithm).real, atol=1e-6)
    singular = np.linalg.svd(logarithm, compute_uv=False)
    np.testing.assert_allclose((found**2).sum(axis=0), singular, atol=1e-9)
    narrow = netmf(IRREGULAR, 4, window, negatives=2.0)
    np.testing.assert_allclose((narrow**2).sum(axis=0), singular[:4], atol=1e-9)
    assert netmf(IRREGULAR, 20).shape == (16, 20)


def test_netmf_refuses_what_it_cannot_do(monkeypatch):
    with pytest.raises(ValueError, match="at least 1 and negatives above 0, got 4, 0 and"):
        netmf(IRREGULAR, 4, window=0)
    monkeypatch.setattr(module, "DENSE_NODES", 10)
    with pytest.raises(ValueError, match="at most 10 nodes, got 16"):
        netmf(IRREGULAR, 4)


def test_step_size_is_below_what_a_hub_allows():
    for graph in (IRREGULAR, STAR, as_graph(tree_edges(star_paths(300, 4))), as_graph(tree_edges(star_paths(3000, 2)))):
        walk = graph.adjacency.toarray() / graph.degrees[:, None] if graph.n_nodes < 1000 else None
        lowest = np.linalg.eigvalsh(walk + walk.T)[0] if walk is not None else -np.sqrt(3000) * (1 / 3000 + 1)
        assert stable_step_size(graph) <= 1 / (2 - lowest) + 1e-12


def metrics(table: np.ndarray, **more) -> dict:
    return {metric.name: metric for metric in reference_metrics(table, IRREGULAR, 1, **more)}


def test_a_table_of_node2vec_is_like_its_references_and_a_random_one_is_not():
    trained = metrics(node2vec(IRREGULAR.edges, Node2VecConfig(width=16, steps=300, seed=5)).source)
    assert list(trained) == ["cka_node2vec", "cka_eigenmap", "procrustes_node2vec", "procrustes_eigenmap"]
    assert trained["cka_node2vec"].value > 0.9
    assert trained["procrustes_node2vec"].value < 0.1
    for name, sign in (
        ("cka_node2vec", 1),
        ("cka_eigenmap", 1),
        ("procrustes_node2vec", -1),
        ("procrustes_eigenmap", -1),
    ):
        z = trained[name].z
        assert z is not None
        assert sign * z > 4
    random = metrics(drawn(16, 16, 3))
    assert max(abs(metric.z) for metric in random.values()) < 3
    assert random["cka_eigenmap"].n == 16


def test_a_table_drawn_with_the_same_seed_is_no_nearer():
    star = as_graph(tree_edges(star_paths(40, 3)))
    tables = [
        node2vec(star.edges, Node2VecConfig(width=8, steps=50, initial_std=0.5, seed=seed)).source for seed in (1, 2)
    ]
    same, other = (reference_metrics(table, star, 1)[0].value for table in tables)
    assert linear_cka(*tables) < 0.7
    assert same == pytest.approx(other, abs=0.1)


def test_references_of_large_graphs_are_missing(monkeypatch):
    monkeypatch.setattr(module, "DENSE_NODES", 10)
    found = metrics(drawn(16, 4))
    assert all(
        np.isnan(metric.value) and "at most 10 nodes, and there are 16" in metric.missing for metric in found.values()
    )


def test_eigenmap_of_a_large_graph_refuses_cut_spaces(monkeypatch):
    monkeypatch.setattr(module, "DENSE_NODES", 10)
    star = as_graph(tree_edges(star_paths(40, 3)))
    with pytest.raises(ValueError, match="needs 5 eigenvectors, and of 81 nodes only 0 were found"):
        laplacian_eigenmap(star, 5)
    cycle = as_graph(cycle_edges(40))
    np.testing.assert_allclose((laplacian_eigenmap(cycle, 2) ** 2).sum(axis=0), np.cos(2 * np.pi / 40))
