"""Selective copying: remember the data tokens scattered among noise, and write them out in order.

One sequence of `SelectiveCopyingConfig(vocab_size=6, length=12, n_tokens=3)`:

               data among noise          | markers
    inputs      0  3  0  0  1  1  0  0  0 |  5  5  5
    targets     .  .  .  .  .  .  .  .  . |  3  1  1      (. = IGNORE)

Token 0 is noise, 1 ... V - 2 are data, V - 1 is the marker. `n_tokens` data tokens, drawn with replacement, stand at
distinct places among the first length - n_tokens positions, every set of places equally likely; the i-th marker asks
for the i-th of them. The gaps are random, so that a convolution of fixed length cannot do it: what to keep must be
decided by content.

Data tokens and their places decide which split owns a sequence.

Why: what to keep must be decided by content, which time-invariant convolutions cannot.

Known limits: 16 tokens are to be held whatever the length, so capacity is not on trial.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), section 4.1.1: sequences
of 4096 tokens, a vocabulary of 16 with the noise token, 16 data tokens; those are the defaults. Placement and markers
follow the copying data set of state-spaces/s4, in its variable form. What differs: `length` counts all tokens, where
S4 counts noise alone; no global random state. MAD's blanks follow another law: `tasks.mad_selective_copying`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mqar import draw_distinct
from mnemoscope.tasks.streams import Split, draw_owned, split_stream


@dataclass(frozen=True, kw_only=True)
class SelectiveCopyingConfig:
    """What there is to copy, and among how much noise.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 4 (noise, two data tokens, marker).
        length: tokens of a sequence, at least 2 * n_tokens.
        n_tokens: data tokens of a sequence, at least 1.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["selective_copying"] = "selective_copying"
    vocab_size: int = 16
    length: int = 4096
    n_tokens: int = 16

    def __post_init__(self) -> None:
        if self.vocab_size < 4:
            raise ValueError(
                "SelectiveCopyingConfig.vocab_size: must be at least 4 (noise, two data tokens, marker), "
                f"got {self.vocab_size}; nearest valid: 4"
            )
        if self.n_tokens < 1:
            raise ValueError(
                f"SelectiveCopyingConfig.n_tokens: must be at least 1, got {self.n_tokens}; nearest valid: 1"
            )
        if self.length < 2 * self.n_tokens:
            raise ValueError(
                f"SelectiveCopyingConfig.length: must be at least 2 * n_tokens = {2 * self.n_tokens} (every data token "
                f"and its marker), got {self.length}; nearest valid: {2 * self.n_tokens}"
            )


@final
class SelectiveCopying:
    """Batches of selective copying; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: SelectiveCopyingConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self.chance_loss: float = math.log(config.vocab_size - 2)
        """Nats per marker of guessing uniformly among the data tokens, ln(V - 2)."""
        self.memoryless_loss: float = self.chance_loss
        """The present token is the marker, always."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"SelectiveCopying.batch: size must be at least 1, got {size}; nearest valid: 1")
        n, stream = self.config.n_tokens, split_stream(rng, split)
        (drawn,) = draw_owned(self._drawn, stream, size, split)
        data, places = drawn[:, :n], drawn[:, n:]
        inputs = np.zeros((size, self.length), dtype=np.int64)
        np.put_along_axis(inputs, places, data, axis=1)
        inputs[:, -n:] = self.vocab_size - 1
        return copied(inputs, data, places)

    def _drawn(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        n = self.config.n_tokens
        data = rng.integers(1, self.vocab_size - 1, size=(rows, n))
        places = np.sort(draw_distinct(rng, rows, n, self.length - n), axis=1)
        return (np.concatenate([data, places], axis=1),)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Noise as a dot, the marker as a question mark, data tokens as numbers."""
        return ["." if t == 0 else "?" if t == self.vocab_size - 1 else str(t) for t in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "selective_copying", "numpy": np.__version__}


def copied(inputs: NDArray[np.int64], data: NDArray[np.int64], places: NDArray[np.int64]) -> Batch:
    """The batch that asks for `data`, which stand at `places`, in order at the last positions."""
    (size, length), n = inputs.shape, data.shape[1]
    order = np.arange(n)
    known = {"distance": length - n + order - places, "item": order, "load": n, "query": order}
    about = {name: np.full((size, length), -1, dtype=np.int64) for name in known}
    for name, values in known.items():
        about[name][:, -n:] = values
    targets = np.full_like(inputs, IGNORE)
    targets[:, -n:] = data
    return Batch(inputs=inputs, targets=targets, about=about)
