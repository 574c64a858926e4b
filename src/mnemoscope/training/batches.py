"""From a task to tensors, and how well a model does on sequences it is not trained on."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import IGNORE
from mnemoscope.tasks import Split, Task, task_rng
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.loss import accuracy, bits, cross_entropy
from mnemoscope.training.randomness import forked_rng

VALIDATION_SEED = 0
"""One set of validation sequences for all runs of a task, so that seeds and recipes are compared on the same ones."""

Tokens = tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]
"""Inputs and targets."""


def draw(task: Task, seed: int, split: Split, step: int, size: int) -> Tokens:
    """The batch of one step as int64 tensors on the CPU: a pure function of its arguments.

    Raises:
        ValueError: if the task has vectors instead of tokens, or no target of the batch is scored.
    """
    if task.vocab_size == 0:
        raise ValueError(
            f"train: the task must have tokens, got {type(task).__name__}, whose sequences are vectors; "
            "train it in a loop of your own on task.batch(...)"
        )
    batch = task.batch(task_rng(seed, split, step), size, split)
    inputs, targets = np.asarray(batch.inputs, np.int64), np.asarray(batch.targets, np.int64)
    if not (targets != IGNORE).any():
        raise ValueError(
            f"train: no target of the {split} batch of step {step} is scored, all are {IGNORE}; "
            "use longer sequences or a larger batch"
        )
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def logits_of(model: nn.Module, inputs: Int[Tensor, "b t"]) -> Float[Tensor, "b t vocab"]:
    """The model's output, checked to be what a loss can be taken of.

    Raises:
        ValueError: if it is not one tensor of shape (b, t, vocab).
    """
    output = model(inputs)
    if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[:2] != inputs.shape:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"train: the model must return logits of shape (b, t, vocab), here {(*inputs.shape, 'vocab')}, got {got}; "
            "wrap it in a module that does"
        )
    return output


def figures(loss: float, correct: float, unit: str) -> dict[str, float]:
    """What is logged of a loss: `loss` in nats per token, and `accuracy` or `bits_per_byte` by the task's unit.

    Args:
        loss: mean cross-entropy, in nats per scored token.
        correct: fraction of scored tokens predicted correctly.
        unit: of the task, "accuracy" or "bits per byte".
    """
    if unit == "bits per byte":
        return {"loss": loss, "bits_per_byte": bits(loss)}
    return {"loss": loss, "accuracy": correct}


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Figures over the first `config.eval_sequences` validation sequences; the model and all randomness stay as found.

    Returns:
        `validation_loss` in nats per scored token, and `validation_accuracy` or `validation_bits_per_byte`.
    """
    loss, correct, n_scored = 0.0, 0.0, 0
    with in_mode(model, training=False), forked_rng(device):
        for index in range(math.ceil(config.eval_sequences / config.batch_size)):
            size = min(config.batch_size, config.eval_sequences - index * config.batch_size)
            inputs, targets = draw(task, VALIDATION_SEED, "validation", index, size)
            scored = int((targets != IGNORE).sum())
            inputs, targets = inputs.to(device), targets.to(device)
            logits = logits_of(model, inputs)
            loss += scored * float(cross_entropy(logits, targets))
            correct += scored * float(accuracy(logits, targets))
            n_scored += scored
    found = figures(loss / n_scored, correct / n_scored, task.unit)
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
