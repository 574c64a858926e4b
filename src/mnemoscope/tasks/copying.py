"""Copy: read vectors of bits, and write them out in order after a delimiter.

One sequence of `CopyingConfig(n_bits=4, min_length=2, max_length=4)`, of length 3:

                                     delimiter
    inputs, bits     0110 1011 0001 | 0000 | 0000 0000 0000 | 0000 0000
      delimiter         0    0    0 |    1 |    0    0    0 |    0    0
    targets             .    .    . |    . | 0110 1011 0001 |    .    .      (. = NaN, not scored)

A task of vectors: `n_bits` channels of data and one for the delimiter. L vectors of independent fair bits are followed
by the delimiter, and then by L zero vectors, during which they are asked for in order. L is uniform in
[min_length, max_length] for every sequence of its own; all are padded to 2 * max_length + 1 positions. What was learned
on short sequences is tried on long ones by another config, for instance with lengths 40 ... 120.

Vectors and their number decide which split owns a sequence, whatever the range of lengths.

Why: order and capacity: everything must come back as it was, which shows at once how much is held.

Known limits: attention solves it by position; it says nothing of lookup by content.

Source: Graves, Wayne, Danihelka, "Neural Turing Machines" (2014), section 4.1: lengths 1 ... 20 of 8 bits, tried up to
120; those are the defaults. What differs: L is drawn for each sequence, where the public generators have one for a
batch. The delimiter is a 1 in a channel of its own, as there; MarkPKCollier/NeuralTuringMachine sets all channels to 1.
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
from mnemoscope.tasks.streams import Split, draw_owned, split_index, split_stream


@dataclass(frozen=True, kw_only=True)
class CopyingConfig:
    """How many vectors there are to copy, and how wide they are.

    Args:
        kind: names the task in a stored config.
        n_bits: of every vector, between 1 and 31.
        min_length: fewest vectors, between 1 and max_length.
        max_length: most vectors.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["copy"] = "copy"
    n_bits: int = 8
    min_length: int = 1
    max_length: int = 20

    def __post_init__(self) -> None:
        check_between("CopyingConfig.n_bits", self.n_bits, 1, MAX_BITS)
        check_between("CopyingConfig.max_length", self.max_length, 1)
        check_between("CopyingConfig.min_length", self.min_length, 1, self.max_length, " = max_length")


@final
class Copying:
    """Batches of copying; the attributes are those of `mnemoscope.tasks.Task`, `n_channels` and `n_outputs`."""

    unit: str = "bit errors"
    vocab_size: int = 0
    chance_loss: float = LN_2
    """Nats per bit of guessing: the bits are fair."""
    memoryless_loss: float = LN_2
    """The present vector is zero wherever a bit is scored."""
    floor_loss: float = 0.0
    """Every answer stands in its sequence."""

    def __init__(self, config: CopyingConfig) -> None:
        self.config = config
        self.length: int = 2 * config.max_length + 1
        self.n_channels: int = config.n_bits + 1
        """Numbers of an input: the bits, and the delimiter."""
        self.n_outputs: int = config.n_bits
        """Numbers of a target."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences: float32 inputs (size, length, n_channels), targets (size, length, n_outputs).

        Raises:
            ValueError: size below 1, an unknown split, or so few sequences that the split owns hardly any.
        """
        if size < 1:
            raise ValueError(f"Copying.batch: size must be at least 1, got {size}; nearest valid: 1")
        most, n_bits = self.config.max_length, self.config.n_bits
        _, codes, lengths = draw_owned(self._drawn, split_stream(rng, split), size, split)
        there, vectors = up_to(lengths, most), vectors_of(codes, n_bits)
        inputs = np.zeros((size, self.length, self.n_channels), dtype=np.float32)
        inputs[:, :most, :n_bits] = vectors * there[..., None]
        inputs[np.arange(size), lengths, n_bits] = 1
        rows, item = np.nonzero(there)
        load = lengths[rows]
        asked_at = load + 1 + item
        targets = unscored(size, self.length, self.n_outputs)
        targets[rows, asked_at] = vectors[rows, item]
        known = {"distance": load + 1, "item": item, "load": load, "query": item}
        return Batch(inputs=inputs, targets=targets, about=about_scored((size, self.length), rows, asked_at, known))

    def _drawn(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], ...]:
        config = self.config
        lengths = rng.integers(config.min_length, config.max_length + 1, size=rows)
        codes = rng.integers(2**config.n_bits, size=(rows, config.max_length))
        return fingerprints(codes, lengths), codes, lengths

    def words(self, tokens: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
        """One word for every vector: its bits, or a bar for the delimiter."""
        return bit_words(tokens, self.config.n_bits, ["|"])

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        split_index(split)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "copy", "numpy": np.__version__}
