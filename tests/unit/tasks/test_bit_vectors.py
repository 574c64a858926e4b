"""Bit vectors: what is counted as a wrong bit, which bit a channel holds, and whose a list is in any config."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.tasks.bit_vectors import bit_errors, bit_words, check_between, fingerprints, up_to, vectors_of
from mnemoscope.tasks.streams import owners

NAN = math.nan


def test_bit_errors_by_hand():
    targets = np.array([[[NAN, NAN], [1, 0], [1, 1]], [[0, 1], [NAN, 0], [NAN, NAN]]])
    predicted = np.array([[[0.9, 0.9], [0.5, 0.49], [0.4, 0.0]], [[0.5, NAN], [1.0, 0.1], [0.0, 0.0]]])
    # First sequence: 0.5 counts as 1 and 0.49 as 0, both right; 0.4 and 0 are wrong. Second: 0.5 and NaN are wrong.
    assert bit_errors(predicted, targets).tolist() == [2, 2]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), scored=st.floats(0, 1))
def test_bit_errors_against_a_loop(seed, scored):
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=(3, 5, 4)).astype(np.float32)
    targets[rng.random(targets.shape) >= scored] = NAN
    predicted = rng.random(targets.shape)
    expected = [0, 0, 0]
    for row, position, channel in np.ndindex(targets.shape):
        wanted = targets[row, position, channel]
        if not math.isnan(wanted):
            expected[row] += (1.0 if predicted[row, position, channel] >= 0.5 else 0.0) != wanted
    assert bit_errors(predicted, targets).tolist() == expected
    assert bit_errors(np.nan_to_num(targets), targets).tolist() == [0, 0, 0]
    assert (bit_errors(1 - np.nan_to_num(targets), targets) == (~np.isnan(targets)).sum((1, 2))).all()


def test_bit_errors_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"must have one shape \(b, t, outputs\), got \(1, 2, 3\) and \(1, 2, 4\)"):
        bit_errors(np.zeros((1, 2, 3)), np.zeros((1, 2, 4)))


@settings(deadline=None, max_examples=50)
@given(code=st.integers(0, 2**31 - 1))
def test_the_first_channel_is_the_most_significant_bit(code):
    vector = vectors_of(np.array([[code]]), 31)
    assert vector.dtype == np.float32
    assert "".join(str(int(bit)) for bit in vector[0, 0]) == f"{code:031b}"


def test_the_docstrings_example():
    assert vectors_of(np.array([6]), 4).tolist() == [[0, 1, 1, 0]]
    assert up_to(np.array([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]


@settings(deadline=None, max_examples=60)
@given(codes=st.lists(st.integers(0, 2**31), max_size=12), behind=st.lists(st.integers(0, 2**31), max_size=12))
def test_a_list_has_one_owner_whatever_stands_behind_it(codes, behind):
    counts = np.array([len(codes)])
    alone = fingerprints(np.array([codes], dtype=np.int64).reshape(1, -1), counts)
    padded = fingerprints(np.array([codes + behind], dtype=np.int64).reshape(1, -1), counts)
    assert alone.shape == (1, 1)
    assert np.array_equal(alone, padded)
    assert np.array_equal(owners(alone), owners(padded))


def test_lists_that_differ_have_different_fingerprints():
    """All lists of up to 3 codes below 8: order, length and every code count."""
    rows, counts = [], []
    for count in range(4):
        for number in range(8**count):
            rows.append([number // 8**place % 8 if place < count else 0 for place in range(3)])
            counts.append(count)
    found = fingerprints(np.array(rows), np.array(counts))
    assert len(set(found.ravel().tolist())) == len(rows) == 585


def test_words():
    assert bit_words([[0, 1, 1, 0], [0, 0, 0, 0]], 4, []) == ["0110", "0000"]
    assert bit_words([[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, -1.5]], 2, ["a", "b"], n_parts=2) == ["01:10", "b"]
    assert bit_words([[NAN, NAN], [NAN, 1]], 2, ["unused"]) == [".", ".1"]


@pytest.mark.parametrize(
    ("value", "most", "message"),
    [
        (0, None, "where: must be at least 1, got 0; nearest valid: 1"),
        (0, 5, "where: must be between 1 and 5, got 0; nearest valid: 1"),
        (9, 5, "where: must be between 1 and 5, got 9; nearest valid: 5"),
    ],
)
def test_check_between(value, most, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_between("where", value, 1, most)
    check_between("where", 1, 1, most)
    check_between("where", 5, 1, most)
