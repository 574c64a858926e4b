"""Spectra in closed form, equal eigenvalues as spaces, and Lanczos against the whole decomposition."""

import math

import numpy as np
import pytest

from mnemoscope.examination.geometry import eigenspaces as module
from mnemoscope.examination.geometry.eigenspaces import eigenspaces, spread, starts_of_equals
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.tasks.graphs import grid_edges
from tests.unit.examination.geometry.known_graphs import TINY, complete, cycle, path_star, tiny


@pytest.mark.parametrize(("n_arms", "length"), [(4, 4), (4, 5), (7, 6), (200, 5)])
def test_the_path_star_in_closed_form(n_arms: int, length: int):
    """Arm modes cos((2j - 1) pi / (2(l - 1))), each d - 1 times; symmetric modes cos(j pi / (l - 1)), once."""
    spaces = eigenspaces(path_star(n_arms, length))
    arm = [math.cos((2 * j - 1) * math.pi / (2 * (length - 1))) for j in range(1, length)]
    symmetric = [math.cos(j * math.pi / (length - 1)) for j in range(1, length)]
    expected = sorted(arm * (n_arms - 1) + symmetric, reverse=True)
    np.testing.assert_allclose(spaces.values, expected, atol=1e-12)
    assert np.diff(np.append(spaces.starts, len(spaces.values))).max() == n_arms - 1
    assert len(spaces.starts) == 2 * (length - 1)
    assert spaces.fiedler_size == n_arms - 1


@pytest.mark.parametrize(("length", "expected"), [(4, [1.8028, 0]), (5, [1.9053, 0.7873]), (6, [1.9504, 1.2024, 0])])
def test_arm_modes_of_the_other_operator(length: int, expected: list[float]):
    """W + W^T on an arm is tridiagonal, with 1, ..., 1, 3/2 beside the diagonal; nothing is the hub's."""
    spaces = eigenspaces(path_star(4, length), operator="laplacian")
    beside = np.array([1.0] * (length - 3) + [1.5])
    arm = np.linalg.eigvalsh(np.diag(beside, 1) + np.diag(beside, -1))[::-1]
    np.testing.assert_allclose(arm[: len(expected)], expected, atol=5e-5)
    for value in arm:
        assert (np.abs(spaces.values - value) < 1e-12).sum() == 3


def test_trivial_vectors_of_the_other_operator_are_not_constant_where_degrees_differ():
    """-L has 0 for a regular component; for the tiny path-star and the grid the trivial value is slightly above."""
    for name, above in (("path_star", 0.062), ("grid", 0.021), ("cycle", 0.0)):
        graph = tiny(name)
        walk = graph.adjacency.toarray() / graph.degrees[:, None]
        values, vectors = np.linalg.eigh(walk + walk.T)
        spaces = eigenspaces(graph, operator="laplacian")
        assert values[-1] - 2 == pytest.approx(above, abs=5e-4)
        np.testing.assert_allclose(spaces.values, values[-2::-1], atol=1e-12)
        np.testing.assert_allclose(spaces.trivial.toarray()[:, 0], np.abs(vectors[:, -1]), atol=1e-12)


def test_a_complete_graph_is_one_space():
    spaces = eigenspaces(complete(4))
    np.testing.assert_allclose(spaces.values, [-1 / 3] * 3)
    assert spaces.starts.tolist() == [0]
    assert spaces.fiedler_size == 3


def test_components_are_decomposed_apart_and_ordered_together():
    graph = tiny("irregular")
    spaces = eigenspaces(graph)
    ring = eigenspaces(as_graph(graph.edges[(graph.edges < 12).all(axis=1)]))
    np.testing.assert_allclose(spaces.values, np.sort([*ring.values, *[-1 / 3] * 3])[::-1], atol=1e-12)
    assert spaces.fiedler_size == 2, "one for each of the two components"
    twelve = np.abs(spaces.values + 1 / 3) < 1e-9
    assert np.abs(spaces.vectors[:12, twelve]).max() < 1e-12


@pytest.mark.parametrize("operator", ["normalised", "laplacian"])
@pytest.mark.parametrize("name", TINY)
def test_vectors_are_orthonormal_eigenvectors_and_orthogonal_to_the_trivial_ones(name, operator):
    graph = tiny(name)
    spaces = eigenspaces(graph, operator=operator)
    walk = graph.adjacency.toarray() / graph.degrees[:, None]
    matrix = graph.normalised.toarray() if operator == "normalised" else walk + walk.T
    basis = np.concatenate([spaces.trivial.toarray(), spaces.vectors], axis=1)
    np.testing.assert_allclose(basis.T @ basis, np.eye(graph.n_nodes), atol=1e-12)
    np.testing.assert_allclose(matrix @ spaces.vectors, spaces.vectors * spaces.values, atol=1e-12)
    assert spaces.is_whole
    assert spaces.n_top == len(spaces.values) == graph.n_nodes - graph.n_components


