"""The plain lesson: step s sees the batch of `task_rng(seed, "train", s)`, whole, from an empty memory."""

from dataclasses import dataclass
from typing import Literal

from mnemoscope.training.batches import draw
from mnemoscope.training.lessons.lesson import Course, Lesson, LessonConfig
from mnemoscope.training.remedies import Computed


@dataclass(frozen=True, kw_only=True)
class Plain(LessonConfig):
    """No settings."""

    kind: Literal["plain"] = "plain"

    def begin(self, course: Course) -> "PlainLesson":
        """On any task and model."""
        return PlainLesson(course)


class PlainLesson(Lesson):
    """One batch a step."""

    def forward(self, step: int) -> Computed:
        """The loss of the step's batch."""
        course = self.course
        return course.compute(*draw(course.task, course.config.seed, "train", step, course.config.batch_size))
