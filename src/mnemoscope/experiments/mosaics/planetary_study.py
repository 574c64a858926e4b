"""The settings of `planetary`: which skies, by networks of which depths, and each of their trainings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments.mosaics.schedule import schedule
from mnemoscope.memories.contextual import ContextualConfig
from mnemoscope.memories.persistent import PersistentConfig
from mnemoscope.models import MixerConfig, StackConfig, VectorsConfig
from mnemoscope.tasks import PlanetaryConfig
from mnemoscope.training import Recipe

Orders = Literal["new", "one"]
ORDERS: Mapping[Orders, str] = {"new": "new orders", "one": "one order"}
HEAD_WIDTH = 16
N_AHEAD = 25
BIN = 8
"""Observations that a point of the curves averages over."""


@dataclass(frozen=True, kw_only=True)
class PlanetaryStudy:
    """Which skies, by networks of which depths.

    Args:
        depths: layers.
        widths: of each depth, multiples of 16 from 32 on, so chosen that parameters are alike.
        length: observations of a sequence, a multiple of 8.
        n_planets: of a system.
        n_moons: of a planet.
        min_period: shortest, in observations.
        max_period: longest.
        steps: of the optimiser.
        batch_size: sequences a step.
        learning_rate: largest.
        n_test: sequences of the test.
        n_examined: sequences of the test of an examination; half as many fit its constants.
        fit_steps: at most, of one of them.
        device: of everything.
    """

    depths: tuple[int, ...] = (1, 2, 3)
    widths: tuple[int, ...] = (112, 80, 64)
    length: int = 128
    n_planets: int = 2
    n_moons: int = 1
    min_period: int = 4
    max_period: int = 24
    steps: int = 500
    batch_size: int = 16
    learning_rate: float = 3e-3
    n_test: int = 128
    n_examined: int = 64
    fit_steps: int = 20
    device: Device = "cpu"

    def __post_init__(self) -> None:
        fitting = all(width % HEAD_WIDTH == 0 and width > HEAD_WIDTH for width in self.widths)
        if len(self.depths) != len(self.widths) or not fitting:
            raise ValueError(
                f"PlanetaryStudy.widths: must be a multiple of {HEAD_WIDTH}, at least {2 * HEAD_WIDTH}, for each of "
                f"the depths {self.depths}, got {self.widths}"
            )
        if self.length % BIN or self.length <= N_AHEAD + BIN:
            raise ValueError(
                f"PlanetaryStudy.length: must be a multiple of {BIN} above {N_AHEAD + BIN}, got {self.length}; use 128"
            )

    def task(self, orders: Orders) -> PlanetaryConfig:
        """The skies."""
        return PlanetaryConfig(
            length=self.length,
            n_planets=self.n_planets,
            n_moons=self.n_moons,
            view="positions",
            shuffled=orders == "new",
            min_period=self.min_period,
            max_period=self.max_period,
        )

    def arms(self) -> list[tuple[int, Orders]]:
        """All depths on new orders, the least and the greatest on one order."""
        ends = sorted({min(self.depths), max(self.depths)})
        return [*((depth, "new") for depth in self.depths), *((depth, "one") for depth in ends)]

    def recipe(self, depth: int, orders: Orders) -> Recipe:
        """One training."""
        width = dict(zip(self.depths, self.widths, strict=True))[depth]
        heads, channels = width // HEAD_WIDTH, 2 * self.task(orders).n_turning
        layer: tuple[MixerConfig, ...] = (ContextualConfig(n_heads=heads), PersistentConfig(n_heads=heads))
        model = StackConfig(
            vocab_size=0,
            d_model=width,
            mixers=layer * depth,
            mlp_ratio=0.0,
            tie_embeddings=False,
            vectors=VectorsConfig(n_channels=channels, n_outputs=channels),
        )
        train = replace(schedule(self, evaluations=10), weight_decay=0.01)
        return Recipe(name=f"planetary-{depth}-{orders}", model=model, task=self.task(orders), train=train)
