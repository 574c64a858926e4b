"""Text: predict the next token of a window of a corpus; a token is a byte, or what another tokeniser makes of text.

One window of `TextConfig(length=6)` over a corpus that reads "... the cat ...":

    window      t  h  e  _  c  a  t
    inputs      t  h  e  _  c  a
    targets     h  e  _  c  a  t

The corpus is cut by position, and no window straddles a cut:

    | train                                             | validation 5 % | test 5 % |

Training windows start anywhere. Those of validation and test lie on a grid on which they do not overlap, and
a batch never holds one twice, so that the sequences of a batch are as independent as the corpus allows. Two
batches may share windows: for an evaluation, ask for one large batch.

Tokenisers are those of `mnemoscope.tasks.tokenisers`. The corpus is cut before it is tokenised, each split alone, so
that no token straddles a cut; where tokens are not bytes, a cut moves back to the start of its character. Losses are
nats per token; to compare tokenisers, `bits_per_byte` spreads them over the bytes of the split:

    (loss * tokens + nats that the tokens do not tell) / (bytes * ln 2)

Why: real text without a download, for what recall tasks cannot show.

Known limits: most of the loss needs little history, so memories often come out as not demanded or local.
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
from mnemoscope.tasks.corpus import EMBEDDED, corpus_bytes
from mnemoscope.tasks.entropy import bigram_entropy, unigram_entropy
from mnemoscope.tasks.hub import PREFIX, parse_hub
from mnemoscope.tasks.streams import SPLITS, Split, split_index
from mnemoscope.tasks.tokenisers import Tokeniser, build_tokeniser, character_start, whole_size

HELD_OUT = 20
"""One part in so many is the validation split, and one more the test split."""

BPE_VOCAB = 1024
"""Tokens of BPE where none are named."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which text, and in windows of what length.

    Args:
        kind: names the task in a stored config.
        corpus: "prose", "code", the path of a UTF-8 file or folder (see `mnemoscope.tasks.corpus`), or "hub:owner/name"
            (see `mnemoscope.tasks.hub`).
        length: tokens of a sequence, at least 1.
        max_bytes: use only so many bytes from the start of the corpus; None: all of it. A corpus on the hub needs it.
        tokeniser: "bytes", "characters", "bpe", or the path of a tokenizer.json (see `mnemoscope.tasks.tokenisers`).
        bpe_vocab: tokens of "bpe", at least the 256 bytes; fewer if the training split has fewer pairs that recur.
            None: `BPE_VOCAB`, and nothing for the other tokenisers.

    Raises:
        ValueError: a value out of its range. The corpus itself is read by `Text`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["text"] = "text"
    corpus: str = "prose"
    length: int = 256
    max_bytes: int | None = None
    tokeniser: str = "bytes"
    bpe_vocab: int | None = None

    def __post_init__(self) -> None:
        if not self.corpus:
            raise ValueError("TextConfig.corpus: must be 'prose', 'code' or a path, got an empty string")
        if not self.tokeniser:
            raise ValueError(
                "TextConfig.tokeniser: must be 'bytes', 'characters', 'bpe' or a path, got an empty string"
            )
        if self.length < 1:
            raise ValueError(f"TextConfig.length: must be at least 1, got {self.length}; nearest valid: 1")
        fewest = _bytes_needed(self.length)
        if self.max_bytes is not None and self.max_bytes < fewest:
            raise ValueError(
                f"TextConfig.max_bytes: must be None or at least {HELD_OUT} * (length + 1) = {fewest}, so that "
                f"the validation and test splits hold a window, got {self.max_bytes}; nearest valid: {fewest}"
            )
        if self.corpus.startswith(PREFIX):
            parse_hub(self.corpus)
            if self.max_bytes is None:
                raise ValueError(
                    f"TextConfig.max_bytes: must say where to stop reading a corpus on the hub, got None; use at least "
                    f"{fewest}, for instance 10_000_000"
                )
        self._check_bpe_vocab()

    def _check_bpe_vocab(self) -> None:
        if self.bpe_vocab is None:
            return
        if self.tokeniser != "bpe":
            raise ValueError(
                f"TextConfig.bpe_vocab: must be None where the tokeniser is not 'bpe', got {self.bpe_vocab} with "
                f"{self.tokeniser!r}; nearest valid: None"
            )
        if self.bpe_vocab < 256:
            raise ValueError(
                f"TextConfig.bpe_vocab: must be at least 256, one for each byte, got {self.bpe_vocab}; "
                "nearest valid: 256"
            )


