import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.examination.geometry.dimension import dimension_metrics
from tests.unit.examination.geometry.known_graphs import gaussian, rotation


def dimensions(table: np.ndarray) -> list[float]:
    return [metric.value for metric in dimension_metrics(table)]


def test_by_hand():
    cross = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert dimensions(cross + 50) == pytest.approx([2, 2])
    assert dimensions(cross * [[math.sqrt(3), 1.0]]) == pytest.approx([4 / 3**0.75, 1 / (9 / 16 + 1 / 16)])
    assert dimensions(np.array([[1.0, 5.0], [2.0, 5.0], [9.0, 5.0]])) == pytest.approx([1, 1])


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 1000))
def test_singular_values_of_the_centred_table(n, m, seed):
    table = gaussian(n, m, seed)
    squares = np.linalg.svd(table - table.mean(axis=0), compute_uv=False) ** 2
    shares = [float(s) for s in squares / squares.sum() if s > 1e-20]
    entropy = -sum(s * math.log(s) for s in shares)
    assert dimensions(table) == pytest.approx([math.exp(entropy), 1 / sum(s * s for s in shares)], rel=1e-6)


def test_what_does_not_matter():
    table, order = gaussian(9, 5), np.random.default_rng(1).permutation(9)
    assert dimensions(7 * table[order] @ rotation(5) + 3) == pytest.approx(dimensions(table))


def test_a_random_table_has_nearly_its_width():
    assert dimensions(gaussian(801, 64))[0] == pytest.approx(61, abs=1.5)


def test_rows_that_are_the_same_have_no_dimension():
    for metric in dimension_metrics(np.full((6, 3), 0.1)):
        assert np.isnan(metric.value)
        assert "the same" in metric.missing


def test_names_and_no_null():
    found = dimension_metrics(gaussian(6, 3))
    assert [metric.name for metric in found] == ["effective_dimension", "participation_ratio"]
    assert all(metric.z is None and metric.null_mean is None and metric.n == 6 for metric in found)
