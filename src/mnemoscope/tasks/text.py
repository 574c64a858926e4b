"""Text, byte by byte: predict the next byte of a window of a corpus.

One window of `TextConfig(length=6)` over a corpus that reads "... the cat ...":

    window      t  h  e  _  c  a  t
    inputs      t  h  e  _  c  a
    targets     h  e  _  c  a  t

The corpus is cut by position, and no window straddles a cut:

    | train                                             | validation 5 % | test 5 % |

Training windows start anywhere. Those of validation and test lie on a grid on which they do not overlap, and
a batch never holds one twice, so that the sequences of a batch are as independent as the corpus allows. Two
batches may share windows: for an evaluation, ask for one large batch.
"""

import hashlib
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import Batch
from mnemoscope.tasks.corpus import EMBEDDED, load_corpus
from mnemoscope.tasks.streams import Split, split_index

HELD_OUT = 20
"""One part in so many is the validation split, and one more the test split."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which text, and in windows of what length.

    Args:
        kind: names the task in a stored config.
        corpus: "prose", "code", or the path of a UTF-8 file or folder (see `mnemoscope.tasks.corpus`).
        length: tokens (bytes) of a sequence, at least 1.
        max_bytes: use only so many bytes from the start of the corpus; None: all of it.

    Raises:
        ValueError: a value out of its range. The corpus itself is read by `Text`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["text"] = "text"
    corpus: str = "prose"
    length: int = 256
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.corpus:
            raise ValueError("TextConfig.corpus: must be 'prose', 'code' or a path, got an empty string")
        if self.length < 1:
            raise ValueError(f"TextConfig.length: must be at least 1, got {self.length}; nearest valid: 1")
        fewest = _bytes_needed(self.length)
        if self.max_bytes is not None and self.max_bytes < fewest:
            raise ValueError(
                f"TextConfig.max_bytes: must be None or at least {HELD_OUT} * (length + 1) = {fewest}, so that "
                f"the validation and test splits hold a window, got {self.max_bytes}; nearest valid: {fewest}"
            )


@final
class Text:
    """Windows of a corpus; the attributes are those of `mnemoscope.tasks.Task`.

    Raises:
        ValueError: a corpus that cannot be read, or is too short for one window in every split.
    """

    unit: str = "bits per byte"
    vocab_size: int = 256

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self.length: int = config.length
        self._bytes = np.frombuffer(load_corpus(config.corpus)[: config.max_bytes], dtype=np.uint8)
        self._check_long_enough()
        spans = split_spans(self._bytes.size)
        self._splits = {split: self._bytes[start:stop] for split, (start, stop) in spans.items()}
        self.chance_loss: float = unigram_entropy(self._splits["train"])
        """Entropy of the training split's byte frequencies, in nats: what a predictor without context reaches."""
        self.memoryless_loss: float = bigram_entropy(self._splits["train"])
        """Entropy of a byte of the training split given the one before, in nats."""
        self.floor_loss: None = None

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` windows of a split; those of validation and test are disjoint.

        Raises:
            ValueError: size below 1 or above the number of disjoint windows, or an unknown split.
        """
        if size < 1:
            raise ValueError(f"Text.batch: size must be at least 1, got {size}; nearest valid: 1")
        split_index(split)
        part, window = self._splits[split], self.length + 1
        if split == "train":
            starts = rng.integers(part.size - window + 1, size=size)
        else:
            self._check_enough_windows(size, split)
            starts = window * rng.choice(part.size // window, size=size, replace=False)
        windows = np.lib.stride_tricks.sliding_window_view(part, window)[starts]
        return Batch(inputs=windows[:, :-1].astype(np.int64), targets=windows[:, 1:].astype(np.int64))

    def n_sequences(self, split: Split) -> int | None:
        """The disjoint windows of a held-out split; training windows are drawn anew, so there is no end to them."""
        split_index(split)
        return None if split == "train" else self._splits[split].size // (self.length + 1)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Bytes as ASCII characters where they are visible ones, a space as an underscore, others as two hex digits."""
        return ["_" if t == 32 else chr(t) if 32 < t < 127 else f"{t:02x}" for t in tokens]

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step; embedded corpora depend on the Python version."""
        versions = {"numpy": np.__version__}
        if self.config.corpus in EMBEDDED:
            versions["python"] = platform.python_version()
        digest = hashlib.sha256(self._bytes.tobytes()).hexdigest()
        return {"name": self.config.corpus, "bytes": self._bytes.size, "sha256": digest, **versions}

    def _check_long_enough(self) -> None:
        fewest, n_bytes = _bytes_needed(self.length), self._bytes.size
        if n_bytes < fewest:
            raise ValueError(
                f"Text: corpus {self.config.corpus!r} must have at least {HELD_OUT} * (length + 1) = {fewest} "
                f"bytes, so that the validation and test splits hold a window of length {self.length}, "
                f"got {n_bytes}; use a longer corpus{_or_shorter(n_bytes // HELD_OUT)}"
            )

    def _check_enough_windows(self, size: int, split: Split) -> None:
        n_bytes, n_windows = self._splits[split].size, self.n_sequences(split)
        if n_windows is not None and size > n_windows:
            raise ValueError(
                f"Text.batch: size must be at most {n_windows}, the disjoint windows of length {self.length} in "
                f"the {n_bytes} bytes of the {split} split, got {size}; use size <= {n_windows}, or a longer "
                f"corpus{_or_shorter(n_bytes // size)}"
            )


def split_spans(n_bytes: int) -> dict[Split, tuple[int, int]]:
    """Start and end of every split of a corpus of `n_bytes` bytes."""
    held_out = n_bytes // HELD_OUT
    validation, test = n_bytes - 2 * held_out, n_bytes - held_out
    return {"train": (0, validation), "validation": (validation, test), "test": (test, n_bytes)}


def unigram_entropy(data: NDArray[np.uint8]) -> float:
    """Entropy of the byte frequencies of `data`, in nats."""
    counts = np.bincount(data)
    frequencies = counts[counts > 0] / data.size
    return max(0.0, -math.fsum(frequencies * np.log(frequencies)))


def bigram_entropy(data: NDArray[np.uint8]) -> float:
    """Entropy of a byte of `data` given the byte before, in nats."""
    pairs = np.bincount(256 * data[:-1].astype(np.int64) + data[1:], minlength=256**2).reshape(256, 256)
    of_first = pairs.sum(1, keepdims=True)
    logs = np.log(pairs, where=pairs > 0, out=np.zeros(pairs.shape)) - np.log(np.maximum(of_first, 1))
    return max(0.0, -float((pairs * logs).sum()) / (data.size - 1))


def _or_shorter(window: int) -> str:
    """The advice to shorten windows to `window` bytes, where that leaves something to predict from."""
    return f", or length <= {window - 1}" if window >= 2 else ""


def _bytes_needed(length: int) -> int:
    """Bytes of the shortest corpus whose held-out splits each hold one window of length + 1."""
    return HELD_OUT * (length + 1)
