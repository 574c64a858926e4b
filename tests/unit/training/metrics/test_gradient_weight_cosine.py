"""Gradient-weight cosine: by hand, signs, tied weights, and gradients that are gone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnemoscope.training.metrics import gradient_weight_cosine


def parameter(weight: list[float], gradient: list[float] | None) -> nn.Parameter:
    made = nn.Parameter(torch.tensor(weight))
    made.grad = None if gradient is None else torch.tensor(gradient)
    return made


def test_by_hand():
    parts = {
        "grows": parameter([3.0, 4.0], [-3.0, -4.0]),
        "turns": parameter([1.0, 0.0], [0.0, 2.0]),
        "rests": parameter([1.0, 1.0], [0.0, 0.0]),
        "frozen": parameter([9.0, 9.0], None),
    }
    found = gradient_weight_cosine(parts.items())
    assert found.tensors == {"grows": pytest.approx(1.0), "turns": 0.0}
    assert found.whole == pytest.approx(25 / math.sqrt((25 + 4) * (25 + 1 + 2)))


def test_positive_means_that_descent_lengthens_the_weights():
    weight = nn.Parameter(torch.tensor([1.0, 2.0, -1.0]))
    (-weight.square().sum()).backward()
    longer = weight - 0.1 * weight.grad  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    assert longer.norm() > weight.norm()
    assert gradient_weight_cosine([("w", weight)]).whole == pytest.approx(1.0)


def test_live_gradients_after_accumulation():
    weight = nn.Parameter(torch.tensor([1.0, 0.0]))
    for slope in (torch.tensor([-1.0, 0.0]), torch.tensor([0.0, -1.0])):
        (slope @ weight).backward()
    assert gradient_weight_cosine([("w", weight)]).whole == pytest.approx(0.5**0.5)
    weight.grad = None
    with pytest.raises(ValueError, match=r"needs live gradients, got none; call it between backward\(\) and zero_grad"):
        gradient_weight_cosine([("w", weight)])


def test_zeros_everywhere_have_no_cosine():
    assert gradient_weight_cosine([("w", parameter([1.0], [0.0]))]) == (None, {})


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.integers(0, 99))
def test_scales_do_not_matter_and_bounds_hold(of_gradient: float, of_weight: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    w, g = torch.randn(2, 5, dtype=torch.float64, generator=generator)

    def whole(weight: Tensor, gradient: Tensor) -> float:
        made = nn.Parameter(weight)
        made.grad = gradient
        found = gradient_weight_cosine([("w", made)]).whole
        assert found is not None
        return found

    plain = whole(w, g)
    assert -1 <= plain <= 1
    assert whole(of_weight * w, of_gradient * g) == pytest.approx(plain, rel=1e-9)
    assert whole(w, -g) == pytest.approx(-plain, rel=1e-9)
