"""What there is to learn: one file per task, whose docstring draws one tiny sequence.

May live here: tasks, their configs, and where their randomness and text come from. May import: NumPy, the standard
library, pydantic's ConfigDict and Field, `mnemoscope.contracts`; never torch, never a sibling room.

A task file holds a frozen config with a `kind`, and a final class with the shape of `Task`. Randomness comes in
through `batch`, from `task_rng`; a task keeps none. A new task is one file, and a line in `TASKS` and `TaskConfig`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from pydantic import Field

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.mqar import Mqar, MqarConfig
from mnemoscope.tasks.streams import SPLITS, Split, task_rng
from mnemoscope.tasks.text import Text, TextConfig

__all__ = [
    "SPLITS",
    "TASKS",
    "Mqar",
    "MqarConfig",
    "Split",
    "Task",
    "TaskConfig",
    "Text",
    "TextConfig",
    "build_task",
    "task_rng",
]


@runtime_checkable
class Task(Protocol):
    """What training and examination rely on."""

    @property
    def vocab_size(self) -> int:
        """Inputs and scored targets lie in [0, vocab_size)."""
        ...

    @property
    def length(self) -> int:
        """Tokens per sequence."""
        ...

    @property
    def unit(self) -> str:
        """What a progress line shows beside the loss: "accuracy" or "bits per byte"."""
        ...

    @property
    def chance_loss(self) -> float | None:
        """Nats per scored token of a predictor without context; None where there is no such number."""
        ...

    @property
    def memoryless_loss(self) -> float | None:
        """Nats per scored token of the best predictor that sees the present token alone; None where nobody knows.

        The demand control: no memory can be worth more than this less `floor_loss`.
        """
        ...

    @property
    def floor_loss(self) -> float | None:
        """Nats per scored token that no predictor can beat in expectation; None where nobody knows."""
        ...

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The tokens as people read them; as many words as tokens."""
        ...

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences of a split: int64 arrays of shape (size, length) that `rng` determines."""
        ...

    def n_sequences(self, split: Split) -> int | None:
        """The most sequences that one batch of a split may have; None where there is no end to them."""
        ...

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step, for the manifest of a run."""
        ...


TaskConfig: TypeAlias = Annotated[MqarConfig | TextConfig, Field(discriminator="kind")]
"""The config of any task; `kind` says of which."""

TASKS: Mapping[str, Callable[[Any], Task]] = {"mqar": Mqar, "text": Text}
"""The class of every kind of task; it takes the config of its kind."""


def build_task(config: TaskConfig) -> Task:
    """The task that a config describes.

    Raises:
        ValueError: the config's data cannot be had (a corpus that is missing, too short or not text).
    """
    return TASKS[config.kind](config)