@final
class Text:
    """Windows of a corpus; the attributes are those of `mnemoscope.tasks.Task`.

    Raises:
        ValueError: a corpus that cannot be read, or is too short for one window in every split.
    """

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self.length: int = config.length
        self._bytes = corpus_bytes(config.corpus, config.max_bytes)
        self._check_long_enough()
        texts = self._cut()
        self.tokeniser: Tokeniser = build_tokeniser(config.tokeniser, config.bpe_vocab or BPE_VOCAB, texts["train"])
        self.vocab_size: int = self.tokeniser.vocab_size
        encoded = {split: self.tokeniser.encode(text) for split, text in texts.items()}
        self._splits = {split: tokens for split, (tokens, _) in encoded.items()}
        self._n_bytes = {split: text.size for split, text in texts.items()}
        self._nats_beyond = {split: nats for split, (_, nats) in encoded.items()}
        self._check_enough_tokens()
        self.unit: str = "accuracy" if None in self._nats_beyond.values() else "bits per byte"
        """Accuracy where the tokens do not tell the text, so that there are no bits per byte."""
        self.chance_loss: float = unigram_entropy(self._splits["train"])
        """Entropy of the training split's token frequencies, in nats: what a predictor without context reaches."""
        self.memoryless_loss: float = bigram_entropy(self._splits["train"], self.vocab_size)
        """Entropy of a token of the training split given the one before, in nats.

        That is what the best such predictor loses on the training split itself. Where most pairs of a large
        vocabulary are seen once or twice, it loses more on text that it has not counted.
        """
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

    def bits_per_byte(self, loss: float, split: Split) -> float:
        """The mean loss over targets of a split, in nats per token, as bits per byte of its text.

        Raises:
            ValueError: if the tokens do not tell the text, or an unknown split.
        """
        split_index(split)
        beyond, n_bytes = self._nats_beyond[split], self._n_bytes[split]
        if beyond is None:
            raise ValueError(
                f"Text.bits_per_byte: the tokens must tell the text, got the tokeniser {self.config.tokeniser!r}, "
                f"which loses some of the {split} split; compare its losses in nats per token among themselves"
            )
        return (loss * (self._splits[split].size / n_bytes) + beyond / n_bytes) / math.log(2)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Tokens in visible characters, a space as an underscore; bytes beyond ASCII as two hex digits."""
        return self.tokeniser.words(tokens)

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step; embedded corpora depend on the Python version."""
        versions = {"numpy": np.__version__}
        if self.config.corpus in EMBEDDED:
            versions["python"] = platform.python_version()
        digest = hashlib.sha256(self._bytes.data).hexdigest()
        about = {"name": self.config.corpus, "bytes": self._bytes.size, "sha256": digest}
        return {**about, **versions, **self.tokeniser.manifest()}

    def _cut(self) -> dict[Split, NDArray[np.uint8]]:
        """The text of every split."""
        if self.config.tokeniser == "bytes":
            return {split: self._bytes[slice(*span)] for split, span in split_spans(self._bytes.size).items()}
        self._bytes = self._bytes[: whole_size(self._bytes)]
        spans = split_spans(self._bytes.size)
        return {
            split: self._bytes[slice(*(character_start(self._bytes, edge) for edge in span))]
            for split, span in spans.items()
        }

    def _check_long_enough(self) -> None:
        fewest, n_bytes = _bytes_needed(self.length), self._bytes.size
        if n_bytes < fewest:
            raise ValueError(
                f"Text: corpus {self.config.corpus!r} must have at least {HELD_OUT} * (length + 1) = {fewest} "
                f"bytes, so that the validation and test splits hold a window of length {self.length}, "
                f"got {n_bytes}; use a longer corpus{_or_shorter(n_bytes // HELD_OUT)}"
            )

    def _check_enough_tokens(self) -> None:
        fewest, split = min((self._splits[split].size, split) for split in SPLITS)
        if fewest <= self.length:
            raise ValueError(
                f"Text: every split must hold length + 1 = {self.length + 1} tokens, got {fewest} in the {split} split "
                f"of corpus {self.config.corpus!r} under the tokeniser {self.config.tokeniser!r}; use a longer corpus"
                f"{_or_shorter(fewest)}"
            )

    def _check_enough_windows(self, size: int, split: Split) -> None:
        n_tokens, n_windows = self._splits[split].size, self.n_sequences(split)
        noun = "bytes" if self.config.tokeniser == "bytes" else "tokens"
        if n_windows is not None and size > n_windows:
            raise ValueError(
                f"Text.batch: size must be at most {n_windows}, the disjoint windows of length {self.length} in "
                f"the {n_tokens} {noun} of the {split} split, got {size}; use size <= {n_windows}, or a longer "
                f"corpus{_or_shorter(n_tokens // size)}"
            )


def split_spans(n_bytes: int) -> dict[Split, tuple[int, int]]:
    """Start and end of every split of a corpus of `n_bytes` bytes."""
    held_out = n_bytes // HELD_OUT
    validation, test = n_bytes - 2 * held_out, n_bytes - held_out
    return {"train": (0, validation), "validation": (validation, test), "test": (test, n_bytes)}


def _or_shorter(window: int) -> str:
    """The advice to shorten windows to `window` bytes, where that leaves something to predict from."""
    return f", or length <= {window - 1}" if window >= 2 else ""


def _bytes_needed(length: int) -> int:
    """Bytes of the shortest corpus whose held-out splits each hold one window of length + 1."""
    return HELD_OUT * (length + 1)
