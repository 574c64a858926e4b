"""Tasks beside the run's own: built, and checked to fit the model and the run."""

from collections.abc import Sequence

import torch

from mnemoscope.tasks import Task, TaskConfig, build_task
from mnemoscope.training.batches import draw, in_mode, logits_of
from mnemoscope.training.lessons.lesson import Course
from mnemoscope.training.randomness import forked_rng


def fitting_tasks(where: str, configs: Sequence[TaskConfig], course: Course) -> tuple[Task, ...]:
    """The tasks of configs, in their order.

    Args:
        where: names them in messages, for instance "Staged.stages".
        configs: of tasks.
        course: whose model must be able to learn them.

    Raises:
        ValueError: more tokens than the model has outputs, vectors of another size, or a unit that is not the run's;
            or data that cannot be had.
    """
    tasks = tuple(build_task(config) for config in configs)
    n_outputs = _n_outputs(course)
    for number, task in enumerate(tasks):
        _check(f"{where}[{number}]", task, course, n_outputs)
    return tasks


def _check(where: str, task: Task, course: Course, n_outputs: int) -> None:
    own = course.task
    if task.unit != own.unit or (task.vocab_size == 0) != (own.vocab_size == 0):
        raise ValueError(
            f"{where}: must be measured as the run's task is, in {own.unit!r}, got {task.unit!r} of "
            f"{type(task).__name__}; use tasks of one unit"
        )
    if task.vocab_size > n_outputs:
        raise ValueError(
            f"{where}: has {task.vocab_size} tokens, the model {n_outputs}; give the model a vocab_size of at least "
            f"{task.vocab_size}"
        )
    if task.vocab_size == 0:
        theirs, ours = (
            [part.shape[2] for part in draw(each, course.config.seed, "train", 1, 1)] for each in (task, own)
        )
        if theirs != ours:
            raise ValueError(
                f"{where}: has vectors of {theirs[0]} and {theirs[1]} numbers, the run's task of {ours[0]} and "
                f"{ours[1]}; use tasks of one size"
            )


@torch.no_grad()
def _n_outputs(course: Course) -> int:
    inputs, _ = draw(course.task, course.config.seed, "train", 1, 1)
    with in_mode(course.model, training=False), forked_rng(course.device):
        return logits_of(course.model, inputs.to(course.device)).shape[-1]
