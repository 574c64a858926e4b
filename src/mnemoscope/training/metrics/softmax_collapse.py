"""Softmax collapse: rows whose loss can no longer fall, because the softmax is exactly one-hot in its precision.

    share         rows with  sum_k exp(z_k - max z) == 1,  in the dtype of the loss
    zero losses   rows with  -log softmax(z)_target == 0

What it says: the share of scored rows whose correct class, if it is the largest, has a gradient of exactly zero. How to
read it: in float32 a row collapses where every other logit lies about 16.6 nats (2^-24) below the largest; a rising
share in a run that has fitted its training data and does not generalise speaks for StableMax, PerpGrad or weight
decay. The loss is computed in float32 at least, so the metric is too: in bfloat16 the same test fires from a largest
probability of about 0.94 on. It is defined for the softmax only: other losses (StableMax) drive logits to sizes at
which it reads 1 and means nothing. Cost: one softmax of at most `MOST_ROWS` rows, evenly spaced.

Source: Prieto, Barsbey, Mediano, Birdal 2025 (arXiv 2501.04697), section 3.
Differs: never below float32.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.contracts import IGNORE
from mnemoscope.contracts.precision import in_float64
from mnemoscope.training.metrics.sampling import evenly

MOST_ROWS = 2048


class SoftmaxCollapse(NamedTuple):
    """Shares of the scored rows, in [0, 1]."""

    share: float
    zero_losses: float


@torch.no_grad()
def softmax_collapse(logits: Float[Tensor, "*b vocab"], targets: Int[Tensor, "*b"]) -> SoftmaxCollapse | None:
    """Both shares over the scored rows; None where none is scored.

    Args:
        logits: what the softmax of the loss is given.
        targets: tokens in [0, vocab), or `IGNORE`.
    """
    targets = targets.flatten()
    rows = (targets != IGNORE).nonzero().squeeze(1)
    if len(rows) == 0:
        return None
    rows = rows[evenly(len(rows), MOST_ROWS, rows.device)]
    z = logits.flatten(0, -2)[rows]
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    z = z - z.amax(-1, keepdim=True)
    total = z.exp().sum(-1)
    losses = total.log() - z.gather(1, targets[rows].unsqueeze(1)).squeeze(1)
    return SoftmaxCollapse(*in_float64(torch.stack([total == 1, losses == 0])).mean(1).tolist())
