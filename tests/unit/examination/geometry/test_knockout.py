"""Knock-outs: the parts add up, spaces are whole, and what is evaluated is what is recorded."""

import numpy as np
import pytest

from mnemoscope.examination.geometry.closed_forms import path_star_eigenvalues
from mnemoscope.examination.geometry.eigenspaces import eigenspaces
from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.knockout import knock_outs, knocked_out
from mnemoscope.examination.geometry.references import laplacian_eigenmap
from mnemoscope.examination.geometry.scores import edge_recall_of
from mnemoscope.tasks.graphs import cycle_edges, star_paths, tree_edges

STAR = as_graph(tree_edges(star_paths(6, 4)))
CYCLE = as_graph(cycle_edges(15))


def drawn(n: int, m: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, m))


def test_parts_add_up_and_the_trivial_one_stays():
    table = drawn(19)
    smooth, rest = knocked_out(table, STAR, "smooth"), knocked_out(table, STAR, "not smooth")
    trivial = table - STAR.deflated(table)
    np.testing.assert_allclose(smooth + rest - trivial, table, atol=1e-12)
    for part in (smooth, rest, knocked_out(table, STAR, "bottom")):
        np.testing.assert_allclose(part - STAR.deflated(part), trivial, atol=1e-12)


def test_smooth_waves_of_a_cycle():
    angle = 2 * np.pi * np.arange(15) / 15
    waves = {k: np.stack([np.cos(k * angle), np.sin(k * angle)], axis=1) for k in range(8)}
    table = waves[0] + waves[1] + 2 * waves[3] + waves[7]
    np.testing.assert_allclose(knocked_out(table, CYCLE, "smooth", 2), waves[0] + waves[1], atol=1e-12)
    np.testing.assert_allclose(knocked_out(table, CYCLE, "not smooth"), table - waves[1], atol=1e-12)
    np.testing.assert_allclose(knocked_out(table, CYCLE, "bottom"), table - waves[7], atol=1e-12)
    # An odd k would cut a wave in two.
    np.testing.assert_allclose(knocked_out(table, CYCLE, "bottom", 1), table - waves[7], atol=1e-12)
    np.testing.assert_allclose(knocked_out(table, CYCLE, "smooth", 5), waves[0] + waves[1] + 2 * waves[3], atol=1e-12)


def test_whole_spaces_of_a_path_star():
    modes = path_star_eigenvalues(6, 4)
    table = drawn(19)
    found = knock_outs(table, STAR, lambda _: {}, k=2)
    assert [(record.which, record.n_modes) for record in found] == [
        ("intact", 0),
        ("smooth", modes.multiplicity),
        ("not smooth", modes.multiplicity),
        ("bottom", 6),
    ]
    assert found[1].kept + found[2].kept == pytest.approx(1)
    # -1, once, comes before the arms.
    assert found[3].kept == pytest.approx(
        np.square(STAR.deflated(knocked_out(table, STAR, "bottom", 6))).sum() / np.square(STAR.deflated(table)).sum()
    )


def test_a_map_lives_in_its_smooth_part():
    table = laplacian_eigenmap(CYCLE, 2) + 0.001 * drawn(15, 2)
    spaces = eigenspaces(CYCLE)
    found = knock_outs(table, CYCLE, lambda each: {"recall": edge_recall_of(each @ each.T, CYCLE).value}, spaces=spaces)
    recall = {record.which: record.measures["recall"] for record in found}
    assert recall["intact"] == recall["smooth"] == recall["bottom"] == 1
    assert recall["not smooth"] < 0.5
    assert [record.kept for record in found] == pytest.approx([1, 1, 0, 1], abs=1e-4)


def test_evaluation_does_not_change_the_table():
    table = drawn(19)
    before = table.copy()

    def spoil(each: np.ndarray) -> dict[str, float]:
        each[:] = 0
        return {"sum": 0.0}

    knock_outs(table, STAR, spoil)
    np.testing.assert_array_equal(table, before)


def test_more_than_there_is_is_refused():
    with pytest.raises(ValueError, match=r"k must be 1 ... 18, .* got 0"):
        knocked_out(drawn(19), STAR, "smooth", 0)
    with pytest.raises(ValueError, match=r"k must be 1 ... 2, .* got 3"):
        knocked_out(drawn(15), CYCLE, "bottom", 3, eigenspaces(CYCLE, 2))
