"""How well networks recall sequences of keys and values that are longer than those of their training.

    inputs, context 1x      k v k v k v k v . . . k . . . . . k . k . . . . k
    longer                  k v k v k v k v k v k v . . . . k . . . k . . k . . . . k . . k . . . . . . k

Settings and measurements of `mnemoscope.experiments.mosaics.v2`, which says what they are for.

Source: Zhang, Bottou 2025, "Memory Mosaics at scale" (arXiv 2507.03285); the task: `mnemoscope.tasks.mqar`.
Differs: lengths of the training grow up to the training context, without which a transformer does not find recall.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from mnemoscope.contracts.devices import Device
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.experiments.mosaics.schedule import schedule
from mnemoscope.experiments.mosaics.trained import run_folder, trained, validation_curve
from mnemoscope.experiments.mosaics.v2_arms import (
    V2Arm,
    V2Shape,
    levels_of,
    v2_config,
    without_long_level,
)
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Measured
from mnemoscope.models import Model, Stack
from mnemoscope.tasks import MqarConfig, build_task, task_rng
from mnemoscope.training import Recipe
from mnemoscope.training.config import Precision
from mnemoscope.training.lessons import Stage, Staged

ARMS: tuple[V2Arm, ...] = ("v2", "v2_fixed", "v2_short", "rotary_convolved", "rotary")
CHUNK = 8


@dataclass(frozen=True, kw_only=True)
class RecallStudy:
    """Which networks, on what.

    Args:
        arms: networks.
        length: tokens of the longest sequences of the training.
        times: lengths of the test over that.
        stages: shorter lengths of the training, each with the part of it at which they end.
        tokens_per_pair: of a sequence; two pairs at least.
        vocab_size: fillers, keys and values.
        power_a: of the law of gaps; see `MqarConfig`.
        d_model: width.
        n_layers: blocks.
        n_heads: heads of each level, and of attention.
        short_window: h.
        long_delay: m out of training.
        longest_delay: largest m in training.
        persistent: channels of v2's feed-forward part.
        steps: of the optimiser.
        batch_size: sequences a step.
        learning_rate: largest.
        n_test: sequences of a test.
        precision: of the training.
        device: of everything.
    """

    arms: tuple[V2Arm, ...] = ARMS
    length: int = 256
    times: tuple[int, ...] = (1, 2, 3, 4)
    stages: tuple[tuple[int, float], ...] = ((16, 0.3), (64, 0.6))
    tokens_per_pair: int = 16
    vocab_size: int = 160
    power_a: float = 0.5
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    short_window: int = 16
    long_delay: int = 4
    longest_delay: int = 16
    persistent: int = 128
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 3e-3
    n_test: int = 128
    precision: Precision = "32-true"
    device: Device = "cpu"

    @property
    def shape(self) -> V2Shape:
        """What all arms share."""
        return V2Shape(
            vocab_size=self.vocab_size,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            short_window=self.short_window,
            long_delay=self.long_delay,
            longest_delay=self.longest_delay,
            persistent=self.persistent,
        )

    def task(self, length: int) -> MqarConfig:
        """Sequences of a length."""
        return MqarConfig(
            vocab_size=self.vocab_size,
            length=length,
            n_pairs=max(2, length // self.tokens_per_pair),
            power_a=self.power_a,
            random_non_queries=False,
        )

    def recipe(self, arm: V2Arm) -> Recipe:
        """One training."""
        train = schedule(self, evaluations=12, sequences=32, precision=self.precision)
        lesson = Staged(stages=tuple(Stage(task=self.task(length), until=until) for length, until in self.stages))
        model = v2_config(arm, self.shape)
        return Recipe(name=f"v2-recall-{arm}", model=model, task=self.task(self.length), train=train, lesson=lesson)


def trainings(settings: RecallStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(arm)) for arm in settings.arms]


class Answers(NamedTuple):
    """Of the queries of a test: which were right, and how many tokens before each its value stood."""

    right: Bool[np.ndarray, "q"]
    distance: Int[np.ndarray, "q"]

    def share(self, above: int = 0, most: int | None = None) -> float:
        """How many are right of those whose distance is above one bound and at most another; NaN where there are none.

        Args:
            above: tokens.
            most: tokens; None for no such bound.
        """
        chosen = (self.distance > above) & (self.distance <= (self.distance.max() if most is None else most))
        return float(self.right[chosen].mean()) if chosen.any() else math.nan


@torch.no_grad()
def answers(model: Model, task: MqarConfig, n_sequences: int) -> Answers:
    """What a model answers on the same sequences of the test split at every call."""
    batch = build_task(task).batch(task_rng(0, "test", 0), n_sequences, "test")
    device = input_device(model)
    given = [model(part.to(device)).argmax(-1).cpu() for part in torch.from_numpy(batch.inputs).split(CHUNK)]
    asked = batch.about["distance"] >= 0
    return Answers((torch.cat(given).numpy() == batch.targets)[asked], batch.about["distance"][asked])


def recall(settings: RecallStudy, seed: int, out: Path) -> Measured:
    """Train every arm; recall by length and by distance, of v2 without its long level too, and its bandwidths."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for arm in settings.arms:
        recipe = settings.recipe(arm)
        model = trained(out, recipe, seed, settings.device).model.eval()
        figures[f"{arm}_parameters"] = float(count(model))
        found, curves = _by_length(arm, model, settings)
        figures, series = figures | found, series | curves
        series |= validation_curve(run_folder(out, recipe.name, seed), arm)
        if arm == "v2" and isinstance(model, Stack):
            found, curves = _by_length("removed", without_long_level(model), settings)
            figures, series = (
                figures | found,
                series | curves | bandwidths(model, max(settings.times) * settings.length),
            )
            figures |= exponents(model)
    series["times"] = [float(times) for times in settings.times]
    return Measured(figures=figures | _compared(figures, settings), series=series)


