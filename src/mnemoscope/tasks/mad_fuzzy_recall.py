"""MAD fuzzy in-context recall: keys and values are motifs, several tokens in a fixed order.

One sequence of `MadFuzzyRecallConfig(vocab_size=10, length=13, max_key=2, max_value=2)`:

               padding         | key val | key   val   | key val
    inputs      9  9  9  9  9  |  1   7  | 2  0  5  8  |  1   7
    targets     .  .  .  .  .  |  .   .  | .  .  .  .  |  7   .      (. = IGNORE)

With V tokens, the last is padding; keys consist of tokens 0 ... (V-1)/2 - 1 (rounded down), values of the others. A key
motif has 1 ... `max_key` distinct tokens, every size and every ordered choice of that size equally likely; a value
motif likewise. A sequence holds n = (length - 1) / (max_key + max_value) pairs (rounded down), which always fit, and is
padded on the left. A key that returns has the value of its first occurrence. The last pair repeats one of those before
it, drawn uniformly, so that something is always asked. Each value token of a repeated key is a target, at the position
of the token before it: the first at the key's last token.

In validation and test every key has `max_key` tokens. In training keys have any size: where a short key ends is told
only by what follows it, but a position is scored only where a key does end.

`train_on="all"` scores every next token of the training split, as published. Validation and test score answers alone
either way. `Batch.about` speaks of answers alone; the value tokens of one answer share its query.

The keys of a sequence decide which split owns it.

Why: recall whose keys and values are several tokens long, so that a memory must first put them together.

Known limits: accuracy counts value tokens, and later ones of a value are easier than its first.

Source: Poli, Thomas et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024, arXiv 2403.17844);
athms/mad-lab, `fuzzy-in-context-recall` (multi-query), commit 0f49a45. What differs: training scores answers alone
unless `train_on` says otherwise; the number of pairs is fixed, where theirs fill the sequence until the longest pair
and the last one may not fit, which makes the law of sizes depend on the room that is left (a third of a training
sequence is padding here, a sixth of a test sequence); the last pair repeats an earlier one, where theirs is drawn first
and written into the sequence once; the last value token is fed too, unscored.
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

_LONGEST, _LARGEST = 4, 2**16
"""Longest key motif and largest vocabulary: a key must fit an integer of 64 bits."""


@dataclass(frozen=True, kw_only=True)
class MadFuzzyRecallConfig:
    """What a sequence of motifs looks like.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, padding, key tokens and value tokens, between 5 and 65536.
        length: tokens of a sequence, at least 2 * (max_key + max_value) + 1 (two pairs, one padding).
        max_key: tokens of the longest key motif, at least 1, at most 4 and the number of key tokens (V - 1) // 2.
        max_value: tokens of the longest value motif, at least 1 and at most the number of value tokens.
        n_train: sequences of the training split, at least 1; None: new ones for every batch.
        train_on: what the training split scores, "answers" or "all" next tokens.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mad_fuzzy_recall"] = "mad_fuzzy_recall"
    vocab_size: int = 16
    length: int = 128
    max_key: int = 3
    max_value: int = 3
    n_train: int | None = N_TRAIN
    train_on: TrainOn = "answers"

    def __post_init__(self) -> None:
        where = "MadFuzzyRecallConfig"
        if not 5 <= self.vocab_size <= _LARGEST:
            raise ValueError(
                f"{where}.vocab_size: must be between 5 (padding, two key and two value tokens) and {_LARGEST}, got "
                f"{self.vocab_size}; nearest valid: {min(max(self.vocab_size, 5), _LARGEST)}"
            )
        n_keys = (self.vocab_size - 1) // 2
        n_values = self.vocab_size - 1 - n_keys
        for name, tokens, most in (
            ("max_key", self.max_key, min(n_keys, _LONGEST)),
            ("max_value", self.max_value, n_values),
        ):
            if not 1 <= tokens <= most:
                raise ValueError(
                    f"{where}.{name}: must be between 1 and {most} (distinct tokens of vocab_size {self.vocab_size}), "
                    f"got {tokens}; nearest valid: {min(max(tokens, 1), most)}"
                )
        shortest = 2 * (self.max_key + self.max_value) + 1
        if self.length < shortest:
            raise ValueError(
                f"{where}.length: must be at least 2 * (max_key + max_value) + 1 = {shortest} (two pairs and one "
                f"padding), got {self.length}; nearest valid: {shortest}"
            )
        check_n_train(where, self.n_train)


