"""MAD selective copying: remember the tokens among blanks, and write them out in order.

One sequence of `MadSelectiveCopyingConfig(vocab_size=6, length=12, n_tokens=3)`:

               tokens among blanks    | copy | blanks
    inputs      4  2  4  4  4  0  3     5      4  4  4
    targets     .  .  .  .  .  .  .     .      2  0  3      (. = IGNORE)

With V tokens, 0 ... V - 3 are to be copied, V - 2 is the blank, V - 1 says copy. The `n_tokens` tokens are drawn with
replacement; each of the length - 2 * n_tokens - 1 blanks is put before one of them, drawn uniformly and independently,
so that the last token stands right before the copy token. The last n_tokens positions ask for them in order.

Tokens and their places decide which split owns a sequence.

Why: keeping what matters and its order, when blanks come in between.

Known limits: blanks are one token, so what to keep is decided by a glance at it.

Source: Poli, Thomas et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024, arXiv 2403.17844);
athms/mad-lab, `selective-copying`, commit 0f49a45. What differs: there the places of blanks come from NumPy's global
random state, whatever generator is given; here all randomness comes from one generator. Training draws from its fixed
set with replacement, not in epochs. Mamba's task of that name places tokens by another law:
`mnemoscope.tasks.selective_copying`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.mad_parts import N_TRAIN, Examples, check_n_train, check_size
from mnemoscope.tasks.selective_copying import copied
from mnemoscope.tasks.streams import Split


@dataclass(frozen=True, kw_only=True)
class MadSelectiveCopyingConfig:
    """What there is to copy, and among how many blanks.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 4 (two to copy, blank, copy token).
        length: tokens of a sequence, at least 2 * n_tokens + 2, which leaves one blank among the tokens.
        n_tokens: tokens to copy, at least 1.
        n_train: sequences of the training split, at least 1; None: new ones for every batch.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mad_selective_copying"] = "mad_selective_copying"
    vocab_size: int = 16
    length: int = 256
    n_tokens: int = 16
    n_train: int | None = N_TRAIN

    def __post_init__(self) -> None:
        where = "MadSelectiveCopyingConfig"
        if self.vocab_size < 4:
            raise ValueError(
                f"{where}.vocab_size: must be at least 4 (two tokens to copy, blank, copy token), got "
                f"{self.vocab_size}; nearest valid: 4"
            )
        if self.n_tokens < 1:
            raise ValueError(f"{where}.n_tokens: must be at least 1, got {self.n_tokens}; nearest valid: 1")
        shortest = 2 * self.n_tokens + 2
        if self.length < shortest:
            raise ValueError(
                f"{where}.length: must be at least 2 * n_tokens + 2 = {shortest} (tokens, one blank, the copy token, "
                f"answers), got {self.length}; nearest valid: {shortest}"
            )
        check_n_train(where, self.n_train)


@final
class MadSelectiveCopying:
    """Batches of MAD selective copying; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: MadSelectiveCopyingConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._examples = Examples(self._draw, config.n_train)
        self.chance_loss: float = math.log(config.vocab_size - 2)
        """Nats per answer of guessing uniformly among the tokens to copy, ln(V - 2)."""
        self.memoryless_loss: float = self.chance_loss
        """The present token is a blank, always."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        check_size("MadSelectiveCopying", size)
        n = self.config.n_tokens
        (drawn,) = self._examples.rows(rng, size, split)
        data, places = drawn[:, :n], drawn[:, n:]
        inputs = np.full((size, self.length), self.vocab_size - 2, dtype=np.int64)
        np.put_along_axis(inputs, places, data, axis=1)
        inputs[:, -n - 1] = self.vocab_size - 1
        return copied(inputs, data, places)

    def _draw(self, rng: np.random.Generator, rows: int, split: Split) -> tuple[NDArray[np.int64]]:
        """Tokens and their places; the law is the same in every split."""
        n = self.config.n_tokens
        data = rng.integers(self.vocab_size - 2, size=(rows, n))
        blanks = rng.multinomial(self.length - 2 * n - 1, np.full(n, 1 / n), size=rows)
        return (np.concatenate([data, np.cumsum(blanks + 1, axis=1) - 1], axis=1),)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The blank as a dot, the copy token as "copy", tokens to copy as numbers."""
        blank = self.vocab_size - 2
        return ["." if token == blank else "copy" if token > blank else str(token) for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or drawn from the training set with replacement."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "mad_selective_copying", "numpy": np.__version__}
