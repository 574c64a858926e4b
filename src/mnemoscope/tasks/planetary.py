"""Planetary: a sky that was never seen before; find out which body circles which, and foresee where they stand next.

Two positions of one sequence of `PlanetaryConfig(n_planets=1, n_moons=1, view="positions", shuffled=False)`:

               sun             moon
               x       y       x       y
    inputs     -.27    -.29    -.00     .20      position 0, seen from the planet
    targets    -.21    -.34    -.01     .20      and the inputs of position 1

A task of vectors: two numbers for every body but the observer, and every position is scored against the next
observation. A system is a sun, planets that circle it, and as many moons around each planet. All orbits are circles in
one plane, and everything turns the same way: at sample n a body with period p has the angle 2 pi n / p + phase around
what it circles. Every sequence has a system of its own:

    periods     of all planets and moons: distinct, uniform in [min_period, max_period], in steps of 1/16 sample
    phases      uniform
    distances   of a planet from the sun: (p / max_period)^(2/3), as Kepler's third law has it; of the moons from their
                planet: evenly spaced up to half of the planet's distance, whatever their periods

What is seen: with `view="positions"` the vector from the observer to the body; with "directions" that vector scaled to
length 1, that is, cosine and sine of where in the sky the body stands. Bodies stand in the order sun, planet 1, its
moons, planet 2, its moons, ..., without the observer; `shuffled` puts them into an order drawn for each sequence. So
neither periods nor places can be learned: which numbers belong together must be found in the first observations of a
sequence, and a route through the model that follows one body must form anew. Seen from what it circles, a body repeats
after its period; seen from elsewhere, its path is a sum of circles.

The sorted periods of a system decide which split owns it: no split shows a system of another, however it is named.

Why: a new system in every sequence, so that what circles what must be inferred before anything can be foreseen.

Known limits: bodies move on circles and do not pull at each other; errors are squared distances, without a floor in
nats.

Source: written for this library, in the manner of the three moons of "Memory Mosaics" (2024), section 3, whose systems
are nine and whose channels never move.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.mqar import draw_distinct
from mnemoscope.tasks.streams import Split, draw_owned, split_index, split_stream
from mnemoscope.tasks.three_moons import vector_words

TICKS = 16
"""Steps of a period within one sample."""

SkyObserver = Literal["sun", "planet", "moon"]
View = Literal["directions", "positions"]


@dataclass(frozen=True, kw_only=True)
class PlanetaryConfig:
    """How many bodies, how slow, and seen from where.

    Args:
        kind: names the task in a stored config.
        length: observations of a sequence, at least 1.
        n_planets: at least 1.
        n_moons: of every planet, at least 0.
        observer: "sun", "planet" (the first) or "moon" (the first of the first planet).
        view: "directions" or "positions".
        shuffled: whether the bodies stand in another order in every sequence.
        min_period: shortest period in samples, at least 4.
        max_period: longest period in samples, above min_period; there must be distinct periods for all bodies.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["planetary"] = "planetary"
    length: int = 512
    n_planets: int = 2
    n_moons: int = 1
    observer: SkyObserver = "planet"
    view: View = "directions"
    shuffled: bool = True
    min_period: int = 16
    max_period: int = 128

    def __post_init__(self) -> None:
        lowest = {"length": 1, "n_planets": 1, "n_moons": int(self.observer == "moon"), "min_period": 4}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"PlanetaryConfig.{name}: must be at least {least}, got {getattr(self, name)}; "
                    f"nearest valid: {least}"
                )
        shortest = self.min_period + max(1, math.ceil((self.n_turning - 1) / TICKS))
        if self.max_period < shortest:
            raise ValueError(
                f"PlanetaryConfig.max_period: must be at least {shortest}, so that {self.n_turning} bodies have "
                f"distinct periods from {self.min_period} on, got {self.max_period}; nearest valid: {shortest}"
            )
        for name, known in (("observer", get_args(SkyObserver)), ("view", get_args(View))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"PlanetaryConfig.{name}: must be one of {', '.join(known)}, got {getattr(self, name)!r}; "
                    f"nearest valid: {known[0]!r}"
                )

    @property
    def n_turning(self) -> int:
        """Planets and moons."""
        return self.n_planets * (1 + self.n_moons)


