"""Shares and alignment: by hand, against plain loops and singular vectors, and whatever basis a space has."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.examination.geometry import spectrum as module
from mnemoscope.examination.geometry.eigenspaces import Eigenspaces, eigenspaces
from mnemoscope.examination.geometry.graph import SparseGraph
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.examination.geometry.spectrum import NAMES, spectral_metrics, spectrum
from mnemoscope.runs.geometry import GeometryMetric
from tests.unit.examination.geometry.known_graphs import TINY, complete, cycle, gaussian, path_star, rotation, tiny

SPACES = {name: eigenspaces(tiny(name)) for name in TINY}


def measured(table: np.ndarray, graph: SparseGraph, **options) -> dict[str, float]:
    return {m.name: m.value for m in spectral_metrics(table, graph, orders(graph.n_nodes, 0, seed=0), **options)}


def turned(spaces: Eigenspaces, seed: int) -> Eigenspaces:
    """The same spaces, each with another basis."""
    vectors = spaces.vectors.copy()
    for start, end in zip(spaces.starts, [*spaces.starts[1:], len(spaces.values)], strict=True):
        vectors[:, start:end] = vectors[:, start:end] @ rotation(end - start, seed)
    return replace(spaces, vectors=vectors)


def looped(table: np.ndarray, graph: SparseGraph, k: int, n_bottom: int) -> list[float]:
    """Vector by vector, and by the singular vectors of the table; no space must be cut."""
    values, vectors = np.linalg.eigh(graph.normalised.toarray())
    found = [(float(values[i]), vectors[:, i]) for i in range(graph.n_nodes) if values[i] < 1 - 1e-9]
    found.sort(key=lambda each: -each[0])
    trivial = vectors[:, values > 1 - 1e-9]
    x = table - trivial @ trivial.T @ table
    shares = [sum(float(x[:, j] @ e) ** 2 for j in range(x.shape[1])) / float((x**2).sum()) for _, e in found]
    principal = np.linalg.svd(x)[0][:, : min(k, table.shape[1])]
    aligned = sum(float(u @ e) ** 2 for u in principal.T for _, e in found[:k]) / principal.shape[1]
    smooth = sum(share for share, (value, _) in zip(shares, found, strict=True) if value > 1e-9)
    return [smooth, sum(shares[:k]), sum(shares[-n_bottom:]), aligned]


@pytest.mark.parametrize("width", [1, 3, 16, 100])
@pytest.mark.parametrize(
    ("name", "k", "n_bottom"), [("grid", 2, 3), ("cycle", 2, 2), ("cycle", 4, 6), ("irregular", 2, 2)]
)
def test_all_four_are_what_loops_give(name, k, n_bottom, width):
    graph = tiny(name)
    for seed in range(3):
        table = gaussian(graph.n_nodes, width, seed) + 1
        found = measured(table, graph, k=k, n_bottom=n_bottom)
        assert list(found.values()) == pytest.approx(looped(table, graph, k, n_bottom), abs=1e-10)


def test_a_path_by_hand():
    """Of the path 0 - 1 - 2 the vectors are (1, 0, -1) / sqrt 2, eigenvalue 0, and (1, -sqrt 2, 1) / 2, -1."""
    path = path_star(2, 2)
    table = np.array([[-np.sqrt(2), 0.0], [1.0, 3.0], [1.0, -3.0]])
    shares = spectrum(table, path)
    assert shares.eigenvalues == pytest.approx([0, -1], abs=1e-12)
    assert shares.shares == pytest.approx([18 / 22, 4 / 22])
    found = measured(table, path)
    assert list(found.values()) == pytest.approx([0, 18 / 22, 4 / 22, 1], abs=1e-12)
    assert tuple(found) == NAMES


@settings(max_examples=30)
@given(st.sampled_from(TINY), st.integers(1, 30), st.integers(0, 1000))
def test_no_choice_of_basis_matters(name, width, seed):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, width, seed)
    plain, other = SPACES[name], turned(SPACES[name], seed)
    assert spectrum(table, graph, spaces=other).shares == pytest.approx(
        spectrum(table, graph, spaces=plain).shares, abs=1e-12
    )
    for k in (None, 1, 2, 5):
        expected = measured(table, graph, spaces=plain, k=k)
        assert measured(table, graph, spaces=other, k=k) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("graph", [path_star(4, 5), complete(4), tiny("irregular")], ids=["star", "K4", "irregular"])
def test_one_vector_of_a_space_is_shared_among_all_of_it(graph: SparseGraph):
    spaces = eigenspaces(graph)
    sizes = np.diff(np.append(spaces.starts, len(spaces.values)))
    large = int(np.argmax(sizes))
    start, size = spaces.starts[large], sizes[large]
    one = spaces.vectors[:, start : start + size] @ rotation(size)[:, :1]
    shares = np.array(spectrum(one, graph).shares)
    np.testing.assert_allclose(shares[start : start + size], 1 / size)
    assert shares.sum() == pytest.approx(1)


@given(st.sampled_from(TINY), st.integers(1, 30), st.integers(0, 1000))
def test_shares_add_up_to_one_and_give_the_smoothness(name, width, seed):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, width, seed)
    found, deflated = spectrum(table, graph, spaces=SPACES[name]), tiny(name).deflated(table)
    assert sum(found.shares) == pytest.approx(1)
    assert found.is_whole
    rayleigh = (deflated * (graph.normalised @ deflated)).sum() / (deflated**2).sum()
    assert np.dot(found.shares, found.eigenvalues) == pytest.approx(rayleigh, abs=1e-10)


def test_equal_singular_values_share_their_alignment():
    """The two main directions span a space of three: which two they are is anybody's choice."""
    graph = cycle(15)
    spaces = eigenspaces(graph)
    table = spaces.vectors[:, [0, 1, 5]]
    for seed in range(3):
        assert measured(table @ rotation(3, seed), graph)["fiedler_alignment"] == pytest.approx(2 / 3)


