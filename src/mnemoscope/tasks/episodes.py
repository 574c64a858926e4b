"""Episodes: what is stored first and asked for later, apart, so that the memory between can be dropped or exchanged.

Two rows of an episode of cued recall with two pairs (see `mnemoscope.tasks.cued_recall`):

                   storage          | retrieval          | controls
    row 0          k1 v7 k4 v2      | k4 k1   -> v2 v7   | reset: memory as at the start, then k4 k1
    row 1          k3 v5 k1 v0      | k1 k3   -> v0 v5   | wrong: storage k3 v5 k1 v0, then k4 k1

A model whose state outlives a call is given `storage`, then `retrieval`; reset leaves out the first, and wrong memory
is `episode.wrong()`, in which every row has the storage of its neighbour. A model of single sequences is given
`joined()`, one after the other; reset is `retrieval` alone.

With the predictions of all three, `memory_use` says what the memory is worth: utility U = accuracy with memory less
accuracy after reset, and specificity = accuracy with memory less accuracy with the memory of another row. A memory is
used iff U > 2 SE on held-out rows; accuracy on training rows may come from the weights. So a study needs four
accuracies, training and held-out rows, memory carried and reset: one `memory_use` for each of the two splits.

Rows are independent and the words of one row are not (they share a memory), so rows are the sampling unit: with r_i
the sum of n_i scores in row i of b, mean = sum r_i / sum n_i and

    SE^2 = b / (b - 1) * sum (r_i - n_i mean)^2 / (sum n_i)^2,

which is the usual variance over b where every row has one score. Differences are paired, score by score. An answer of
several tokens, which share their `query`, is one score: right where all its tokens are.

Source: own, after the controls that episodic training of memories lacks in published code. The standard error is that
of a ratio estimator under cluster sampling (Cochran, "Sampling Techniques", 3rd edition, section 9A.1).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.streams import Split


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode in each row.

    Args:
        storage: what is to be remembered, arrays of shape (b, n_storage * l); its targets, where it has any, are the
            next tokens, for a storage loss.
        retrieval: the questions, arrays of shape (b, n_retrieval * m); `about` counts distances as if it followed
            storage without a gap.
        n_storage: equally long sequences that storage is made of.
        n_retrieval: equally long sequences that retrieval is made of.
    """

    storage: Batch
    retrieval: Batch
    n_storage: int = 1
    n_retrieval: int = 1

    def storage_sequences(self) -> list[Batch]:
        """The sequences of `storage` in their order, each of shape (b, l)."""
        return _sequences(self.storage, self.n_storage)

    def retrieval_sequences(self) -> list[Batch]:
        """The sequences of `retrieval` in their order, each of shape (b, m)."""
        return _sequences(self.retrieval, self.n_retrieval)

    def joined(self) -> Batch:
        """Storage and retrieval as one sequence for each row, in which retrieval alone is scored."""
        inputs = np.concatenate([self.storage.inputs, self.retrieval.inputs], axis=1)
        about = {name: _after(self.storage, values, -1) for name, values in self.retrieval.about.items()}
        return Batch(inputs=inputs, targets=_after(self.storage, self.retrieval.targets, IGNORE), about=about)

    def wrong(self) -> "Episode":
        """The wrong-memory control: the same questions, after the storage of the next row (of the first, for the last).

        Distances are left out: the answers do not stand there.

        Raises:
            ValueError: one row alone, which has no neighbour.
        """
        if self.storage.size < 2:
            raise ValueError(
                f"Episode.wrong: needs at least 2 rows, to exchange their storage, got {self.storage.size}; draw 2"
            )
        stored = self.storage
        others = Batch(inputs=np.roll(stored.inputs, -1, axis=0), targets=np.roll(stored.targets, -1, axis=0))
        about = {name: values for name, values in self.retrieval.about.items() if name != "distance"}
        return replace(self, storage=others, retrieval=replace(self.retrieval, about=about))


@runtime_checkable
class Episodic(Protocol):
    """A task whose batches are joined episodes."""

    @property
    def reset_at(self) -> int:
        """Where in a sequence of a batch retrieval begins: the place at which the controls drop or exchange memory."""
        ...

    def episode(self, rng: np.random.Generator, size: int, split: Split) -> Episode:
        """Draw `size` episodes; `batch` gives them joined, for the same state of `rng`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard error.

    Args:
        mean: of all scores.
        se: standard error, with rows as the sampling unit.
        n_scored: how many scores.
        n_rows: rows that have any.
    """

    mean: float
    se: float
    n_scored: int
    n_rows: int

    @property
    def interval(self) -> tuple[float, float]:
        """The mean less and plus 1.96 standard errors."""
        return self.mean - 1.96 * self.se, self.mean + 1.96 * self.se


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """What a memory is worth on the rows of one split.

    Args:
        memory: accuracy with the memory carried over from storage.
        reset: accuracy with the memory dropped before retrieval.
        wrong: accuracy with the memory of another row.
        utility: U = memory - reset, paired.
        specificity: memory - wrong, paired.
    """

    memory: Estimate
    reset: Estimate
    wrong: Estimate
    utility: Estimate
    specificity: Estimate

    @property
    def used(self) -> bool:
        """Whether U > 2 SE. On training rows that says nothing of new ones; judge from at least 2000 scored words."""
        return self.utility.mean > 2 * self.utility.se