@dataclass(frozen=True, kw_only=True)
class Systems:
    """What sequences show.

    Args:
        periods: of every planet and then of its moons, in samples, shape (b, n_planets, 1 + n_moons).
        phases: at sample 0, in radians, of that shape.
        order: which body stands in each place, shape (b, n_planets * (1 + n_moons)).
    """

    periods: NDArray[np.float64]
    phases: NDArray[np.float64]
    order: NDArray[np.int64]

    def later(self, samples: float) -> "Systems":
        """The same systems after so many samples."""
        return replace(self, phases=self.phases + 2 * math.pi * samples / self.periods)


@final
class Planetary:
    """Batches of skies; the attributes are those of `mnemoscope.tasks.Task`, and `n_channels`.

    There are no tokens: the vocabulary is empty, and no loss is one in nats.
    """

    unit: str = "mean absolute error"
    vocab_size: int = 0
    chance_loss: None = None
    memoryless_loss: None = None
    floor_loss: None = None

    def __init__(self, config: PlanetaryConfig) -> None:
        self.config = config
        self.length: int = config.length
        self.n_channels: int = 2 * config.n_turning
        """Numbers at every position, of inputs and of targets."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences: float32 inputs and targets of shape (size, length, n_channels).

        Raises:
            ValueError: size below 1, an unknown split, or so few systems that the split owns hardly any.
        """
        if size < 1:
            raise ValueError(f"Planetary.batch: size must be at least 1, got {size}; nearest valid: 1")
        return self.observed(self.systems(rng, size, split))

    def systems(self, rng: np.random.Generator, size: int, split: Split) -> "Systems":
        """Draw what `batch` shows: the same systems for the same generator."""
        stream, config = split_stream(rng, split), self.config
        _, ticks = draw_owned(self._periods, stream, size, split)
        periods = ticks.reshape(size, config.n_planets, 1 + config.n_moons) / TICKS
        phases = stream.uniform(0, 2 * math.pi, size=periods.shape)
        order = np.tile(np.arange(config.n_turning), (size, 1))
        return Systems(
            periods=periods, phases=phases, order=stream.permuted(order, axis=1) if config.shuffled else order
        )

    def observed(self, systems: "Systems") -> Batch:
        """What is seen of systems, as `batch` has it."""
        seen = sky(self.config, systems.periods, systems.phases, self.length + 1)
        seen = np.take_along_axis(seen, systems.order[:, None, :, None], axis=2)
        seen = seen.reshape(len(seen), self.length + 1, self.n_channels)
        return Batch(inputs=seen[:, :-1].copy(), targets=seen[:, 1:].copy())

    def _periods(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        least, most = TICKS * self.config.min_period, TICKS * self.config.max_period
        ticks = least + draw_distinct(rng, rows, self.config.n_turning, most - least + 1)
        return np.sort(ticks, axis=1), ticks

    def words(self, tokens: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
        """One word for every position: its numbers with two decimals, between slashes."""
        return vector_words(tokens)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        split_index(split)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "planetary", "numpy": np.__version__}


def sky(
    config: PlanetaryConfig, periods: NDArray[np.float64], phases: NDArray[np.float64], n: int
) -> NDArray[np.float32]:
    """What is seen of systems, bodies in their natural order.

    Computed in float64; rounding to float32 then hides how sines differ in their last digit between machines.

    Args:
        config: observer and view; its numbers of bodies are those of `periods`.
        periods: of every planet and then of its moons, in samples, shape (b, n_planets, 1 + n_moons).
        phases: at sample 0, in radians, of that shape.
        n: observations.

    Returns:
        shape (b, n, n_planets * (1 + n_moons), 2).
    """
    angle = 2 * math.pi * np.arange(n)[:, None, None] / periods[:, None] + phases[:, None]
    # Points of the plane as complex numbers: a moon stands where its planet stands, and a little further.
    at = np.exp(1j * angle) * _distances(config, periods[..., :1])[:, None]
    at[..., 1:] += at[..., :1]
    at = at.reshape(*at.shape[:2], -1)
    bodies = np.concatenate([np.zeros_like(at[..., :1]), at], axis=-1)
    observer = get_args(SkyObserver).index(config.observer)
    seen = np.delete(bodies, observer, axis=-1) - bodies[..., observer, None]
    if config.view == "directions":
        seen /= np.maximum(np.abs(seen), np.finfo(np.float64).tiny)
    return np.stack([seen.real, seen.imag], axis=-1).astype(np.float32)


def _distances(config: PlanetaryConfig, planet_periods: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every planet from the sun, then of its moons from it."""
    from_sun = (planet_periods / config.max_period) ** (2 / 3)
    moons = np.arange(1, config.n_moons + 1) / (2 * max(config.n_moons, 1))
    return np.concatenate([from_sun, from_sun * moons], axis=-1)
