"""The networks whose attention profiles are compared, their trainings, and the windows they are looked at with.

A Memory Mosaic of one block and transformers of as many parameters that differ in their positions alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments.mosaics.arms import Shape, mosaic_config, stack_config
from mnemoscope.experiments.mosaics.language import Windows
from mnemoscope.experiments.mosaics.schedule import schedule
from mnemoscope.memories.attention import AttentionConfig
from mnemoscope.models import StackConfig
from mnemoscope.models.mosaic import MosaicConfig
from mnemoscope.tasks import StoriesConfig, build_task, task_rng
from mnemoscope.training import Recipe
from mnemoscope.training.config import Precision

Reader = Literal["mosaic", "learned", "rotary", "alibi"]
TITLES: Mapping[Reader, str] = {
    "mosaic": "Memory Mosaic",
    "learned": "Transformer, learned positions",
    "rotary": "Transformer, RoPE",
    "alibi": "Transformer, ALiBi",
}
BEYOND: tuple[Reader, ...] = ("mosaic", "rotary", "alibi")
"""Learned positions end with the training length."""
LONGEST_STORY = 134
LOSS_BIN = 16


@dataclass(frozen=True, kw_only=True)
class ProfilesStudy:
    """Four networks of one block, and how they are looked at.

    Args:
        length: tokens of a window in training.
        times: how much longer the long windows are.
        d_model: width.
        n_heads: heads.
        steps: of the optimiser.
        batch_size: windows a step.
        learning_rate: largest.
        n_windows: that profiles are means over, an even number; 5,000 is published.
        precision: of the training.
        device: of everything.
    """

    length: int = 128
    times: int = 3
    d_model: int = 128
    n_heads: int = 8
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 3e-3
    n_windows: int = 1000
    precision: Precision = "32-true"
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.length < 3 * LOSS_BIN or self.length % LOSS_BIN or self.times < 2:
            raise ValueError(
                f"ProfilesStudy: length must be a multiple of {LOSS_BIN} from {3 * LOSS_BIN} on, and times at least 2, "
                f"got {self.length} and {self.times}"
            )
        if self.n_windows < 2 or self.n_windows % 2:
            raise ValueError(f"ProfilesStudy: n_windows must be even and at least 2, got {self.n_windows}")

    @property
    def long(self) -> int:
        """Tokens of the long windows."""
        return self.length * self.times

    def recipe(self, reader: Reader) -> Recipe:
        """One training."""
        task = StoriesConfig(length=self.length)
        shape = Shape(
            vocab_size=build_task(task).vocab_size,
            d_model=self.d_model,
            n_layers=1,
            n_heads=self.n_heads,
            max_tokens=self.length,
        )
        train = schedule(self, evaluations=6, precision=self.precision)
        return Recipe(name=f"profiles-{reader}", model=reader_config(reader, shape), task=task, train=train)


def reader_config(reader: Reader, shape: Shape) -> MosaicConfig | StackConfig:
    """The Mosaic, or a transformer of as many parameters with the positions of its name."""
    if reader == "mosaic":
        return mosaic_config(shape)
    config = stack_config("transformer", shape)
    if reader == "learned":
        return config
    mixers = tuple(AttentionConfig(n_heads=shape.n_heads, positions=reader) for _ in config.mixers)
    return replace(config, mixers=mixers, positions="none", max_tokens=None)


def windows(settings: ProfilesStudy) -> Windows:
    """Long windows of the test split that begin anywhere in a story; the same ones for all."""
    task = build_task(StoriesConfig(length=settings.long + LONGEST_STORY))
    batch = task.batch(task_rng(0, "test", 0), settings.n_windows, "test")
    starts = task_rng(0, "test", 1).integers(LONGEST_STORY, size=(settings.n_windows, 1))
    places = starts + np.arange(settings.long)
    inputs, targets = (np.take_along_axis(tokens, places, axis=1) for tokens in (batch.inputs, batch.targets))
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def profile_name(reader: Reader, is_long: bool) -> str:
    """How the figures of a network on either windows begin."""
    return f"{reader}_{'long' if is_long else 'trained'}"
