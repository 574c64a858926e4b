"""What is minimised, and what is shown beside it. Pure functions."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from mnemoscope.contracts import IGNORE
from mnemoscope.ops.stablemax import stablemax_negative_log_likelihood


def cross_entropy(logits: Float[Tensor, "b t vocab"], targets: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the scored positions, in nats per token; computed in float32 at least.

    Args:
        logits: unnormalised log-probabilities.
        targets: tokens in [0, vocab), or `IGNORE`; at least one must be scored.
    """
    chosen, wanted = _scored(logits, targets)
    if chosen.dtype in (torch.float16, torch.bfloat16):
        chosen = chosen.float()
    return F.cross_entropy(chosen, wanted)


def stablemax_cross_entropy(logits: Float[Tensor, "b t vocab"], targets: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Mean StableMax cross-entropy over the scored positions, in nats per token; computed in float32 at least.

    Args:
        logits: what `mnemoscope.ops.stablemax` makes probabilities of.
        targets: tokens in [0, vocab), or `IGNORE`; at least one must be scored.

    Raises:
        ValueError: a target that is neither; -1 marks nothing here.
    """
    return stablemax_negative_log_likelihood(*_scored(logits, targets)).mean()


def accuracy(logits: Float[Tensor, "b t vocab"], targets: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Fraction of the scored positions whose largest logit is the target's.

    Args:
        logits: unnormalised log-probabilities.
        targets: tokens in [0, vocab), or `IGNORE`; at least one must be scored.
    """
    chosen, wanted = _scored(logits, targets)
    return (chosen.argmax(dim=-1) == wanted).float().mean()


def binary_cross_entropy(
    logits: Float[Tensor, "b t outputs"], targets: Float[Tensor, "b t outputs"]
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over the scored bits, in nats per bit; computed in float32 at least.

    Args:
        logits: log-odds that the bit is 1.
        targets: 0 or 1, or NaN where nothing is scored; at least one must be scored.
    """
    return F.binary_cross_entropy_with_logits(*_numbers(logits, targets))


def bit_error_rate(logits: Float[Tensor, "b t outputs"], targets: Float[Tensor, "b t outputs"]) -> Float[Tensor, ""]:
    """Fraction of the scored bits that are wrong, where log-odds of at least 0 are read as a 1.

    Args:
        logits: log-odds that the bit is 1.
        targets: 0 or 1, or NaN where nothing is scored; at least one must be scored.
    """
    chosen, wanted = _numbers(logits, targets)
    return ((chosen >= 0) != (wanted >= 0.5)).float().mean()


def squared_error(outputs: Float[Tensor, "b t outputs"], targets: Float[Tensor, "b t outputs"]) -> Float[Tensor, ""]:
    """Mean squared error over the scored numbers; computed in float32 at least.

    Args:
        outputs: what is predicted.
        targets: numbers, or NaN where nothing is scored; at least one must be scored.
    """
    return F.mse_loss(*_numbers(outputs, targets))


def absolute_error(outputs: Float[Tensor, "b t outputs"], targets: Float[Tensor, "b t outputs"]) -> Float[Tensor, ""]:
    """Mean absolute error over the scored numbers; computed in float32 at least.

    Args:
        outputs: what is predicted.
        targets: numbers, or NaN where nothing is scored; at least one must be scored.
    """
    return F.l1_loss(*_numbers(outputs, targets))


def is_scored(targets: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Which targets are scored: tokens other than `IGNORE`, numbers other than NaN."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORE


def bits(nats: float) -> float:
    """Nats as bits; of a model of bytes, nats per token as bits per byte."""
    return nats / math.log(2)


def _scored(
    logits: Float[Tensor, "b t vocab"], targets: Int[Tensor, "b t"]
) -> tuple[Float[Tensor, "scored vocab"], Int[Tensor, "scored"]]:
    # Where few positions are scored, the softmax of the others would be most of the work.
    scored = (targets != IGNORE).flatten()
    if bool(scored.all()):
        return logits.flatten(0, 1), targets.flatten()
    return logits.flatten(0, 1)[scored], targets.flatten()[scored]


def _numbers(
    outputs: Float[Tensor, "b t outputs"], targets: Float[Tensor, "b t outputs"]
) -> tuple[Float[Tensor, "scored"], Float[Tensor, "scored"]]:
    if outputs.shape != targets.shape:
        raise ValueError(
            f"train: the task wants {targets.shape[-1]} numbers at every position, the model gives "
            f"{outputs.shape[-1]}; build the model with as many outputs"
        )
    scored = is_scored(targets)
    chosen = outputs[scored]
    if chosen.dtype in (torch.float16, torch.bfloat16):
        chosen = chosen.float()
    return chosen, targets[scored].to(chosen.dtype)
