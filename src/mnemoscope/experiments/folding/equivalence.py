"""What a fold costs and what it saves."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, score
from mnemoscope.models import Stack
from mnemoscope.runs.examination import Estimate

REPETITIONS = 5
DECODED = 32
"""Tokens decoded one by one where decoding is timed, at most."""


class Sizes(NamedTuple):
    """Parameters of a model, each tensor once, and their bytes."""

    parameters: int
    n_bytes: int


class Speeds(NamedTuple):
    """Tokens per second of two models, the median of a few passes each."""

    before: float
    after: float


def equivalence(
    before: nn.Module, after: nn.Module, loss: Loss, test: Sequence[Any], *, n_resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """How much more the second model loses on the same held-out sequences, with its interval (95 %, both sides).

    Paired, with the sequence as the unit. The models are equivalent where the upper end is below a margin.
    """
    return increase(losses(before, loss, test), losses(after, loss, test), n_resamples=n_resamples, seed=seed)


def losses(model: nn.Module, loss: Loss, test: Sequence[Any]) -> Float[Tensor, "n"]:
    """The loss of every sequence of some batches, in float64 on the CPU."""
    return torch.cat([_losses(model, loss, batch) for batch in test])


def increase(
    before: Float[Tensor, "n"], after: Float[Tensor, "n"], *, n_resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """How much larger the second losses of the same sequences are, with its interval (95 %, both sides)."""
    return Bootstrap(len(before), n_resamples, seed).mean((after - before).numpy())


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


@torch.inference_mode()
def decode_speeds(before: Stack, after: Stack, tokens: Int[Tensor, "1 t"]) -> Speeds:
    """Tokens per second decoded one by one behind the first tokens of a sequence, one model after the other.

    Args:
        before: stack of tokens.
        after: another.
        tokens: a sequence; its last `DECODED` tokens, or its second half if that is shorter, are decoded.
    """
    n = min(DECODED, tokens.shape[1] // 2)
    taken: tuple[list[float], list[float]] = ([], [])
    for repetition in range(REPETITIONS + 1):
        for model, seconds in zip((before, after), taken, strict=True):
            with intact(model):
                _, state = model.prefill(tokens[:, :-n])
                began = time.perf_counter()
                for token in tokens[:, -n:].unbind(1):
                    _, state = model.step(token, state)
                if repetition:
                    seconds.append(time.perf_counter() - began)
    return Speeds(*(n / statistics.median(seconds) for seconds in taken))


def _losses(model: nn.Module, loss: Loss, batch: Any) -> torch.Tensor:
    with intact(model), torch.no_grad():
        return score(loss, model, batch).per_sequence.double().cpu()
