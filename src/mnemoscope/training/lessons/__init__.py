"""Lessons: which data a step sees, and how the model is run on them: plain, curricula, carried states, episodes.

May live here: one file per lesson, `lesson.py` (what every lesson is), `fitting.py` (tasks beside the run's own) and
`carrying.py` (states that outlive a call). May import: contracts, tasks, models, and of training what draws, computes
and evaluates.
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from mnemoscope.training.lessons.bandit import Bandit
from mnemoscope.training.lessons.carried import Carried, lengths_to_try
from mnemoscope.training.lessons.episodic import Episodic
from mnemoscope.training.lessons.lesson import Course, Lesson, LessonConfig
from mnemoscope.training.lessons.plain import Plain
from mnemoscope.training.lessons.staged import Stage, Staged

AnyLesson: TypeAlias = Annotated[Bandit | Carried | Episodic | Plain | Staged, Field(discriminator="kind")]
"""Settings of any lesson, as a recipe holds them; told apart by `kind`."""

LESSONS: dict[str, type[LessonConfig]] = {
    "bandit": Bandit,
    "carried": Carried,
    "episodic": Episodic,
    "plain": Plain,
    "staged": Staged,
}
"""Lessons by name, in alphabetical order. `bandit` and `staged` need tasks, so they have no settings by default."""

__all__ = [
    "LESSONS",
    "AnyLesson",
    "Bandit",
    "Carried",
    "Course",
    "Episodic",
    "Lesson",
    "LessonConfig",
    "Plain",
    "Stage",
    "Staged",
    "lengths_to_try",
]
