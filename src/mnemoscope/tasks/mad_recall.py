"""MAD in-context recall, plain and noisy: pairs come in any order, and a key seen before must be answered.

One sequence of `MadRecallConfig(vocab_size=8, length=12)`:

               key val key val key val key val key val key val
    inputs      2   7   0   5   2   7   1   4   0   5   1   4
    targets     .   .   .   .   7   .   .   .   5   .   4   .      (. = IGNORE)

Keys are 0 ... V/2 - 1 (V/2 rounded down), values the rest. Every sequence draws a map from keys to values, each value
uniform and independent, and then keys with replacement; the last key is uniform among the distinct keys seen before.
The target of a key that was seen before is its value; first occurrences are not scored.

`MadNoisyRecallConfig` takes the last `noise_vocab_size` tokens out of the vocabulary. Every pair but the last is
replaced, with probability `frac_noise`, by two random ones of these; one pair, drawn uniformly, never is, so that the
last key has something to repeat.

`train_on="all"` scores every next token of the training split, as published: keys, first values and noise too, which
nobody can predict. Validation and test score answers alone either way. `Batch.about` speaks of answers alone.

All tokens of a sequence decide which split owns it.

Why: recall in any order, with keys that come back; in the noisy form among tokens that mean nothing and should not be
written.

Known limits: the distance of a key to its last mention is not controlled, `mqar` does that; noise comes from tokens
of its own, so that telling it apart is easy once learned.

Source: Poli, Thomas et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024, arXiv 2403.17844);
athms/mad-lab, `in-context-recall` and `noisy-in-context-recall` (multi-query), commit 0f49a45. What differs: training
scores answers alone unless `train_on` says otherwise; the last value is fed too, unscored, so that inputs have `length`
tokens and not one fewer; the pair that is never noise is one of those before the last, where theirs may be the last
itself and leave none; training draws from its fixed set with replacement, not in epochs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mad_parts import (
    N_TRAIN,
    Examples,
    TrainOn,
    binomial,
    check_n_train,
    check_size,
    entropy,
    occurrences,
)
from mnemoscope.tasks.streams import Split


@dataclass(frozen=True, kw_only=True)
class MadRecallConfig:
    """What a recall sequence looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, keys and values, at least 4 (two of each).
        length: tokens of a sequence, even and at least 4 (two pairs).
        n_train: sequences of the training split, at least 1; None: new ones for every batch.
        train_on: what the training split scores, "answers" or "all" next tokens.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mad_recall"] = "mad_recall"
    vocab_size: int = 16
    length: int = 128
    n_train: int | None = N_TRAIN
    train_on: TrainOn = "answers"

    def __post_init__(self) -> None:
        _check("MadRecallConfig", self.vocab_size, self.length, self.n_train, 0)


