"""Induction heads: recall what followed the special token when it last occurred.

One sequence of `InductionHeadsConfig(vocab_size=6, length=10)`:

    inputs      3  1  4  0  5  2  2  1  3  0
    targets     .  .  .  .  .  .  .  .  .  5      (. = IGNORE)

Token 0 is the special token, all others are ordinary ones, drawn with replacement. The special token stands twice:
once at a random place, every place from the first to the third last equally likely, and at the end, where the ordinary
token that followed it the first time is asked.

A model is trained at the default length and examined at the lengths of `length_ladder`, 2^6 ... 2^20, to see whether
what it learned depends on distance.

The first special token's place and the first 64 ordinary tokens decide which split owns a sequence: no two splits share
a beginning.

Why: one pair, any distance: does what was learned at 256 tokens hold at a million?

Known limits: a single answer a sequence, so capacity is not on trial.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), section 4.1.2, after Dao,
Fu, Saab et al., "Hungry Hungry Hippos" (2023): training length 256, a vocabulary of 16, test lengths from 2^6 to 2^20.
What differs: the special token is one of the 16; one loss per sequence, at the answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.streams import Split, draw_owned, split_stream

TEST_LENGTHS: tuple[int, ...] = tuple(2**i for i in range(6, 21))
"""The published test lengths, 64 ... 1,048,576."""

_HEAD = 64


@dataclass(frozen=True, kw_only=True)
class InductionHeadsConfig:
    """What an induction sequence looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 3 (the special token, two ordinary ones).
        length: tokens of a sequence, at least 3.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["induction_heads"] = "induction_heads"
    vocab_size: int = 16
    length: int = 256

    def __post_init__(self) -> None:
        for name, number, least in (("vocab_size", self.vocab_size, 3), ("length", self.length, 3)):
            if number < least:
                raise ValueError(
                    f"InductionHeadsConfig.{name}: must be at least {least}, got {number}; nearest valid: {least}"
                )


@final
class InductionHeads:
    """Batches of induction sequences; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: InductionHeadsConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self.chance_loss: float = math.log(config.vocab_size - 1)
        """Nats of guessing uniformly among the ordinary tokens, ln(V - 1)."""
        self.memoryless_loss: float = self.chance_loss
        """The present token is the special one, always."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"InductionHeads.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n_ordinary = split_stream(rng, split), self.length - 2
        (head,) = draw_owned(self._head, stream, size, split)
        first_at, ordinary = head[:, :1], head[:, 1:]
        rest = stream.integers(1, self.vocab_size, size=(size, n_ordinary - ordinary.shape[1]))
        inputs = np.zeros((size, self.length), dtype=np.int64)
        inputs[:, 1:-1] = np.concatenate([ordinary, rest], axis=1)
        rows = np.arange(size)
        # The ordinary tokens before the special one move a place ahead of it.
        before = np.arange(self.length - 1) < first_at
        inputs[:, :-1] = np.where(before, inputs[:, 1:], inputs[:, :-1])
        inputs[rows, first_at[:, 0]], inputs[:, -1] = 0, 0
        targets = np.full_like(inputs, IGNORE)
        targets[:, -1] = inputs[rows, first_at[:, 0] + 1]
        return Batch(inputs=inputs, targets=targets, about=self._about(self.length - 2 - first_at[:, 0]))

    def _head(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        """The place of the first special token, and the ordinary tokens that begin the sequence."""
        first_at = rng.integers(self.length - 2, size=(rows, 1))
        ordinary = rng.integers(1, self.vocab_size, size=(rows, min(_HEAD, self.length - 2)))
        return (np.concatenate([first_at, ordinary], axis=1),)

    def _about(self, distance: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        about = {}
        for name, value in (("distance", distance), ("item", 0), ("load", 1), ("query", 0)):
            about[name] = np.full((distance.size, self.length), -1, dtype=np.int64)
            about[name][:, -1] = value
        return about

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The special token as an asterisk, others as numbers."""
        return ["*" if token == 0 else str(token) for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "induction_heads", "numpy": np.__version__}


def length_ladder(config: InductionHeadsConfig) -> tuple[InductionHeadsConfig, ...]:
    """The configs of the published test lengths: `config` at 2^6 ... 2^20 tokens."""
    return tuple(replace(config, length=length) for length in TEST_LENGTHS)
