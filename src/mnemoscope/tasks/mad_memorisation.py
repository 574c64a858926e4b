"""MAD memorisation: a fixed map from keys to values, to be learned by heart; no sequence shows it.

One sequence of `MadMemorisationConfig(vocab_size=8, length=8)`:

    inputs      1  7  0  7  1  7  2  7
    targets     .  6  .  3  .  6  .  5      (. = IGNORE)

With V tokens, keys are 0 ... (V-1)/2 - 1 (rounded down), values the others but the last; the last, V - 1, asks for the
value of the key before it. Keys are drawn with replacement. The map gives every key a value of its own; it is drawn
once, from `map_seed`, and is the same in every sequence, split and run.

The answer is not in the sequence: what is measured is memory in the weights, and of the sequence only the token before.
For held-out sequences the floor is reached only by a model whose training sequences held every key.

All keys of a sequence decide which split owns it.

Why: memory in the weights, beside the tasks that need memory of the sequence.

Known limits: an examination of a state must call it not demanded: nothing of the sequence helps.

Source: Poli, Thomas et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024, arXiv 2403.17844);
athms/mad-lab, `memorization`, commit 0f49a45. What differs: the map is another draw; training draws from its fixed set
with replacement, not in epochs; no noise, which no published setting uses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mad_parts import Examples, check_n_train, check_size
from mnemoscope.tasks.streams import Split


@dataclass(frozen=True, kw_only=True)
class MadMemorisationConfig:
    """What there is to memorise.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 5 (two keys, two values, the asking token).
        length: tokens of a sequence, even and at least 2.
        map_seed: what the map is drawn from, at least 0 and below 2**64.
        n_train: sequences of the training split, at least 1; None: new ones for every batch.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mad_memorisation"] = "mad_memorisation"
    vocab_size: int = 256
    length: int = 32
    map_seed: int = 12345
    n_train: int | None = 256

    def __post_init__(self) -> None:
        where = "MadMemorisationConfig"
        if self.vocab_size < 5:
            raise ValueError(
                f"{where}.vocab_size: must be at least 5 (two keys, two values, the asking token), got "
                f"{self.vocab_size}; nearest valid: 5"
            )
        if self.length < 2 or self.length % 2:
            raise ValueError(
                f"{where}.length: must be even and at least 2, got {self.length}; "
                f"nearest valid: {max(2, self.length + self.length % 2)}"
            )
        if not 0 <= self.map_seed < 2**64:
            raise ValueError(
                f"{where}.map_seed: must be at least 0 and below 2**64, got {self.map_seed}; "
                f"nearest valid: {min(max(self.map_seed, 0), 2**64 - 1)}"
            )
        check_n_train(where, self.n_train)


@final
class MadMemorisation:
    """Batches of MAD memorisation; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: MadMemorisationConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._n_keys: int = (config.vocab_size - 1) // 2
        self._n_values: int = config.vocab_size - 1 - self._n_keys
        of_map = np.random.Generator(np.random.Philox(key=config.map_seed))
        self.value_of: NDArray[np.int64] = self._n_keys + of_map.permutation(self._n_values)[: self._n_keys]
        """The value token of every key."""
        self._examples = Examples(self._draw, config.n_train)
        self.chance_loss: float = math.log(self._n_values)
        """Nats per answer of guessing uniformly among all values."""
        self.memoryless_loss: float = math.log(self._n_keys)
        """The present token always asks: a uniform guess among the values that are some key's, all but at most one."""
        self.floor_loss: float = 0.0
        """One who knows the map makes no mistake."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        check_size("MadMemorisation", size)
        (keys,) = self._examples.rows(rng, size, split)
        inputs = np.full((size, self.length), self.vocab_size - 1, dtype=np.int64)
        inputs[:, 0::2] = keys
        targets = np.full_like(inputs, IGNORE)
        targets[:, 1::2] = self.value_of[keys]
        known = {"distance": 1, "item": keys, "load": self._n_keys, "query": np.arange(self.length // 2)}
        about = {name: np.full_like(inputs, -1) for name in known}
        for name, values in known.items():
            about[name][:, 1::2] = values
        return Batch(inputs=inputs, targets=targets, about=about)

    def _draw(self, rng: np.random.Generator, rows: int, split: Split) -> tuple[NDArray[np.int64]]:
        """Keys; the law is the same in every split."""
        return (rng.integers(self._n_keys, size=(rows, self.length // 2)),)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The asking token as a question mark, keys k0, k1, ..., values v0, v1, ..."""
        n_keys, asking = self._n_keys, self.vocab_size - 1
        return ["?" if t == asking else f"k{t}" if t < n_keys else f"v{t - n_keys}" for t in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or drawn from the training set with replacement."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "mad_memorisation", "numpy": np.__version__}