def test_a_table_of_fewer_directions_than_the_space_has():
    graph = path_star(6, 4)
    spaces = eigenspaces(graph)
    assert spaces.fiedler_size == 5
    narrow = spaces.vectors[:, :5] @ gaussian(5, 2)
    assert measured(narrow, graph)["fiedler_alignment"] == pytest.approx(1), "two columns cannot hold five directions"
    flat = np.concatenate([narrow[:, :1], np.zeros((19, 6))], axis=1)
    assert measured(flat, graph)["fiedler_alignment"] == pytest.approx(1 / 5), "seven could, and hold one"


@pytest.mark.parametrize("name", TINY)
def test_shuffles_are_the_measures_of_the_shuffled_table(name):
    graph, table = tiny(name), gaussian(tiny(name).n_nodes, 6) + 0.5
    drawn = orders(graph.n_nodes, 7, seed=2)
    expected = [measured(table[order], graph) for order in drawn]
    for metric in spectral_metrics(table, graph, drawn):
        null = np.array([each[metric.name] for each in expected])
        assert metric.null_mean == pytest.approx(null.mean(), abs=1e-12)
        assert metric.null_sd == pytest.approx(null.std(ddof=1), rel=1e-6)


def by_name(table: np.ndarray, graph: SparseGraph, n_shuffles: int, **options) -> dict[str, GeometryMetric]:
    found = spectral_metrics(table, graph, orders(graph.n_nodes, n_shuffles, seed=0), **options)
    return {metric.name: metric for metric in found}


