"""From a task to tensors, and how well a model does on sequences it is not trained on."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import IGNORE
from mnemoscope.tasks import MeasuredInBytes, Split, Task, task_rng
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.loss import bits, is_scored
from mnemoscope.training.objective import objective_of
from mnemoscope.training.randomness import forked_rng
from mnemoscope.training.ranks import ALONE, Ranks

VALIDATION_SEED = 0
"""One set of validation sequences for all runs of a task, so that seeds and recipes are compared on the same ones."""

Inputs: TypeAlias = Int[Tensor, "b t"] | Float[Tensor, "b t c"]
"""Tokens, or vectors where the task has no tokens."""

Targets: TypeAlias = Int[Tensor, "b t"] | Float[Tensor, "b t outputs"]
"""Tokens with `IGNORE`, or vectors with NaN, where nothing is scored."""


def draw(task: Task, seed: int, split: Split, step: int, size: int) -> tuple[Inputs, Targets]:
    """The inputs and targets of one step on the CPU: a pure function of its arguments.

    Returns:
        int64 tokens; float32 vectors where the task has no tokens.

    Raises:
        ValueError: if no target of the batch is scored.
    """
    batch, dtype = task.batch(task_rng(seed, split, step), size, split), np.int64 if task.vocab_size else np.float32
    inputs, targets = (torch.from_numpy(np.asarray(part, dtype)) for part in (batch.inputs, batch.targets))
    if not is_scored(targets).any():
        raise ValueError(
            f"train: no target of the {split} batch of step {step} is scored, all are "
            f"{IGNORE if task.vocab_size else 'NaN'}; use longer sequences or a larger batch"
        )
    return inputs, targets


def logits_of(model: nn.Module, inputs: Inputs) -> Float[Tensor, "b t vocab"]:
    """The model's output, checked to be what a loss can be taken of.

    Raises:
        ValueError: if it is not one tensor of shape (b, t, vocab).
    """
    output = model(inputs)
    if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[:2] != inputs.shape[:2]:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"train: the model must return logits of shape (b, t, vocab), here {(*inputs.shape[:2], 'vocab')}, "
            f"got {got}; wrap it in a module that does"
        )
    return output


def figures(loss: float, beside: float, n_scored: float, task: Task, split: Split) -> dict[str, float]:
    """What is logged of a loss: `loss`, and the figure that the task's unit names.

    Args:
        loss: the mean that is minimised; of tokens and bits, in nats per scored token or bit.
        beside: the mean beside it: fraction of scored tokens predicted correctly, fraction of wrong bits, or mean
            absolute error.
        n_scored: scored tokens, or numbers, of a sequence on average; bit errors are counted per sequence.
        task: with the unit "bits per byte", a token is a byte unless it says otherwise.
        split: what the loss was measured on.
    """
    if task.unit == "bits per byte":
        per_byte = task.bits_per_byte(loss, split) if isinstance(task, MeasuredInBytes) else bits(loss)
        return {"loss": loss, "bits_per_byte": per_byte}
    if task.vocab_size > 0:
        return {"loss": loss, "accuracy": beside}
    return {"loss": loss, task.unit.replace(" ", "_"): beside * n_scored if task.unit == "bit errors" else beside}


@torch.no_grad()
def evaluate(
    model: nn.Module, task: Task, config: TrainConfig, device: torch.device, ranks: Ranks = ALONE
) -> dict[str, float]:
    """Figures over the first `config.eval_sequences` validation sequences; the model and all randomness stay as found.

    Several processes share the sequences, and all have the figures.

    Returns:
        `validation_loss` and the figure of the task, for instance `validation_accuracy`; see `figures`.
    """
    objective, loss, beside, n_scored = objective_of(task, config.loss), 0.0, 0.0, 0
    with in_mode(model, training=False), forked_rng(device):
        for index in range(math.ceil(config.eval_sequences / config.batch_size)):
            size = min(config.batch_size, config.eval_sequences - index * config.batch_size)
            inputs, targets = ranks.own(*draw(task, VALIDATION_SEED, "validation", index, size))
            scored = int(is_scored(targets).sum())
            inputs, targets = inputs.to(device), targets.to(device)
            logits = logits_of(model, inputs)
            if scored:
                loss += scored * float(objective.loss(logits, targets))
                beside += scored * float(objective.beside(logits, targets))
                n_scored += scored
    loss, beside, n_scored = ranks.totals((loss, beside, n_scored))
    per_sequence = n_scored / config.eval_sequences
    found = figures(loss / n_scored, beside / n_scored, per_sequence, task, "validation")
    return {f"validation_{name}": value for name, value in found.items()}


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode for the block; afterwards every module has the mode it had."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
