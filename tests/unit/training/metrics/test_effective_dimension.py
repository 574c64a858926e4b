"""Effective dimension: spectra set by hand, an SVD as the oracle, offsets and samples."""

import numpy as np
import pytest
import torch

from mnemoscope.training.metrics import effective_dimension
from mnemoscope.training.metrics.effective_dimension import MOST_ROWS


def axes(*lengths: float, width: int = 4) -> torch.Tensor:
    """Two opposite vectors on each axis, so that the covariance is diagonal."""
    rows = torch.zeros(2 * len(lengths), width)
    for index, length in enumerate(lengths):
        rows[2 * index, index], rows[2 * index + 1, index] = length, -length
    return rows


def test_by_hand():
    assert effective_dimension(axes(3.0, 1.0)) == (2, 0.5, pytest.approx(20**2 / (18**2 + 2**2)))
    assert effective_dimension(axes(5.0, 1.0)) == (1, 0.25, pytest.approx(52**2 / (50**2 + 2**2)))
    assert effective_dimension(axes(1.0, 1.0, 1.0, 1.0)) == (4, 1.0, pytest.approx(4.0))


def test_participation_sees_what_the_count_does_not():
    one, other = effective_dimension(axes(5.0, 0.1)), effective_dimension(axes(5.0, 1.0))
    assert one.components == other.components == 1
    assert one.participation < other.participation - 0.05


def test_what_all_vectors_share_does_not_count():
    shifted = effective_dimension(axes(3.0, 1.0).double() + torch.tensor([0.0, 0.0, 1e3, 0.0]))
    assert shifted == (2, 0.5, pytest.approx(effective_dimension(axes(3.0, 1.0)).participation))


def test_equal_vectors_have_none():
    assert effective_dimension(torch.full((7, 3), 0.1)) == (0, 0.0, 0.0)
    assert effective_dimension(torch.zeros(7, 3)) == (0, 0.0, 0.0)
    assert effective_dimension(torch.ones(1, 3)) == (0, 0.0, 0.0)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40), (2, 3)])
def test_against_singular_values(n: int, d: int):
    vectors = np.random.default_rng(n).normal(size=(n, d)) * np.linspace(1, 3, d)
    spectrum = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False) ** 2
    components = int(np.searchsorted(np.cumsum(spectrum) / spectrum.sum(), 0.95)) + 1
    participation = spectrum.sum() ** 2 / (spectrum**2).sum()
    found = effective_dimension(torch.from_numpy(vectors))
    assert found == (components, components / d, pytest.approx(participation, rel=1e-9))


def test_a_sample_stands_for_many():
    vectors = torch.randn(5 * MOST_ROWS, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 2, 1, 1])
    assert effective_dimension(vectors).participation == pytest.approx(22**2 / (256 + 16 + 2), rel=0.05)
