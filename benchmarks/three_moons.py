"""A training step of the three moons: ours, and the official one in PyTorch and, where it is installed, in MLX.

All start from the same weights and see the same batches. After three steps their losses and weights must agree; then
each goes on, a step of each in turn, by the processor's time. The official code is written for MLX: the bar is for that
row; the row in PyTorch says how much of it is the framework. `pip install 'mlx[cpu]'` adds MLX.
"""

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.three_moons import DenseMoons, MlxMoons
from benchmarks.timing import Spread, bootstrap_ratio, max_difference, print_table, time_interleaved
from mnemoscope.contracts import Batch
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining, moons_optimiser, moons_step
from mnemoscope.models.moons import MATRICES, MoonsNetworkConfig, build_moons_network
from mnemoscope.tasks import task_rng
from mnemoscope.tasks.three_moons import ThreeMoons, ThreeMoonsConfig

SIZES = ((16, 3), (16, 1))
"""Sequences and heads."""

BAR = 5.0
COMPARED_STEPS = 3
TOLERANCE = 1e-4
"""Largest difference of losses and weights after the compared steps, whose rate is 0.01."""

REPEATS = 9


class Trainer(Protocol):
    """One way of training; every call of `step` is a step."""

    @property
    def name(self) -> str:
        """For the table."""
        ...

    def step(self, batch: Batch) -> float:
        """Train once; the loss before it."""
        ...

    def weights(self) -> list[Tensor]:
        """As stored: keys, values, output."""
        ...


class OurMoons:
    """The step of `mnemoscope reproduce three-moons`."""

    name = "ours"

    def __init__(self, n_heads: int, settings: MoonsTraining) -> None:
        self.network = build_moons_network(MoonsNetworkConfig(n_heads=n_heads), seed=0)
        self.optimiser, self.settings, self.n_steps = moons_optimiser(self.network), settings, 0

    def step(self, batch: Batch) -> float:
        """Train once; the loss before it."""
        loss = moons_step(self.network, self.optimiser, batch, self.settings, self.n_steps)
        self.n_steps += 1
        return loss

    def weights(self) -> list[Tensor]:
        """As stored: keys, values, output."""
        named = self.network.named_parameters()
        return [weight.detach() for name, weight in named if name.endswith("original")]


def trainers(n_heads: int, settings: MoonsTraining) -> list[Trainer]:
    """Ours and its rivals, at the same weights."""
    ours = OurMoons(n_heads, settings)
    start = {name: weight.numpy().copy() for name, weight in zip(MATRICES, ours.weights(), strict=True)}
    rivals: list[Trainer] = [DenseMoons(start, n_heads, settings)]
    if find_spec("mlx") is not None:
        rivals.append(MlxMoons(start, n_heads, settings))
    return [ours, *rivals]


def differences(all_of_them: Sequence[Trainer], settings: MoonsTraining) -> dict[str, float]:
    """Train each for three steps: how far losses and weights of each rival are from ours.

    Raises:
        ValueError: farther than the tolerance.
    """
    task, found = ThreeMoons(ThreeMoonsConfig(length=settings.length)), dict[str, list[Tensor]]()
    for trainer in all_of_them:
        batches = (task.batch(task_rng(0, "train", i), settings.batch_size, "train") for i in range(COMPARED_STEPS))
        losses = torch.tensor([trainer.step(batch) for batch in batches])
        found[trainer.name] = [losses, *(weight.clone() for weight in trainer.weights())]
    ours = found.pop("ours")
    differing = {name: max_difference(ours, theirs) for name, theirs in found.items()}
    for name, difference in differing.items():
        if not difference <= TOLERANCE:
            raise ValueError(f"three moons: ours and {name} differ by {difference:.1e}: not the same training")
    return differing


def measure(batch_size: int, n_heads: int, repeats: int = REPEATS) -> list[tuple[str, ...]]:
    """One row for each rival."""
    settings = MoonsTraining(batch_size=batch_size)
    all_of_them = trainers(n_heads, settings)
    differing = differences(all_of_them, settings)
    batch = ThreeMoons(ThreeMoonsConfig(length=settings.length)).batch(task_rng(0, "train", 99), batch_size, "train")
    work = {trainer.name: lambda trainer=trainer: trainer.step(batch) for trainer in all_of_them}
    seconds = time_interleaved(work, repeats, clock=time.process_time)
    return [_row(f"B{batch_size} T{settings.length} H{n_heads}", name, differing[name], seconds) for name in differing]


def _row(work: str, name: str, difference: float, seconds: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    ours, theirs = seconds["ours"], seconds[name]
    low, high = bootstrap_ratio(theirs, ours)
    ratio = Spread.of(theirs / ours)
    passed = ("reached" if ratio.median >= BAR else "MISSED") if name.startswith("official") else "-"
    return (
        work,
        name,
        f"{difference:.1e}",
        f"{1e3 * Spread.of(ours).median:.0f} ms",
        f"{1e3 * Spread.of(theirs).median:.0f} ms",
        str(ratio),
        f"[{low:.2f}, {high:.2f}]",
        f"{BAR:g}",
        passed,
    )


def run() -> None:
    """Print one row for each rival and size."""
    header = (
        "step",
        "rival",
        "max difference",
        "ours",
        "theirs",
        "theirs / ours (10-90 %)",
        "95 % interval",
        "bar",
        "",
    )
    print_table(header, [row for batch_size, n_heads in SIZES for row in measure(batch_size, n_heads)])
