"""What a fold costs and what it saves."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, score
from mnemoscope.runs.examination import Estimate

REPETITIONS = 5


class Sizes(NamedTuple):
    """Parameters of a model, each tensor once, and their bytes."""

    parameters: int
    n_bytes: int


class Speeds(NamedTuple):
    """Scored batches' tokens per second, the median of a few passes each."""

    before: float
    after: float


def equivalence(
    before: nn.Module, after: nn.Module, loss: Loss, test: Sequence[Any], *, n_resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """How much more the second model loses on the same held-out sequences, with its interval (95 %, both sides).

    Paired, with the sequence as the unit. The models are equivalent where the upper end is below a margin.
    """
    differences = torch.cat([_losses(after, loss, batch) - _losses(before, loss, batch) for batch in test])
    return Bootstrap(len(differences), n_resamples, seed).mean(differences.numpy())


def sizes(model: nn.Module) -> Sizes:
    """Count the parameters of a model; tied ones once."""
    parameters = list(model.parameters())
    return Sizes(sum(p.numel() for p in parameters), sum(p.numel() * p.element_size() for p in parameters))


def speeds(before: nn.Module, after: nn.Module, loss: Loss, batch: Any, n_tokens: int) -> Speeds:
    """Forward passes of a batch, loss included, one model after the other.

    Args:
        before: model.
        after: model.
        loss: of the batch.
        batch: what to run.
        n_tokens: of the batch.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for repetition in range(REPETITIONS + 1):
        for model, seconds in zip((before, after), taken, strict=True):
            with intact(model), torch.inference_mode():
                began = time.perf_counter()
                score(loss, model, batch)
                if repetition:
                    seconds.append(time.perf_counter() - began)
    return Speeds(*(n_tokens / statistics.median(seconds) for seconds in taken))


def _losses(model: nn.Module, loss: Loss, batch: Any) -> torch.Tensor:
    with intact(model), torch.no_grad():
        return score(loss, model, batch).per_sequence.double().cpu()
