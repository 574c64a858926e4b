"""Products of decays over every stretch, one by one and all at once."""

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.decay_products import decay_products, decay_products_naive
from tests.tolerances import FLOAT32, FLOAT64, assert_close


def logs(*shape: int, scale: float = 0.3) -> Tensor:
    return -scale * torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("c", [1, 2, 7, 33])
def test_all_at_once_are_those_one_by_one(c: int):
    log_decay = logs(2, 3, c).requires_grad_()
    fast, slow = decay_products(log_decay), decay_products_naive(log_decay)
    assert_close(fast, slow, FLOAT64)
    weigh = torch.randn(fast.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((form * weigh).sum(), log_decay)[0] for form in (fast, slow))
    assert_close(ours, theirs, FLOAT64)


def test_small_decays_are_exact_beside_large_ones_in_float32():
    log_decay = torch.cat([torch.full((1,), -1e4), -1e-3 * torch.ones(63)]).double()
    assert_close(decay_products(log_decay.float()), decay_products_naive(log_decay), FLOAT32)


def test_a_decay_of_zero_has_a_gradient():
    log_decay = logs(5)
    log_decay[2] = -torch.inf
    log_decay.requires_grad_()
    products = decay_products(log_decay)
    assert not products[2:, :2].any()
    assert_close(products[:2, :2], decay_products(log_decay[:2]), FLOAT64)
    assert torch.autograd.grad(products.sum(), log_decay)[0].isfinite().all()
