"""What is drawn at random of a planted instance, and the data it is examined on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.experiments.planted.sites import rotation
from mnemoscope.tasks import DemandControlConfig, MqarConfig, build_task
from mnemoscope.tasks.mqar import load_ladder

N_PHASES = 2
KEY_WIDTH, VALUE_WIDTH = 4, 8
"""Dimensions of the saturated memory; its data go up to four times as many pairs as there are key dimensions."""

LOCAL_POSITIONS = 19
"""Positions that a few tokens answer, for each that demands memory."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Sizes, codes, label noise, and whether memories know windows."""

    seed: int
    vocab_size: int
    n_pairs: int
    length: int
    noise: float
    knows_windows: bool
    generator: torch.Generator

    @classmethod
    def draw(cls, seed: int) -> "World":
        """An instance; the same seed gives the same one."""
        rng = np.random.default_rng(seed)
        n_pairs = int(rng.integers(3, 6))
        return cls(
            seed=seed,
            vocab_size=2 * int(rng.integers(8, 17)),
            n_pairs=n_pairs,
            length=4 * n_pairs + 2 * int(rng.integers(4, 10)),
            noise=float(rng.uniform(0.05, 0.2)),
            knows_windows=bool(rng.integers(2)),
            generator=torch.Generator().manual_seed(seed),
        )

    @property
    def first_value(self) -> int:
        """Tokens from here on are values; those before are the filler and the keys."""
        return self.vocab_size // 2

    @property
    def sharpness(self) -> float:
        """Logit of a recalled value at which the model is calibrated for the label noise."""
        return float(np.log((1 - self.noise) * (self.vocab_size - 1) / self.noise))

    def rotation(self) -> torch.Tensor:
        """Codes of all tokens."""
        return rotation(self.vocab_size, self.generator)

    def mqar(self, random_non_queries: bool = False) -> MqarConfig:
        """Recall with queries at any distance."""
        return MqarConfig(
            vocab_size=self.vocab_size,
            length=self.length,
            n_pairs=self.n_pairs,
            power_a=1.0,
            random_non_queries=random_non_queries,
        )

    def batches(self, draw: "Draw", n: int, size: int) -> list[Batch]:
        """Batches of a kind of data, with labels that are random in the world's share of all cases."""
        rng = np.random.default_rng(self.seed)
        return [self._noisy(draw(self, rng, size), rng) for _ in range(n)]

    def _noisy(self, batch: Batch, rng: np.random.Generator) -> Batch:
        targets = np.asarray(batch.targets).copy()
        wrong = (rng.random(targets.shape) < self.noise) & (targets != IGNORE)
        targets[wrong] = rng.integers(0, self.vocab_size, wrong.sum())
        return Batch(inputs=torch.from_numpy(batch.inputs), targets=torch.from_numpy(targets), about=batch.about)


Draw = Callable[[World, np.random.Generator, int], Batch]
"""`draw(world, rng, size)` is a batch of so many sequences, without label noise."""


def as_drawn(world: World) -> World:
    """The world itself."""
    return world


def recall(world: World, rng: np.random.Generator, size: int) -> Batch:
    """Each key is asked once: MQAR."""
    return build_task(world.mqar()).batch(rng, size, "test")


def shifted_by_phase(world: World, rng: np.random.Generator, size: int) -> Batch:
    """Recall whose answer is the next value instead at every second gap."""
    batch = recall(world, rng, size)
    return _renamed(world, batch, np.broadcast_to(np.arange(world.length) // 2 % N_PHASES, batch.inputs.shape))


def shifted_by_first_key(world: World, rng: np.random.Generator, size: int) -> Batch:
    """Recall whose answer is as many values further as the number of the sequence's first key: a one-time pad."""
    batch = recall(world, rng, size)
    return _renamed(world, batch, np.broadcast_to(batch.inputs[:, :1], batch.inputs.shape))


def two_before(world: World, rng: np.random.Generator, size: int) -> Batch:
    """The answer is the token two before, everywhere; tokens are random."""
    inputs = build_task(world.mqar(random_non_queries=True)).batch(rng, size, "test").inputs
    targets = np.full_like(inputs, IGNORE)
    targets[:, 2:] = inputs[:, :-2]
    return Batch(inputs=inputs, targets=targets)


def last_value(world: World, rng: np.random.Generator, size: int) -> Batch:
    """Looks like recall, but the answer is the newest value, within four tokens."""
    config = DemandControlConfig(
        vocab_size=world.vocab_size, length=world.length, n_pairs=world.n_pairs, power_a=1.0, random_non_queries=False
    )
    return build_task(config).batch(rng, size, "test")


def many_keys(world: World) -> World:
    """A vocabulary with four times as many keys as the linear memory has dimensions."""
    return replace(world, vocab_size=world.vocab_size + 8 * KEY_WIDTH - 14)


def ladder(world: World, rng: np.random.Generator, size: int) -> Batch:
    """Recall of 1, 2, 4, ... pairs up to four times the key dimensions, in turn."""
    rungs = load_ladder(KEY_WIDTH, vocab_size=world.vocab_size)
    configs = [replace(config, random_non_queries=False) for config in rungs]
    rows = [np.arange(rung, size, len(configs)) for rung in range(len(configs))]
    parts = [
        build_task(config).batch(rng, len(of), "test") for config, of in zip(configs, rows, strict=True) if len(of)
    ]
    order = np.argsort(np.concatenate(rows))

    def gathered(read: Callable[[Batch], NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.concatenate([read(part) for part in parts])[order]

    return Batch(
        inputs=gathered(lambda part: part.inputs),
        targets=gathered(lambda part: part.targets),
        about={
            "distance": gathered(lambda part: part.about["distance"]),
            "load": gathered(lambda part: part.about["load"]),
        },
    )


def long(world: World) -> World:
    """Room for all local positions beside the pairs and their queries."""
    return replace(world, length=4 * world.n_pairs + 2 * (LOCAL_POSITIONS + 1))


def seldom_demanding(world: World, rng: np.random.Generator, size: int) -> Batch:
    """One distant recall among twenty scored positions; the others ask for the token two before.

    The token two before is asked for where the present token is no key, and random values stand between the queries.
    """
    batch = recall(world, rng, size)
    inputs, rows = batch.inputs, np.arange(size)
    inputs = np.where(inputs == 0, rng.integers(world.first_value, world.vocab_size, inputs.shape), inputs)
    targets, distance = np.full_like(inputs, IGNORE), np.full_like(inputs, -1)
    asked = _random_among(rng, batch.about["distance"] >= 4, 1)[:, 0]
    is_local = (inputs >= world.first_value) & (np.arange(inputs.shape[1]) >= 2)
    local = _random_among(rng, is_local, LOCAL_POSITIONS)
    targets[rows[:, None], local] = inputs[rows[:, None], local - 2]
    distance[rows[:, None], local] = 2
    targets[rows, asked], distance[rows, asked] = batch.targets[rows, asked], batch.about["distance"][rows, asked]
    return Batch(inputs=inputs, targets=targets, about={"distance": distance})


def _random_among(rng: np.random.Generator, allowed: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """So many allowed columns of each row."""
    return np.argsort(np.where(allowed, rng.random(allowed.shape), np.inf), axis=1)[:, :n]


def _renamed(world: World, batch: Batch, shift: NDArray[np.int64]) -> Batch:
    """The answers, each some values further, the first coming after the last."""
    first, n = world.first_value, world.vocab_size - world.first_value
    moved = first + (batch.targets - first + shift) % n
    return replace(batch, targets=np.where(batch.targets == IGNORE, IGNORE, moved))
