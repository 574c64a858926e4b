"""Needles in haystacks: where they stand, what may be asked of the answers, and how matches are counted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.retrieval import LINE, Haystack, answer_losses, exact_match, inserted, match_by_depth, part


@settings(deadline=None, max_examples=60)
@given(data=st.data(), rows=st.integers(1, 5), n=st.integers(0, 12), m=st.integers(1, 6))
def test_a_needle_is_put_in_before_its_byte(data, rows, n, m):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    haystacks, needles = (rng.integers(256, size=(rows, width), dtype=np.uint8) for width in (n, m))
    at = rng.integers(n + 1, size=rows)
    for row, got in enumerate(inserted(haystacks, needles, at)):
        hay, place = bytes(haystacks[row]), int(at[row])
        assert bytes(got) == hay[:place] + bytes(needles[row]) + hay[place:]


def test_matches_need_every_scored_token():
    targets = np.array([[IGNORE, 1, 2], [IGNORE, 1, 2], [3, IGNORE, IGNORE]])
    predictions = np.array([[9, 1, 2], [9, 1, 1], [3, 3, 3]])
    assert exact_match(predictions, targets).tolist() == [True, False, True]


def test_matches_by_depth():
    matches = np.array([True, False, True, True, False])
    shares = match_by_depth(matches, np.array([0.05, 0.2, 0.4, 0.99, 0.999]), 4)
    assert shares[:2].tolist() == [0.5, 1.0]
    assert math.isnan(shares[2])
    assert shares[3] == 0.5


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_losses_of_answers_are_those_of_counting_every_answer(data):
    """The law by which parts are drawn, against the list of all answers."""
    parts = []
    for _ in range(data.draw(st.integers(1, 3))):
        width = data.draw(st.integers(1, 3))
        word = st.text("ab-", min_size=width, max_size=width)
        parts.append(data.draw(st.lists(word, min_size=1, max_size=4)))
    answers = [""]
    for words in parts:
        answers = [answer + word for answer in answers for word in words]
    pairs: dict[tuple[str, str], float] = {}
    for answer in answers:
        for pair in zip(" " + answer, answer, strict=False):
            pairs[pair] = pairs.get(pair, 0) + 1 / len(answers) / len(answer)
    afters = {byte: sum(p for (_, b), p in pairs.items() if b == byte) for byte in "ab-"}
    befores = {byte: sum(p for (a, _), p in pairs.items() if a == byte) for byte in " ab-"}
    chance = -sum(p * math.log(p) for p in afters.values() if p)
    memoryless = -sum(p * math.log(p / befores[a]) for (a, _), p in pairs.items())
    assert answer_losses(tuple(map(part, parts))) == pytest.approx((chance, memoryless), abs=1e-12)


@pytest.mark.parametrize(("kind", "step"), [("filler", len(LINE)), ("newlines", 1)])
def test_generated_haystacks_are_whole_lines(kind, step):
    haystack = Haystack(kind, 3 * len(LINE) + 5)
    texts, at = haystack.draw(np.random.default_rng(0), np.arange(haystack.n_places), "train")
    assert at.tolist() == list(range(0, haystack.n_bytes + 1, step))
    assert {bytes(text) for text in texts} == {LINE * 3 if kind == "filler" else b"\n" * haystack.n_bytes}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_haystacks_of_text_stay_in_their_split_and_are_entered_at_white_space(tmp_path, split):
    words = " ".join(f"{number:05d}" for number in range(2000))
    path = tmp_path / "numbers.txt"
    path.write_text(words)
    haystack = Haystack(str(path), 120)
    first, end = {"train": (0, 10_801), "validation": (10_801, 11_400), "test": (11_400, 11_999)}[split]
    places = np.random.default_rng(1).integers(haystack.n_places, size=300)
    texts, at = haystack.draw(np.random.default_rng(0), places, split)
    for text, place, wanted in zip(texts, at, places, strict=True):
        start = words.find(bytes(text[1:]).decode())
        assert text[0] == ord("\n")
        assert first <= start <= end - 119
        assert place <= wanted < place + 6
        assert place in (0, 120) or text[place] == ord(" ")
    assert {0, 120} <= set(haystack.draw(np.random.default_rng(0), np.array([0, 120]), split)[1])


def test_a_haystack_without_white_space_is_entered_at_its_start(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("x" * 1000)
    _, at = Haystack(str(path), 30).draw(np.random.default_rng(0), np.array([0, 1, 29, 30]), "test")
    assert at.tolist() == [0, 0, 0, 30]


def test_a_short_corpus_is_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("word " * 100)
    with pytest.raises(ValueError, match=r"at least 20 \* 30 = 600 bytes, .* got 500; .* shorter by 5"):
        Haystack(str(path), 30)
    assert Haystack(str(path), 25).n_places == 26
