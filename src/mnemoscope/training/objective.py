"""What a task is trained on: the loss that its targets call for, and the figure that is shown beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mnemoscope.tasks import Task
from mnemoscope.training.config import Loss
from mnemoscope.training.loss import (
    absolute_error,
    accuracy,
    binary_cross_entropy,
    bit_error_rate,
    cross_entropy,
    squared_error,
    stablemax_cross_entropy,
)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss and what is shown beside it, both means over what is scored.

    Args:
        loss: of outputs and targets; what is minimised.
        beside: of outputs and targets; what people read.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    beside: Callable[[Tensor, Tensor], Tensor]


TOKENS: Mapping[Loss, Objective] = {
    "cross_entropy": Objective(loss=cross_entropy, beside=accuracy),
    "stablemax": Objective(loss=stablemax_cross_entropy, beside=accuracy),
}
"""Of tasks of tokens, by `TrainConfig.loss`."""

VECTORS: Mapping[str, Objective] = {
    "bit errors": Objective(loss=binary_cross_entropy, beside=bit_error_rate),
    "mean absolute error": Objective(loss=squared_error, beside=absolute_error),
}
"""By the unit of a task of vectors."""


def objective_of(task: Task, loss: Loss = "cross_entropy") -> Objective:
    """What a task is trained on: tokens on the loss that is asked for, vectors on that of the task's unit.

    Raises:
        ValueError: a task of vectors whose unit says nothing of its targets, or of which a loss of tokens is asked.
    """
    if task.vocab_size > 0:
        return TOKENS[loss]
    if loss != "cross_entropy":
        raise ValueError(
            f"train: TrainConfig.loss {loss!r} is for tasks of tokens, {type(task).__name__} has vectors; leave it at "
            "'cross_entropy', and the loss is that of the task's unit"
        )
    if task.unit not in VECTORS:
        raise ValueError(
            f"train: a task of vectors must have one of the units {', '.join(map(repr, VECTORS))}, got "
            f"{task.unit!r} of {type(task).__name__}; train it in a loop of your own on task.batch(...)"
        )
    return VECTORS[task.unit]
