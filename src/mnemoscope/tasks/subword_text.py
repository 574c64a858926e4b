"""Text in units of byte-pair encoding, whose words can be masked whole: "bpe" of `mnemoscope.tasks.masked_words`.

    text      I said unbelievable, again          what can be masked: said, unbelievable, again
    tokens    I _said _un belie vable , _again    a space as an underscore

A word is a run of letters, digits and underscores, with the space before it where that is in its first token. One whose
end lies within a token (the t of "don't", where that is "don" and "'t") cannot be masked. Bytes are never unknown, so
that every other word can.

The corpus is cut into splits by bytes, at characters, and each split is encoded alone: no token straddles a cut, and
the encoding is learned from the training split (`mnemoscope.tasks.tokenisers`). Mask and padding are its last tokens.

Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016); GPT-2 for bytes
and spaces. The project of the Atlas guide has a sentencepiece of 32,000 tokens that was learned elsewhere.
"""

import itertools
import json
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.masked_text import N_WORDS, MaskedText
from mnemoscope.tasks.streams import SPLITS, Split
from mnemoscope.tasks.text import split_spans
from mnemoscope.tasks.tokenisers import Bytes, build_tokeniser, character_start, whole_size

FEWEST_TOKENS = 258
"""Every byte, mask and padding."""

_SPACE = ord(" ")


# A run builds its task several times.
@lru_cache(maxsize=2)
def bpe_text(data: bytes, vocab_size: int | None) -> MaskedText:
    """A corpus in units of byte-pair encoding.

    Args:
        data: the corpus, UTF-8.
        vocab_size: tokens, mask and padding among them, at least 258; those for which no pair recurs are never used.
            None: 2000.

    Raises:
        ValueError: the package `tokenizers` is not installed.
    """
    size = N_WORDS if vocab_size is None else vocab_size
    parts = _cut(np.frombuffer(data, dtype=np.uint8))
    tokeniser = build_tokeniser("bpe", size - 2, parts["train"])
    widths = _widths(tokeniser.stored)
    tokens = [tokeniser.encode(parts[split]).tokens.astype(np.int64) for split in SPLITS]
    lengths = [_word_lengths(parts[split], widths[part]) for split, part in zip(SPLITS, tokens, strict=True)]
    edges = [0, *np.cumsum([part.size for part in tokens]).tolist()]
    joined, word_lengths = np.concatenate(tokens), np.concatenate(lengths)
    n = tokeniser.vocab_size
    unused = tuple(f"[unused {index}]" for index in range(n, size - 2))
    return MaskedText(
        tokens=joined,
        word_lengths=word_lengths,
        names=(*tokeniser.words(range(n)), *unused, "[mask]", "[pad]"),
        mask=size - 2,
        padding=size - 1,
        words=_numbered(joined, word_lengths),
        spans=dict(zip(SPLITS, itertools.pairwise(edges), strict=True)),
        about=tokeniser.manifest(),
    )


def _cut(text: Bytes) -> dict[Split, Bytes]:
    """The bytes of every split; characters stay whole."""
    text = text[: whole_size(text)]
    return {
        split: text[slice(*(character_start(text, edge) for edge in span))]
        for split, span in split_spans(text.size).items()
    }


def _widths(stored: bytes) -> NDArray[np.int64]:
    """Bytes of every token: in a byte-level vocabulary each byte is written as one character."""
    vocabulary: dict[str, int] = json.loads(stored)["model"]["vocab"]
    widths = np.zeros(len(vocabulary), dtype=np.int64)
    for token, index in vocabulary.items():
        widths[index] = len(token)
    return widths


def _word_lengths(text: Bytes, widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of the maskable word that begins at each token, 0 where none begins.

    Args:
        text: whole characters.
        widths: bytes of each of its tokens.
    """
    assert widths.sum() == text.size
    token_at = np.full(text.size + 1, -1)
    token_at[np.concatenate([[0], np.cumsum(widths)])] = np.arange(widths.size + 1)
    character = np.append(np.flatnonzero((text & 0xC0) != 0x80), text.size)
    runs = [run.span() for run in re.finditer(r"\w+", text.tobytes().decode())]
    starts, ends = character[np.array(runs, dtype=np.int64).reshape(-1, 2)].T
    earlier = np.maximum(starts - 1, 0)
    first = np.where((text[earlier] == _SPACE) & (starts > 0), token_at[earlier], -1)
    first = np.where(first >= 0, first, token_at[starts])
    stop = token_at[ends]
    whole = (first >= 0) & (stop >= 0)
    lengths = np.zeros(widths.size, dtype=np.int64)
    lengths[first[whole]] = stop[whole] - first[whole]
    return lengths


def _numbered(tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which word begins at each token, by when it first did; -1 where none begins."""
    numbers, known = np.full(tokens.size, -1), dict[bytes, int]()
    for at in np.flatnonzero(lengths).tolist():
        numbers[at] = known.setdefault(tokens[at : at + lengths[at]].tobytes(), len(known))
    return numbers
