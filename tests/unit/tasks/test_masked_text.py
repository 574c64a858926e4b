"""Text whose words can be masked: its tokens, the law of masking, and baselines by hand."""

import hashlib
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.masked_text import (
    N_STORIES,
    MaskedText,
    byte_text,
    choose_words,
    fit_baselines,
    mask_words,
    story_text,
    word_text,
)


def test_words_and_their_ids_by_hand():
    text = word_text("The cat, the dog; THE cat.", vocab_size=8)
    assert text.names == ("the", "cat", ",", ".", ";", "dog", "[unknown]", "[mask]")
    assert text.tokens.tolist() == [0, 1, 2, 0, 5, 4, 0, 1, 3]
    assert text.word_lengths.tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 0]
    assert text.mask == 7


def test_rare_words_are_unknown_and_cannot_be_masked():
    text = word_text("a a a b b c", vocab_size=4)
    assert text.names == ("a", "b", "[unknown]", "[mask]")
    assert text.tokens.tolist() == [0, 0, 0, 1, 1, 2]
    assert text.word_lengths.tolist() == [1, 1, 1, 1, 1, 0]


def test_the_vocabulary_is_that_of_the_training_split():
    text = word_text("a b " * 17 + "a c d d d d", vocab_size=5)
    assert text.names == ("a", "b", "c", "[unknown]", "[mask]")
    held_out = word_text("a b " * 18 + "a b d d", vocab_size=5)
    assert held_out.names == ("a", "b", "[unused 2]", "[unknown]", "[mask]")
    assert held_out.tokens[-4:].tolist() == [0, 1, 3, 3]


def test_a_vocabulary_of_no_given_size_has_no_unused_words():
    assert word_text("a b c a", vocab_size=None).names == ("a", "b", "c", "[unknown]", "[mask]")
    many = word_text(" ".join(f"w{index}" for index in range(5000)), vocab_size=None)
    assert len(many.names) == 2000


def test_words_of_bytes_by_hand():
    text = byte_text("a_1 caf\u00e9, d'x".encode())
    assert text.word_lengths.tolist() == [3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0, 1]
    assert text.names[97] == "a"
    assert (len(text.names), text.mask, text.padding) == (258, 256, 257)


def test_the_example_of_the_page():
    text = byte_text(b"the cat sat")
    windows = np.tile(np.arange(11), (64, 1))
    masked = mask_words(text, windows, np.random.default_rng(0), n_masks=1, span_words=1)
    shown = {"".join(map(chr, np.where(row > 255, row - 221, row))) for row in masked.inputs}
    assert shown == {"the # sat$$", "the cat #$$"}
    assert set(masked.targets[masked.targets >= 0]) == {ord("c"), ord("s")}


def texts():
    """Words of one to four tokens and gaps, as lengths at each token."""
    return st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=150)
@given(parts=texts(), n_masks=st.integers(1, 5), span_words=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_filling_the_gaps_gives_the_text(parts, n_masks, span_words, seed):
    lengths = [number for word, gap in parts for number in (word, *[0] * (word - 1 + gap))]
    text = MaskedText(
        tokens=np.arange(len(lengths)), word_lengths=np.array(lengths), names=("",), mask=1000, padding=1001
    )
    windows = np.tile(np.arange(len(lengths)), (5, 1))
    masked = mask_words(text, windows, np.random.default_rng(seed), n_masks, span_words)
    starts = [at for at, word in enumerate(lengths) if word and at]
    for inputs, targets, source in zip(*(part.tolist() for part in masked), strict=True):
        filled, hidden = [], []
        for token, target, at in zip(inputs, targets, source, strict=True):
            if token == 1000:
                assert target == at
                hidden.append(starts.index(at))
                filled += range(target, target + lengths[target])
            elif token != 1001:
                assert (target, at) == (IGNORE, token)
                filled.append(token)
            else:
                assert (target, at) == (IGNORE, -1)
        assert filled == list(range(len(lengths)))
        assert len(hidden) % span_words == 0
        assert len(hidden) <= n_masks * span_words
        assert len(hidden) >= min(n_masks, (len(starts) - span_words + 1) // span_words) * span_words
        for span in range(0, len(hidden), span_words):
            assert hidden[span : span + span_words] == list(range(hidden[span], hidden[span] + span_words))


@pytest.mark.parametrize(
    ("span_words", "expected"),
    [
        (1, {frozenset(choice): 1 / 10 for choice in itertools.combinations((1, 2, 4, 5, 6), 2)}),
        (2, {frozenset({1, 2, 4, 5}): 1 / 2, frozenset({2, 4, 5, 6}): 1 / 2}),
    ],
)
def test_the_law_of_choosing(span_words, expected):
    words = np.tile(np.array([0, 1, 1, 0, 1, 1, 1, 0], dtype=bool), (20_000, 1))
    chosen = choose_words(words, np.random.default_rng(0), n_masks=2, span_words=span_words)
    found = [frozenset(np.flatnonzero(row).tolist()) for row in chosen]
    assert set(found) == set(expected)
    for choice, share in expected.items():
        assert abs(found.count(choice) - 20_000 * share) < 5 * math.sqrt(20_000 * share * (1 - share))


def test_baselines_by_hand():
    """Pairs: the cat, cat sat, sat the, the cat, cat ran, | ran the, the cat, cat ran, ran ran."""
    text = word_text("the cat sat the cat ran the cat ran ran", vocab_size=6)
    assert text.names == ("cat", "ran", "the", "sat", "[unknown]", "[mask]")
    found = fit_baselines(text, (0, 6), (5, 10))
    assert found.n_words == 4
    # Training counts, its first word left out: cat 2, sat 1, the 1, ran 1; what is asked: the, cat, ran, ran.
    assert found.unigram_accuracy == 1 / 4
    assert found.unigram_loss == pytest.approx(-math.log((2 / 11) ** 3 * (3 / 11)) / 4)
    # After the: cat. After cat: ran and sat once each, ran comes first. After ran: nothing, so cat.
    assert found.bigram_accuracy == 2 / 4


def test_baselines_need_words():
    with pytest.raises(ValueError, match="both parts must have words to mask, got 2 and 0"):
        fit_baselines(word_text("a b c ! ! !", vocab_size=8), (0, 3), (3, 6))


def test_stories_are_those_of_the_first_release():
    text = story_text()
    assert text.startswith(b"once there was a girl named fiona . she lived in a house by the lighthouse .")
    assert hashlib.sha256(text).hexdigest()[:16] == "9345c53ecce552b1"
    lines = text.decode().splitlines()
    assert len(lines) == len(set(lines)) == N_STORIES
    assert not re.search(r"[^a-z .\n]", text.decode())
