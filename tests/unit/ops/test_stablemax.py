import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.contracts import IGNORE
from mnemoscope.ops.stablemax import (
    log_stablemax_scores,
    stablemax,
    stablemax_negative_log_likelihood,
    stablemax_scores,
)

POINTS = [-1.0, 0.0, 1.0]


def gradient(of: object, at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    assert callable(of)
    of(at).sum().backward()
    assert at.grad is not None
    return at.grad


def test_scores_by_hand():
    x = torch.tensor(POINTS)
    assert stablemax_scores(x).tolist() == [0.5, 1.0, 2.0]
    assert gradient(stablemax_scores, x).tolist() == [0.25, 1.0, 1.0]
    torch.testing.assert_close(log_stablemax_scores(x), torch.tensor([-math.log(2), 0.0, math.log(2)]))
    assert gradient(log_stablemax_scores, x).tolist() == [0.5, 1.0, 0.5]


def test_the_loss_and_its_gradient_by_hand():
    logits = torch.tensor([POINTS], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(stablemax(logits)[0], torch.tensor([1, 2, 4], dtype=torch.float64) / 7)
    loss = stablemax_negative_log_likelihood(logits, torch.tensor([2]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(7 / 4), rel=1e-12)
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.25 / 3.5, 1 / 3.5, 1 / 3.5 - 1 / 2], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of", [stablemax_scores, log_stablemax_scores, stablemax])
def test_gradients_are_finite_where_a_branch_ends(of: object, dtype: torch.dtype):
    x = torch.tensor([-60000.0, -1.0, -0.0, 0.0, 1.0, 2.0, 60000.0]).to(dtype)
    assert gradient(of, x).isfinite().all()
    if of is not stablemax:
        assert gradient(of, x)[2:4].tolist() == [1.0, 1.0]


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), data=st.data())
def test_the_loss_is_minus_the_logarithm_of_the_probability(values: list[float], data: st.DataObject):
    target = data.draw(st.integers(0, len(values) - 1))
    scores = [x + 1 if x >= 0 else 1 / (1 - x) for x in values]
    logits = torch.tensor([values], dtype=torch.float64)
    loss = stablemax_negative_log_likelihood(logits, torch.tensor([target])).item()
    others = sum(score for i, score in enumerate(scores) if i != target)
    assert loss == pytest.approx(math.log1p(others / scores[target]), rel=1e-6)
    assert stablemax(logits)[0, target].item() == pytest.approx(scores[target] / sum(scores), rel=1e-9)


def test_nothing_collapses_in_single_precision():
    """p differs from one by 1e-10: softmax of the log-scores rounds that, and the gradient with it, to zero."""
    wide = torch.tensor([[1e5, -1e5, -1e5]], dtype=torch.float64, requires_grad=True)
    single = wide.detach().float().requires_grad_()
    target = torch.tensor([0])
    losses = [stablemax_negative_log_likelihood(logits, target).sum() for logits in (wide, single)]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    assert 1e-10 < losses[1].item() < 1e-9
    assert wide.grad is not None
    torch.testing.assert_close(single.grad, wide.grad.float(), rtol=1e-5, atol=0.0)
    assert torch.nn.functional.cross_entropy(log_stablemax_scores(single), target).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype: torch.dtype):
    logits = torch.zeros(1, 40_001, dtype=dtype)
    loss = stablemax_negative_log_likelihood(logits, torch.tensor([7]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(40_001), rel=1e-6)
    assert stablemax(logits)[0, 0].item() == pytest.approx(1 / 40_001, rel=1e-6)


@pytest.mark.parametrize("target", [-1, 3, IGNORE])
def test_a_target_that_is_no_class_is_refused(target: int):
    with pytest.raises(ValueError, match=rf"targets must be in \[0, 3\), got {target}; what is not to be scored"):
        stablemax_negative_log_likelihood(torch.zeros(2, 3), torch.tensor([1, target]))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        stablemax_negative_log_likelihood(torch.zeros(1, 1), torch.tensor([0]))
