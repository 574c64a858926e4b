"""Associative recall: read a list of items, each some vectors of bits, and name the item that follows the one shown.

One sequence of `AssociativeRecallConfig(n_bits=4, n_vectors=2, min_items=2, max_items=4)`, of three items, the second
of which is shown:

                       item 0          item 1          item 2          query                  answer
    inputs, bits    0000 0110 1011  0000 0001 1110  0000 1001 0101  0000 0001 1110  0000    0000 0000    ...
      item             1    0    0     1    0    0     1    0    0     0    0    0     0       0    0
      query            0    0    0     0    0    0     0    0    0     1    0    0     1       0    0
    targets            .    .    .     .    .    .     .    .    .     .    .    .     .    1001 0101    ...

A task of vectors: `n_bits` channels of data and two for delimiters. A delimiter stands before every item, and another
kind on both sides of the query. The items of a sequence are distinct, every list of them equally likely; the query is
any of them but the last, equally likely, and during the zero vectors after it the next one is asked for. The number of
items is uniform in [min_items, max_items] for every sequence of its own; all are padded to
(max_items + 2) * (n_vectors + 1) positions. What was learned on short lists is tried on long ones by another config,
for instance with 7 ... 12 items.

`about` counts the distance to the answer in the list, not to the query, which is always near; `item` is that of the
answer, and each of its vectors is part of the one question.

Items and their number decide which split owns a sequence: no list is met in another split with another query.

Why: one lookup by content in a short list, the oldest test of an external memory.

Known limits: one question a sequence, so that most of the sequence carries no loss.

Source: Graves, Wayne, Danihelka, "Neural Turing Machines" (2014), section 4.3: 2 ... 6 items of 3 vectors of 6 bits;
those are the defaults. What differs: items are distinct, so that the answer is never ambiguous, and their number is
drawn for each sequence. MarkPKCollier/NeuralTuringMachine has no delimiters between items.
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
class AssociativeRecallConfig:
    """How many items a list has, and how large they are.

    Args:
        kind: names the task in a stored config.
        n_bits: of every vector, between 1 and 31.
        n_vectors: of every item, at least 1, and at most 62 // n_bits.
        min_items: fewest items, between 2 and max_items.
        max_items: most items; at most 2^(n_bits * n_vectors), so that they can be distinct.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["associative_recall"] = "associative_recall"
    n_bits: int = 6
    n_vectors: int = 3
    min_items: int = 2
    max_items: int = 6

    def __post_init__(self) -> None:
        where = "AssociativeRecallConfig"
        check_between(f"{where}.n_bits", self.n_bits, 1, MAX_BITS)
        check_between(f"{where}.n_vectors", self.n_vectors, 1, 2 * MAX_BITS // self.n_bits, " = 62 // n_bits")
        n_different = 2 ** (self.n_bits * self.n_vectors)
        check_between(f"{where}.max_items", self.max_items, 2, n_different, " = 2^(n_bits * n_vectors)")
        check_between(f"{where}.min_items", self.min_items, 2, self.max_items, " = max_items")


@final
class AssociativeRecall:
    """Batches of lists; the attributes are those of `mnemoscope.tasks.Task`, `n_channels` and `n_outputs`."""

    unit: str = "bit errors"
    vocab_size: int = 0
    chance_loss: float = LN_2
    """Nats per bit of guessing: every bit of an item is fair."""
    memoryless_loss: float = LN_2
    """The present vector is zero wherever a bit is scored."""
    floor_loss: float = 0.0
    """Every answer stands in its sequence, behind the one item that is equal to the query."""

    def __init__(self, config: AssociativeRecallConfig) -> None:
        self.config = config
        self.length: int = (config.max_items + 2) * (config.n_vectors + 1)
        self.n_channels: int = config.n_bits + 2
        """Numbers of an input: the bits, the delimiter of items, that of the query."""
        self.n_outputs: int = config.n_bits
        """Numbers of a target."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences: float32 inputs (size, length, n_channels), targets (size, length, n_outputs).

        Raises:
            ValueError: size below 1, an unknown split, or so few sequences that the split owns hardly any.
        """
        if size < 1:
            raise ValueError(f"AssociativeRecall.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, every = split_stream(rng, split), np.arange(size)
        _, codes, counts = draw_owned(self._drawn, stream, size, split)
        shown = stream.integers(counts - 1)
        items = self._items(codes)
        inputs = self._listed(items, counts)
        # A query looks like an item with another delimiter, and is followed by that delimiter once more.
        step = self.config.n_vectors + 1
        asks = (counts * step)[:, None] + np.arange(step)
        inputs[every[:, None], asks[:, 1:], : self.n_outputs] = items[every, shown]
        inputs[every, asks[:, 0], self.n_outputs + 1] = 1
        inputs[every, asks[:, 0] + step, self.n_outputs + 1] = 1
        targets = unscored(size, self.length, self.n_outputs)
        asked_at = asks[:, 1:] + step
        targets[every[:, None], asked_at] = items[every, shown + 1]
        stood_at = ((shown + 1) * step)[:, None] + np.arange(1, step)
        known = {
            "distance": asked_at - stood_at,
            "item": (shown + 1)[:, None],
            "load": counts[:, None],
            "query": np.zeros((1, 1), dtype=np.int64),
        }
        about = about_scored((size, self.length), every[:, None], asked_at, known)
        return Batch(inputs=inputs, targets=targets, about=about)

    def _items(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of every item, shape (rows, items, n_vectors, n_bits)."""
        n_vectors, n_bits = self.config.n_vectors, self.config.n_bits
        return vectors_of(codes, n_vectors * n_bits).reshape(*codes.shape, n_vectors, n_bits)

    def _listed(self, items: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Inputs that hold the list and nothing else."""
        size, most, n_vectors, n_bits = items.shape
        blocks = np.zeros((size, most + 2, n_vectors + 1, self.n_channels), dtype=np.float32)
        there = up_to(counts, most)[:, :, None]
        blocks[:, :most, 0, n_bits] = there[..., 0]
        blocks[:, :most, 1:, :n_bits] = items * there[..., None]
        return blocks.reshape(size, self.length, self.n_channels)

    def _drawn(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], ...]:
        config = self.config
        counts = rng.integers(config.min_items, config.max_items + 1, size=rows)
        codes = draw_distinct(rng, rows, config.max_items, 2 ** (config.n_bits * config.n_vectors))
        return fingerprints(codes, counts), codes, counts

    def words(self, tokens: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
        """One word for every vector: its bits, or "item" and "query" for the delimiters."""
        return bit_words(tokens, self.config.n_bits, ["item", "query"])

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        split_index(split)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "associative_recall", "numpy": np.__version__}
