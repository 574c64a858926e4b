"""Multi-query associative recall (MQAR): read key-value pairs, later answer each key with its value.

One sequence of `MqarConfig(vocab_size=12, length=12, n_pairs=2, random_non_queries=False)`:

               key val key val | gap 0   gap 1   gap 2   gap 3
    inputs      2   8   4   7  | 4   0   0   0   2   0   0   0
    targets     .   .   .   .  | 7   .   .   .   8   .   .   .      (. = IGNORE)

Token 0 is filler, 1 ... V/2 - 1 are keys, V/2 ... V - 1 are values (V/2 rounded down). Keys are distinct within a
sequence, and so are values. After the pairs come gaps of two tokens; each key is asked at the first token of a gap
of its own, and the target stands at that very position. All other tokens after the pairs are drawn from the whole
vocabulary (`random_non_queries`), so one may equal a key; it is not scored.

The gap law: gap g = 0, 1, ... is taken with weight a (g + 1)^(a - 1), without replacement, by the pairs in the
order in which they were written. a = 1 is uniform. With the published a = 0.01 most queries come right after the
pairs, and pairs written early are asked early: a result that must hold for long gaps needs a = 1 as well.

Pairs in the order in which they are written decide which split owns a sequence: no split shows those of another.

Source: Arora, Eyuboglu et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (2023);
HazyResearch/zoology, `multiquery_ar`, commit 0123f0d. What differs: an own generator, without a loop over
sequences or global random state (the same law, other draws); the vocabulary may be smaller than the length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.streams import Split, draw_owned, split_stream


@dataclass(frozen=True, kw_only=True)
class MqarConfig:
    """What an MQAR sequence looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 4 (filler, one key, two values).
        length: tokens of a sequence, even and at least 4 * n_pairs.
        n_pairs: key-value pairs of a sequence, between 1 and the number of keys V // 2 - 1.
        power_a: a of the gap law, positive; 1 is uniform, smaller asks sooner.
        random_non_queries: fill unused positions with random tokens; otherwise with token 0.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mqar"] = "mqar"
    vocab_size: int = 8192
    length: int = 64
    n_pairs: int = 8
    power_a: float = 0.01
    random_non_queries: bool = True

    def __post_init__(self) -> None:
        n_keys, shortest = self.vocab_size // 2 - 1, 4 * self.n_pairs
        enough = f", or vocab_size >= {2 * (self.n_pairs + 1)}" if self.n_pairs > n_keys else ""
        if self.vocab_size < 4:
            raise ValueError(
                "MqarConfig.vocab_size: must be at least 4 (filler, one key, two values), "
                f"got {self.vocab_size}; nearest valid: 4"
            )
        if not 1 <= self.n_pairs <= n_keys:
            raise ValueError(
                f"MqarConfig.n_pairs: must be between 1 and the {n_keys} keys of vocab_size "
                f"{self.vocab_size}, got {self.n_pairs}; nearest valid: {min(max(self.n_pairs, 1), n_keys)}{enough}"
            )
        if not (math.isfinite(self.power_a) and self.power_a > 0):
            raise ValueError(
                f"MqarConfig.power_a: must be positive and finite, got {self.power_a}; 1 is uniform, 0.01 is published"
            )
        if self.length < shortest or self.length % 2:
            raise ValueError(
                f"MqarConfig.length: must be even and at least 4 * n_pairs = {shortest} (a pair takes 2 tokens, its "
                f"query 2), got {self.length}; nearest valid: {max(shortest, self.length + self.length % 2)}"
            )


