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

Why: the standard test of recall by content: load and distance are set, and quadratic attention solves it.

Known limits: with the published law most distances are short; take power_a = 1 for a demand at all of them.

Source: Arora, Eyuboglu et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (2023);
HazyResearch/zoology, `multiquery_ar`, commit 0123f0d. What differs: an own generator, without a loop over
sequences or global random state (the same law, other draws); the vocabulary may be smaller than the length.
"""

import math
from collections.abc import Mapping, Sequence
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
        check_pairs("MqarConfig", self.vocab_size, self.n_pairs, self.power_a)
        shortest = 4 * self.n_pairs
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
        inputs = draw_fillers(stream, size, self.length, self.vocab_size if self.config.random_non_queries else 1)
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
        return pair_words(tokens, self._first_value)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "mqar", "numpy": np.__version__}


def load_ladder(key_width: int, *, vocab_size: int = 8192, power_a: float = 1.0) -> tuple[MqarConfig, ...]:
    """MQAR under growing load: 1, 2, 4, ... pairs, and last four times the key width of the memory.

    A state of K key directions holds K pairs without interference, so the ladder ends well above what fits. All
    sequences have the length that the last rung needs, and queries come anywhere (`power_a` 1): between rungs the load
    changes and the length does not, and one model can be examined on all of them.

    Args:
        key_width: K, at least 1.
        vocab_size: of every rung, at least 8 K + 2, so that there are 4 K keys.
        power_a: a of the gap law.

    Raises:
        ValueError: a key width below 1, or a vocabulary with too few keys.
    """
    if key_width < 1:
        raise ValueError(f"load_ladder: key_width must be at least 1, got {key_width}; nearest valid: 1")
    most = 4 * key_width
    if vocab_size < 2 * (most + 1):
        raise ValueError(
            f"load_ladder: vocab_size must be at least 8 * key_width + 2 = {2 * (most + 1)}, so that there are "
            f"4 * key_width keys, got {vocab_size}; nearest valid: {2 * (most + 1)}"
        )
    loads = [*(2**i for i in range((most - 1).bit_length())), most]
    return tuple(MqarConfig(vocab_size=vocab_size, length=4 * most, n_pairs=load, power_a=power_a) for load in loads)


def saturation_load(accuracies: Mapping[int, float], *, drop: float = 0.2) -> int | None:
    """The smallest load at which accuracy is lower than at the lightest load by `drop` or more.

    The lightest load is the reference, not the best one: the best of several noisy accuracies is biased upwards. There
    is no interpolation between rungs: what is returned is a load that was measured. A memory is saturated at the load
    of a task if it has dropped there or before. One that fails at the lightest load already has no saturation load.

    Args:
        accuracies: by load (pairs of a sequence), between 0 and 1.
        drop: share of right answers lost, above 0 and at most 1; the verdict "saturated" uses 20 points.

    Returns:
        the load; None where accuracy never drops so far.

    Raises:
        ValueError: fewer than two loads, or a number out of its range.
    """
    if len(accuracies) < 2:
        raise ValueError(f"saturation_load: needs the accuracies of at least 2 loads, got {len(accuracies)}")
    if not 0 < drop <= 1:
        raise ValueError(f"saturation_load: drop must be above 0 and at most 1, got {drop}; published: 0.2")
    for load, accuracy in accuracies.items():
        if not 0 <= accuracy <= 1:
            raise ValueError(
                f"saturation_load: accuracies must lie between 0 and 1, got {accuracy} at load {load}; "
                "divide percentages by 100"
            )
    lightest = min(accuracies)
    # 0.2 has no exact binary form: 1 - 0.8 falls short of it by a rounding error.
    fallen = [load for load, right in accuracies.items() if accuracies[lightest] - right >= drop - 1e-9]
    return min(fallen, default=None)


def check_pairs(where: str, vocab_size: int, n_pairs: int, power_a: float) -> None:
    """Refuse a vocabulary, a number of pairs or a gap law that no sequence of pairs can have.

    Raises:
        ValueError: a value out of its range; `where` names the config.
    """
    n_keys = vocab_size // 2 - 1
    if vocab_size < 4:
        raise ValueError(
            f"{where}.vocab_size: must be at least 4 (filler, one key, two values), got {vocab_size}; nearest valid: 4"
        )
    if not 1 <= n_pairs <= n_keys:
        enough = f", or vocab_size >= {2 * (n_pairs + 1)}" if n_pairs > n_keys else ""
        raise ValueError(
            f"{where}.n_pairs: must be between 1 and the {n_keys} keys of vocab_size "
            f"{vocab_size}, got {n_pairs}; nearest valid: {min(max(n_pairs, 1), n_keys)}{enough}"
        )
    check_power(where, power_a)


def check_power(where: str, power_a: float) -> None:
    """Refuse a gap law that is none.

    Raises:
        ValueError: a number that is not positive and finite; `where` names the config.
    """
    if not (math.isfinite(power_a) and power_a > 0):
        raise ValueError(
            f"{where}.power_a: must be positive and finite, got {power_a}; 1 is uniform, 0.01 is published"
        )


def pair_words(tokens: Sequence[int], first_value: int) -> list[str]:
    """Filler as a dot, keys k1, k2, ..., values v0, v1, ..."""
    return [
        "." if token == 0 else f"k{token}" if token < first_value else f"v{token - first_value}" for token in tokens
    ]


def draw_fillers(rng: np.random.Generator, rows: int, length: int, pool: int) -> NDArray[np.int64]:
    """Draw tokens of [0, pool); a pool of one draws nothing and gives zeros."""
    if pool == 1:
        return np.zeros((rows, length), dtype=np.int64)
    return rng.integers(pool, size=(rows, length))


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
    row, order = np.arange(len(draws))[:, None], np.argsort(draws, axis=1, kind="stable")
    ordered = draws[row, order]
    repeated = np.zeros(draws.shape, dtype=np.bool_)
    repeated[row, order[:, 1:]] = ordered[:, 1:] == ordered[:, :-1]
    return repeated