def test_calibration_on_a_path_star_of_200_arms():
    """Shares of random positions .500 and (d - 1) / (n - 1) = .249; the top 64 vectors have it all."""
    graph = path_star(200, 5)
    spaces = eigenspaces(graph)
    random = by_name(gaussian(801, 64), graph, 10, spaces=spaces)
    assert random["smooth_share"].null_mean == pytest.approx(0.5, abs=0.005)
    assert random["top_share"].null_mean == pytest.approx(199 / 800, abs=0.005)
    assert random["bottom_share"].null_mean == pytest.approx(199 / 800, abs=0.005)
    assert all(metric.z is not None and abs(metric.z) < 5 for metric in random.values())
    eigenmap = by_name(spaces.vectors[:, :64], graph, 10, spaces=spaces)
    expected = {"smooth_share": 1, "top_share": 1, "bottom_share": 0, "fiedler_alignment": 1}
    assert {name: metric.value for name, metric in eigenmap.items()} == pytest.approx(expected, abs=1e-9)


def test_what_the_ends_do_not_tell_is_missing():
    graph, table = path_star(12, 5), gaussian(49, 4)
    whole, ends = eigenspaces(graph), eigenspaces(graph, k=12)
    expected, found = by_name(table, graph, 5, spaces=whole), by_name(table, graph, 5, spaces=ends)
    for name in NAMES:
        assert found[name].value == pytest.approx(expected[name].value)
        assert found[name].null_mean == pytest.approx(expected[name].null_mean)
    few = by_name(table, graph, 5, spaces=eigenspaces(graph, k=6))
    assert "1 largest eigenvalues whole, and only 0 are" in few["top_share"].missing
    assert "1 largest" in few["fiedler_alignment"].missing
    assert few["bottom_share"].value == pytest.approx(by_name(table, graph, 5, n_bottom=1)["bottom_share"].value)
    part = spectrum(table, graph, k=12)
    assert not part.is_whole
    assert sum(part.shares) < 1
    assert part.shares[:12] == pytest.approx(spectrum(table, graph).shares[:12])


def test_large_graphs_have_their_whole_spectrum_by_quadrature(monkeypatch: pytest.MonkeyPatch):
    graph, table = path_star(12, 5), gaussian(49, 4)
    whole = spectrum(table, graph)
    monkeypatch.setattr(module, "DENSE_NODES", 40)
    found = spectrum(table, graph)
    np.testing.assert_allclose(found.eigenvalues, sorted(set(np.round(whole.eigenvalues, 9)), reverse=True), atol=1e-8)
    for value, share in zip(found.eigenvalues, found.shares, strict=True):
        equal = np.abs(np.array(whole.eigenvalues) - value) < 1e-6
        assert share == pytest.approx(np.array(whole.shares)[equal].sum())


def test_bottom_has_a_size_of_its_own():
    graph, table = tiny("grid"), gaussian(16, 8)
    found = measured(table, graph, n_bottom=3)
    assert found["bottom_share"] == pytest.approx(measured(table, graph, k=3)["bottom_share"])
    assert found["top_share"] == pytest.approx(measured(table, graph)["top_share"])


def test_the_other_operator_leaves_out_its_own_trivial_vector():
    graph = tiny("path_star")
    spaces = eigenspaces(graph, operator="laplacian")
    trivial = spaces.trivial.toarray()
    table = np.concatenate([spaces.vectors[:, :1], 5 * trivial], axis=1)
    assert measured(table, graph, spaces=spaces)["smooth_share"] == pytest.approx(1)
    assert all(np.isnan(value) for value in measured(trivial, graph, spaces=spaces).values())


def test_a_table_in_one_place_is_not_measured():
    for metric in by_name(np.ones((15, 2)), cycle(15), 5).values():
        assert np.isnan(metric.value)
        assert "one place" in metric.missing
    assert np.isnan(spectrum(np.ones((15, 2)), cycle(15)).shares).all()


def test_impossible_requests_are_refused():
    graph, table = cycle(15), gaussian(15, 2)
    with pytest.raises(ValueError, match="at least 1, got 0 and 0"):
        measured(table, graph, k=0)
    with pytest.raises(ValueError, match="takes k or spaces"):
        spectrum(table, graph, k=2, spaces=eigenspaces(graph))
