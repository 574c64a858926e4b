"""Magnitude of states: by hand, whatever the batch, and for states of any shape."""

import pytest
import torch

from mnemoscope.training.metrics import relative_update, state_norm

STATES = torch.tensor([[[3.0, 4.0], [3.0, 4.0], [6.0, 8.0]], [[0.0, 0.0], [0.0, 2.0], [0.0, 1.0]]])


def test_by_hand():
    assert state_norm(STATES) == pytest.approx((10 + 1) / 2)
    assert relative_update(STATES) == pytest.approx((0 + 1 + 0.5) / 3)


@pytest.mark.parametrize("copies", [1, 4, 16])
def test_the_batch_does_not_enlarge_a_memory(copies: int):
    """The norm of the whole tensor grows with the square root of the batch."""
    batch = STATES[:1].expand(copies, -1, -1)
    assert state_norm(batch) == pytest.approx(10.0)
    assert batch[:, -1].norm().item() == pytest.approx(10.0 * copies**0.5)
    assert relative_update(batch) == pytest.approx(0.5)


def test_axes_of_a_state_do_not_matter():
    heads = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert state_norm(heads) == pytest.approx(state_norm(heads.flatten(2)), rel=1e-12)
    assert relative_update(heads) == pytest.approx(relative_update(heads.flatten(2)), rel=1e-12)


def test_an_empty_memory_has_no_update():
    assert relative_update(torch.zeros(2, 3, 4)) is None
    assert relative_update(STATES[:, :1]) is None
