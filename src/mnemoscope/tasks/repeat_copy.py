"""Repeat copy: read vectors of bits, write them out as often as is asked, and then say that this is the end.

One sequence of `RepeatCopyConfig(n_bits=4, max_length=2, max_repeats=3)`, of length 2, to be copied twice:

                              delimiter                         end
    inputs, bits    0110 1011 |  0000 | 0000 0000 | 0000 0000 | 0000 | 0000
      delimiter        0    0 |     1 |    0    0 |    0    0 |    0 |    0
      count            0    0 | -1.22 |    0    0 |    0    0 |    0 |    0
    targets, bits      .    . |     . | 0110 1011 | 0110 1011 |    . |    .      (. = NaN, not scored)
      end              .    . |     . |    0    0 |    0    0 |    1 |    .

A task of vectors: `n_bits` channels of data, one for the delimiter, one for the count. L vectors of independent fair
bits are followed by the delimiter; with it comes the number of copies R, as (R - 5.5) / sqrt(8.25). Then follow L * R
zero vectors, during which the vectors are asked for in order, R times over, and one more, at which the end is due. At
every one of these the output has one number more than there are bits: 1 for the end, 0 before it. L and R are uniform
in their ranges for every sequence of its own; all are padded to the longest, max_length * (max_repeats + 1) + 2.

The count has mean 0 and variance 1 for R uniform in 1 ... 10, and the same number means the same count in every config,
so that a model trained with few copies can be tried with many.

Vectors and their number decide which split owns a sequence: none is met in another split with another count.

Why: copying with a counter: a program, not only a store.

Known limits: counts beyond those of training ask for more than memory.

Source: Graves, Wayne, Danihelka, "Neural Turing Machines" (2014), section 4.2: L and R 1 ... 10, 8 bits; those are the
defaults. What differs: L and R are drawn for each sequence; delimiter and count come at once, where
loudinthecloud/pytorch-ntm gives them one after the other; the bits are not scored at the end. The profile
`repeat_copy` of RobertCsordas/dnc is another task: different sequences copied one after the other, without a count.
"""

import math
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

COUNT_MEAN = 5.5
COUNT_SCALE = math.sqrt((10**2 - 1) / 12)
"""Standard deviation of a number uniform in 1 ... 10."""


