"""What the tasks that hide one sentence in a long text share: haystacks, prompts, exact match by depth.

    newlines | prefix | haystack ... [needle] ... haystack | question | answer

All tokens are bytes. A haystack has places where the needle may stand, counted 0, 1, ... P - 1:

    "filler"      `LINE` again and again, as often as fits; a place before each line and after the last
    "newlines"    nothing but newlines; a place before each and after the last
    a corpus      a window of real text ("prose", "code" or a path, see `mnemoscope.tasks.corpus`), cut by position as
                  in `mnemoscope.tasks.text`, so that test haystacks are never trained on; a place before each byte
                  and after the last, from which the needle moves back to the nearest white space

Depth i of n, the fraction (i + 0.5) / n of the haystack, is place floor((i + 0.5) P / n).

A needle is drawn from `parts`: each part is one of a list of equally long byte strings, uniformly and independently.
What is drawn decides which split owns a sequence.
"""

import hashlib
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.corpus import EMBEDDED, corpus_bytes
from mnemoscope.tasks.streams import Split, draw_owned, split_index, split_stream
from mnemoscope.tasks.text import HELD_OUT, split_spans
from mnemoscope.tasks.tokenisers import byte_words as byte_words  # public name of this file too

LINE = b"\nThe sky is wide. The field is quiet."
"""One line of filler."""

Part: TypeAlias = NDArray[np.uint8]
"""Byte strings of one length, of shape (choices, bytes)."""


