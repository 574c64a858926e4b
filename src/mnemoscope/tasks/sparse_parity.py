"""Sparse parity: whether the number of ones among a few secret bits is odd; the other bits are noise.

One sequence of `SparseParityConfig(n_bits=8, n_relevant=3, n_train=None)`, whose secret bits are 0, 5 and 6:

                0  1  2  3  4  5  6  7  | asked
    inputs      1  0  1  1  0  0  1  1  |  2
    targets     .  .  .  .  .  .  .  .  |  0      (. = IGNORE)

Tokens 0 and 1 are bits, 2 asks. Bits are fair and independent. Which bits count, `n_relevant` of them, every set alike,
`data_seed` decides once: the secret is the same in every sequence, split and run, and no sequence shows it. It must be
found and kept in the weights; the bits themselves must be carried to the end. All but one of the secret bits together
tell nothing of the answer, so there is little on the way to the rule that a gradient could follow.

With `n_train` the training split is a fixed set of so many different strings, which a model may learn by heart; with
None it is new strings for every batch.

All bits of a sequence decide which split owns it.

Why: a rule that is hidden until all of it is found, on a plateau that says nothing.

Known limits: memory of the sequence is needed for a few bits only.

Source: Barak et al., "Hidden Progress in Deep Learning: SGD Learns Parities Near the Computational Limit" (2022): new
strings. Prieto et al., "Grokking at the Edge of Numerical Stability" (2025): 40 bits of noise and 3 that count, 2000
different strings of which half are trained on, in full batches;
LucasPrietoAl/grokking-at-the-edge-of-numerical-stability, `datasets.py`, commit 0cc9e8d; those are the defaults. What
differs: bits are tokens of a sequence, not coordinates of +1 and -1 or 0 and 1 that are read at once; the secret bits
are drawn, where the second takes the first ones; held-out strings are new ones, as many as are wanted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.finite import check_seed, draw_rows, fixed_stream
from mnemoscope.tasks.streams import Split, draw_owned, split_stream

FEWEST_BITS = 8
"""Of fewer bits there are so few strings that a split may own none."""

_WORD = 32
_ASKS = 2


@dataclass(frozen=True, kw_only=True)
class SparseParityConfig:
    """How many bits, how many of them count, and how many strings are trained on.

    Args:
        kind: names the task in a stored config.
        n_bits: bits of a sequence, at least 8.
        n_relevant: secret bits, between 1 and n_bits.
        n_train: strings of the training split, between 1 and 2**(n_bits - 1); None: new ones for every batch.
        data_seed: decides the secret and the training strings, at least 0 and below 2**64; not the seed of a run.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["sparse_parity"] = "sparse_parity"
    n_bits: int = 43
    n_relevant: int = 3
    n_train: int | None = 1000
    data_seed: int = 0

    def __post_init__(self) -> None:
        where = "SparseParityConfig"
        if self.n_bits < FEWEST_BITS:
            raise ValueError(
                f"{where}.n_bits: must be at least {FEWEST_BITS} (of fewer bits a split may own no string), got "
                f"{self.n_bits}; nearest valid: {FEWEST_BITS}"
            )
        if not 1 <= self.n_relevant <= self.n_bits:
            raise ValueError(
                f"{where}.n_relevant: must be between 1 and n_bits = {self.n_bits}, got {self.n_relevant}; "
                f"nearest valid: {min(max(self.n_relevant, 1), self.n_bits)}"
            )
        most = 2 ** (self.n_bits - 1)
        if self.n_train is not None and not 1 <= self.n_train <= most:
            raise ValueError(
                f"{where}.n_train: must be None or between 1 and 2**(n_bits - 1) = {most}, half of all strings, got "
                f"{self.n_train}; nearest valid: {min(max(self.n_train, 1), most)}"
            )
        check_seed(f"{where}.data_seed", self.data_seed)


@final
class SparseParity:
    """Batches of sparse parity; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"
    vocab_size: int = _ASKS + 1
    chance_loss: float = math.log(2)
    """Nats per answer of tossing a coin, ln 2."""
    memoryless_loss: float = chance_loss
    """The present token asks, always, and both answers are equally likely."""
    floor_loss: float = 0.0
    """One who knows the secret makes no mistake."""

    def __init__(self, config: SparseParityConfig) -> None:
        self.config = config
        self.length: int = config.n_bits + 1
        places = fixed_stream(config.data_seed).permutation(config.n_bits)
        self.secret: NDArray[np.int64] = np.sort(places[: config.n_relevant])
        """The places of the bits that count, ascending."""
        self._last_word: int = 2 ** (1 + (config.n_bits - 1) % _WORD)

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Of a fixed training set none comes twice, unless more are asked for than there are.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"SparseParity.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream = split_stream(rng, split)
        if split == "train" and self.config.n_train is not None:
            words = self._trained[draw_rows("SparseParity", stream, size, split, self.config.n_train)]
        else:
            (words,) = draw_owned(self._words, stream, size, split)
        inputs = np.full((size, self.length), _ASKS, dtype=np.int64)
        place = np.arange(self.config.n_bits)
        inputs[:, :-1] = words[:, place // _WORD] >> place % _WORD & 1
        targets = np.full_like(inputs, IGNORE)
        targets[:, -1] = inputs[:, self.secret].sum(axis=1) % 2
        known = {"distance": self.config.n_bits - self.secret[-1], "load": self.config.n_relevant, "query": 0}
        about = {name: np.full_like(inputs, -1) for name in known}
        for name, value in known.items():
            about[name][:, -1] = value
        return Batch(inputs=inputs, targets=targets, about=about)

    def _words(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        """Strings of bits, 32 in a number, the first one lowest."""
        words = rng.integers(2**_WORD, size=(rows, -(-self.config.n_bits // _WORD)))
        words[:, -1] %= self._last_word
        return (words,)

    @cached_property
    def _trained(self) -> NDArray[np.int64]:
        """The training strings, no two of them equal."""
        n, stream = self.config.n_train or 0, split_stream(fixed_stream(self.config.data_seed), "train")
        found = np.empty((0, -(-self.config.n_bits // _WORD)), dtype=np.int64)
        while len(found) < n:
            found = np.concatenate([found, *draw_owned(self._words, stream, n, "train")])
            first = np.unique(found, axis=0, return_index=True)[1]
            found = found[np.sort(first)]
        return found[:n]

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Bits as 0 and 1, the asking token as a question mark."""
        return ["?" if token == _ASKS else str(token) for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or read from the training set again and again."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "sparse_parity", "numpy": np.__version__}
