"""Softmax collapse: exact thresholds of each precision, and the two ways in which public code gets it wrong."""

import pytest
import torch

from mnemoscope.contracts import IGNORE
from mnemoscope.training.metrics import softmax_collapse
from mnemoscope.training.metrics.softmax_collapse import MOST_ROWS

# exp(-20) is lost beside 1 in float32 (below 2^-24), exp(-16) is not; float64 keeps both.
LOGITS = torch.tensor([[0.0, -20.0], [0.0, -16.0], [0.0, -20.0], [0.0, 0.0], [0.0, -99.0]])
TARGETS = torch.tensor([0, 0, 1, 1, IGNORE])


def test_hand_computed_shares():
    assert softmax_collapse(LOGITS, TARGETS) == (0.5, 0.25)
    assert softmax_collapse(LOGITS.double(), TARGETS) == (0.0, 0.0)


def test_a_zero_loss_is_what_cross_entropy_calls_zero():
    losses = torch.nn.functional.cross_entropy(LOGITS, TARGETS, ignore_index=IGNORE, reduction="none")
    found = softmax_collapse(LOGITS, TARGETS)
    assert found is not None
    assert found.zero_losses == float((losses[:4] == 0).double().mean())


def test_a_common_offset_changes_nothing():
    assert softmax_collapse(LOGITS + 64, TARGETS) == softmax_collapse(LOGITS, TARGETS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_judged_in_float32(dtype: torch.dtype):
    """Largest probabilities of 0.95 and 0.99995 are no collapse, though tests in half precision say so."""
    logits = torch.tensor([[20.0, 17.0], [20.0, 10.0]], dtype=dtype)
    if dtype == torch.bfloat16:
        assert torch.logsumexp(logits, -1)[0].item() == logits[0].max().item()
    assert (logits[1] - 20).exp().sum().item() == 1
    assert softmax_collapse(logits, torch.tensor([0, 0])) == (0.0, 0.0)


def test_batch_axes_and_samples():
    shape = (2, MOST_ROWS, 2)
    logits = torch.zeros(shape)
    logits[0, :, 1] = -30.0
    assert softmax_collapse(logits, torch.zeros(shape[:2], dtype=torch.int64)) == (0.5, 0.5)


def test_nothing_scored_has_no_share():
    assert softmax_collapse(LOGITS, torch.full((5,), IGNORE)) is None