def part(choices: Sequence[str]) -> Part:
    """The part that is one of `choices`, ASCII strings of one length."""
    return np.array([list(choice.encode("ascii")) for choice in choices], dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What stands around a haystack.

    Args:
        prefix: before the haystack.
        needle: the hidden sentence, with {key} and {value}; begins with a newline.
        question: after the haystack, with {key}; begins with a newline, ends with a space. The value follows.
        key: parts of what the value belongs to; may be none.
        value: parts of the answer.
    """

    prefix: str
    needle: str
    question: str
    key: tuple[Part, ...] = ()
    value: tuple[Part, ...]

    @property
    def n_answer(self) -> int:
        """Bytes of the answer."""
        return sum(choices.shape[1] for choices in self.value)

    @property
    def n_needle(self) -> int:
        """Bytes of the needle."""
        return self._n_bytes(self.needle)

    @property
    def n_bytes(self) -> int:
        """Bytes of a prompt with its answer and no haystack."""
        return len(self.prefix) + self.n_needle + self._n_bytes(self.question) + self.n_answer

    @property
    def newest(self) -> int:
        """Where in the needle its last mention of the value begins."""
        return self._n_bytes(self.needle[: self.needle.rindex("{value}")])

    def _n_bytes(self, template: str) -> int:
        empty = np.empty((0, sum(choices.shape[1] for choices in self.key)), dtype=np.uint8)
        return filled(template, empty, np.empty((0, self.n_answer), dtype=np.uint8)).shape[1]


def filled(template: str, key: NDArray[np.uint8], value: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`template` once for each row of `key` and `value`, which replace {key} and {value}."""
    pieces = {"{key}": key, "{value}": value}
    return np.concatenate([_rows(piece, pieces, len(value)) for piece in re.split(r"(\{\w+\})", template)], axis=1)


def _rows(piece: str, pieces: dict[str, NDArray[np.uint8]], rows: int) -> NDArray[np.uint8]:
    if piece in pieces:
        return pieces[piece]
    return np.tile(np.frombuffer(piece.encode("ascii"), dtype=np.uint8), (rows, 1))


@final
class Haystack:
    """Texts of `n_bytes` bytes, or a little less, and the places in them.

    Raises:
        ValueError: a corpus that cannot be read, or is too short.
    """

    def __init__(self, kind: str, n_bytes: int) -> None:
        self.kind = kind
        self.step = step_of(kind)
        self.n_bytes = n_bytes - n_bytes % self.step
        self.n_places = self.n_bytes // self.step + 1
        self._corpus = None if kind in ("filler", "newlines") else corpus_bytes(kind)
        if self._corpus is None:
            return
        fewest = HELD_OUT * self.n_bytes
        if self._corpus.size < fewest:
            raise ValueError(
                f"haystack {kind!r}: must have at least {HELD_OUT} * {self.n_bytes} = {fewest} bytes, so that the "
                f"validation and test splits hold a haystack of {self.n_bytes} bytes, got {self._corpus.size}; use a "
                f"longer corpus, or sequences shorter by {self.n_bytes - self._corpus.size // HELD_OUT}"
            )
        self._parts = {split: self._corpus[slice(*span)] for split, span in split_spans(self._corpus.size).items()}
        self._spaces = {split: _last_space(text) for split, text in self._parts.items()}

    def draw(
        self, rng: np.random.Generator, places: NDArray[np.int64], split: Split
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """One haystack for each place, of shape (b, n_bytes), and at which byte of it the place is."""
        size, n = places.size, self.n_bytes
        if self._corpus is None:
            unit = np.frombuffer(LINE if self.kind == "filler" else b"\n", dtype=np.uint8)
            return np.broadcast_to(np.tile(unit, n // self.step), (size, n)), places * self.step
        text, last_space = self._parts[split], self._spaces[split]
        # The first byte of a haystack is a newline, which keeps the text apart from the prefix.
        starts = rng.integers(text.size - n + 2, size=size)
        windows = np.lib.stride_tricks.sliding_window_view(text, n - 1)[starts]
        haystacks = np.concatenate([np.full((size, 1), ord("\n"), dtype=np.uint8), windows], axis=1)
        before = last_space[np.maximum(starts + np.minimum(places, n - 1) - 1, 0)] - starts + 1
        return haystacks, np.where(places == n, n, np.clip(before, 0, places))

    def manifest(self) -> dict[str, str | int]:
        """What the haystacks depend on beside the config: the corpus, and Python where it carries the corpus."""
        if self._corpus is None:
            return {}
        version = {"python": platform.python_version()} if self.kind in EMBEDDED else {}
        return {"bytes": self._corpus.size, "sha256": hashlib.sha256(self._corpus.tobytes()).hexdigest(), **version}


@final
class Retrieval:
    """Batches of a prompt in a haystack; `name` is that of the task, for its messages.

    Raises:
        ValueError: a corpus that cannot be read, or is too short.
    """

    def __init__(self, name: str, prompt: Prompt, haystack: str, length: int, n_depths: int) -> None:
        self.name, self.prompt, self.length, self.n_depths = name, prompt, length, n_depths
        self.haystack = Haystack(haystack, length + 1 - prompt.n_bytes)
        self._n_padding = length + 1 - prompt.n_bytes - self.haystack.n_bytes
        self.chance_loss, self.memoryless_loss = answer_losses(prompt.value)

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        split_index(split)
        if size < 1:
            raise ValueError(f"{self.name}.batch: size must be at least 1, got {size}; nearest valid: 1")
        stream, prompt = split_stream(rng, split), self.prompt
        (drawn,) = draw_owned(self._draw, stream, size, split)
        key, value = spelt(prompt.key, drawn[:, : len(prompt.key)]), spelt(prompt.value, drawn[:, len(prompt.key) :])
        depths = stream.integers(self.n_depths, size=size)
        places = (2 * depths + 1) * self.haystack.n_places // (2 * self.n_depths)
        haystacks, at = self.haystack.draw(stream, places, split)
        front = "\n" * self._n_padding + prompt.prefix
        hidden = inserted(haystacks, filled(prompt.needle, key, value), at)
        tail = filled(prompt.question + "{value}", key, value)
        full = np.concatenate([filled(front, key, value), hidden, tail], axis=1).astype(np.int64)
        return self._batch(full, len(front) + at + prompt.newest)

    def depths(self, batch: Batch) -> NDArray[np.float64]:
        """How deep in its haystack the needle of each sequence stands: (place + 0.5) / P, in (0, 1)."""
        first = self.length - self.prompt.n_answer
        at = first - batch.about["distance"][:, first] - self._n_padding - len(self.prompt.prefix) - self.prompt.newest
        return (at / self.haystack.step + 0.5) / self.haystack.n_places

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64]]:
        parts = (*self.prompt.key, *self.prompt.value)
        return (np.stack([rng.integers(len(choices), size=rows) for choices in parts], axis=1),)

    def _batch(self, full: NDArray[np.int64], mentioned_at: NDArray[np.int64]) -> Batch:
        size, first = len(full), self.length - self.prompt.n_answer
        targets = np.full((size, self.length), IGNORE, dtype=np.int64)
        targets[:, first:] = full[:, first + 1 :]
        about = {name: np.full_like(targets, -1) for name in ("distance", "item", "load", "query")}
        # Both the answer and its last mention advance by one byte at a time, so one distance serves them all.
        about["distance"][:, first:] = (first - mentioned_at)[:, None]
        for name, number in (("item", 0), ("load", 1), ("query", 0)):
            about[name][:, first:] = number
        return Batch(inputs=full[:, :-1].copy(), targets=targets, about=about)


def step_of(haystack: str) -> int:
    """Bytes from one place of a haystack to the next."""
    return len(LINE) if haystack == "filler" else 1


def check_room(owner: str, prompt: Prompt, haystack: str, length: int, n_depths: int) -> None:
    """Refuse a length in which prompt, answer and a haystack with n_depths places do not fit.

    Raises:
        ValueError: with the nearest valid length.
    """
    if not haystack:
        raise ValueError(f"{owner}.haystack: must be 'filler', 'newlines', 'prose', 'code' or a path, got ''")
    if n_depths < 1:
        raise ValueError(f"{owner}.n_depths: must be at least 1, got {n_depths}; nearest valid: 1")
    fewest = 0 if haystack in ("filler", "newlines") else 2
    shortest = prompt.n_bytes - 1 + max(fewest, step_of(haystack) * (n_depths - 1))
    if length < shortest:
        raise ValueError(
            f"{owner}.length: must be at least {shortest}, {prompt.n_bytes - 1} for the prompt and its answer and the "
            f"rest for a haystack with {n_depths} places, got {length}; nearest valid: {shortest}"
        )


def spelt(parts: tuple[Part, ...], choices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bytes of one choice of each part, of shape (b, bytes)."""
    none = np.empty((len(choices), 0), dtype=np.uint8)
    return np.concatenate([none, *(part[choice] for part, choice in zip(parts, choices.T, strict=True))], axis=1)


def inserted(haystacks: NDArray[np.uint8], needles: NDArray[np.uint8], at: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Rows of `haystacks` with the row of `needles` put in before byte `at`."""
    n, m = haystacks.shape[1], needles.shape[1]
    past = np.arange(n + m) - at[:, None]
    source = np.where(past < 0, past + at[:, None], np.where(past < m, n + past, past + at[:, None] - m))
    return np.take_along_axis(np.concatenate([haystacks, needles], axis=1), source, axis=1)


def answer_losses(value: tuple[Part, ...]) -> tuple[float, float]:
    """Nats per byte of an answer for predictors that know its law, and the byte before or not even that.

    Returns:
        the entropy of a byte of the answer, all its positions taken together; and its entropy given the byte before,
        which at the first is the space that ends the question.
    """
    pairs = np.zeros((256, 256))
    last = np.bincount([ord(" ")], minlength=256).astype(float)
    for choices in value:
        n, width = choices.shape
        pairs += np.outer(last, np.bincount(choices[:, 0], minlength=256) / n)
        for column in range(1, width):
            np.add.at(pairs, (choices[:, column - 1], choices[:, column]), 1 / n)
        last = np.bincount(choices[:, -1], minlength=256) / n
    pairs /= pairs.sum()
    chance = _entropy(pairs.sum(0))
    return chance, min(chance, _entropy(pairs.ravel()) - _entropy(pairs.sum(1)))


def exact_match(predictions: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether every scored token of a sequence is predicted right.

    Args:
        predictions: the token held most probable at each position, of shape (b, t).
        targets: of the batch, of shape (b, t), `IGNORE` where nothing is scored.

    Returns:
        booleans of shape (b,).
    """
    return ((predictions == targets) | (targets == IGNORE)).all(axis=1)


def match_by_depth(matches: NDArray[np.bool_], depths: NDArray[np.float64], n_depths: int) -> NDArray[np.float64]:
    """The share of exact matches at each depth.

    Args:
        matches: of `exact_match`, of shape (b,).
        depths: of the task's `depths`, of shape (b,).
        n_depths: into how many equal ranges [0, 1) is cut.

    Returns:
        shares of shape (n_depths,), NaN where no needle stood.
    """
    bins = (depths * n_depths).astype(np.int64)
    counts = np.bincount(bins, minlength=n_depths)
    shares = np.full(n_depths, np.nan)
    return np.divide(np.bincount(bins, weights=matches, minlength=n_depths), counts, out=shares, where=counts > 0)


def _last_space(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each byte the place of the nearest white space at or before it; -1 where there is none."""
    at = np.where(np.isin(text, np.frombuffer(b" \n\t\r", dtype=np.uint8)), np.arange(text.size), -1)
    return np.maximum.accumulate(at)


def _entropy(probabilities: NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
