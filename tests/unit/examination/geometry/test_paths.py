"""Leaves beside first hops, and arms beside arms: against hand-made tables and slow loops."""

import numpy as np
import pytest

from mnemoscope.examination.geometry import paths as module
from mnemoscope.examination.geometry.paths import arm_distances, arm_gap, first_hop_matrix, path_metrics
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.tasks.graphs import star_paths

# Root 0; first hops 1, 2, 3 along axes, leaves 4, 5, 6.
HOPS, LEAVES = np.array([1, 2, 3]), np.array([4, 5, 6])
TABLE = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [4, 3, 0], [4, 3, 0], [0, 0, 1]], dtype=np.float64)
NONE = orders(7, 0, 0)


def values(*args) -> dict[str, float]:
    return {metric.name: metric.value for metric in path_metrics(*args)}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_goldens():
    # Cosines: leaf 4 (.8, .6, 0), leaf 5 the same though its own is the second, leaf 6 (0, 0, 1).
    found = values(TABLE, HOPS, LEAVES, NONE)
    gap = np.mean([0.8 - 0.3, 0.6 - 0.4, 1 - 0])
    assert found == pytest.approx({"first_hop_top1": 2 / 3, "first_hop_auc": (1 + 0.5 + 1) / 3, "first_hop_gap": gap})


def test_a_tie_is_no_first_place():
    found = values(np.ones((7, 3)), HOPS, LEAVES, NONE)
    assert found == pytest.approx({"first_hop_top1": 0, "first_hop_auc": 0.5, "first_hop_gap": 0}, abs=1e-12)


def test_held_out_paths_have_all_first_hops_as_candidates():
    held_out = np.array([False, True, False])
    found = values(TABLE, HOPS, LEAVES, NONE, held_out)
    assert found["first_hop_top1_held_out"] == 0
    assert found["first_hop_auc_held_out"] == pytest.approx(0.5)
    assert found["first_hop_top1_trained"] == 1
    assert found["first_hop_gap_trained"] == pytest.approx((0.5 + 1) / 2)
    assert len(found) == 9
    none = path_metrics(TABLE, HOPS, LEAVES, NONE, np.zeros(3, dtype=np.bool_))
    assert {metric.name for metric in none if metric.missing} == {
        f"first_hop_{x}_held_out" for x in ("top1", "auc", "gap")
    }


def test_leaves_of_one_subtree_share_a_first_hop(monkeypatch):
    rng = np.random.default_rng(0)
    paths = star_paths(3, 4, branching=2)
    hops, leaves, table = paths[:, 1], paths[:, -1], rng.standard_normal((int(paths.max()) + 1, 5))
    candidates = np.unique(hops)
    expected = np.zeros(3)
    for hop, leaf in zip(hops, leaves, strict=True):
        cosine = {other: float(unit(table[[leaf]])[0] @ unit(table[[other]])[0]) for other in candidates}
        others = [value for other, value in cosine.items() if other != hop]
        expected += [cosine[hop] > max(others), np.mean(np.array(others) < cosine[hop]), cosine[hop] - np.mean(others)]
    whole = values(table, hops, leaves, orders(22, 0, 0))
    assert list(whole.values()) == pytest.approx(list(expected / len(leaves)))
    monkeypatch.setattr(module, "_ENTRIES", 7)
    assert values(table, hops, leaves, orders(22, 0, 0)) == pytest.approx(whole)


def test_paths_exchange_their_first_hops_in_the_null():
    rng = np.random.default_rng(0)
    paths = star_paths(40, 3)
    hops, leaves, table = paths[:, 1], paths[:, -1], rng.standard_normal((81, 16))
    top1, auc, gap = path_metrics(table, hops, leaves, orders(81, 100, 1))
    assert top1.null_mean == pytest.approx(1 / 40, abs=0.01)
    assert auc.null_mean == pytest.approx(0.5, abs=0.02)
    assert gap.null_mean == pytest.approx(0, abs=0.02)
    assert max(abs(metric.z) for metric in (top1, auc, gap) if metric.z is not None) < 3
    table[leaves] = table[hops] + 0.1 * table[leaves]
    top1, auc, gap = path_metrics(table, hops, leaves, orders(81, 100, 1))
    assert (top1.value, auc.value) == (1, 1)
    assert top1.null_mean == pytest.approx(1 / 40, abs=0.01)
    assert all(
        metric.z is not None and metric.z > 5 and metric.p == pytest.approx(1 / 101) for metric in (top1, auc, gap)
    )


def test_one_first_hop_is_no_choice():
    found = path_metrics(TABLE, np.array([1, 1]), np.array([4, 5]), NONE)
    assert [metric.missing for metric in found] == ["all paths have one first hop"] * 3


def test_paths_without_rows_are_refused():
    with pytest.raises(ValueError, match="2 first hops and 3 leaves"):
        path_metrics(TABLE, HOPS[:2], LEAVES, NONE)
    with pytest.raises(ValueError, match="held_out must say of each of 3 paths, got 2"):
        module._check_paths(TABLE, HOPS, LEAVES, np.zeros(2, dtype=np.bool_))
    with pytest.raises(ValueError, match=r"leaves must be 0 ... 6, .* got 7"):
        first_hop_matrix(TABLE, HOPS, LEAVES + 1)


def test_first_hop_matrix():
    found = first_hop_matrix(TABLE, HOPS, LEAVES)
    np.testing.assert_allclose(found.values, [[0.2, 0.4, 1], [0.2, 0.4, 1], [1, 1, 0]], atol=1e-12)
    assert (found.rows[0], found.columns[2]) == ("leaf 4", "first hop 3")
    assert first_hop_matrix(TABLE, HOPS, LEAVES, most=2).rows == ["leaf 4", "leaf 6"]


def slow_arms(table: np.ndarray, arms: np.ndarray) -> np.ndarray:
    n_arms = int(arms.max()) + 1
    distance = np.zeros((n_arms, n_arms))
    rows = unit(table)
    for one in range(n_arms):
        for two in range(n_arms):
            pairs = [(u, v) for u in np.flatnonzero(arms == one) for v in np.flatnonzero(arms == two) if u != v]
            distance[one, two] = np.mean([1 - rows[u] @ rows[v] for u, v in pairs])
    return distance


def test_arms_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    arms = np.array([-1, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    table = rng.standard_normal((10, 4)) + 2 * rng.standard_normal((4, 4))[arms]
    expected = slow_arms(table, arms)
    found = arm_distances(table, arms)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    assert found.rows == ["arm 0", "arm 1", "arm 2"]
    shuffles = orders(10, 30, 0)
    gap = arm_gap(table, arms, shuffles)

    def slow_gap(rows: np.ndarray) -> float:
        each = slow_arms(rows, arms)
        return each[~np.eye(3, dtype=np.bool_)].mean() - each.diagonal().mean()

    assert gap.value == pytest.approx(slow_gap(table))
    assert gap.null_mean == pytest.approx(np.mean([slow_gap(table[order]) for order in shuffles]))


def test_arms_of_one_node_have_nothing_within():
    table = np.random.default_rng(0).standard_normal((4, 3))
    assert arm_distances(table, np.array([0, 0, 1, -1])).values[1][1] == 0
    assert arm_gap(table, np.array([0, 0, 1, -1]), orders(4, 2, 0)).n == 2
    assert arm_gap(table, np.array([0, 1, 2, -1]), orders(4, 2, 0)).missing
    assert arm_gap(table, np.array([0, 0, 0, -1]), orders(4, 2, 0)).missing
    assert arm_gap(table, np.array([-1, -1, -1, -1]), orders(4, 2, 0)).missing
