"""Bigrams, some of which belong to the sequence: after a trigger comes what came after it before.

One sequence of `BigramsConfig(vocab_size=8, length=14, n_triggers=2)`, whose triggers are 2, followed by 7, and 5,
followed by 0:

    inputs      3  4  6  2  7  1  5  0  3  2  7  0  5  0
    targets     .  .  .  .  .  .  .  .  .  7  .  .  0  .      (. = IGNORE)

After any other token z comes z + s modulo V with a probability in proportion to 1 / s, s = 1 ... V: bigrams of the
world, the same in all sequences. Triggers are distinct; what follows one is drawn among the tokens that are none, and
two may share it. Scored is what follows a trigger that stood there before: the induction head problem.

The triggers with what follows them decide which split owns a sequence.

Why: the plainest test of what a network reads from its context against what it knows of the world: any token may be a
trigger, and only the sequence says which.

Known limits: distances are what the law of the world gives, not set; where no trigger recurs, nothing is asked.

Source: Bietti, Cabannes, Bouchacourt, Jegou, Bottou 2023, "Birth of a Transformer: A Memory Viewpoint" (arXiv
2306.00802), section 3: 65 characters, 256 tokens, 5 triggers, accuracy from the second occurrence on.
What differs: bigrams of the world are those above and not of a play, so that no token is more frequent than another;
what follows a trigger is no trigger, so that no sequence goes round in a circle of triggers; nothing else is scored.
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
class BigramsConfig:
    """What a sequence looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens of the vocabulary, at least 2.
        length: tokens of a sequence, at least 3: a trigger, what follows it, the trigger again.
        n_triggers: of a sequence, between 1 and V - 1.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["bigrams"] = "bigrams"
    vocab_size: int = 64
    length: int = 256
    n_triggers: int = 5

    def __post_init__(self) -> None:
        for name, number, least in (("vocab_size", self.vocab_size, 2), ("length", self.length, 3)):
            if number < least:
                raise ValueError(
                    f"BigramsConfig.{name}: must be at least {least}, got {number}; nearest valid: {least}"
                )
        if not 1 <= self.n_triggers < self.vocab_size:
            nearest = min(max(self.n_triggers, 1), self.vocab_size - 1)
            raise ValueError(
                f"BigramsConfig.n_triggers: must be between 1 and {self.vocab_size - 1}, one less than vocab_size, got "
                f"{self.n_triggers}; nearest valid: {nearest}"
            )


@final
class Bigrams:
    """Batches of bigrams with triggers; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: BigramsConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self.chance_loss: float = math.log(config.vocab_size)
        """Nats of guessing uniformly among all tokens, ln V: by its law, every token is asked as often as any other."""
        self.memoryless_loss: None = None
        """Below ln(V - 1), by what nobody computed: a token that soon leads back to its trigger is asked more often."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"Bigrams.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, n = split_stream(rng, split), self.config.n_triggers
        (pairs,) = draw_owned(self._pairs, stream, size, split)
        item = np.full((size, self.vocab_size), -1, dtype=np.int64)
        np.put_along_axis(item, pairs[:, :n], np.arange(n)[None], axis=1)
        tokens = self._tokens(stream, item, pairs[:, n:])
        inputs, following = tokens[:, :-1].copy(), tokens[:, 1:]
        about = _about(np.take_along_axis(item, inputs, axis=1), n)
        return Batch(inputs=inputs, targets=np.where(about["item"] >= 0, following, IGNORE), about=about)

    def _pairs(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        """The triggers, then what follows each: the rank among the tokens that are none, made into a token."""
        n, v = self.config.n_triggers, self.vocab_size
        triggers = draw_distinct(rng, rows, n, v)
        others = np.ones((rows, v), dtype=np.bool_)
        np.put_along_axis(others, triggers, values=False, axis=1)
        ordinary = np.nonzero(others)[1].reshape(rows, v - n)
        following = np.take_along_axis(ordinary, rng.integers(v - n, size=(rows, n)), axis=1)
        return (np.concatenate([triggers, following], axis=1),)

    def _tokens(
        self, rng: np.random.Generator, item: NDArray[np.int64], following: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """One token more than a sequence has, for the last target."""
        rows, v = len(item), self.vocab_size
        weights = 1 / np.arange(1, v + 1)
        shifts = 1 + rng.choice(v, size=(rows, self.length), p=weights / weights.sum())
        tokens = np.empty((rows, self.length + 1), dtype=np.int64)
        tokens[:, 0] = rng.integers(v, size=rows)
        each = np.arange(rows)
        for t in range(self.length):
            which = item[each, tokens[:, t]]
            tokens[:, t + 1] = np.where(which >= 0, following[each, which], (tokens[:, t] + shifts[:, t]) % v)
        return tokens

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Numbers."""
        return [str(token) for token in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "bigrams", "numpy": np.__version__}


def _about(which: NDArray[np.int64], n_triggers: int) -> dict[str, NDArray[np.int64]]:
    """Of every trigger that stood there before, given which trigger each token is, -1 for none.

    Returns:
        `distance` from what followed it last, `item` (which trigger), `load` (how many there are), `query` (the number
        of scored tokens before).
    """
    distance = np.full_like(which, -1)
    for trigger in range(n_triggers):
        places = np.where(which == trigger, np.arange(which.shape[1]), -1)
        latest = np.maximum.accumulate(places, axis=1)
        before = np.concatenate([np.full_like(latest[:, :1], -1), latest[:, :-1]], axis=1)
        recurs = (places >= 0) & (before >= 0)
        distance[recurs] = (places - before - 1)[recurs]
    recurs = distance >= 0
    known = {"item": which, "load": np.full_like(which, n_triggers), "query": recurs.cumsum(axis=1) - 1}
    return {"distance": distance} | {name: np.where(recurs, values, -1) for name, values in known.items()}
