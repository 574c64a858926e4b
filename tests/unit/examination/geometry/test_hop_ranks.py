"""Rank correlations by counting against SciPy's, with ties on both sides and pairs that do not count."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.examination.geometry.hop_ranks import HopRanks, all_pairs, pairs_between
from tests.unit.examination.geometry.known_graphs import gaussian


@given(st.integers(3, 40), st.integers(1, 2), st.booleans(), st.integers(0, 1000))
def test_spearman_by_counting(n_pairs, least, are_tied, seed):
    rng = np.random.default_rng(seed)
    hops = rng.integers(0, 5, n_pairs).astype(np.uint8)
    cosines = np.sort(rng.integers(0, 6, n_pairs) / 6 if are_tied else rng.random(n_pairs))
    starts = np.flatnonzero(np.append(True, np.diff(cosines) > 0)) if are_tied else None
    found = HopRanks(np.bincount(hops), least)
    there = hops >= least
    assert found.n_pairs == there.sum()
    if len(np.unique(hops[there])) < 2 or len(np.unique(cosines[there])) < 2:
        assert np.isnan(found.correlation(hops, starts))
    else:
        expected = stats.spearmanr(hops[there], cosines[there]).statistic
        assert found.correlation(hops, starts) == pytest.approx(float(expected), abs=1e-12)


def test_a_perfect_order_by_hand():
    hops = np.array([3, 0, 2, 1], dtype=np.uint8)
    assert HopRanks(np.bincount(hops), 1).correlation(hops, None) == pytest.approx(-1)
    assert HopRanks(np.bincount(hops), 2).correlation(hops[::-1].copy(), None) == pytest.approx(1)
    halved = HopRanks(np.bincount(hops), 1).correlation(hops, np.array([0, 2]))
    assert halved == pytest.approx(-np.sqrt(3) / 2), "3 before 2 and 1, which are equal"


@pytest.mark.parametrize("are_tied", [False, True])
def test_shuffles_move_rows_and_leave_hops_with_their_nodes(are_tied: bool):
    unit = gaussian(9, 2)[[0, 1, 2, 3, 4, 0, 1, 2, 8] if are_tied else range(9)]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    codes = np.arange(81, dtype=np.uint8).reshape(9, 9)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(9)
        shuffled = np.round(unit[order] @ unit[order].T, 12)
        symmetric, block = np.triu(codes) + np.triu(codes, 1).T, codes[:3, 4:]
        for in_order, pairs in (
            (all_pairs(unit, symmetric), list(combinations(range(9), 2))),
            (pairs_between(unit, block, np.arange(3), np.arange(4, 9)), list(product(range(3), range(4, 9)))),
        ):
            found, starts = in_order(order)
            cosine = {codes[i, j]: shuffled[i, j] for i, j in pairs}
            along = np.array([cosine[code] for code in found])
            assert sorted(found) == sorted(cosine)
            assert (np.diff(along) >= 0).all()
            distinct = np.flatnonzero(np.append(True, np.diff(along) > 0))
            np.testing.assert_array_equal(np.arange(len(along)) if starts is None else starts, distinct)
            assert are_tied or starts is None