@final
class MadFuzzyRecall:
    """Batches of MAD fuzzy recall; the attributes are those of `mnemoscope.tasks.Task`.

    With `train_on="all"` the three losses are those of the training split; on held-out splits, which score answers
    alone, they are those of "answers".
    """

    unit: str = "accuracy"

    def __init__(self, config: MadFuzzyRecallConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        self._n_keys: int = (config.vocab_size - 1) // 2
        self._n_values: int = config.vocab_size - 1 - self._n_keys
        self._n_pairs: int = (config.length - 1) // (config.max_key + config.max_value)
        self._examples = Examples(self._draw, config.n_train, self._complete)
        self.chance_loss: float
        """Nats per scored token of a predictor without context: a uniform guess among the value tokens."""
        self.memoryless_loss: float
        """The key alone says nothing; but the next token of a value motif differs from the present one."""
        self.floor_loss: float
        """0 for answers, which stand in their sequence; else the entropy of all tokens, per scored token."""
        self.chance_loss, self.memoryless_loss, self.floor_loss = (
            self._losses_of_answers() if config.train_on == "answers" else self._losses_of_all()
        )

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        check_size("MadFuzzyRecall", size)
        inputs, starts, key_sizes, value_sizes, first, before = self._examples.rows(rng, size, split)
        targets = np.full_like(inputs, IGNORE)
        known = _known(starts, first, before)
        about = {name: np.full_like(inputs, -1) for name in known}
        for token in range(self.config.max_value):
            rows, pairs = np.nonzero((before >= 0) & (value_sizes > token))
            places = (starts + key_sizes)[rows, pairs] - 1 + token
            targets[rows, places] = inputs[rows, places + 1]
            for name, values in known.items():
                about[name][rows, places] = values[rows, pairs]
        if split == "train" and self.config.train_on == "all":
            targets[:, :-1] = inputs[:, 1:]
        return Batch(inputs=inputs, targets=targets, about=about)

    def _draw(self, rng: np.random.Generator, rows: int, split: Split) -> tuple[NDArray[np.int64], ...]:
        """Keys as numbers, which tell motifs of any size apart; their tokens; their sizes."""
        n, max_key, all_rows = self._n_pairs, self.config.max_key, np.arange(rows)
        keys = _draw_motifs(rng, (rows, n), max_key, self._n_keys)
        sizes = rng.integers(1 if split == "train" else max_key, max_key + 1, size=(rows, n))
        repeated = rng.integers(n - 1, size=rows)
        keys[:, -1], sizes[:, -1] = keys[all_rows, repeated], sizes[all_rows, repeated]
        # In base n_keys + 1, with digit 0 beyond the size.
        digits = np.where(np.arange(max_key) < sizes[..., None], keys + 1, 0)
        return digits @ (self._n_keys + 1) ** np.arange(max_key), keys, sizes

    def _complete(
        self, rng: np.random.Generator, ids: NDArray[np.int64], keys: NDArray[np.int64], key_sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], ...]:
        """Sequences; where each pair starts; sizes of its key and value; its first and newest occurrence before."""
        max_value = self.config.max_value
        first, before = occurrences(ids)
        values = self._n_keys + _draw_motifs(rng, ids.shape, max_value, self._n_values)
        values = np.take_along_axis(values, first[..., None], axis=1)
        value_sizes = np.take_along_axis(rng.integers(1, max_value + 1, size=ids.shape), first, axis=1)
        ends = np.cumsum(key_sizes + value_sizes, axis=1)
        starts = self.length - ends[:, -1:] + ends - key_sizes - value_sizes
        inputs = np.full((ids.shape[0], self.length), self.vocab_size - 1, dtype=np.int64)
        _write(inputs, starts, keys, key_sizes)
        _write(inputs, starts + key_sizes, values, value_sizes)
        return inputs, starts, key_sizes, value_sizes, first, before

    def _losses_of_answers(self) -> tuple[float, float, float]:
        """The size of an answer is uniform, whatever its key: (max_value - 1) / 2 tokens follow each first one."""
        log_first, log_next = math.log(self._n_values), math.log(max(self._n_values - 1, 1))
        following = (self.config.max_value - 1) / 2
        return log_first, (log_first + following * log_next) / (1 + following), 0.0

    def _losses_of_all(self) -> tuple[float, float, float]:
        """Chance, memoryless and floor where every next token is scored.

        A sequence and its list of pairs determine each other, and its first token is padding. So the entropy of the
        scored tokens is that of n - 1 drawn keys, of a value for each distinct one of them, and of which key the last
        pair repeats: c of m = n - 1 pairs have a key that is drawn with probability p, with c binomial(m, p), and a key
        that c pairs have is repeated with probability c / m. All pairs have one law, the last included.
        """
        n, m, max_key, max_value = self._n_pairs, self._n_pairs - 1, self.config.max_key, self.config.max_value
        total, distinct = m * _motif_entropy(self._n_keys, max_key), 0.0
        shares = np.arange(1, m + 1) / m
        for size in range(1, max_key + 1):
            n_motifs = math.perm(self._n_keys, size)
            p = 1 / (max_key * n_motifs)
            distinct += n_motifs * (1 - (1 - p) ** m)
            total -= n_motifs * float(binomial(m, p)[1:] @ (shares * np.log(shares)))
        total += distinct * _motif_entropy(self._n_values, max_value)
        key, value = (max_key + 1) / 2, (max_value + 1) / 2
        padding, scored = self.length - n * (key + value), self.length - 1
        # Expected transitions from (padding, key, value) to (padding, key, value).
        moves = np.array([[padding - 1, 1, 0], [0, n * (key - 1), n], [0, n - 1, n * (value - 1)]])
        log_key, log_value = math.log(self._n_keys), math.log(self._n_values)
        log_other = [math.log(max(self._n_keys - 1, 1)), math.log(max(self._n_values - 1, 1))]
        within = log_key * n + log_value * n + moves[1, 1] * log_other[0] + moves[2, 2] * log_other[1]
        memoryless = (sum(entropy(row) * row.sum() for row in moves) + within) / scored
        chance = entropy(moves.sum(axis=0)) + float(moves.sum(axis=0) @ [0.0, log_key, log_value]) / scored
        return chance, memoryless, total / scored

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Padding as a dot, key tokens k0, k1, ..., value tokens v0, v1, ..."""
        n_keys, padding = self._n_keys, self.vocab_size - 1
        return ["." if t == padding else f"k{t}" if t < n_keys else f"v{t - n_keys}" for t in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or drawn from the training set with replacement."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "mad_fuzzy_recall", "numpy": np.__version__}


def _draw_motifs(rng: np.random.Generator, shape: tuple[int, ...], n_tokens: int, pool: int) -> NDArray[np.int64]:
    """Draw `n_tokens` distinct integers of [0, pool), every ordered choice equally likely; shape (*shape, n_tokens)."""
    motifs = rng.integers(pool - np.arange(n_tokens), size=(*shape, n_tokens))
    for token in range(1, n_tokens):
        # The i-th of the integers that are left: counted on past each that is taken, smallest first.
        for taken in np.moveaxis(np.sort(motifs[..., :token], axis=-1), -1, 0):
            motifs[..., token] += motifs[..., token] >= taken
    return motifs


def _write(
    inputs: NDArray[np.int64], starts: NDArray[np.int64], motifs: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    for token in range(motifs.shape[2]):
        rows, pairs = np.nonzero(sizes > token)
        inputs[rows, starts[rows, pairs] + token] = motifs[rows, pairs, token]


def _known(
    starts: NDArray[np.int64], first: NDArray[np.int64], before: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """What is said of the answer of each pair; it means nothing where the pair repeats none."""
    new = before < 0
    return {
        # A query lies as far behind its start as the answer before it lies behind its own, less one.
        "distance": starts - np.take_along_axis(starts, np.maximum(before, 0), axis=1) - 1,
        "item": np.take_along_axis(np.cumsum(new, axis=1) - 1, first, axis=1),
        "load": np.broadcast_to(new.sum(axis=1, keepdims=True), starts.shape),
        "query": np.cumsum(~new, axis=1) - 1,
    }


def _motif_entropy(n_tokens: int, longest: int) -> float:
    """Entropy in nats of a motif: its size, then the ordered choice."""
    return math.log(longest) + sum(math.log(math.perm(n_tokens, size)) for size in range(1, longest + 1)) / longest
