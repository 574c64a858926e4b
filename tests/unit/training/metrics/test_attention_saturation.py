"""Saturation of a softmax: the closed form against the Jacobian itself, thresholds, and rows without a choice."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.training.metrics import attention_saturation, jacobian_norm


@given(st.lists(st.floats(-6, 6), min_size=2, max_size=6))
def test_closed_form(scores: list[float]):
    z = torch.tensor(scores, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: x.softmax(-1), z)
    assert jacobian_norm(z.softmax(-1)).item() == pytest.approx(jacobian.norm().item(), abs=1e-8)  # pyright: ignore[reportAttributeAccessIssue]


def test_by_hand():
    weights = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.996, 0.004], [1 - 1e-6, 1e-6]])
    assert jacobian_norm(weights)[:3].tolist() == pytest.approx([0.5, 2 * 0.25 * 0.75, 2 * 0.996 * 0.004], rel=1e-6)
    assert attention_saturation(weights) == 0.5
    assert attention_saturation(weights, threshold=0.4) == 0.75
    assert attention_saturation(weights.bfloat16(), threshold=0.4) == 0.75


@pytest.mark.parametrize("strict", [False, True])
def test_a_first_token_without_a_choice_is_not_saturated(strict: bool):
    """Causal attention, and a memory of what came before the present token: one choice, or none and then one."""
    allowed = torch.ones(2, 3, 6, 6).tril(-1 if strict else 0)
    assert attention_saturation(allowed / allowed.sum(-1, keepdim=True).clamp_min(1)) == 0.0


def test_a_choice_that_was_made_for_good_is():
    """Weights that underflow to exactly one are saturated wherever there was a choice."""
    saturated = torch.zeros(1, 1, 6, 6)
    saturated[..., 0] = 1.0
    assert attention_saturation(saturated) == 1.0
    elsewhere = torch.full((1, 1, 6, 6), 1 / 6)
    assert attention_saturation(torch.cat([saturated, elsewhere])) == 0.5


def test_no_choice_at_all():
    assert attention_saturation(torch.zeros(2, 3, 4)) is None
    assert attention_saturation(torch.ones(2, 1, 1)) is None