def test_nodes_without_neighbours_are_trivial_and_no_fiedler_space():
    spaces = eigenspaces(as_graph([(0, 1), (1, 2)], n_nodes=5))
    np.testing.assert_allclose(spaces.values, [0, -1], atol=1e-12)
    assert spaces.fiedler_size == 1


def test_runs_of_equal_values_and_their_means():
    starts = starts_of_equals(np.array([0.9, 0.5, 0.5 - 1e-12, 0.5 - 2e-12, -1.0]), 1e-9)
    assert starts.tolist() == [0, 1, 4]
    amounts = np.array([[7.0, 1.0, 2.0, 6.0, 5.0], [0.0, 3.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(spread(amounts, starts), [[7, 3, 3, 3, 5], [0, 1, 1, 1, 1]])
    assert starts_of_equals(np.zeros(0), 1e-9).tolist() == []
    assert spread(np.zeros((2, 0)), np.zeros(0, dtype=np.int64)).shape == (2, 0)


def test_weights_of_the_ends_are_spread_over_a_space_that_is_cut():
    spaces = eigenspaces(path_star(4, 5))
    np.testing.assert_allclose(spaces.top(2)[:4], [2 / 3, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(spaces.top(4)[:5], [1, 1, 1, 1, 0])
    np.testing.assert_allclose(spaces.bottom(3)[::-1][:5], [1, 2 / 3, 2 / 3, 2 / 3, 0])
    assert spaces.top(17) is None
    np.testing.assert_array_equal(spaces.smooth(), spaces.values > 0.1)


def random_graph(n: int, seed: int) -> SparseGraph:
    rng = np.random.default_rng(seed)
    tree = [(int(rng.integers(0, i)), i) for i in range(1, n)]
    return as_graph([*tree, *rng.integers(0, n, (2 * n, 2)).tolist()])


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize(
    "graph",
    [random_graph(150, 0), path_star(12, 5), path_star(9, 6), cycle(80), as_graph(grid_edges(9, 9))],
    ids=["random", "star 12", "star 9", "cycle", "grid"],
)
def test_the_ends_are_those_of_the_whole_in_whole_spaces(graph: SparseGraph, k: int):
    whole, ends = eigenspaces(graph), eigenspaces(graph, k=k)
    assert not ends.is_whole
    assert ends.smooth() is None
    borders = [*whole.starts.tolist(), len(whole.values)]
    n_top, n_bottom = ends.n_top, len(ends.values) - ends.n_top
    assert n_top == max(border for border in borders if border <= k)
    assert n_bottom == max(len(whole.values) - border for border in borders if len(whole.values) - border <= k)
    expected = np.concatenate([whole.values[:n_top], whole.values[len(whole.values) - n_bottom :]])
    np.testing.assert_allclose(ends.values, expected, atol=1e-10)
    kept = np.r_[:n_top, len(whole.values) - n_bottom : len(whole.values)]
    projector = ends.vectors @ ends.vectors.T
    np.testing.assert_allclose(projector, whole.vectors[:, kept] @ whole.vectors[:, kept].T, atol=1e-7)


def test_a_space_larger_than_k_is_left_out():
    ends = eigenspaces(path_star(12, 5), k=6)
    assert ends.n_top == 0
    assert ends.fiedler_size == 1
    assert ends.top(1) is None
    assert ends.values == pytest.approx([-1]), "the smallest is simple, those beside it are 11"


def test_lanczos_that_does_not_converge_gives_nothing(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> None:
        raise module.linalg.ArpackNoConvergence("no", np.zeros(0), np.zeros((80, 0)))

    monkeypatch.setattr(module.linalg, "eigsh", fails)
    ends = eigenspaces(cycle(80), k=3)
    assert (ends.n_top, len(ends.values)) == (0, 0)
    assert ends.top(1) is None


def test_large_graphs_have_their_ends_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "DENSE_NODES", 50)
    monkeypatch.setattr(module, "END", 7)
    assert eigenspaces(tiny("grid")).is_whole
    assert eigenspaces(random_graph(100, 1)).n_top == 7
    with pytest.raises(ValueError, match="'laplacian' needs all eigenvectors"):
        eigenspaces(random_graph(100, 1), operator="laplacian")


def test_ends_that_would_meet_are_the_whole():
    assert eigenspaces(cycle(15), k=7).is_whole
    assert not eigenspaces(cycle(15), k=6).is_whole
    with pytest.raises(ValueError, match="k: must be at least 1"):
        eigenspaces(cycle(15), k=0)
