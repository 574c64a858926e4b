import numpy as np
import pytest

from mnemoscope.examination.geometry import shuffling
from mnemoscope.examination.geometry.shuffling import against_null, column_parts, gram_factor, orders, shuffled
from tests.unit.examination.geometry.known_graphs import gaussian


def test_orders_are_permutations_that_the_seed_decides():
    drawn = orders(7, 50, seed=3)
    assert drawn.shape == (50, 7)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.tile(np.arange(7), (50, 1)))
    np.testing.assert_array_equal(drawn, orders(7, 50, seed=3))
    assert (drawn != orders(7, 50, seed=4)).any()
    assert len(np.unique(drawn, axis=0)) > 45


def test_every_order_is_as_likely():
    drawn = orders(3, 6000, seed=0)
    counts = np.unique(drawn @ [9, 3, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_a_value_beside_its_null_by_hand():
    metric = against_null("R", 5.0, np.array([0.0, 2.0, 4.0, 6.0]), n=9, over="nodes")
    assert metric.null_mean == 3.0
    assert metric.null_sd == pytest.approx(np.sqrt(20 / 3))
    assert metric.z == pytest.approx(2 / np.sqrt(20 / 3))
    assert metric.p == 3 / 5, "0 and 6 are as far from 3 as 5 is, and more; the table itself counts once"
    assert (metric.name, metric.value, metric.n, metric.over, metric.missing) == ("R", 5.0, 9, "nodes", "")


def test_p_is_two_sided_and_never_zero():
    null = np.random.default_rng(0).normal(size=99)
    for value in (-50.0, 50.0):
        assert against_null("R", value, null, n=9, over="nodes").p == 1 / 100


def test_a_null_without_spread_has_no_z():
    flat = against_null("R", -0.25, -0.25 + 1e-17 * np.arange(20), n=5, over="nodes")
    assert (flat.z, flat.p) == (None, 1.0)
    one = against_null("R", 2.0, np.array([1.0]), n=5, over="nodes")
    assert (one.null_mean, one.null_sd, one.z, one.p) == (1.0, None, None, 0.5)


def test_what_is_not_there_says_so():
    none = against_null("R", 0.5, np.zeros(0), n=5, over="nodes")
    assert (none.value, none.null_mean, none.null_sd, none.z, none.p) == (0.5, None, None, None, None)
    undefined = against_null("R", np.nan, np.zeros(3), n=5, over="nodes", missing="all in one place")
    assert np.isnan(undefined.value)
    assert (undefined.missing, undefined.z) == ("all in one place", None)
    assert against_null("R", np.nan, np.zeros(3), n=5, over="nodes").missing
    partly = against_null("R", 1.0, np.array([0.0, np.nan, 2.0]), n=5, over="nodes")
    assert (partly.null_mean, partly.p) == (1.0, 1.0)


@pytest.mark.parametrize("width", [3, 6, 40])
def test_a_gram_factor_has_the_same_inner_products(width: int):
    table = gaussian(6, width)
    factor = gram_factor(table)
    assert factor.shape == (6, min(width, 6))
    np.testing.assert_allclose(factor @ factor.T, table @ table.T, atol=1e-12)


def test_batches_and_parts_leave_nothing_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shuffling, "BATCH", 70)
    table, drawn = gaussian(10, 3), orders(10, 7, seed=0)
    batches = list(shuffled(table, drawn))
    assert [batch.shape for batch in batches] == [(10, 2, 3)] * 3 + [(10, 1, 3)]
    np.testing.assert_array_equal(np.concatenate(batches, axis=1), np.stack([table[o] for o in drawn], axis=1))
    wide = gaussian(30, 5)
    parts = list(column_parts(wide))
    assert [part.shape[1] for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), wide)


@pytest.mark.parametrize(("n_nodes", "n_shuffles"), [(0, 5), (5, -1)])
def test_impossible_shuffles_are_refused(n_nodes: int, n_shuffles: int):
    with pytest.raises(ValueError, match="n_nodes of at least 1 and n_shuffles of at least 0"):
        orders(n_nodes, n_shuffles, seed=0)
