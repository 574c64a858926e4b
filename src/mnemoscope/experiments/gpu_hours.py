"""GPU hours of the trainings of a published figure, before they are begun: an estimate of the planner, never measured.

Every training is counted on fake tensors and held against the published rates of one NVIDIA H100, so that what comes
out is a range (`planning.published`). Evaluations and examinations are not in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mnemoscope.experiments.devices import PUBLISHED
from mnemoscope.experiments.planning.published import Range, step_seconds
from mnemoscope.experiments.planning.targets import Target
from mnemoscope.experiments.planning.tracing import trace
from mnemoscope.experiments.reproducing import Experiment, Size
from mnemoscope.models import StackConfig, build_model
from mnemoscope.tasks import build_task
from mnemoscope.training import Recipe

DEVICE = PUBLISHED["h100-sxm"]


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """One training on one GPU.

    Args:
        name: of the training.
        hours: from good to poor use of the GPU.
        peak_bytes: held at the peak of a step; more than the GPU has, and its batch must be cut.
    """

    name: str
    hours: Range
    peak_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the GPU holds it."""
        return self.peak_bytes <= DEVICE.memory_bytes

    def __str__(self) -> str:
        memory = f"{_rounded(self.peak_bytes / 1e9)} GB at its peak"
        more = "" if self.fits else f", more than the {DEVICE.memory_bytes / 1e9:.0f} GB of one"
        return f"{self.name}: {in_words(self.hours)}, {memory}{more}"


def estimates(experiment: Experiment[Any], size: Size) -> Iterator[TrainingEstimate]:
    """The trainings of one seed, one after another: counting a deep network takes some seconds.

    An experiment that names no trainings gives nothing.
    """
    for target in () if experiment.trainings is None else experiment.trainings(experiment.sizes[size]):
        traced = trace(target.build, target.batch, target.tokens, target.train)
        step = step_seconds(traced.step, traced.gradient_bytes, DEVICE, target.train.precision, count=1)
        hours = step.times(target.train.steps / 3600)
        yield TrainingEstimate(name=target.name, hours=hours, peak_bytes=traced.peak_bytes)


def together(found: list[TrainingEstimate]) -> Range:
    """Hours of all."""
    return Range(sum(each.hours.low for each in found), sum(each.hours.high for each in found))


def in_words(hours: Range) -> str:
    """Two digits: "7.8 to 19 GPU hours", or minutes below one hour."""
    if hours.high * 60 < 1:
        return "less than a GPU minute"
    factor, unit = (1, "GPU hours") if hours.high >= 1 else (60, "GPU minutes")
    return f"{_rounded(hours.low * factor)} to {_rounded(hours.high * factor)} {unit}"


def planned(recipe: Recipe) -> Target:
    """A recipe as the planner takes it; a Memory Mosaic too."""
    return Target(
        name=recipe.name,
        build=lambda: build_model(recipe.model, 0),
        stack=recipe.model if isinstance(recipe.model, StackConfig) else None,
        batch=recipe.train.batch_size,
        tokens=build_task(recipe.task).length,
        train=recipe.train,
    )


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 9.5 else f"{value:.2g}"
