"""Episodic masked words: read some texts, then fill the gaps in copies of them.

One episode of `MaskedWordsConfig(text_length=5, n_storage=2, n_retrieval=2, n_masks=1)`, texts A and B, # the mask:

               storage                              | retrieval
               A                 B                  | B with a gap       A with a gap
    inputs     amy had a red hat bob fed a cat soup | bob fed a  #  soup amy  #  a red hat
    targets     .   .  .  .   .   .   .  .  .   .   |  .   .  . cat  .    .  had .  .   .     (. = IGNORE)

One row is one episode: `n_storage` texts, windows of the corpus of `text_length` tokens, shown in full, and
`n_retrieval` copies of them in which `n_masks` words each are masked. A mask is scored against the word that it hides
(of bytes against its first; of byte-pair encoding against all its tokens, one after the other, each after the ones
before); the model sees what stands before the gap, and its memory of storage. All scored tokens of a word have one
`query`, and `mnemoscope.tasks.episodes` counts it right where all are; `accuracy` in the log is that of tokens.
Copies come in rounds, each of which has every text once, in random order (`order="shuffled"`) or in the order of
storage (`"stored"`, as published; a model can then find the answer by counting positions). Every copy is masked anew;
when there are more copies than texts, a word may have been seen in an earlier copy. See `mnemoscope.tasks.masked_text`
for units and words, and for how words are masked.

Retrieval begins at `reset_at`. `episode` gives the halves apart, for training in episodes and for the controls of
`mnemoscope.tasks.episodes`, reset and wrong memory: without them accuracy says nothing of a memory, as words are
guessed from context and from the weights.

The corpus is cut by position, as in `mnemoscope.tasks.text`, into 90 % training, 5 % validation and 5 % test, and no
window straddles a cut. With "bpe" the parts are cut by bytes, before they are encoded. The windows of a batch never
overlap: those of training lie on a grid whose origin is random, those of validation and test on a fixed one. So a row
never holds the texts of another, and wrong memory is wrong.
"stories" is a corpus that is generated (`story_text`); others are those of `mnemoscope.tasks.corpus`.

Why: storage and retrieval kept apart, on prose, as episodic trainings have it.

Known limits: language alone tells many masked words; compare with the loss of a model without the store.

Source: r3d91ll/Todd_Atlas, commit cb56db6, masked word retrieval (5 storage and 5 retrieval batches, 13 masks in 512
tokens); Behrouz et al., "Atlas" (2025) has the memory it was written for. What differs: windows of the running text,
where paragraphs shorter than a window were thrown away; a held-out split; controls; the order of copies.
"""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.corpus import EMBEDDED, corpus_bytes
from mnemoscope.tasks.episodes import Episode
from mnemoscope.tasks.masked_text import (
    Baselines,
    Masked,
    MaskedText,
    byte_text,
    fit_baselines,
    losses_of_counting,
    mask_words,
    story_text,
    word_text,
    words_after,
)
from mnemoscope.tasks.streams import Split, split_index, split_stream
from mnemoscope.tasks.subword_text import FEWEST_TOKENS, bpe_text
from mnemoscope.tasks.text import HELD_OUT, split_spans

TextUnit: TypeAlias = Literal["word", "byte", "bpe"]
CopyOrder: TypeAlias = Literal["shuffled", "stored"]