def memory_use(
    targets: NDArray[np.int64],
    *,
    memory: NDArray[np.int64],
    reset: NDArray[np.int64],
    wrong: NDArray[np.int64],
    query: NDArray[np.int64] | None = None,
) -> MemoryUse:
    """Compare three predictions of the same retrieval sequences.

    Args:
        targets: of the retrieval, shape (b, t), `IGNORE` where nothing is scored.
        memory: the tokens held most probable after storage, shape (b, t).
        reset: the same with the memory dropped before retrieval.
        wrong: the same after the storage of another row.
        query: which answer of its row each scored token belongs to, shape (b, t); see `whole_answers`. None: every
            token is an answer.

    Raises:
        ValueError: shapes that differ, or fewer than two rows with a scored token.
    """
    if query is not None:
        memory, reset, wrong = (whole_answers(each, targets, query) for each in (memory, reset, wrong))
        targets = np.where(_first_tokens(targets, query), targets, IGNORE)
    return MemoryUse(
        memory=accuracy(memory, targets),
        reset=accuracy(reset, targets),
        wrong=accuracy(wrong, targets),
        utility=accuracy_gain(memory, reset, targets),
        specificity=accuracy_gain(memory, wrong, targets),
    )


def whole_answers(
    predictions: NDArray[np.int64], targets: NDArray[np.int64], query: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Predictions in which the first token of every answer is right exactly where all its tokens are.

    Args:
        predictions: the tokens held most probable, shape (b, t).
        targets: shape (b, t), `IGNORE` where nothing is scored.
        query: equal for the tokens of an answer, which stand one behind the other, different from answer to answer of
            a row, shape (b, t).
    """
    missed = (predictions != targets) & (targets != IGNORE)
    first = _first_tokens(targets, query)
    answer = np.cumsum(first.ravel()) - 1
    wrong = np.zeros(int(first.sum()), dtype=np.bool_)
    np.logical_or.at(wrong, answer[missed.ravel()], True)
    found = predictions.copy()
    found[first] = np.where(wrong, IGNORE, targets[first])
    return found


def n_answers(targets: NDArray[np.int64], query: NDArray[np.int64]) -> int:
    """How many answers are scored; see `whole_answers`."""
    return int(_first_tokens(targets, query).sum())


def _first_tokens(targets: NDArray[np.int64], query: NDArray[np.int64]) -> NDArray[np.bool_]:
    scored = targets != IGNORE
    goes_on = np.zeros_like(scored)
    goes_on[:, 1:] = scored[:, 1:] & scored[:, :-1] & (query[:, 1:] == query[:, :-1])
    return scored & ~goes_on


def accuracy(predictions: NDArray[np.int64], targets: NDArray[np.int64]) -> Estimate:
    """The share of scored tokens that are predicted right.

    Raises:
        ValueError: shapes that differ, or fewer than two rows with a scored token.
    """
    return _estimate(_hits(predictions, targets), targets)


def accuracy_gain(predictions: NDArray[np.int64], others: NDArray[np.int64], targets: NDArray[np.int64]) -> Estimate:
    """Accuracy of `predictions` less that of `others`, with the standard error of the paired difference.

    Raises:
        ValueError: shapes that differ, or fewer than two rows with a scored token.
    """
    return _estimate(_hits(predictions, targets) - _hits(others, targets), targets)


def _hits(predictions: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    if predictions.shape != targets.shape or targets.ndim != 2:
        raise ValueError(
            f"accuracy: predictions and targets must have one shape (b, t), got {predictions.shape} and "
            f"{targets.shape}; take the argmax of logits over their last axis"
        )
    return np.where(targets == IGNORE, 0.0, predictions == targets)


def _estimate(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> Estimate:
    """Mean of `scores`, which are 0 where nothing is scored."""
    counts = (targets != IGNORE).sum(axis=1)
    rows = counts > 0
    n, b = int(counts.sum()), int(rows.sum())
    if b < 2:
        raise ValueError(
            f"accuracy: a standard error needs at least 2 rows with a scored token, got {b}; draw more episodes"
        )
    mean = math.fsum(scores.sum(axis=1)) / n
    deviations = (scores.sum(axis=1) - mean * counts)[rows]
    return Estimate(mean=mean, se=math.sqrt(b / (b - 1) * float(deviations @ deviations)) / n, n_scored=n, n_rows=b)


def _sequences(batch: Batch, n: int) -> list[Batch]:
    parts = [np.split(values, n, axis=1) for values in (batch.inputs, batch.targets, *batch.about.values())]
    return [
        Batch(inputs=inputs, targets=targets, about=dict(zip(batch.about, about, strict=True)))
        for inputs, targets, *about in zip(*parts, strict=True)
    ]


def _after(storage: Batch, values: Any, filler: int) -> NDArray[np.int64]:
    return np.concatenate([np.full(storage.inputs.shape, filler, dtype=np.int64), values], axis=1)
