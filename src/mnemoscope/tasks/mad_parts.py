"""What the MAD tasks share: training sets of a fixed size, and where a key stood before."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.streams import Split, draw_owned, split_stream

N_TRAIN = 12_800
"""Training sequences of MAD's base settings."""

TrainOn: TypeAlias = Literal["answers", "all"]
"""What the training split scores: the answers alone, as held-out splits do, or every next token, as published."""

_KEY = 12345


@final
class Examples:
    """Rows of a split, where the training split may be a fixed set of so many rows.

    MAD varies the number of training sequences. A fixed set belongs to its config: it is the same in every run, and a
    training batch draws from it with replacement.

    Args:
        draw: from a generator, a number of rows and a split, arrays with one row for each; the first is the content.
        n_train: rows of the training split; None draws new ones for every batch.
        complete: from a generator and the arrays of rows that the split owns, whole rows; None: they are whole. What a
            split draws for validation and test it mostly throws away, so costly parts come after the choice.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, int, Split], tuple[NDArray[np.int64], ...]],
        n_train: int | None,
        complete: Callable[..., tuple[NDArray[np.int64], ...]] | None = None,
    ) -> None:
        self._draw = draw
        self._n_train = n_train
        self._complete = complete

    def rows(self, rng: np.random.Generator, size: int, split: Split) -> tuple[NDArray[np.int64], ...]:
        """Draw `size` rows of a split."""
        stream = split_stream(rng, split)
        if self._n_train is None or split != "train":
            return self._owned(stream, size, split)
        chosen = stream.integers(self._n_train, size=size)
        return tuple(part[chosen] for part in self._fixed)

    @cached_property
    def _fixed(self) -> tuple[NDArray[np.int64], ...]:
        if self._n_train is None:
            raise AssertionError("only a training split of a given size is fixed")
        return self._owned(np.random.Generator(np.random.Philox(key=_KEY)), self._n_train, "train")

    def _owned(self, rng: np.random.Generator, size: int, split: Split) -> tuple[NDArray[np.int64], ...]:
        parts = draw_owned(lambda stream, rows: self._draw(stream, rows, split), rng, size, split)
        return self._complete(rng, *parts) if self._complete else parts


def check_n_train(where: str, n_train: int | None) -> None:
    """Refuse a training set without sequences.

    Raises:
        ValueError: fewer than one; `where` names the config.
    """
    if n_train is not None and n_train < 1:
        raise ValueError(
            f"{where}.n_train: must be at least 1, or None for new sequences in every batch, got {n_train}; "
            "nearest valid: 1"
        )


def check_size(where: str, size: int) -> None:
    """Refuse a batch without sequences.

    Raises:
        ValueError: fewer than one; `where` names the task.
    """
    if size < 1:
        raise ValueError(f"{where}.batch: size must be at least 1, got {size}; nearest valid: 1")


def occurrences(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the entry equal to each one stood first in its row, and where it last stood before.

    Returns:
        integers of the shape of `ids`: the first equal entry (itself where there is none before), and the newest equal
        entry before (-1 where there is none).

    Cost:
        O(n log n) per row.
    """
    n = ids.shape[1]
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, axis=1)
    fresh = np.ones(ids.shape, dtype=np.bool_)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.maximum.accumulate(np.where(fresh, np.arange(n), 0), axis=1)
    first, before = np.empty_like(ids), np.empty_like(ids)
    np.put_along_axis(first, order, np.take_along_axis(order, starts, axis=1), axis=1)
    shifted = np.where(fresh, -1, np.roll(order, 1, axis=1))
    np.put_along_axis(before, order, shifted, axis=1)
    return first, before


def entropy(weights: NDArray[np.float64]) -> float:
    """Entropy in nats of the distribution that is proportional to `weights`."""
    shares = weights[weights > 0] / weights.sum()
    return max(0.0, -float((shares * np.log(shares)).sum()))


def binomial(n: int, p: float) -> NDArray[np.float64]:
    """Probabilities of 0 ... n successes, p above 0."""
    if p == 1:
        return np.eye(n + 1)[-1]
    hits = range(n + 1)
    log_ways = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in hits])
    return np.exp(log_ways + np.arange(n + 1) * math.log(p) + np.arange(n, -1, -1) * math.log1p(-p))