@dataclass(frozen=True, kw_only=True)
class MaskedWordsConfig:
    """Which text, how much of it an episode has, and how much of that is masked.

    Args:
        kind: names the task in a stored config.
        corpus: "stories", "prose", "code", or the path of a UTF-8 file or folder (see `mnemoscope.tasks.corpus`).
        text_unit: tokens are words or bytes (see `mnemoscope.tasks.masked_text`), or those of a byte-pair encoding that
            is learned from the training split (`mnemoscope.tasks.subword_text`; needs the package `tokenizers`).
        vocab_size: tokens in units of words, at least 4; None: 2000, or as many as the training split has. Must be None
            in units of bytes, which are 258. Of "bpe" at least 258; None: 2000.
        text_length: tokens of one text, at least 2.
        n_storage: S, texts of an episode, at least 1.
        n_retrieval: R, masked copies, at least 1.
        n_masks: spans masked in each copy, at least 1.
        span_words: consecutive words of a span, at least 1; n_masks * span_words is at most text_length - 1.
        order: of the copies, "shuffled" or "stored".

    Raises:
        ValueError: a value out of its range. The corpus itself is read by `MaskedWords`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["masked_words"] = "masked_words"
    corpus: str = "stories"
    text_unit: TextUnit = "word"
    vocab_size: int | None = None
    text_length: int = 64
    n_storage: int = 5
    n_retrieval: int = 5
    n_masks: int = 6
    span_words: int = 1
    order: CopyOrder = "shuffled"

    def __post_init__(self) -> None:
        if not self.corpus:
            raise ValueError("MaskedWordsConfig.corpus: must be 'stories', 'prose', 'code' or a path, got ''")
        for name, choices in (("text_unit", get_args(TextUnit)), ("order", get_args(CopyOrder))):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"MaskedWordsConfig.{name}: must be {' or '.join(map(repr, choices))}, got "
                    f"{getattr(self, name)!r}; nearest valid: {choices[0]!r}"
                )
        minima = {"text_length": 2, "n_storage": 1, "n_retrieval": 1, "n_masks": 1, "span_words": 1}
        for name, fewest in minima.items():
            if getattr(self, name) < fewest:
                raise ValueError(
                    f"MaskedWordsConfig.{name}: must be at least {fewest}, got {getattr(self, name)}; "
                    f"nearest valid: {fewest}"
                )
        self._check_vocabulary()
        if self.n_masks * self.span_words >= self.text_length:
            most = (self.text_length - 1) // self.span_words
            fits = f"nearest valid: {most}" if most else f"use span_words <= {self.text_length - 1}"
            raise ValueError(
                f"MaskedWordsConfig.n_masks: n_masks * span_words must be at most text_length - 1 = "
                f"{self.text_length - 1} (the first token is never masked), got {self.n_masks} * {self.span_words}; "
                f"{fits}"
            )

    def _check_vocabulary(self) -> None:
        if self.text_unit == "byte" and self.vocab_size is not None:
            raise ValueError(
                "MaskedWordsConfig.vocab_size: must be None in units of bytes, which are 258 with mask and padding, "
                f"got {self.vocab_size}; nearest valid: None"
            )
        if self.vocab_size is not None and self.vocab_size < 4:
            raise ValueError(
                "MaskedWordsConfig.vocab_size: must be at least 4 (two words, the unknown one, mask), got "
                f"{self.vocab_size}; nearest valid: 4"
            )
        if self.text_unit == "bpe" and self.vocab_size is not None and self.vocab_size < FEWEST_TOKENS:
            raise ValueError(
                f"MaskedWordsConfig.vocab_size: must be at least {FEWEST_TOKENS} in units of 'bpe' (bytes, mask, "
                f"padding), got {self.vocab_size}; nearest valid: {FEWEST_TOKENS}"
            )


@final
class MaskedWords:
    """Batches of episodes; the attributes are those of `mnemoscope.tasks.Task` and `tasks.episodes.Episodic`.

    Raises:
        ValueError: a corpus that cannot be read, has no words, or is too short for one episode in every split.
    """

    unit: str = "accuracy"

    def __init__(self, config: MaskedWordsConfig) -> None:
        self.config = config
        self._data = story_text() if config.corpus == "stories" else corpus_bytes(config.corpus).tobytes()
        self._text: MaskedText = _read(self._data, config)
        self._spans = self._text.spans or split_spans(self._text.tokens.size)
        self._check_long_enough()
        self.vocab_size: int = len(self._text.names)
        self.length: int = (config.n_storage + config.n_retrieval) * config.text_length
        self.reset_at: int = config.n_storage * config.text_length
        """Where retrieval begins."""
        self._check_has_words()
        chance, memoryless = losses_of_counting(self._text, *self._spans["train"])
        self.chance_loss: float = chance
        """Entropy, in nats, of what is scored of the words of the training split that can be masked: first tokens.

        What a predictor reaches that knows how frequent words are and sees no context. With "bpe" all tokens of words
        are scored.
        """
        self.memoryless_loss: float = memoryless
        """The same, since the present token is always the mask; with "bpe" it may be the token before."""
        self.floor_loss: float = 0.0
        """Every answer stands in its episode.

        A little more where two stored texts agree in all that stands before a gap: no predictor can tell them apart.
        """

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` episodes, storage and retrieval joined; only masks are scored.

        Raises:
            ValueError: size below 1 or above the episodes that a split has windows for, or an unknown split.
        """
        return self.episode(rng, size, split).joined()

    def episode(self, rng: np.random.Generator, size: int, split: Split) -> Episode:
        """Draw `size` episodes; `batch` gives them joined, for the same state of `rng`.

        The targets of storage are the next tokens of each text; nothing follows its last.

        Raises:
            ValueError: size below 1 or above the episodes that a split has windows for, or an unknown split.
        """
        self._check_size(size, split)
        c, stream = self.config, split_stream(rng, split)
        windows = self._windows(stream, size * c.n_storage, split).reshape(size, c.n_storage, c.text_length)
        item = self._copies(stream, size)
        copied = np.take_along_axis(windows, item[:, :, None], axis=1)
        masked = mask_words(self._text, copied.reshape(-1, c.text_length), stream, c.n_masks, c.span_words)
        shape = (size, c.n_retrieval * c.text_length)
        asked = Batch(
            inputs=masked.inputs.reshape(shape), targets=masked.targets.reshape(shape), about=self._about(masked, item)
        )
        texts = self._text.tokens[windows]
        following = np.full_like(texts, IGNORE)
        following[:, :, :-1] = texts[:, :, 1:]
        stored = Batch(inputs=texts.reshape(size, -1), targets=following.reshape(size, -1))
        return Episode(storage=stored, retrieval=asked, n_storage=c.n_storage, n_retrieval=c.n_retrieval)

    def baselines(self, split: Split) -> Baselines:
        """What models without a memory reach on a split; they are fitted to the training split.

        Raises:
            ValueError: an unknown split, or one without a word that can be masked.
        """
        split_index(split)
        return fit_baselines(self._text, self._spans["train"], self._spans[split])

    def words(self, tokens: Sequence[int]) -> list[str]:
        """Words, or bytes as characters, or parts of words; [mask] for what is to be filled in."""
        return [self._text.names[token] for token in tokens]

    def n_sequences(self, split: Split) -> int:
        """The episodes of one batch, whose windows do not overlap; other batches of training have other windows."""
        split_index(split)
        return self._n_windows(split) // self.config.n_storage

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step; embedded corpora depend on the Python version."""
        versions = {"numpy": np.__version__}
        if self.config.corpus in EMBEDDED:
            versions["python"] = platform.python_version()
        digest = hashlib.sha256(self._data).hexdigest()
        about = {"name": self.config.corpus, "bytes": len(self._data), "sha256": digest}
        return {**about, **versions, **self._text.about}

    def _windows(self, rng: np.random.Generator, n: int, split: Split) -> NDArray[np.int64]:
        """Where in the corpus the tokens of `n` windows stand that do not overlap, shape (n, text_length)."""
        (start, stop), length = self._spans[split], self.config.text_length
        origin = start + (int(rng.integers(length)) if split == "train" else 0)
        chosen = rng.choice((stop - origin) // length, size=n, replace=False)
        return (origin + length * chosen)[:, None] + np.arange(length)

    def _copies(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """Which text each copy is of, shape (size, n_retrieval)."""
        n, asked = self.config.n_storage, self.config.n_retrieval
        rounds = -(-asked // n)
        item = np.tile(np.arange(n), (size * rounds, 1))
        if self.config.order == "shuffled":
            item = rng.permuted(item, axis=1)
        return item.reshape(size, rounds * n)[:, :asked]

    def _about(self, masked: Masked, item: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        size, n_copies, n, length = *item.shape, self.config.n_storage, self.config.text_length
        source = masked.source.reshape(size, n_copies, length)
        scored = (masked.targets != IGNORE).reshape(source.shape)
        newest = np.tile(np.arange(n * length).reshape(n, length), (size, 1, 1))
        distance, row = np.full_like(source, -1), np.arange(size)[:, None]
        for copy in range(n_copies):
            text, stood = item[:, copy, None], source[:, copy]
            here = self.reset_at + copy * length + np.arange(length)
            distance[:, copy] = here - newest[row, text, stood]
            seen_row, seen_at = np.nonzero((stood >= 0) & ~scored[:, copy])
            newest[seen_row, item[seen_row, copy], stood[seen_row, seen_at]] = here[seen_at]
        asked = scored.reshape(size, -1)
        known = {
            "distance": distance,
            "item": np.repeat(item, length, axis=1),
            "load": np.full_like(source, n),
            "query": np.cumsum(masked.inputs.reshape(size, -1) == self._text.mask, axis=1) - 1,
        }
        return {name: np.where(asked, values.reshape(size, -1), -1) for name, values in known.items()}

    def _check_has_words(self) -> None:
        if not words_after(self._text, *self._spans["train"])[1].size:
            raise ValueError(
                f"MaskedWords: the training split of corpus {self.config.corpus!r} must have a word to mask, got none "
                f"among {self._spans['train'][1]} tokens; use another corpus"
            )

    def _n_windows(self, split: Split) -> int:
        """Windows of a split that do not overlap, wherever their grid begins."""
        (start, stop), length = self._spans[split], self.config.text_length
        return (stop - start - (length - 1 if split == "train" else 0)) // length

    def _check_size(self, size: int, split: Split) -> None:
        if size < 1:
            raise ValueError(f"MaskedWords.batch: size must be at least 1, got {size}; nearest valid: 1")
        most = self.n_sequences(split)
        if size > most:
            raise ValueError(
                f"MaskedWords.batch: size must be at most {most}, the episodes whose texts of "
                f"{self.config.text_length} tokens do not overlap in the {split} split, got {size}; nearest valid: "
                f"{most}; or use a longer corpus, a smaller n_storage or a smaller text_length"
            )

    def _check_long_enough(self) -> None:
        n_tokens, config = self._text.tokens.size, self.config
        held_out = min(stop - start for split, (start, stop) in self._spans.items() if split != "train")
        fewest, most = HELD_OUT * config.n_storage * config.text_length, held_out // config.n_storage
        if most < config.text_length:
            got = f"{n_tokens}, {held_out} in one of these" if n_tokens >= fewest else f"{n_tokens}"
            raise ValueError(
                f"MaskedWords: corpus {config.corpus!r} must have at least {HELD_OUT} * n_storage * text_length = "
                f"{fewest} tokens, so that the validation and test splits hold an episode, got {got}; use a "
                f"longer corpus, a smaller n_storage{f', or text_length <= {most}' if most >= 2 else ''}"
            )


def _read(data: bytes, config: MaskedWordsConfig) -> MaskedText:
    match config.text_unit:
        case "word":
            return word_text(data.decode(), config.vocab_size)
        case "byte":
            return byte_text(data)
        case "bpe":
            return bpe_text(data, config.vocab_size)
