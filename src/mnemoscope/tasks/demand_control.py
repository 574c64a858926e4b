"""Memory-demand control: the tokens of MQAR, but every answer can be read off the last few tokens.

One sequence of `DemandControlConfig(vocab_size=12, length=12, n_pairs=2, window=4, random_non_queries=False)`:

               key val key val | gap 0   gap 1   gap 2   gap 3
    inputs      2   8   4   7  | 4   0   0   9   2   0   0   0
    targets     .   .   .   .  | 7   .   .   .   9   .   .   .      (. = IGNORE)

The target of a query is the newest value token before it, whichever key is asked: the copy of the last value. That
value always stands within the last `window` tokens, the present one included. So a model without any memory beyond
such a window loses nothing, and a correct examiner must say "not demanded", although the sequence holds pairs worth
storing and looks like recall.

For the same state of the generator the inputs are those of `mnemoscope.tasks.mqar` with the same parameters, with one
exception: where no value stands within the window of a query, a filler at an odd distance from it (so that it is in no
query's place) is overwritten with a random value.

Why: the negative control of an examination: it looks like recall and needs no memory.

Known limits: only the window it was made for is too short to matter; a model with a shorter one does need memory.

Source: own. The pairs decide which split owns a sequence, as in MQAR.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mqar import Mqar, MqarConfig, check_pairs, pair_words
from mnemoscope.tasks.streams import Split, split_stream


@dataclass(frozen=True, kw_only=True)
class DemandControlConfig:
    """What a sequence looks like that demands no memory.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 4 (filler, one key, two values).
        length: tokens of a sequence, even and at least 4 * n_pairs.
        n_pairs: key-value pairs of a sequence, as many as queries, between 1 and V // 2 - 1.
        window: tokens within which every answer stands, the query included, between 2 and length.
        power_a: a of the gap law, positive; 1 is uniform, smaller asks sooner.
        random_non_queries: fill unused positions with random tokens; otherwise with token 0.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["demand_control"] = "demand_control"
    vocab_size: int = 8192
    length: int = 64
    n_pairs: int = 8
    window: int = 4
    power_a: float = 0.01
    random_non_queries: bool = True

    def __post_init__(self) -> None:
        check_pairs("DemandControlConfig", self.vocab_size, self.n_pairs, self.power_a)
        shortest = 4 * self.n_pairs
        if self.length < shortest or self.length % 2:
            raise ValueError(
                f"DemandControlConfig.length: must be even and at least 4 * n_pairs = {shortest} (a pair takes 2 "
                f"tokens, its query 2), got {self.length}; "
                f"nearest valid: {max(shortest, self.length + self.length % 2)}"
            )
        if not 2 <= self.window <= self.length:
            raise ValueError(
                f"DemandControlConfig.window: must be between 2 (the query and the token before it) and "
                f"length = {self.length}, got {self.window}; nearest valid: {min(max(self.window, 2), self.length)}"
            )


@final
class DemandControl:
    """Batches of the demand control; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: DemandControlConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._first_value: int = config.vocab_size // 2
        self._mqar: Mqar = Mqar(
            MqarConfig(
                vocab_size=config.vocab_size,
                length=config.length,
                n_pairs=config.n_pairs,
                power_a=config.power_a,
                random_non_queries=config.random_non_queries,
            )
        )
        self.chance_loss: float = math.log(config.vocab_size - self._first_value)
        """Nats per query of guessing uniformly among all values, ln(V/2)."""
        self.memoryless_loss: float = self.chance_loss
        """The present token is a key, which says nothing of the values before it.

        So the query alone does not tell the answer; the last `window` tokens do, at `floor_loss`.
        """
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"DemandControl.batch: size must be at least 1, got {size}; nearest valid: 1")
        recall = self._mqar.batch(rng, size, split)
        inputs, asked = recall.inputs, recall.targets != IGNORE
        self._plant(inputs, asked, split_stream(rng, split))
        newest_at = self._newest_at(inputs)
        targets = np.where(asked, np.take_along_axis(inputs, newest_at, axis=1), IGNORE)
        distance = np.where(asked, np.arange(self.length) - newest_at, -1)
        return Batch(inputs=inputs, targets=targets, about={"distance": distance, "query": recall.about["query"]})

    def _plant(self, inputs: NDArray[np.int64], asked: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Write a value into the window of every query that lacks one."""
        distance = np.arange(self.length) - self._newest_at(inputs)
        rows, queries = np.nonzero(asked & (distance >= self.config.window))
        # Queries stand at even positions, so no query is overwritten; and as every pair ends in a value at an odd
        # position, a window that lacks one does not reach back to the pairs.
        planted_at = queries - 1 - 2 * rng.integers(self.config.window // 2, size=queries.size)
        inputs[rows, planted_at] = rng.integers(self._first_value, self.vocab_size, size=queries.size)

    def _newest_at(self, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the newest value stands, at or before each position; 0 before the first."""
        return np.maximum.accumulate(np.where(inputs >= self._first_value, np.arange(self.length), 0), axis=1)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Filler as a dot, keys k1, k2, ..., values v0, v1, ..."""
        return pair_words(tokens, self._first_value)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "demand_control", "numpy": np.__version__}
