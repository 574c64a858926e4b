"""Products with a transpose against torch's own, to the second derivative."""

import pytest
import torch

from mnemoscope.ops.products import between_rows, over_rows
from tests.tolerances import FLOAT64, assert_close

CASES = [
    (between_rows, lambda a, b: torch.einsum("mck,msk->mcs", a, b), (2, 3, 5), (2, 4, 5)),
    (over_rows, lambda a, b: torch.einsum("mck,mcv->mkv", a, b), (2, 3, 5), (2, 3, 4)),
]


@pytest.mark.parametrize(("form", "plain", "left", "right"), CASES)
def test_values_and_gradients_are_those_of_einsum(form, plain, left: tuple[int, ...], right: tuple[int, ...]):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in (left, right))
    found = []
    for product in (form, plain):
        y = product(a, b).sin()
        first = torch.autograd.grad(y.sum(), [a, b], create_graph=True)
        second = torch.autograd.grad(sum(part.cos().sum() for part in first), [a, b])
        found.append([y, *first, *second])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize(("form", "plain", "left", "right"), CASES)
def test_gradients_lie_like_their_operands(form, plain, left: tuple[int, ...], right: tuple[int, ...]):
    a, b = (torch.randn(*shape).requires_grad_() for shape in (left, right))
    assert all(part.is_contiguous() for part in torch.autograd.grad(form(a, b).sum(), [a, b]))
