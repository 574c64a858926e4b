"""MQAR with rewrites: some keys are written a second time with another value, and the last value is the answer.

One sequence of `ForgettingConfig(vocab_size=12, length=14, n_pairs=2, n_updates=1, random_non_queries=False)`:

               key val key val | key val | gap 0   gap 1   gap 2   gap 3
    inputs      2   8   4   7  |  2  11  |  4   0   0   0   2   0   0   0
    targets     .   .   .   .  |  .   .  |  7   .   .   .  11   .   .   .      (. = IGNORE)

Key 2 is updated: 11 is right and 8 is stale. Key 4 is untouched. Tokens, pairs, gaps and fillers are those of
`mnemoscope.tasks.mqar`; between the pairs and the gaps stand `n_updates` pairs that write distinct keys of this
sequence again, in random order. The value of a rewrite is uniform among all values except the old value of its own key;
it may be the value of another key.

A memory that forgets nothing answers untouched keys and gives stale answers; one that keeps only what is recent
answers updated keys and loses the others. So three figures are read, not one: `accuracy_updated`,
`accuracy_untouched`, and `stale_rate`, the share of updated keys that are answered with the old value.

Pairs and rewrites in the order in which they are written decide which split owns a sequence.

Why: whether a memory can replace a value, and keep the others while it does.

Known limits: three figures must be read together; the mean accuracy hides which of them failed.

Source: HazyResearch/zoology, `forgetting_mqar`, commit d88d6f5. What differs: there a rewrite is compared with the
value of the key in the same slot, not of the key that it rewrites, so that now and then it writes the old value again;
here it never does. An own generator, without a loop over sequences or global random state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mqar import check_pairs, draw_distinct, draw_fillers, draw_gaps, pair_words, placed
from mnemoscope.tasks.streams import Split, draw_owned, split_stream


@dataclass(frozen=True, kw_only=True)
class ForgettingConfig:
    """What a sequence of pairs and rewrites looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 4 (filler, one key, two values).
        length: tokens of a sequence, even and at least 4 * n_pairs + 2 * n_updates.
        n_pairs: keys of a sequence, between 1 and V // 2 - 1.
        n_updates: keys written again, between 0 (plain MQAR) and n_pairs.
        power_a: a of the gap law, positive; 1 is uniform, smaller asks sooner.
        random_non_queries: fill unused positions with random tokens; otherwise with token 0.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["forgetting_mqar"] = "forgetting_mqar"
    vocab_size: int = 8192
    length: int = 64
    n_pairs: int = 8
    n_updates: int = 4
    power_a: float = 0.01
    random_non_queries: bool = True

    def __post_init__(self) -> None:
        check_pairs("ForgettingConfig", self.vocab_size, self.n_pairs, self.power_a)
        if not 0 <= self.n_updates <= self.n_pairs:
            raise ValueError(
                f"ForgettingConfig.n_updates: must be between 0 and n_pairs = {self.n_pairs}, got {self.n_updates}; "
                f"nearest valid: {min(max(self.n_updates, 0), self.n_pairs)}"
            )
        shortest = 4 * self.n_pairs + 2 * self.n_updates
        if self.length < shortest or self.length % 2:
            raise ValueError(
                f"ForgettingConfig.length: must be even and at least 4 * n_pairs + 2 * n_updates = {shortest} (a pair, "
                f"a rewrite and a query take 2 tokens each), got {self.length}; "
                f"nearest valid: {max(shortest, self.length + self.length % 2)}"
            )