@dataclass(frozen=True, kw_only=True)
class MadNoisyRecallConfig:
    """What a recall sequence with noise looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, keys, values and noise tokens, at least 4 + noise_vocab_size.
        length: tokens of a sequence, even and at least 4 (two pairs).
        noise_vocab_size: tokens that are noise and nothing else, at least 1.
        frac_noise: probability that a pair is noise, at least 0 and below 1.
        n_train: sequences of the training split, at least 1; None: new ones for every batch.
        train_on: what the training split scores, "answers" or "all" next tokens.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mad_noisy_recall"] = "mad_noisy_recall"
    vocab_size: int = 32
    length: int = 128
    noise_vocab_size: int = 16
    frac_noise: float = 0.2
    n_train: int | None = N_TRAIN
    train_on: TrainOn = "answers"

    def __post_init__(self) -> None:
        where = "MadNoisyRecallConfig"
        if self.noise_vocab_size < 1:
            raise ValueError(
                f"{where}.noise_vocab_size: must be at least 1, got {self.noise_vocab_size}; nearest valid: 1"
            )
        if not 0 <= self.frac_noise < 1:
            raise ValueError(
                f"{where}.frac_noise: must be at least 0 and below 1, got {self.frac_noise}; published: 0.2 ... 0.8"
            )
        _check(where, self.vocab_size, self.length, self.n_train, self.noise_vocab_size)


def _check(where: str, vocab_size: int, length: int, n_train: int | None, n_noise: int) -> None:
    if vocab_size < 4 + n_noise:
        beside = " beside the noise" if n_noise else ""
        raise ValueError(
            f"{where}.vocab_size: must be at least {4 + n_noise}, two keys and two values{beside}, got {vocab_size}; "
            f"nearest valid: {4 + n_noise}"
        )
    if length < 4 or length % 2:
        raise ValueError(
            f"{where}.length: must be even and at least 4 (two pairs), got {length}; "
            f"nearest valid: {max(4, length + length % 2)}"
        )
    check_n_train(where, n_train)


@final
class MadRecall:
    """Batches of MAD recall, plain or noisy; the attributes are those of `mnemoscope.tasks.Task`.

    With `train_on="all"` the three losses are those of the training split; on held-out splits, which score answers
    alone, chance and memoryless are the logarithm of the number of values and the floor is 0.
    """

    unit: str = "accuracy"

    def __init__(self, config: MadRecallConfig | MadNoisyRecallConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        noisy = isinstance(config, MadNoisyRecallConfig)
        self._n_noise: int = config.noise_vocab_size if noisy else 0
        self._frac_noise: float = config.frac_noise if noisy else 0.0
        self._n_keys: int = (config.vocab_size - self._n_noise) // 2
        self._n_values: int = config.vocab_size - self._n_noise - self._n_keys
        self._examples = Examples(self._draw, config.n_train)
        of_answers = (math.log(self._n_values), math.log(self._n_values), 0.0)
        self.chance_loss: float
        """Nats per scored token of a predictor without context: a uniform guess among the values."""
        self.memoryless_loss: float
        """The key alone says nothing of its value, for the map is drawn anew for each sequence."""
        self.floor_loss: float
        """0 for answers, which stand in their sequence; else the entropy of all tokens but the first, per token."""
        self.chance_loss, self.memoryless_loss, self.floor_loss = (
            of_answers if config.train_on == "answers" else self._losses_of_all()
        )

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        check_size("MadRecall", size)
        (inputs,) = self._examples.rows(rng, size, split)
        is_pair = inputs[:, 0::2] < self._n_keys
        # A noise pair repeats nothing, whatever its tokens.
        ids = np.where(is_pair, inputs[:, 0::2], self.vocab_size + np.arange(self.length // 2))
        first, before = occurrences(ids)
        asked = before >= 0
        targets = np.full_like(inputs, IGNORE)
        if split == "train" and self.config.train_on == "all":
            targets[:, :-1] = inputs[:, 1:]
        else:
            targets[:, 0::2] = np.where(asked, inputs[:, 1::2], IGNORE)
        return Batch(inputs=inputs, targets=targets, about=self._about(asked, is_pair, first, before))

    def _draw(self, rng: np.random.Generator, rows: int, split: Split) -> tuple[NDArray[np.int64]]:
        """Sequences; the law is the same in every split."""
        n, n_keys, all_rows = self.length // 2, self._n_keys, np.arange(rows)
        keys = rng.integers(n_keys, size=(rows, n))
        value_of = rng.integers(n_keys, n_keys + self._n_values, size=(rows, n_keys))
        noisy = np.zeros((rows, n), dtype=np.bool_)
        if self._frac_noise:
            noisy[:, :-1] = rng.random((rows, n - 1)) < self._frac_noise
            noisy[all_rows, rng.integers(n - 1, size=rows)] = False
        seen = np.zeros((rows, n_keys + 1), dtype=np.bool_)
        np.put_along_axis(seen, np.where(noisy, n_keys, keys)[:, :-1], True, axis=1)
        keys[:, -1] = np.where(seen[:, :-1], rng.random((rows, n_keys)), -1.0).argmax(axis=1)
        pairs = np.stack([keys, np.take_along_axis(value_of, keys, axis=1)], axis=2)
        if self._frac_noise:
            pairs[noisy] = rng.integers(self.vocab_size - self._n_noise, self.vocab_size, size=(int(noisy.sum()), 2))
        return (pairs.reshape(rows, self.length),)

    def _about(
        self,
        asked: NDArray[np.bool_],
        is_pair: NDArray[np.bool_],
        first: NDArray[np.int64],
        before: NDArray[np.int64],
    ) -> dict[str, NDArray[np.int64]]:
        new = is_pair & ~asked
        rank = np.cumsum(new, axis=1) - 1
        known = {
            "distance": 2 * (np.arange(asked.shape[1]) - before) - 1,
            "item": np.take_along_axis(rank, first, axis=1),
            "load": np.broadcast_to(new.sum(axis=1, keepdims=True), asked.shape),
            "query": np.cumsum(asked, axis=1) - 1,
        }
        about = {name: np.full((asked.shape[0], self.length), -1, dtype=np.int64) for name in known}
        for name, values in known.items():
            about[name][:, 0::2] = np.where(asked, values, -1)
        return about

    def _losses_of_all(self) -> tuple[float, float, float]:
        """Chance, memoryless and floor where every next token is scored.

        Let m pairs come before the last one, k of them no noise: k - 1 is binomial(m - 1, 1 - f). Which pairs are noise
        has a probability that depends on k alone, as any of the k may be the one that never is. Tokens are uniform in
        their class (key, value, noise), given the present token or nothing.
        """
        m, f = self.length // 2 - 1, self._frac_noise
        log_key, log_value = math.log(self._n_keys), math.log(self._n_values)
        log_noise = math.log(self._n_noise) if f else 0.0
        k, of_k = np.arange(1, m + 1), binomial(m - 1, 1 - f)
        mean_k = float(of_k @ k)
        one, two = mean_k / m, float(of_k @ (k * (k - 1))) / (m * (m - 1)) if m > 1 else 0.0
        distinct, log_distinct = (float(of_k @ moment) for moment in _occupancy(self._n_keys, m))
        total = self._entropy_of_noise(of_k) + mean_k * log_key + distinct * log_value + log_distinct
        total += (m - mean_k) * 2 * log_noise
        start = entropy(np.array([one, 1 - one])) + one * log_key + (1 - one) * log_noise
        scored = 2 * m + 1
        pairs, mixed = m * one + 1, (m - 1) * (one - two)
        # Expected transitions from (key, value, first of noise, second of noise) to (key, value, noise).
        moves = np.array(
            [
                [0, pairs, 0],
                [(m - 1) * two + one, 0, mixed],
                [0, 0, m * (1 - one)],
                [mixed + 1 - one, 0, (m - 1) * (1 - 2 * one + two)],
            ]
        )
        known = np.stack([moves[0], moves[1], moves[2] + moves[3]])
        within = float(moves.sum(axis=0) @ [log_key, log_value, log_noise]) / scored
        memoryless = sum(entropy(row) * row.sum() for row in known if row.sum() > 0) / scored + within
        return entropy(moves.sum(axis=0)) + within, memoryless, (total - start) / scored

    def _entropy_of_noise(self, of_k: NDArray[np.float64]) -> float:
        """Entropy in nats of which pairs before the last are noise."""
        m, f = of_k.size, self._frac_noise
        if not f:
            return 0.0
        k = np.arange(1, m + 1)
        log_p = np.log(k / m) + (m - k) * math.log(f) + (k - 1) * math.log1p(-f)
        return -float(of_k @ log_p)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Keys k0, k1, ..., values v0, v1, ..., noise n0, n1, ..."""
        starts = (("n", self._n_keys + self._n_values), ("v", self._n_keys), ("k", 0))
        found = (next((name, start) for name, start in starts if token >= start) for token in tokens)
        return [f"{name}{token - start}" for token, (name, start) in zip(tokens, found, strict=True)]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or drawn from the training set with replacement."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": self.config.kind, "numpy": np.__version__}


def _occupancy(pool: int, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean number of distinct entries among 1 ... most draws from a pool with replacement, and of its logarithm."""
    distinct = np.arange(pool + 1)
    logs = np.log(np.maximum(distinct, 1))
    law = np.eye(pool + 1)[0]
    means, mean_logs = np.empty(most), np.empty(most)
    for draw in range(most):
        law = law * distinct / pool + np.concatenate([[0.0], law[:-1] * (pool - distinct[:-1]) / pool])
        means[draw], mean_logs[draw] = law @ distinct, law @ logs
    return means, mean_logs
