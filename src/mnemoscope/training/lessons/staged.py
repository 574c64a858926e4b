"""Stages: one task after another, for instance ever longer sequences, and the run's own at the end.

What it does: stage i lasts until the part `until` of the training; step s of n is in the first stage with
(s - 1) / n < until, and after the last stage the run's own task is trained on. Every step draws its batch from the
task of its stage, with the random numbers that the step has anyway. Evaluations are on the run's own task throughout,
so that curves of different curricula can be laid on one another.

Why: where an answer stands far from its question, the gradient that leads there is small, and is found sooner over a
short distance. Lengths that grow keep what was found useful.

Published effect: recurrent networks learned to execute longer programs where lengths grew and were mixed with all
others; where they merely grew, as here, they were at times worse than without a curriculum (Zaremba and Sutskever,
arXiv 1410.4615). Nothing was measured here for it.

Known problems: the points of change are guessed, and a stage that is left too early is wasted; `bandit` chooses by
progress. A model that knows short sequences alone may have found a solution that does not extend. Tokens must mean the
same in all stages, which is not checked: tasks that number keys and values one after the other shift the values when
there are more keys.

Example: `Staged(stages=(Stage(task=CopyingConfig(max_length=5), until=0.2), Stage(task=CopyingConfig(max_length=10),
until=0.5)))` for a run on the copying of 20 vectors.

Source: Bengio et al., "Curriculum learning" (ICML 2009); Zaremba and Sutskever, "Learning to execute" (2014).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pydantic import ConfigDict

from mnemoscope.tasks import Task, TaskConfig
from mnemoscope.training.batches import draw
from mnemoscope.training.lessons.fitting import fitting_tasks
from mnemoscope.training.lessons.lesson import Course, Lesson, LessonConfig
from mnemoscope.training.remedies import Computed


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Args:
        task: what its steps see.
        until: the part of the training, in (0, 1], at which it ends.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    task: TaskConfig
    until: float

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"Stage.until: must be a part of the training in (0, 1], got {self.until}; 1 is its end")


@dataclass(frozen=True, kw_only=True)
class Staged(LessonConfig):
    """Settings.

    Args:
        stages: at least one, in the order of their ends.
    """

    kind: Literal["staged"] = "staged"
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        ends = [stage.until for stage in self.stages]
        if not ends or any(after <= before for before, after in pairwise(ends)):
            raise ValueError(
                f"Staged.stages: must be at least one, each ending after the one before, got ends {ends}; "
                "order them by `until`"
            )

    def stage_at(self, step: int, steps: int) -> int:
        """The stage of a step (1 to `steps`), from 0; the number of stages after the last of them."""
        return sum((step - 1) / steps >= stage.until for stage in self.stages)

    def begin(self, course: Course) -> "StagedLesson":
        """On any model that has outputs for all tokens.

        Raises:
            ValueError: a stage whose task does not fit the model or is not measured as the run's is.
        """
        return StagedLesson(self, course)


class StagedLesson(Lesson):
    """One batch of the stage's task a step."""

    def __init__(self, settings: Staged, course: Course) -> None:
        super().__init__(course)
        self.settings = settings
        others = fitting_tasks("Staged.stages", [stage.task for stage in settings.stages], course)
        self.tasks: tuple[Task, ...] = (*others, course.task)
        self._stage = 0

    def forward(self, step: int) -> Computed:
        """The loss of a batch of the stage's task."""
        config = self.course.config
        self._stage = self.settings.stage_at(step, config.steps)
        inputs, targets = draw(self.tasks[self._stage], config.seed, "train", step, config.batch_size)
        return self.course.compute(inputs, targets)

    def figures(self, computed: Computed) -> dict[str, float]:
        """Loss and figure of the stage's task, and which stage it was."""
        return self.course.figures(computed, self.tasks[self._stage]) | {"lesson.stage": float(self._stage)}