@dataclass(frozen=True, kw_only=True)
class RepeatCopyConfig:
    """How many vectors there are to copy, how often, and how wide they are.

    Args:
        kind: names the task in a stored config.
        n_bits: of every vector, between 1 and 31.
        min_length: fewest vectors, between 1 and max_length.
        max_length: most vectors.
        min_repeats: fewest copies, between 1 and max_repeats.
        max_repeats: most copies.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["repeat_copy"] = "repeat_copy"
    n_bits: int = 8
    min_length: int = 1
    max_length: int = 10
    min_repeats: int = 1
    max_repeats: int = 10

    def __post_init__(self) -> None:
        check_between("RepeatCopyConfig.n_bits", self.n_bits, 1, MAX_BITS)
        check_between("RepeatCopyConfig.max_length", self.max_length, 1)
        check_between("RepeatCopyConfig.min_length", self.min_length, 1, self.max_length, " = max_length")
        check_between("RepeatCopyConfig.max_repeats", self.max_repeats, 1)
        check_between("RepeatCopyConfig.min_repeats", self.min_repeats, 1, self.max_repeats, " = max_repeats")


@final
class RepeatCopy:
    """Batches of repeat copy; the attributes are those of `mnemoscope.tasks.Task`, `n_channels` and `n_outputs`."""

    unit: str = "bit errors"
    vocab_size: int = 0
    chance_loss: float = LN_2
    """Nats per scored number of calling everything equally likely, the end too."""
    floor_loss: float = 0.0
    """Every answer stands in its sequence: the count says where the end is."""

    def __init__(self, config: RepeatCopyConfig) -> None:
        self.config = config
        self.length: int = config.max_length * (config.max_repeats + 1) + 2
        self.n_channels: int = config.n_bits + 2
        """Numbers of an input: the bits, the delimiter, the count."""
        self.n_outputs: int = config.n_bits + 1
        """Numbers of a target: the bits, and whether this is the end."""
        self.memoryless_loss: float = _memoryless_loss(config)
        """Nats per scored number of one who knows only how often the end comes.

        The present vector is zero wherever something is scored. With C = E[L R] copies of vectors to a sequence, n bits
        each cost ln 2, and each of C + 1 positions the entropy of an end that comes once in them, H(1 / (C + 1)):
        (n C ln 2 + (C + 1) H(1 / (C + 1))) / (n C + C + 1).
        """

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences: float32 inputs (size, length, n_channels), targets (size, length, n_outputs).

        `about` counts the number of copies as the last of the L + 1 items to be remembered; it is asked for at the end.

        Raises:
            ValueError: size below 1, an unknown split, or so few sequences that the split owns hardly any.
        """
        if size < 1:
            raise ValueError(f"RepeatCopy.batch: size must be at least 1, got {size}; nearest valid: 1")
        most, n_bits, every = self.config.max_length, self.config.n_bits, np.arange(size)
        _, codes, lengths, repeats = draw_owned(self._drawn, split_stream(rng, split), size, split)
        vectors = vectors_of(codes, n_bits)
        inputs = np.zeros((size, self.length, self.n_channels), dtype=np.float32)
        inputs[:, :most, :n_bits] = vectors * up_to(lengths, most)[..., None]
        inputs[every, lengths, n_bits] = 1
        inputs[every, lengths, n_bits + 1] = (repeats - COUNT_MEAN) / COUNT_SCALE
        n_copied = lengths * repeats
        rows, query = np.nonzero(up_to(n_copied + 1, most * self.config.max_repeats + 1))
        last, long = query == n_copied[rows], lengths[rows]
        item = np.where(last, long, query % long)
        asked_at = long + 1 + query
        targets = unscored(size, self.length, self.n_outputs)
        targets[rows, asked_at, n_bits] = last
        targets[rows[~last], asked_at[~last], :n_bits] = vectors[rows[~last], item[~last]]
        known = {"distance": asked_at - item, "item": item, "load": long + 1, "query": query}
        return Batch(inputs=inputs, targets=targets, about=about_scored((size, self.length), rows, asked_at, known))

    def _drawn(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], ...]:
        config = self.config
        lengths = rng.integers(config.min_length, config.max_length + 1, size=rows)
        repeats = rng.integers(config.min_repeats, config.max_repeats + 1, size=rows)
        codes = rng.integers(2**config.n_bits, size=(rows, config.max_length))
        return fingerprints(codes, lengths), codes, lengths, repeats

    def words(self, tokens: Sequence[float] | Sequence[Sequence[float]]) -> list[str]:
        """One word for every vector: its bits, x3 for the delimiter with a count of three, or "end"."""
        return [self._word(np.atleast_1d(vector)) for vector in tokens]

    def _word(self, vector: NDArray[np.float64]) -> str:
        count = "end" if len(vector) == self.n_outputs else f"x{round(vector[-1] * COUNT_SCALE + COUNT_MEAN)}"
        return bit_words([vector.tolist()], self.config.n_bits, [count])[0]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        split_index(split)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "repeat_copy", "numpy": np.__version__}


def _memoryless_loss(config: RepeatCopyConfig) -> float:
    copied = (config.min_length + config.max_length) * (config.min_repeats + config.max_repeats) / 4
    # (C + 1) H(1 / (C + 1)) = ln(C + 1) + C ln((C + 1) / C)
    end = math.log(copied + 1) + copied * math.log1p(1 / copied)
    return (config.n_bits * copied * LN_2 + end) / (config.n_bits * copied + copied + 1)
