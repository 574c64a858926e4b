"""Pictures: axes of the largest variance, circles for cycles, and steps that are turned onto each other."""

import sys

import numpy as np
import pytest

from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.pictures import aligned, drawn_nodes, laplacian_picture, picture


def cycle(n: int) -> np.ndarray:
    return np.array([[i, (i + 1) % n] for i in range(n)])


def star(n_arms: int, length: int) -> np.ndarray:
    """Node 0 with arms of `length` nodes each."""
    arms = 1 + np.arange(n_arms * length).reshape(n_arms, length)
    inner = np.stack([arms[:, :-1].ravel(), arms[:, 1:].ravel()], axis=1)
    return np.concatenate([np.stack([np.zeros(n_arms, dtype=int), arms[:, 0]], axis=1), inner])


@pytest.mark.parametrize("width", [4, 60])
def test_principal_axes_of_known_variance(width: int):
    rng = np.random.default_rng(0)
    scores, _ = np.linalg.qr(rng.normal(size=(40, 5)) - rng.normal(size=(40, 5)).mean(axis=0))
    scores -= scores.mean(axis=0)
    scores, _ = np.linalg.qr(scores)
    kept = min(width, 5)
    axes, _ = np.linalg.qr(rng.normal(size=(width, kept)))
    sizes = np.array([5.0, 4.0, 3.0, 2.0, 1.0])[:kept]
    found = picture(scores[:, :kept] * sizes @ axes.T + 7.0, "pca", 3, np.arange(40))
    points = np.array(found.coordinates)
    assert found.explained == pytest.approx(sizes[:3] ** 2 / (sizes**2).sum())
    assert np.linalg.norm(points, axis=0) == pytest.approx(sizes[:3], rel=1e-5)
    assert np.abs(points.T @ scores[:, :3] / sizes[:3]) == pytest.approx(np.eye(3) * [[1], [1], [1]], abs=2)
    assert (points[np.abs(points).argmax(axis=0), range(3)] > 0).all()
    assert (found.step, found.method, found.nodes) == (3, "pca", list(range(40)))


def test_the_sign_does_not_depend_on_the_basis_and_narrow_tables_lie_flat():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(9, 5)) * [5, 3, 2, 1, 1]
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    one, other = (picture(t, "pca", None, np.arange(9)).coordinates for t in (table, table @ turn))
    assert np.array(one) == pytest.approx(np.array(other), abs=1e-5)
    flat = picture(table[:, :2], "pca", None, np.arange(9))
    assert {point[2] for point in flat.coordinates} == {0.0}
    assert flat.explained[2] == 0
    same = picture(np.ones((4, 3)), "pca", None, np.arange(4))
    assert np.array(same.coordinates).tolist() == np.zeros((4, 3)).tolist()


def test_steps_are_turned_onto_the_next_without_a_change_of_distances():
    rng = np.random.default_rng(2)
    table = rng.normal(size=(20, 6)) * [4, 4.1, 4.05, 1, 1, 1]
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    moved = table @ turn + 0.01 * rng.normal(size=(20, 6))
    before, after = (picture(t, "pca", i, np.arange(20)) for i, t in enumerate((moved, table)))
    first, last = aligned([before, after])
    assert last == after
    assert np.array(first.coordinates) == pytest.approx(np.array(after.coordinates), abs=0.5)
    gaps = [np.linalg.norm(np.subtract.outer(*[np.array(p.coordinates)[:, 0]] * 2)) for p in (first, after)]
    assert gaps[0] == pytest.approx(gaps[1], rel=0.05)
    inner = [np.linalg.norm(np.array(p.coordinates)) for p in (before, first)]
    assert inner[0] == pytest.approx(inner[1], rel=1e-5)
    assert sum(first.explained) == pytest.approx(sum(before.explained))
    variances = (np.array(first.coordinates) ** 2).sum(axis=0)
    assert np.array(first.explained) / sum(first.explained) == pytest.approx(variances / variances.sum(), rel=1e-4)
    with pytest.raises(ValueError, match="of one method and the same nodes"):
        aligned([before, after.model_copy(update={"method": "umap"})])
    assert aligned([]) == []


def test_the_graph_of_a_cycle_is_a_circle():
    found = np.array(laplacian_picture(as_graph(cycle(15)), np.arange(15)).coordinates)
    assert np.linalg.norm(found[:, :2], axis=1) == pytest.approx(np.full(15, np.linalg.norm(found[0, :2])), rel=1e-4)
    steps = found[:, :2] - np.roll(found[:, :2], 1, axis=0)
    assert np.linalg.norm(steps, axis=1) == pytest.approx(np.full(15, np.linalg.norm(steps[0])), rel=1e-4)


def test_components_are_set_apart_along_the_first_axis():
    edges = np.concatenate([cycle(6), 6 + cycle(5)])
    found = np.array(laplacian_picture(as_graph(edges), np.arange(11)).coordinates)
    assert found[:6, 0].tolist() == [-1.0] * 6
    assert found[6:, 0].tolist() == [1.0] * 5
    lonely = laplacian_picture(as_graph([[0, 1]], 4), np.arange(4))
    assert np.isfinite(lonely.coordinates).all()


def test_small_graphs_are_drawn_whole_and_large_ones_in_connected_pieces():
    assert drawn_nodes(as_graph(cycle(9))).tolist() == list(range(9))
    graph = as_graph(star(100, 4))
    nodes = drawn_nodes(graph, most=50, seed=3)
    assert len(nodes) == 50
    assert 0 in nodes
    assert np.isin(graph.edges, nodes).all(axis=1).sum() == 49
    whole = [arm for arm in range(100) if np.isin(1 + 4 * arm + np.arange(4), nodes).all()]
    assert len(whole) == 12
    assert drawn_nodes(graph, 50, 3).tolist() == nodes.tolist()
    assert drawn_nodes(graph, 50, 4).tolist() != nodes.tolist()
    ring = as_graph(cycle(90))
    assert np.isin(ring.edges, drawn_nodes(ring, 30)).all(axis=1).sum() == 29
    parts = as_graph(np.concatenate([cycle(20), 20 + cycle(10)]))
    nodes = drawn_nodes(parts, 25)
    assert set(range(20)) <= set(nodes.tolist())
    assert len(nodes) == 25


def test_a_part_of_a_graph_is_drawn_by_itself():
    graph = as_graph(cycle(30))
    found = np.array(laplacian_picture(graph, np.arange(10, 20)).coordinates)
    assert found.shape == (10, 3)
    along = found[:, 0] * np.sign(found[-1, 0])
    assert (np.diff(along) > 0).all()


def test_umap_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r'pip install "mnemoscope\[geometry\]"'):
        picture(np.ones((9, 3)), "umap", None, np.arange(9))
