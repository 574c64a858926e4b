"""Cued recall: store key-value pairs, then answer every key, in random order, with its value.

One sequence of `CuedRecallConfig(n_keys=8, n_values=8, n_pairs=3)`, keys 0 ... 7 and values 8 ... 15:

               storage                | retrieval
               key val key val key val| query keys
    inputs      5  12   0   9   3  12 |  3   5   0
    targets     .   .   .   .   .   . | 12  12   9      (. = IGNORE)

Keys are drawn without replacement, so they are distinct; values are drawn with replacement, uniformly and
independently. Every key is asked exactly once, all orders being equally likely, and its target stands at that very
position. A query is seen but never its answer, so nothing of a value can be learnt during retrieval.

The controls of `mnemoscope.tasks.episodes` apply: retrieval begins at position 2 n_pairs (`reset_at`), and `episode`
gives the two halves apart. Chance accuracy is 1 / n_values, .016 with the default 64, which a memory that was dropped
or belongs to another row cannot beat.

Pairs in the order in which they are written decide which split owns a sequence: no split shows those of another.

Why: the load alone: no gap, no filler, every pair asked once.

Known limits: distances are short, so it says nothing of keeping.

Source: own. It differs from `mnemoscope.tasks.mqar` in that there is no gap, no filler and no law of distances: only
the load is left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.episodes import Episode
from mnemoscope.tasks.mqar import draw_distinct
from mnemoscope.tasks.streams import Split, draw_owned, split_stream


@dataclass(frozen=True, kw_only=True)
class CuedRecallConfig:
    """How many pairs there are, and of what.

    Args:
        kind: names the task in a stored config.
        n_keys: tokens that are keys, at least 1.
        n_values: tokens that are values, at least 2.
        n_pairs: pairs of a sequence, between 1 and n_keys.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["cued_recall"] = "cued_recall"
    n_keys: int = 64
    n_values: int = 64
    n_pairs: int = 16

    def __post_init__(self) -> None:
        for name, fewest in (("n_keys", 1), ("n_values", 2)):
            if getattr(self, name) < fewest:
                raise ValueError(
                    f"CuedRecallConfig.{name}: must be at least {fewest}, got {getattr(self, name)}; "
                    f"nearest valid: {fewest}"
                )
        if not 1 <= self.n_pairs <= self.n_keys:
            raise ValueError(
                f"CuedRecallConfig.n_pairs: must be between 1 and n_keys = {self.n_keys} (keys are distinct), got "
                f"{self.n_pairs}; nearest valid: {min(max(self.n_pairs, 1), self.n_keys)}"
            )


@final
class CuedRecall:
    """Batches of cued recall; the attributes are those of `mnemoscope.tasks.Task` and `tasks.episodes.Episodic`."""

    unit: str = "accuracy"

    def __init__(self, config: CuedRecallConfig) -> None:
        self.config = config
        self.vocab_size: int = config.n_keys + config.n_values
        self.length: int = 3 * config.n_pairs
        self.reset_at: int = 2 * config.n_pairs
        """Where retrieval begins."""
        self.chance_loss: float = math.log(config.n_values)
        """Nats per query of guessing uniformly among all values, ln(n_values)."""
        self.memoryless_loss: float = self.chance_loss
        """The key alone says nothing of its value."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        return self.episode(rng, size, split).joined()

    def episode(self, rng: np.random.Generator, size: int, split: Split) -> Episode:
        """Draw `size` episodes; `batch` gives them joined, for the same state of `rng`.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"CuedRecall.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n = split_stream(rng, split), self.config.n_pairs
        (pairs,) = draw_owned(self._pairs, stream, size, split)
        keys, values = pairs[:, :n], pairs[:, n:]
        stored = np.stack([keys, values], axis=2).reshape(size, 2 * n)
        item = stream.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
        asked = Batch(
            inputs=np.take_along_axis(keys, item, axis=1),
            targets=np.take_along_axis(values, item, axis=1),
            about=self._about(item),
        )
        return Episode(storage=Batch(inputs=stored, targets=np.full_like(stored, IGNORE)), retrieval=asked)

    def _pairs(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        n, n_keys = self.config.n_pairs, self.config.n_keys
        values = rng.integers(n_keys, self.vocab_size, size=(rows, n))
        return (np.concatenate([draw_distinct(rng, rows, n, n_keys), values], axis=1),)

    def _about(self, item: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        query = np.tile(np.arange(self.config.n_pairs), (len(item), 1))
        distance = self.reset_at + query - (2 * item + 1)
        return {"distance": distance, "item": item, "load": np.full_like(item, self.config.n_pairs), "query": query}

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Keys k0, k1, ..., values v0, v1, ..."""
        first = self.config.n_keys
        return [f"k{token}" if token < first else f"v{token - first}" for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "cued_recall", "numpy": np.__version__}
