"""Newton-Schulz: the polynomial on singular values, their range, and what has none."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.ops.newton_schulz import newton_schulz, newton_schulz_naive, newton_schulz_products
from tests.tolerances import FLOAT64, assert_close

SHAPES = [(6, 6), (4, 9), (9, 4), (1, 5)]


def matrices(k: int, v: int, batch: tuple[int, ...] = (3, 2)) -> Tensor:
    return torch.randn(*batch, k, v, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_it_is_a_polynomial_of_the_singular_values(shape: tuple[int, int], steps: int):
    s = matrices(*shape).requires_grad_()
    fast, slow = newton_schulz(s, steps), newton_schulz_naive(s, steps)
    assert_close(fast, slow, FLOAT64)
    weigh = matrices(*shape).flip(-1)
    ours, theirs = (torch.autograd.grad((form * weigh).sum(), s)[0] for form in (fast, slow))
    assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16)])
def test_five_steps_bring_singular_values_near_one(shape: tuple[int, int]):
    # A spectrum down to a hundredth of the largest.
    left, _, right = torch.linalg.svd(matrices(*shape, batch=(20,)), full_matrices=False)
    values = torch.logspace(0, -2, 16, dtype=torch.float64)
    after = torch.linalg.svdvals(newton_schulz(left * values @ right, 5))
    assert after.min() > 0.67
    assert after.max() < 1.14


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_rank_is_kept(rank: int):
    s = matrices(12, rank, batch=()) @ matrices(rank, 8, batch=())
    values = torch.linalg.svdvals(newton_schulz(s, 5))
    assert (values[:rank] > 0.67).all()
    assert (values[rank:] < 1e-9).all()


def test_the_size_of_a_matrix_does_not_matter():
    s = matrices(5, 7)
    assert_close(newton_schulz(1e3 * s, 5), newton_schulz(s, 5), FLOAT64)


def test_nothing_stays_nothing_and_has_a_gradient():
    s = torch.zeros(2, 4, 3, requires_grad=True)
    x = newton_schulz(s, 5)
    assert not x.any()
    assert torch.autograd.grad(x.sum(), s)[0].isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_torchs_counter(shape: tuple[int, int]):
    with FlopCounterMode(display=False) as counter:
        newton_schulz(matrices(*shape, batch=(1,)), 3)
    assert counter.get_total_flops() == 2 * newton_schulz_products(*shape, steps=3)
