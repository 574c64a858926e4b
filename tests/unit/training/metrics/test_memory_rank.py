"""Rank of a memory: by hand, an SVD as the oracle, and never of a joined batch."""

import pytest
import torch

from mnemoscope.training.metrics import memory_rank
from mnemoscope.training.metrics.memory_rank import memory_rank_share


def test_by_hand():
    matrices = torch.stack([torch.eye(4), torch.diag(torch.tensor([5.0, 5.0, 0.0, 0.0]))])
    assert memory_rank(matrices) == pytest.approx((4 + 2) / 2, rel=1e-5)
    assert memory_rank(torch.stack([matrices, 0 * matrices], dim=1)) == pytest.approx(1.5, rel=1e-5)


def test_a_batch_of_two_can_have_rank_eight():
    """Of a batch flattened to one matrix the rank is at most the batch."""
    batch = torch.eye(8).expand(2, 8, 8)
    assert torch.linalg.matrix_rank(batch.flatten(1)) <= 2
    assert memory_rank(batch) == pytest.approx(8.0, rel=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5, 9), (2, 3, 9, 5)])
def test_against_singular_values(shape: tuple[int, ...]):
    state = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = torch.linalg.svdvals(state)
    share = share / share.sum(-1, keepdim=True)
    expected = torch.distributions.Categorical(share).entropy().exp().mean()
    assert memory_rank(state) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 16), (2, 3, 16), (2, 16, 2)])
def test_what_is_no_matrix_has_no_rank(shape: tuple[int, ...]):
    assert memory_rank(torch.ones(shape)) is None


def test_the_share_is_of_the_smaller_side():
    states = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(0))
    assert memory_rank_share(states) == memory_rank(states) / 6
    assert memory_rank_share(torch.ones(3, 4)) is None
