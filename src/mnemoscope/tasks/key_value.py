"""Key-value retrieval: read pairs of a key and a value, both of bits; then give the value of every key.

One sequence of `KeyValueConfig(n_bits=3, min_pairs=2, max_pairs=3, two_way=True)`, of two pairs:

                        pairs         keys are asked      values are asked
    inputs, key       110  011 | 000 |   011  110   | 000 |   001  100   | 000 ...
      value           100  001 | 000 |   000  000   | 000 |   000  000   | 000
      keys?             0    0 |   1 |     0    0   |   0 |     0    0   |   0
      values?           0    0 |   0 |     0    0   |   1 |     0    0   |   0
    targets             .    . |   . |   001  100   |   . |   011  110   |   . ...      (. = NaN, not scored)

A task of vectors: `n_bits` channels for a key, as many for a value, and one for each delimiter. After the pairs and a
delimiter all keys stand again, in random order, and the value of each is due at once. With `two_way`, another delimiter
follows and then all values, in an order of their own and in the channels of the keys; now the key of each is due.
Without, there is neither the second delimiter nor its channel. The keys of a sequence are distinct and in random order.
Values are independent and uniform; with `two_way` they are distinct too, or some would have no single answer. The
number of pairs is uniform in [min_pairs, max_pairs] for every sequence of its own; all are padded to the longest.

A question names its pair by content alone, so content-based addressing is what is on trial.

Pairs in their order, and their number, decide which split owns a sequence.

Why: lookup by content among pairs of bits, in the form in which external memories were tried.

Known limits: bits are scored one by one, so half of them are right by chance.

Source: Csordas and Schmidhuber, "Improving Differentiable Neural Computers Through Memory Masking, De-allocation, and
Link Distribution Sharpness Control" (2019); RobertCsordas/dnc, commit 2a2b6bf, `KeyValue` and `KeyValue2Way`, profiles
of 2 ... 16 pairs of 6 and 6 bits; those are the defaults. What differs: there keys are written in ascending order, so
that a key tells where its pair stands; two-way values may be equal; a last vector marks the end, and the loss covers
all positions; the number of pairs is one for a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.bit_vectors import (
    LN_2,
    MAX_BITS,
    about_scored,
    bit_words,
    check_between,
    fingerprints,
    unscored,
    up_to,
    vectors_of,
)
from mnemoscope.tasks.mqar import draw_distinct
from mnemoscope.tasks.streams import Split, draw_owned, split_index, split_stream


@dataclass(frozen=True, kw_only=True)
class KeyValueConfig:
    """How many pairs there are, and what is asked of them.

    Args:
        kind: names the task in a stored config.
        n_bits: of a key, and of a value, between 1 and 31.
        min_pairs: fewest pairs, between 1 and max_pairs.
        max_pairs: most pairs; at most 2^n_bits, so that keys can be distinct.
        two_way: whether keys are asked for by their values too.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["key_value"] = "key_value"
    n_bits: int = 6
    min_pairs: int = 2
    max_pairs: int = 16
    two_way: bool = False

    def __post_init__(self) -> None:
        check_between("KeyValueConfig.n_bits", self.n_bits, 1, MAX_BITS)
        check_between("KeyValueConfig.max_pairs", self.max_pairs, 1, 2**self.n_bits, " = 2^n_bits")
        check_between("KeyValueConfig.min_pairs", self.min_pairs, 1, self.max_pairs, " = max_pairs")


@final
class KeyValue:
    """Batches of pairs; the attributes are those of `mnemoscope.tasks.Task`, `n_channels` and `n_outputs`."""

    unit: str = "bit errors"
    vocab_size: int = 0
    chance_loss: float = LN_2
    """Nats per bit of guessing: every bit of a key and of a value is fair."""
    memoryless_loss: float = LN_2
    """The key alone says nothing of its value, nor the value of its key: they are drawn independently."""
    floor_loss: float = 0.0
    """Every answer stands in its sequence, beside the one key, or value, that is asked."""

    def __init__(self, config: KeyValueConfig) -> None:
        self.config = config
        self.n_ways: int = 1 + config.two_way
        """1: keys are asked; 2: values are asked too."""
        self.length: int = config.max_pairs + self.n_ways * (config.max_pairs + 1)
        self.n_channels: int = 2 * config.n_bits + self.n_ways
        """Numbers of an input: key, value, delimiters."""
        self.n_outputs: int = config.n_bits
        """Numbers of a target."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences: float32 inputs (size, length, n_channels), targets (size, length, n_outputs).

        Raises:
            ValueError: size below 1, an unknown split, or so few sequences that the split owns hardly any.
        """
        if size < 1:
            raise ValueError(f"KeyValue.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n_bits, every = split_stream(rng, split), self.config.n_bits, np.arange(size)
        _, keys, values, counts = draw_owned(self._drawn, stream, size, split)
        there = up_to(counts, self.config.max_pairs)
        sides = vectors_of(keys, n_bits), vectors_of(values, n_bits)
        inputs = np.zeros((size, self.length, self.n_channels), dtype=np.float32)
        inputs[:, : there.shape[1], : 2 * n_bits] = np.concatenate(sides, axis=-1) * there[..., None]
        targets = unscored(size, self.length, self.n_outputs)
        rows, place = np.nonzero(there)
        load, parts = counts[rows], list[tuple[NDArray[np.int64], ...]]()
        for way in range(self.n_ways):
            begins = counts + way * (counts + 1)
            inputs[every, begins, 2 * n_bits + way] = 1
            item = _shuffled(stream, there)[rows, place]
            asked_at = begins[rows] + 1 + place
            inputs[rows, asked_at, :n_bits] = sides[way][rows, item]
            targets[rows, asked_at] = sides[1 - way][rows, item]
            parts.append((rows, asked_at, item, load, place + way * load))
        rows, asked_at, item, load, query = (np.concatenate(part) for part in zip(*parts, strict=True))
        known = {"distance": asked_at - item, "item": item, "load": load, "query": query}
        return Batch(inputs=inputs, targets=targets, about=about_scored((size, self.length), rows, asked_at, known))

    def _drawn(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], ...]:
        config, pool = self.config, 2**self.config.n_bits
        counts = rng.integers(config.min_pairs, config.max_pairs + 1, size=rows)
        keys = draw_distinct(rng, rows, config.max_pairs, pool)
        if config.two_way:
            values = draw_distinct(rng, rows, config.max_pairs, pool)
        else:
            values = rng.integers(pool, size=keys.shape)
        return fingerprints(keys * pool + values, counts), keys, values, counts

    def words(self, tokens: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
        """One word for every vector: key and value around a colon, the answer, or what is asked from here on."""
        return bit_words(tokens, self.config.n_bits, ["keys?", "values?"], n_parts=2)

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        split_index(split)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "key_value", "numpy": np.__version__}


def _shuffled(rng: np.random.Generator, there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For every row, the places that are there in random order, and then the others."""
    return np.argsort(np.where(there, rng.random(there.shape), 2.0), axis=1, kind="stable")
