"""Quadrature against eigenvectors: exact on few eigenvalues, close on many, and its moments exact on all."""

import numpy as np
import pytest

from mnemoscope.examination.geometry import quadrature, shuffling
from mnemoscope.examination.geometry.eigenspaces import eigenspaces
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.examination.geometry.quadrature import smooth_shares, spectral_measure
from mnemoscope.examination.geometry.shuffling import orders, unshuffled
from mnemoscope.examination.geometry.spectrum import spectrum
from tests.unit.examination.geometry.known_graphs import TINY, cycle, gaussian, path_star, tiny


def random_graph(n: int, seed: int) -> SparseGraph:
    rng = np.random.default_rng(seed)
    tree = [(int(rng.integers(0, i)), i) for i in range(1, n)]
    return as_graph([*tree, *rng.integers(0, n, (2 * n, 2)).tolist()])


def smooth_share(table: np.ndarray, graph: SparseGraph, n_steps: int = 32) -> float:
    return float(smooth_shares(table, graph, unshuffled(graph.n_nodes), n_steps)[0])


def exact_smooth_share(table: np.ndarray, graph: SparseGraph) -> float:
    found = spectrum(table, graph, spaces=eigenspaces(graph))
    return float(np.array(found.shares)[np.array(found.eigenvalues) > 1e-9].sum())


@pytest.mark.parametrize("graph", [path_star(30, 5), path_star(7, 8), *map(tiny, TINY)])
def test_few_eigenvalues_are_found_exactly_however_many_vectors_they_have(graph: SparseGraph):
    table = gaussian(graph.n_nodes, 3) + 1
    whole = spectrum(table, graph)
    values, shares = spectral_measure(table, graph)
    assert shares.sum() == pytest.approx(1)
    for value, share in zip(values, shares, strict=True):
        equal = np.abs(np.array(whole.eigenvalues) - value) < quadrature.POOLED
        assert share == pytest.approx(np.array(whole.shares)[equal].sum(), abs=1e-9)
    assert smooth_share(table, graph) == pytest.approx(exact_smooth_share(table, graph), abs=1e-9)


@pytest.mark.parametrize("n_steps", [1, 2, 5, 8])
def test_moments_are_exact_up_to_twice_the_steps_less_one(n_steps: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quadrature, "POOLED", 0.0)
    for seed in range(5):
        graph = random_graph(40, seed)
        table = image = graph.deflated(gaussian(40, 2, seed))
        values, shares = spectral_measure(table, graph, n_steps)
        for power in range(2 * n_steps + 1):
            expected = (table * image).sum() / (table**2).sum()
            exact = (shares * values**power).sum() == pytest.approx(expected, abs=1e-10)
            assert exact == (power < 2 * n_steps), (seed, power)
            image = graph.normalised @ image


def test_many_eigenvalues_are_found_closely():
    graph = random_graph(600, 0)
    spaces = eigenspaces(graph)
    smooth = spaces.vectors @ ((spaces.values[:, None] + 1) * gaussian(599, 16))
    for table in (gaussian(600, 16), smooth):
        assert smooth_share(table, graph) == pytest.approx(exact_smooth_share(table, graph), abs=0.02)
    values, shares = spectral_measure(smooth, graph)
    assert shares.sum() == pytest.approx(1)
    assert np.diff(values).max() < 0
    assert values[0] == pytest.approx(spaces.values[0], abs=quadrature.POOLED)


def test_every_order_and_every_batch(monkeypatch: pytest.MonkeyPatch):
    graph, table, drawn = tiny("irregular"), gaussian(16, 5) + 1, orders(16, 4, seed=0)
    expected = [exact_smooth_share(table[order], graph) for order in drawn]
    for batch in (20, 200, 2**20):
        monkeypatch.setattr(shuffling, "BATCH", batch)
        np.testing.assert_allclose(smooth_shares(table, graph, drawn), expected, atol=1e-9)


def test_a_table_in_one_place_has_no_shares():
    assert np.isnan(smooth_share(np.ones((15, 2)), cycle(15)))
    assert np.isnan(spectral_measure(np.ones((15, 2)), cycle(15))[1]).all()
    assert smooth_share(np.concatenate([np.ones((15, 2)), gaussian(15, 1)], axis=1), cycle(15)) == pytest.approx(
        exact_smooth_share(gaussian(15, 1), cycle(15))
    )