@final
class Forgetting:
    """Batches of MQAR with rewrites; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: ForgettingConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._first_value: int = config.vocab_size // 2
        self._n_values: int = config.vocab_size - self._first_value
        self.chance_loss: float = math.log(self._n_values)
        """Nats per query of guessing uniformly among all values, ln(V/2)."""
        self.memoryless_loss: float = self.chance_loss
        """The key alone says nothing of its value: first values and rewrites are uniform among all values."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"Forgetting.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n = split_stream(rng, split), self.config.n_pairs
        written, updated = draw_owned(self._written, stream, size, split)
        context = written.shape[1]
        gaps = draw_gaps(stream, size, n, (self.length - context) // 2, self.config.power_a)
        asked_at = context + 2 * gaps
        newest_at = np.broadcast_to(2 * np.arange(n) + 1, asked_at.shape).copy()
        np.put_along_axis(newest_at, updated, 2 * np.arange(n, context // 2)[None] + 1, axis=1)
        inputs = draw_fillers(stream, size, self.length, self.vocab_size if self.config.random_non_queries else 1)
        inputs[:, :context] = written
        np.put_along_axis(inputs, asked_at, written[:, 0 : 2 * n : 2], axis=1)
        targets = np.full_like(inputs, IGNORE)
        np.put_along_axis(targets, asked_at, np.take_along_axis(written, newest_at, axis=1), axis=1)
        return Batch(inputs=inputs, targets=targets, about=self._about(asked_at, newest_at))

    def _written(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The context, and which pairs its rewrites update."""
        n, u = self.config.n_pairs, self.config.n_updates
        written = np.empty((rows, 2 * (n + u)), dtype=np.int64)
        keys = 1 + draw_distinct(rng, rows, n, self._first_value - 1)
        values = draw_distinct(rng, rows, n, self._n_values)
        updated = draw_distinct(rng, rows, u, n)
        # A step of 1 ... n_values - 1 around the circle of values reaches every value but the old one, equally likely.
        steps = rng.integers(1, self._n_values, size=(rows, u))
        rewritten = (np.take_along_axis(values, updated, axis=1) + steps) % self._n_values
        written[:, 0 : 2 * n : 2], written[:, 2 * n :: 2] = keys, np.take_along_axis(keys, updated, axis=1)
        written[:, 1 : 2 * n : 2], written[:, 2 * n + 1 :: 2] = (
            values + self._first_value,
            rewritten + self._first_value,
        )
        return written, updated

    def _about(self, asked_at: NDArray[np.int64], newest_at: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        known = {
            "distance": asked_at - newest_at,
            "item": np.broadcast_to(np.arange(self.config.n_pairs), asked_at.shape),
            "load": np.full_like(asked_at, self.config.n_pairs),
            "query": np.argsort(np.argsort(asked_at, axis=1), axis=1),
        }
        return {name: placed(values, asked_at, self.length) for name, values in known.items()}

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Filler as a dot, keys k1, k2, ..., values v0, v1, ..."""
        return pair_words(tokens, self._first_value)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "forgetting_mqar", "numpy": np.__version__}


def stale_answers(batch: Batch) -> NDArray[np.int64]:
    """The old value wherever an updated key is asked, -1 elsewhere.

    The pair that `about["item"]` names was written first and holds the old value; a rewrite never repeats it, so that
    a target which differs from it belongs to an updated key.

    Returns:
        integers of shape (b, t).
    """
    item, inputs, targets = (np.asarray(part) for part in (batch.about["item"], batch.inputs, batch.targets))
    first = np.take_along_axis(inputs, 2 * np.maximum(item, 0) + 1, axis=1)
    return np.where((item >= 0) & (first != targets), first, -1)


def accuracy_updated(predictions: Any, batch: Batch) -> float | None:
    """Share of updated keys that are answered with their last value; None where the batch asks for none.

    Args:
        predictions: tokens of shape (b, t).
        batch: what was asked.
    """
    return _share(np.asarray(predictions) == batch.targets, stale_answers(batch) >= 0)


def accuracy_untouched(predictions: Any, batch: Batch) -> float | None:
    """Share of keys written once that are answered right; None where the batch asks for none.

    Args:
        predictions: tokens of shape (b, t).
        batch: what was asked.
    """
    asked = np.asarray(batch.targets) != IGNORE
    return _share(np.asarray(predictions) == batch.targets, asked & (stale_answers(batch) < 0))


def stale_rate(predictions: Any, batch: Batch) -> float | None:
    """Share of updated keys that are answered with their old value; None where the batch asks for none.

    Args:
        predictions: tokens of shape (b, t).
        batch: what was asked.
    """
    stale = stale_answers(batch)
    return _share(np.asarray(predictions) == stale, stale >= 0)


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(hits[among].mean()) if among.any() else None
