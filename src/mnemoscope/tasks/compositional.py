"""Compositional MQAR: a value belongs to two keys together, and neither of them alone tells it.

One sequence of `CompositionalConfig(vocab_size=12, length=24, n_first=2, n_second=2, random_non_queries=False)`:

               k1 k2 val  k1 k2 val  k1 k2 val  k1 k2 val | gap 0     gap 1     gap 2     gap 3
    inputs      3  6  10   1  6   8   1  5  11   3  5   9 |  1  6  0   3  5  0   1  5  0   3  6  0
    targets     .  .   .   .  .   .   .  .   .   .  .   . |  .  8  .   .  9  .   . 11  .   . 10  .      (. = IGNORE)

Token 0 is filler; 1 ... V/3 - 1 are first keys, V/3 ... 2 V/3 - 1 second keys, 2 V/3 ... V - 1 values (V/3 rounded
down). A sequence draws `n_first` first and `n_second` second keys and writes every cell of their grid once, in random
order, each with a value of its own. After the cells come gaps of three tokens; each cell is asked in a gap of its own,
and the target stands at its second key. All other tokens are drawn from the whole vocabulary (`random_non_queries`).

A query is both its keys: its distance is counted from the second key to the value of its cell. A model that knows the
second key alone has n_first values to choose from, and one that knows the first alone n_second. The gap law is that of
`mnemoscope.tasks.mqar`.

Cells in the order in which they are written decide which split owns a sequence.

Why: recall under a key that is a combination, which a memory of single keys cannot hold.

Known limits: the grid is written in full, so the load grows with the product of both sides.

Source: HazyResearch/zoology, `compositional_mqar`, commit d88d6f5. What differs: the grid need not be square; an own
generator, without a loop over sequences or global random state.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mqar import check_power, draw_distinct, draw_fillers, draw_gaps, placed
from mnemoscope.tasks.streams import Split, draw_owned, split_stream


@dataclass(frozen=True, kw_only=True)
class CompositionalConfig:
    """What a grid of two keys looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary; each third must hold what a sequence draws from it.
        length: tokens of a sequence, at least 6 for each of the n_first * n_second cells.
        n_first: first keys of a sequence, between 2 and V // 3 - 1.
        n_second: second keys of a sequence, between 2 and V // 3.
        power_a: a of the gap law, positive; 1 is uniform, smaller asks sooner.
        random_non_queries: fill unused positions with random tokens; otherwise with token 0.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["compositional_mqar"] = "compositional_mqar"
    vocab_size: int = 8192
    length: int = 64
    n_first: int = 2
    n_second: int = 2
    power_a: float = 0.01
    random_non_queries: bool = True

    def __post_init__(self) -> None:
        for name, n_keys in (("n_first", self.n_first), ("n_second", self.n_second)):
            if n_keys < 2:
                raise ValueError(
                    f"CompositionalConfig.{name}: must be at least 2, or the other key tells the value alone, "
                    f"got {n_keys}; nearest valid: 2"
                )
        cells = self.n_first * self.n_second
        if not self._fits(self.vocab_size):
            nearest = next(size for size in itertools.count(max(self.vocab_size, 1)) if self._fits(size))
            raise ValueError(
                f"CompositionalConfig.vocab_size: must hold {self.n_first} first keys, {self.n_second} second keys and "
                f"{cells} values (V // 3 - 1, V // 3 and the rest), got {self.vocab_size}; nearest valid: {nearest}"
            )
        check_power("CompositionalConfig", self.power_a)
        if self.length < 6 * cells:
            raise ValueError(
                f"CompositionalConfig.length: must be at least 6 * n_first * n_second = {6 * cells} (a cell takes 3 "
                f"tokens, its query 3), got {self.length}; nearest valid: {6 * cells}"
            )

    def _fits(self, vocab_size: int) -> bool:
        third = vocab_size // 3
        return (
            third - 1 >= self.n_first
            and third >= self.n_second
            and vocab_size - 2 * third >= self.n_first * self.n_second
        )


@final
class Compositional:
    """Batches of compositional MQAR; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: CompositionalConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._third: int = config.vocab_size // 3
        self._n_values: int = config.vocab_size - 2 * self._third
        self._n_cells: int = config.n_first * config.n_second
        self.chance_loss: float = math.log(self._n_values)
        """Nats per query of guessing uniformly among all values."""
        self.memoryless_loss: float = self.chance_loss
        """The second key alone says nothing of the value: values are drawn anew for each sequence."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"Compositional.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n = split_stream(rng, split), self._n_cells
        (written,) = draw_owned(self._written, stream, size, split)
        firsts, seconds, values = written[:, 0::3], written[:, 1::3], written[:, 2::3]
        gaps = draw_gaps(stream, size, n, (self.length - 3 * n) // 3, self.config.power_a)
        asked_at = 3 * n + 3 * gaps + 1
        inputs = draw_fillers(stream, size, self.length, self.vocab_size if self.config.random_non_queries else 1)
        inputs[:, : 3 * n] = written
        np.put_along_axis(inputs, asked_at - 1, firsts, axis=1)
        np.put_along_axis(inputs, asked_at, seconds, axis=1)
        targets = np.full_like(inputs, IGNORE)
        np.put_along_axis(targets, asked_at, values, axis=1)
        return Batch(inputs=inputs, targets=targets, about=self._about(asked_at))

    def _written(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        n, n_second = self._n_cells, self.config.n_second
        firsts = 1 + draw_distinct(rng, rows, self.config.n_first, self._third - 1)
        seconds = self._third + draw_distinct(rng, rows, n_second, self._third)
        cells = draw_distinct(rng, rows, n, n)
        written = np.empty((rows, 3 * n), dtype=np.int64)
        written[:, 0::3] = np.take_along_axis(firsts, cells // n_second, axis=1)
        written[:, 1::3] = np.take_along_axis(seconds, cells % n_second, axis=1)
        written[:, 2::3] = 2 * self._third + draw_distinct(rng, rows, n, self._n_values)
        return (written,)

    def _about(self, asked_at: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        item = np.broadcast_to(np.arange(self._n_cells), asked_at.shape)
        known = {
            "distance": asked_at - (3 * item + 2),
            "item": item,
            "load": np.full_like(asked_at, self._n_cells),
            "query": np.argsort(np.argsort(asked_at, axis=1), axis=1),
        }
        return {name: placed(values, asked_at, self.length) for name, values in known.items()}

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Filler as a dot, first keys a1, a2, ..., second keys b0, b1, ..., values v0, v1, ..."""
        return [self._word(token) for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "compositional_mqar", "numpy": np.__version__}

    def _word(self, token: int) -> str:
        group = min(token // self._third, 2)
        return "." if token == 0 else f"{'abv'[group]}{token - group * self._third}"
