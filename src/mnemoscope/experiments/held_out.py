"""Data for an examination: held-out sequences of a task, or windows of a text.

    task:mqar,n_pairs=4     a task and its parameters, as `mnemoscope show` has them
    prose                   a text: a file, a folder, or a corpus of `mnemoscope.tasks.corpus`

Sequences that calibrate and sequences that test come from different parts: the validation and the test split of a
task; of a text, what stands before and behind one cut. No two windows of a text overlap.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss
from mnemoscope.examination.subject.vectors import VectorLoss, variance
from mnemoscope.ops.stablemax import log_stablemax_scores
from mnemoscope.tasks import Split, Task, TaskConfig, build_task, task_rng
from mnemoscope.tasks.corpus import corpus_bytes
from mnemoscope.tasks.options import config_of
from mnemoscope.tasks.tokenisers import character_start, whole_size
from mnemoscope.training.config import Loss as TrainedOn

BATCH = 32
"""Sequences that are evaluated at once."""

LENGTH = 256
"""Tokens of a window of a text."""

TASK = "task:"
FEWEST = 8
"""Sequences that either part must hold."""

MOST_BYTES_PER_TOKEN = 16
"""As much of a long text is read as holds the windows that are asked for, at so many bytes for a token."""

UNITS: dict[str, VectorLoss] = {
    "bit errors": VectorLoss(kind="bits"),
    "mean absolute error": VectorLoss(kind="numbers"),
}
"""What tasks of vectors are trained on, by their unit."""

TOKENS: dict[TrainedOn, Loss | None] = {
    "cross_entropy": None,
    "stablemax": NextTokenLoss(log_stablemax_scores),
}
"""What models of tokens are examined on, by what they were trained on: StableMax is the softmax of its log-scores."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which data, and how they are cut.

    Args:
        source: a text, or a task as "task:kind,name=value"; None for what the subject brings.
        length: tokens of a window of a text; None for `LENGTH`. A task has its own.
        batch: sequences that are evaluated at once, at most.
        seed: of what is drawn; None for that of the run, or 0.
    """

    source: str | None = None
    length: int | None = None
    batch: int = BATCH
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"examine: --batch must be at least 2, since a sequence is replaced, got {self.batch}")
        if self.length is not None and self.length < 2:
            raise ValueError(f"examine: --length must be at least 2, got {self.length}")
        if self.length is not None and (self.source is None or self.source.startswith(TASK)):
            raise ValueError(
                f"examine: --length is for windows of a text, got it with {self.source or 'no --data'}; write a task's "
                "length among its parameters: task:mqar,length=64"
            )


class Encoder(NamedTuple):
    """How text becomes tokens: whose way, the way itself, and what stands before every window (None: nothing)."""

    name: str
    encode: Callable[[NDArray[np.uint8]], NDArray[np.integer[Any]]]
    first: int | None = None


BYTES = Encoder("bytes", lambda text: text)


class HeldOut(NamedTuple):
    """Batches of one size that calibrate, batches that test, and the loss they call for (None: of tokens)."""

    calibration: list[Batch]
    test: list[Batch]
    loss: Loss | None


def task_of(source: str) -> TaskConfig:
    """The config of "task:kind,name=value".

    Raises:
        ValueError: an unknown task or parameter, with the nearest one.
    """
    kind, *options = re.split(r",(?![^(\[]*[)\]])", source.removeprefix(TASK))
    return config_of(kind, options)


def read(source: str, encoder: Encoder, data: Data, budget: Budget) -> HeldOut:
    """The data that a user names; see the top of this file.

    Raises:
        ValueError: no such text or task, or fewer than `FEWEST` sequences in a part.
    """
    if source.startswith(TASK):
        return of_task(build_task(task_of(source)), data, budget)
    return of_text(source, encoder, data, budget)


def of_task(task: Task, data: Data, budget: Budget) -> HeldOut:
    """The first calibration sequences are of the validation split, the rest of the test split."""
    wanted: dict[Split, int] = {
        "validation": _available(task, "validation", budget.n_calibration),
        "test": _available(task, "test", budget.n_test),
    }
    size, seed = _size(data, *wanted.values()), data.seed or 0
    calibration, test = (drawn(task, split, n, size, seed) for split, n in wanted.items())
    return HeldOut(calibration, test, _loss_of(task, calibration))


def as_trained(held_out: HeldOut, loss: TrainedOn) -> HeldOut:
    """The same data, of tokens, with the loss that a model was trained on; of vectors, as they are."""
    return held_out if held_out.loss is not None else held_out._replace(loss=TOKENS[loss])


def of_text(source: str, encoder: Encoder, data: Data, budget: Budget) -> HeldOut:
    """Windows drawn from what stands before a cut calibrate, those behind it test."""
    length, text = data.length or LENGTH, corpus_bytes(source)
    text = text[: whole_size(text)]
    cut = character_start(text, text.size * budget.n_calibration // (budget.n_calibration + budget.n_test))
    parts = (("calibration", text[:cut], budget.n_calibration), ("test", text[cut:], budget.n_test))
    windows = [_windows(name, part, n, encoder, length) for name, part, n in parts]
    rng = np.random.default_rng([data.seed or 0, length])
    chosen = [_chosen(of, n, rng) for of, n in zip(windows, (budget.n_calibration, budget.n_test), strict=True)]
    size = _size(data, *map(len, chosen))
    calibration, test = (_cut(Batch(inputs=of[:, :-1], targets=of[:, 1:]), size) for of in chosen)
    return HeldOut(calibration, test, None)


def drawn(task: Task, split: Split, n: int, size: int, seed: int) -> list[Batch]:
    """Batches of one draw of about n sequences from a split, all of one size."""
    return _cut(task.batch(task_rng(seed, split, 0), n - n % size, split), size)


def _cut(drawn: Batch, size: int) -> list[Batch]:
    return [
        Batch(
            inputs=torch.from_numpy(drawn.inputs[start : start + size]),
            targets=torch.from_numpy(drawn.targets[start : start + size]),
            about={name: torch.from_numpy(of[start : start + size]) for name, of in drawn.about.items()},
        )
        for start in range(0, drawn.size - size + 1, size)
    ]


def _windows(part: str, text: NDArray[np.uint8], n: int, encoder: Encoder, length: int) -> NDArray[np.int64]:
    """Disjoint windows of length + 1 tokens, one after the other."""
    own = length + 1 - (encoder.first is not None)
    some = text[: n * own * MOST_BYTES_PER_TOKEN]
    tokens = np.asarray(encoder.encode(some[: whole_size(some)] if some.size else some), np.int64)
    there = tokens.size // own
    if there < FEWEST:
        raise ValueError(
            f"examine: the text must hold at least {FEWEST} windows of {length} tokens ({encoder.name}) for the "
            f"{part}, got {there}; use a longer text, or a shorter --length"
        )
    cut = tokens[: there * own].reshape(there, own)
    if encoder.first is None:
        return cut
    return np.concatenate([np.full((there, 1), encoder.first), cut], axis=1)


def _chosen(windows: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return windows[np.sort(rng.choice(len(windows), min(n, len(windows)), replace=False))]


def _size(data: Data, n_calibration: int, n_test: int) -> int:
    """At least four batches for either part."""
    return min(data.batch, max(2, min(n_calibration, n_test) // 4))


def _available(task: Task, split: Split, wanted: int) -> int:
    """Sequences to draw from a split: as many as wanted, or as there are."""
    there = task.n_sequences(split)
    n = wanted if there is None else min(wanted, there)
    if n < FEWEST:
        raise ValueError(
            f"examine: the {split} split must hold at least {FEWEST} sequences, got {n}; use a longer text, or "
            "shorter ones"
        )
    return n


def _loss_of(task: Task, calibration: list[Batch]) -> Loss | None:
    if task.vocab_size > 0:
        return None
    if task.unit not in UNITS:
        raise ValueError(
            f"examine: a task of vectors must have one of the units {', '.join(map(repr, UNITS))}, got {task.unit!r}; "
            "call mnemoscope.examine(model, batches, loss=...) with a loss of your own"
        )
    loss = UNITS[task.unit]
    return loss if loss.kind == "bits" else VectorLoss(kind="numbers", unit=variance(calibration))