def _by_length(name: str, model: Model, settings: RecallStudy) -> tuple[dict[str, float], dict[str, Sequence[float]]]:
    """Recall at every length; at the longest, by distance; at the first, within what short levels reach and beyond."""
    found = {times: answers(model, settings.task(times * settings.length), settings.n_test) for times in settings.times}
    first, longest = found[settings.times[0]], found[settings.times[-1]]
    figures = {f"{name}_{times}x": each.share() for times, each in found.items()}
    figures[f"{name}_near"] = first.share(most=settings.short_window)
    figures[f"{name}_far"] = first.share(above=settings.n_layers * settings.short_window)
    edges = distance_edges(settings)
    shares = [longest.share(above, most) for above, most in pairwise(edges)]
    return figures, {
        f"{name}: recall": [each.share() for each in found.values()],
        f"{name}: distance": [float(most) for most in edges[1:]],
        f"{name}: recall by distance": shares,
    }


def distance_edges(settings: RecallStudy) -> list[int]:
    """Bounds of the bins of distance: 0, the short window, twice as much and so on, and the longest sequence."""
    longest = max(settings.times) * settings.length
    doublings = range(math.ceil(math.log2(longest / settings.short_window)))
    return [0, *(settings.short_window << i for i in doublings), longest]


def _compared(figures: Mapping[str, float], settings: RecallStudy) -> dict[str, float]:
    """What the claims ask, of the arms that there are."""
    first, last = f"{settings.times[0]}x", f"{settings.times[-1]}x"
    found = {f"{arm}_kept": _ratio(figures[f"{arm}_{last}"], figures[f"{arm}_{first}"]) for arm in settings.arms}
    for against, name in (("rotary_convolved", "gain"), ("v2_fixed", "drawn_gain"), ("v2_short", "long_gain")):
        if against in settings.arms and "v2" in settings.arms:
            found[name] = figures[f"v2_{last}"] - figures[f"{against}_{last}"]
    if "v2" in settings.arms:
        found["removed_fall_far"] = figures["v2_far"] - figures["removed_far"]
        found["removed_fall_near"] = figures["v2_near"] - figures["removed_near"]
    return found


def _ratio(value: float, of: float) -> float:
    return value / of if of else math.nan


@torch.no_grad()
def bandwidths(model: Stack, longest: int) -> dict[str, Sequence[float]]:
    """beta(n) of every head, as series "pairs: LEVEL" and "beta: LEVEL, head 1", for n up to what the level can hold.

    Args:
        model: a v2.
        longest: tokens of the longest sequence.
    """
    found = dict[str, Sequence[float]]()
    for name, level in levels_of(model).items():
        most = max(2, min(longest, level.window or longest))
        pairs = torch.from_numpy(_counts(most))
        found[f"pairs: {name}"] = pairs.double().tolist()
        for head, curve in enumerate(level.inverse_temperature(pairs.to(input_device(model)))):
            found[f"beta: {name}, head {head + 1}"] = curve.double().tolist()
    return found


def _counts(most: int) -> NDArray[np.int64]:
    """From 1 to `most`, evenly in the logarithm."""
    return np.unique(np.geomspace(1, most, 40).round().astype(np.int64))


@torch.no_grad()
def exponents(model: Stack) -> dict[str, float]:
    """The mean over heads of a in beta(n) = b_1 n^a + b_0, by level over all blocks."""
    of = {
        which: [level.exponent.abs().clamp(max=1) for name, level in levels_of(model).items() if name.endswith(which)]
        for which in ("short", "long")
    }
    return {f"exponent_{which}": float(torch.cat(found).mean()) for which, found in of.items() if found}