@final
class Mqar:
    """Batches of MQAR; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: MqarConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._first_value: int = config.vocab_size // 2
        self._n_values: int = config.vocab_size - self._first_value
        self.chance_loss: float = math.log(self._n_values)
        """Nats per query of guessing uniformly among all values, ln(V/2).

        A model that knows which values occurred, but not which key each belongs to, reaches ln(n_pairs).
        """
        self.memoryless_loss: float = self.chance_loss
        """The key alone says nothing of its value."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"Mqar.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n = split_stream(rng, split), self.config.n_pairs
        (pairs,) = draw_owned(self._pairs, stream, size, split)
        keys, values = pairs[:, :n], pairs[:, n:]
        gaps = draw_gaps(stream, size, n, (self.length - 2 * n) // 2, self.config.power_a)
        asked_at = 2 * n + 2 * gaps
        inputs = self._fillers(stream, size)
        inputs[:, 0 : 2 * n : 2] = keys
        inputs[:, 1 : 2 * n : 2] = values
        np.put_along_axis(inputs, asked_at, keys, axis=1)
        targets = np.full_like(inputs, IGNORE)
        np.put_along_axis(targets, asked_at, values, axis=1)
        return Batch(inputs=inputs, targets=targets, about=self._about(asked_at))

    def _pairs(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        keys = 1 + draw_distinct(rng, rows, self.config.n_pairs, self._first_value - 1)
        values = self._first_value + draw_distinct(rng, rows, self.config.n_pairs, self._n_values)
        return (np.concatenate([keys, values], axis=1),)

    def _about(self, asked_at: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        item = np.broadcast_to(np.arange(self.config.n_pairs), asked_at.shape)
        known = {
            "distance": asked_at - (2 * item + 1),
            "item": item,
            "load": np.full_like(asked_at, self.config.n_pairs),
            "query": np.argsort(np.argsort(asked_at, axis=1), axis=1),
        }
        return {name: placed(values, asked_at, self.length) for name, values in known.items()}

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Filler as a dot, keys k1, k2, ..., values v0, v1, ..."""
        first = self._first_value
        return ["." if token == 0 else f"k{token}" if token < first else f"v{token - first}" for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "mqar", "numpy": np.__version__}

    def _fillers(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        shape = (size, self.length)
        if self.config.random_non_queries:
            return rng.integers(self.vocab_size, size=shape)
        return np.zeros(shape, dtype=np.int64)


def placed(values: NDArray[np.int64], positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Rows of `length` that hold `values` at `positions` and -1 elsewhere."""
    rows = np.full((positions.shape[0], length), -1, dtype=np.int64)
    np.put_along_axis(rows, positions, values, axis=1)
    return rows


def draw_distinct(rng: np.random.Generator, rows: int, n: int, pool: int) -> NDArray[np.int64]:
    """Draw n <= pool distinct integers of [0, pool) per row, every ordered choice equally likely.

    Returns:
        integers of shape (rows, n).

    Cost:
        O(n log n) per row, whatever the pool.
    """
    if 2 * n > pool:
        return rng.permuted(np.tile(np.arange(pool), (rows, 1)), axis=1)[:, :n]
    # Redrawing repeated entries alone stays uniform: what is redrawn depends on which entries are equal, not
    # on their values, so the law is unchanged by relabelling, which turns any ordered choice into any other.
    draws, left = rng.integers(pool, size=(rows, n)), np.arange(rows)
    while left.size:
        repeated = _repeats(draws[left])
        unfinished = repeated.any(axis=1)
        left, repeated = left[unfinished], repeated[unfinished]
        block = draws[left]
        block[repeated] = rng.integers(pool, size=int(repeated.sum()))
        draws[left] = block
    return draws


def draw_gaps(rng: np.random.Generator, rows: int, n: int, space: int, power_a: float) -> NDArray[np.int64]:
    """Draw n <= space distinct gaps of [0, space) per row; gap g has weight (g + 1)^(power_a - 1).

    The order is that of successive sampling: the first gap by weight, the next by weight among the rest, and so
    on. Adding Gumbel noise to the logarithms of the weights and sorting, largest first, gives exactly that order.

    Returns:
        integers of shape (rows, n).
    """
    log_weight = (power_a - 1) * np.log(np.arange(1, space + 1))
    return np.argsort(-(log_weight + rng.gumbel(size=(rows, space))), axis=1)[:, :n]


def _repeats(draws: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where an entry equals an earlier one of its row."""
    order = np.argsort(draws, axis=1, kind="stable")
    ordered = np.take_along_axis(draws, order, axis=1)
    repeated = np.zeros(draws.shape, dtype=np.bool_)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated
