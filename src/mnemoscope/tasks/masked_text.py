"""Text in which words can be masked: its tokens, where words stand, and the law by which they are masked.

Three units of text, in all of which words are runs of letters, digits and underscores:

    "word"   a word is a token, and so is every other visible character; white space is dropped, letters are lower
             case. The vocabulary is the most frequent ones of the training split; all others are one unknown token.
             Only known words can be masked. The last token is the mask.
    "byte"   a byte is a token, so a word has several; bytes beyond ASCII count as letters. All words can be masked.
             Token 256 is the mask, 257 padding.
    "bpe"    a token is a word or a part of one, as `mnemoscope.tasks.subword_text` has it.

`mask_words` with `n_masks=1`, on bytes:

    text       t h e _ c a t _ s a t
    inputs     t h e _ # _ s a t |            # is the mask, | is padding
    targets    . . . . c . . . . .            the first token of the word, at the mask

A masked word is one mask token, however many tokens it had, so that its length is not given away; what follows moves up
and the end is filled with padding. With units of words, nothing moves. That is what was published, and an answer counts
by its first token. With "bpe" a word is asked for whole: behind the mask stand its tokens but for the last, so that
nothing moves either, and each of its tokens is a target,

    text       the  _un belie vable _story        tokens, a space as an underscore
    inputs     the    #   _un belie _story
    targets     .   _un belie vable      .

A model that looks back alone gives every token where it saw the ones before; all are right exactly where the word would
come out if the model wrote on from the mask, each time what it holds most probable.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.entropy import unigram_entropy
from mnemoscope.tasks.stories import draw_stories, tell
from mnemoscope.tasks.story_grammar import END, build_grammar
from mnemoscope.tasks.streams import Split
from mnemoscope.tasks.text import split_spans
from mnemoscope.tasks.tokenisers import byte_words

N_WORDS = 2000
"""The largest vocabulary in units of words where none is given."""

N_STORIES = 6000
"""Stories of the corpus "stories"; a twentieth of them has 2000 masked words and more at the default lengths."""

_BYTE_OF_WORD = np.array([chr(byte).isalnum() or byte >= 128 or byte == ord("_") for byte in range(256)])


@dataclass(frozen=True, kw_only=True)
class MaskedText:
    """A corpus as tokens.

    Args:
        tokens: of the whole corpus, shape (n,).
        word_lengths: tokens of the maskable word that begins at each token, 0 where none begins, shape (n,).
        names: how each token is shown; their number is the size of the vocabulary.
        mask: the mask token.
        padding: what fills up a text after its masked words have shrunk.
        words: which word begins at each token, by a number that no other word of the corpus has, shape (n,); None where
            a word is told by its first token. Where it is given, words are asked for whole.
        spans: where splits begin and end; None for a cut by the number of tokens.
        about: what tells its tokeniser apart, for the manifest of a run.
    """

    tokens: NDArray[np.int64]
    word_lengths: NDArray[np.int64]
    names: tuple[str, ...]
    mask: int
    padding: int
    words: NDArray[np.int64] | None = None
    spans: Mapping[Split, tuple[int, int]] | None = None
    about: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def n_words(self) -> int:
        """Numbers of words are below that."""
        return len(self.names) if self.words is None else int(self.words.max(initial=-1)) + 1

    def inside(self) -> NDArray[np.bool_]:
        """Which tokens are of a maskable word, shape (n,)."""
        (starts,) = np.nonzero(self.word_lengths)
        edges = np.zeros(self.tokens.size + 1, dtype=np.int64)
        edges[starts] += 1
        np.subtract.at(edges, starts + self.word_lengths[starts], 1)
        return np.cumsum(edges)[:-1] > 0


def words_of(text: str) -> list[str]:
    """Words and other visible characters, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


# A run builds its task several times; a few megabytes are kept rather than a second spent on each.
@lru_cache(maxsize=2)
def word_text(text: str, vocab_size: int | None) -> MaskedText:
    """A corpus in units of words; ids go by frequency in the training split, ties in the order of code points.

    Args:
        text: the corpus.
        vocab_size: tokens, the unknown word and the mask among them; those that no word is left for are never used.
            None: 2000, or as many as there are.
    """
    found = words_of(text)
    counts = Counter(found[slice(*split_spans(len(found))["train"])])
    vocab_size = min(N_WORDS, len(counts) + 2) if vocab_size is None else vocab_size
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - 2]
    unused = [f"[unused {index}]" for index in range(len(frequent), vocab_size - 2)]
    ids = {word: index for index, word in enumerate(frequent)}
    tokens = np.array([ids.get(word, vocab_size - 2) for word in found], dtype=np.int64)
    maskable = np.zeros(vocab_size, dtype=np.int64)
    maskable[: len(frequent)] = [re.match(r"\w", word) is not None for word in frequent]
    names = (*frequent, *unused, "[unknown]", "[mask]")
    return MaskedText(
        tokens=tokens, word_lengths=maskable[tokens], names=names, mask=vocab_size - 1, padding=vocab_size - 1
    )


def byte_text(text: bytes) -> MaskedText:
    """A corpus in units of bytes: 256 of them, the mask and the padding."""
    tokens = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
    edges = np.diff(_BYTE_OF_WORD[tokens].astype(np.int64), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = np.zeros(tokens.size, dtype=np.int64)
    lengths[starts] = ends - starts
    names = (*byte_words(range(256)), "[mask]", "[pad]")
    return MaskedText(tokens=tokens, word_lengths=lengths, names=names, mask=256, padding=257)


@cache
def story_text() -> bytes:
    """The corpus "stories": `N_STORIES` stories of `mnemoscope.tasks.stories`, always the same, one on a line.

    Words of a small lexicon in Markovian order, and names that recur within a story and change between stories: what
    a word-level study needs, without a download.
    """
    grammar = build_grammar()
    drawn = draw_stories(grammar, np.random.Generator(np.random.Philox(key=0)), N_STORIES)
    words = [grammar.words[token] for token in tell(grammar, drawn).tokens.tolist()]
    return " ".join("\n" if word == END else word for word in words).replace(" \n ", "\n").encode()


class Masked(NamedTuple):
    """Texts with masked words, arrays of shape (rows, length).

    Args:
        inputs: the texts, each masked word as one mask token, padded at the end; or followed by all its tokens but the
            last, where words are asked for whole.
        targets: the first token of the word at each mask, and behind it the others of a word that is asked for whole;
            `IGNORE` elsewhere.
        source: where in its text each token, or the target in its place, stood; -1 for padding.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    source: NDArray[np.int64]


def words_after(text: MaskedText, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The token before each maskable word of a part of the text, and which word it is: by number, or first token.

    A word that begins the part is left out.
    """
    begins = start + 1 + np.flatnonzero(text.word_lengths[start + 1 : stop])
    return text.tokens[begins - 1], (text.tokens if text.words is None else text.words)[begins]


def losses_of_counting(text: MaskedText, start: int, stop: int) -> tuple[float, float]:
    """Nats of a scored token of a part of the text: by its frequency, and by that after the present token.

    The present token is the mask for the first token of a word, and the token before for the others; see
    `mnemoscope.tasks.Task`. Where a word is its first token, both are the entropy of these.
    """
    if text.words is None:
        first = words_after(text, start, stop)[1].astype(np.uint32)
        return unigram_entropy(first), unigram_entropy(first)
    (at,) = np.nonzero(text.inside()[start:stop])
    at += start
    target = text.tokens[at]
    present = np.where(text.word_lengths[at] > 0, text.mask, text.tokens[at - 1])
    _, pairs = np.unique(len(text.names) * present + target, return_inverse=True)
    given = unigram_entropy(pairs.astype(np.uint32)) - unigram_entropy(present.astype(np.uint32))
    return unigram_entropy(target.astype(np.uint32)), max(0.0, given)


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """What models without a memory reach, over all words of a part of the text that can be masked.

    Args:
        n_words: so many words; only the first token of each is predicted, or, where words are asked for whole, all.
        unigram_accuracy: of always saying what is most frequent in the training split.
        unigram_loss: nats per word of the frequencies of the training split, one added to the count of every token (of
            every word of the corpus, where they are asked for whole).
        bigram_accuracy: of saying what is most frequent in the training split after the token before the word, or most
            frequent of all where no word followed that token; of equally frequent tokens the first.
    """

    n_words: int
    unigram_accuracy: float
    unigram_loss: float
    bigram_accuracy: float


def fit_baselines(text: MaskedText, train: tuple[int, int], part: tuple[int, int]) -> Baselines:
    """Fit the baselines to one part of a text and measure them on another.

    Raises:
        ValueError: a part without words.
    """
    (before, words), (asked_before, asked) = words_after(text, *train), words_after(text, *part)
    if not (words.size and asked.size):
        raise ValueError(f"baselines: both parts must have words to mask, got {words.size} and {asked.size}")
    n = text.n_words
    counts = np.bincount(words, minlength=n)
    pairs, n_pairs = np.unique(n * before + words, return_counts=True)
    # The last of several assignments stays: the most frequent, and among those the first token.
    rising = np.lexsort((-pairs, n_pairs))
    after = np.full(len(text.names), counts.argmax())
    after[pairs[rising] // n] = pairs[rising] % n
    return Baselines(
        n_words=asked.size,
        unigram_accuracy=float((asked == counts.argmax()).mean()),
        unigram_loss=-float(np.log((counts[asked] + 1) / (words.size + n)).mean()),
        bigram_accuracy=float((asked == after[asked_before]).mean()),
    )


def mask_words(
    text: MaskedText, windows: NDArray[np.int64], rng: np.random.Generator, n_masks: int, span_words: int
) -> Masked:
    """Mask words of windows of a text.

    Args:
        text: the corpus.
        windows: indices into its tokens, consecutive in each row, shape (rows, length).
        rng: decides which words.
        n_masks: spans to mask in each row; all there are, where a row has fewer.
        span_words: consecutive maskable words of a span, each of which becomes a mask token.
    """
    tokens = text.tokens[windows]
    chosen = choose_words(whole_words(text, windows), rng, n_masks, span_words)
    row, column = np.nonzero(chosen)
    inside = np.zeros((len(tokens), tokens.shape[1] + 1), dtype=np.int64)
    inside[row, column + 1] += 1
    inside[row, column + text.word_lengths[windows[row, column]]] -= 1
    behind = np.cumsum(inside, axis=1)[:, :-1] > 0
    if text.words is not None:
        return _asked_whole(tokens, chosen, behind, text.mask)
    kept = ~behind
    row, column = np.nonzero(kept)
    place = (np.cumsum(kept, axis=1) - 1)[row, column]
    masked = Masked(np.full_like(tokens, text.padding), np.full_like(tokens, IGNORE), np.full_like(tokens, -1))
    masked.inputs[row, place] = np.where(chosen, text.mask, tokens)[row, column]
    masked.targets[row, place] = np.where(chosen, tokens, IGNORE)[row, column]
    masked.source[row, place] = column
    return masked


def _asked_whole(tokens: NDArray[np.int64], chosen: NDArray[np.bool_], behind: NDArray[np.bool_], mask: int) -> Masked:
    """The mask in place of a word's first token, its tokens but the last behind it."""
    one_earlier = np.roll(tokens, 1, axis=1)
    return Masked(
        inputs=np.where(chosen, mask, np.where(behind, one_earlier, tokens)),
        targets=np.where(chosen | behind, tokens, IGNORE),
        source=np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape).copy(),
    )


def whole_words(text: MaskedText, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where in each window a maskable word begins that the window holds whole; never at the first token.

    Before the first token nothing says which text is asked for.
    """
    lengths, n = text.word_lengths[windows], windows.shape[1]
    found = (lengths > 0) & (np.arange(n) + lengths <= n)
    found[:, 0] = False
    return found


def choose_words(
    words: NDArray[np.bool_], rng: np.random.Generator, n_masks: int, span_words: int
) -> NDArray[np.bool_]:
    """Choose spans of consecutive words that do not overlap, as many as `n_masks` in each row, where there are so many.

    The words of a row are cut into spans from a random one of the first `span_words` words on, and spans are drawn
    from the whole ones without replacement, uniformly; words before the first and after the last whole span are
    passed over. With `span_words=1` all sets of `n_masks` words are equally likely.

    Args:
        words: where words begin, shape (rows, length).
        rng: decides.
        n_masks: spans of a row, at least 1.
        span_words: words of a span, at least 1.

    Returns:
        where the chosen words begin, shape (rows, length).
    """
    rows, length = words.shape
    skipped = rng.integers(span_words, size=(rows, 1))
    number = np.cumsum(words, axis=1) - 1 - skipped
    n_spans = np.maximum(number[:, -1:] + 1, 0) // span_words
    order = np.where(np.arange(length // span_words + 1) < n_spans, rng.random((rows, length // span_words + 1)), 2.0)
    drawn = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(drawn, np.argsort(order, axis=1)[:, :n_masks], True, axis=1)
    drawn &= order < 1
    span = np.maximum(number, 0) // span_words
    return words & (number >= 0) & np.take_along_axis(drawn, span, axis=1)
