"""Stories: an independent reader of the grammar predicts every word, and so checks sampling, surprises and losses."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import stories
from mnemoscope.tasks.stories import Stories, StoriesConfig, draw_stories, first_stories, tell
from mnemoscope.tasks.story_grammar import (
    _PHASES,
    _SLOTS,
    END,
    FACTS,
    build_grammar,
    expected_losses,
    mean_tokens,
    n_stories,
)
from mnemoscope.tasks.streams import SPLITS, task_rng

OPTIONS = {slot: words.split() for slot, words in _SLOTS.items()}
HEROES = {"girl": {"she": "she", "her": "her", "girl": "girl"}, "boy": {"she": "he", "her": "his", "girl": "boy"}}


def possible(phase, told, hero, known):
    """The sentences that may come next, written out where a fact is known, with the phase that each belongs to."""
    found = []
    for later in range(phase, len(_PHASES)):
        for line in _PHASES[later][0].strip().splitlines():
            for gender in [hero] if hero else HEROES:
                words = [HEROES[gender].get(word, word) for word in line.replace("hero", gender).split()]
                news = {word[2:-1] for word in words if word.startswith("{+")}
                uses = {word[1:-1] for word in words if word[0] == "{" and word[1] != "+"}
                if uses <= set(known) and not news & set(known):
                    filled = tuple(known[word[1:-1]] if word[1:-1] in uses else word for word in words)
                    found.append((later, gender, filled))
        if not (_PHASES[later][1] or (later == 1 and told >= 2)):
            break
    return found


def predict(words):
    """Probability of each word of one story given those before, by keeping every sentence that agrees with them."""
    phase, told, hero, known, place, probabilities = 0, 0, "", {}, 0, []
    while place < len(words):
        candidates = possible(phase, told, hero, known)
        for offset in range(99):
            word, alive, weights = words[place], [], defaultdict(float)
            for candidate in candidates:
                pattern = candidate[2][offset]
                choices = OPTIONS[pattern[2:-1]] if pattern.startswith("{+") else [pattern]
                for choice in choices:
                    weights[choice] += 1 / len(choices)
                if word in choices:
                    alive.append(candidate)
            probabilities.append(weights[word] / sum(weights.values()))
            candidates, place = alive, place + 1
            if place == len(words) or len(candidates[0][2]) == offset + 1:
                break
        assert len({candidate[2] for candidate in candidates}) == 1 or place == len(words)
        later, hero, pattern = candidates[0]
        for word, symbol in zip(words[place - len(pattern) : place], pattern, strict=False):
            if symbol.startswith("{+") and symbol[2:-1] in {*FACTS, "girl", "boy"}:
                known[symbol[2:-1]] = word
        phase, told = (1, told + 1) if later == 1 else (later + 1, 0)
    return probabilities


def split_at_ends(words):
    parts, part = [], []
    for word in words:
        part.append(word)
        if word == END:
            parts.append(part)
            part = []
    return [*parts, part] if part else parts


@settings(deadline=None, max_examples=15)
@given(length=st.integers(1, 400), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
def test_surprises_are_those_of_a_reader_of_the_grammar(length, seed, split):
    task = Stories(StoriesConfig(length=length))
    batch = task.batch(task_rng(seed, split, 0), 2, split)
    surprises = task.surprises(task_rng(seed, split, 0), 2, split)
    assert surprises.shape == (2, length)
    for inputs, targets, surprise in zip(batch.inputs, batch.targets, surprises, strict=True):
        words = task.words([*inputs.tolist(), int(targets[-1])])
        read = [p for story in split_at_ends(words) for p in predict(story)]
        assert -np.log(read[1:]) == pytest.approx(surprise, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(length=st.integers(1, 500), seed=st.integers(0, 2**32), size=st.integers(1, 6))
def test_targets_are_the_next_words_and_windows_begin_with_a_story(length, seed, size):
    task = Stories(StoriesConfig(length=length))
    batch = task.batch(task_rng(seed, "train", 0), size, "train")
    assert batch.inputs.shape == (size, length)
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert set(task.words(batch.inputs[:, 0].tolist())) <= {"once", "a"}


def test_what_is_said_of_recurring_facts_holds():
    task = Stories(StoriesConfig(length=300))
    batch = task.batch(task_rng(0, "train", 0), 40, "train")
    item_of = {word: FACTS.index(name) for name in FACTS[1:] for word in OPTIONS[name]}
    item_of |= {word: 0 for slot in HEROES for word in OPTIONS[slot]}
    for row in range(40):
        words, query = task.words([*batch.inputs[row].tolist(), int(batch.targets[row, -1])]), 0
        last, facts = {}, set()
        for place, word in enumerate(words):
            if word == END:
                last, facts = {}, set()
            said = {name: int(values[row, place - 1]) for name, values in batch.about.items()} if place else {}
            item = item_of.get(word)
            if item is not None and item in facts:
                assert said == {"distance": place - 1 - last[item][0], "item": item, "load": len(facts), "query": query}
                assert last[item][1] == word
                query += 1
            elif place:
                assert set(said.values()) == {-1}
            if item is not None:
                facts.add(item)
                last[item] = (place, word)


def test_one_story():
    task = Stories(StoriesConfig(length=48))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert " ".join(task.words(batch.inputs[0].tolist())) == (
        "once there was a girl named sophie . her best present was a golden hen called clover . she often played with "
        "alex . then sophie took the path to the market . soon alex fell into the water . she was sorry and called "
        "clover . sophie"
    )


@pytest.mark.parametrize("length", [1, 30, 256])
def test_the_floor_is_the_mean_surprise(length):
    task = Stories(StoriesConfig(length=length))
    means = task.surprises(task_rng(1, "train", 0), 4000, "train").mean(axis=1)
    assert task.floor_loss == pytest.approx(means.mean(), abs=4 * means.std() / math.sqrt(4000))
    assert 0 <= task.floor_loss <= task.memoryless_loss <= task.chance_loss <= math.log(task.vocab_size)


def test_chance_and_memoryless_losses_are_those_of_counting():
    task = Stories(StoriesConfig(length=64))
    batch = task.batch(task_rng(2, "train", 0), 8000, "train")
    pairs = np.zeros((task.vocab_size, task.vocab_size))
    np.add.at(pairs, (batch.inputs, batch.targets), 1 / batch.inputs.size)
    assert task.chance_loss == pytest.approx(entropy(pairs.sum(0)), abs=6e-3)
    assert task.memoryless_loss == pytest.approx(entropy(pairs) - entropy(pairs.sum(1)), abs=6e-3)


def test_the_stories_of_the_docstring_are_counted():
    drawn = draw_stories(build_grammar(), np.random.default_rng(0), 20_000)
    lengths = Counter(np.diff(tell(build_grammar(), drawn).starts).tolist())
    assert f"There are {n_stories()} stories, of 54 to 134 tokens" in " ".join(stories.__doc__.split())
    assert 54 <= min(lengths) <= max(lengths) <= 134
    sampled = sum(length * n for length, n in lengths.items()) / 20_000
    assert mean_tokens() == pytest.approx(sampled, abs=0.5)


def test_no_story_is_told_in_two_splits():
    """The content that decides on the owner tells stories apart, and each split keeps to its own."""
    grammar, task = build_grammar(), Stories(StoriesConfig(length=134))
    drawn = np.unique(draw_stories(grammar, np.random.default_rng(0), 6000), axis=0)
    told = tell(grammar, drawn)
    texts = {told.tokens[a:b].tobytes() for a, b in zip(told.starts, told.starts[1:], strict=False)}
    assert len(texts) == len(drawn)
    firsts = {}
    for split in SPLITS:
        batch = task.batch(np.random.default_rng(0), 200, split)
        whole = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
        firsts[split] = {row[: row.index(0) + 1].__repr__() for row in whole.tolist()}
    assert sum(map(len, firsts.values())) == len(set().union(*firsts.values()))


def test_words_of_slots_are_all_different_and_in_no_sentence():
    """Without this, what was read could leave doubt how it came about, and surprises would be wrong."""
    words = [word for options in OPTIONS.values() for word in options]
    literals = {word for lines, _ in _PHASES for word in lines.split() if word[0] != "{"} | {"he", "his", "boy"}
    assert len(set(words)) == len(words)
    assert not set(words) & literals
    assert sorted(build_grammar().words) == sorted({*words, *literals})


def test_every_state_says_something_and_leads_on():
    grammar = build_grammar()
    assert ((grammar.options >= 0).sum(axis=1) >= 2).all()
    known = grammar.following >= 0
    assert (grammar.following > np.arange(len(grammar.options))[:, None])[known].all()
    assert set(np.unique(grammar.options)) == set(range(-1, len(grammar.symbols)))


def test_sentences_of_a_state_are_equally_likely():
    grammar = build_grammar()
    drawn = draw_stories(grammar, np.random.default_rng(0), 30_000)
    counts = np.bincount(drawn[:, 0])
    assert (np.abs(counts - 30_000 / counts.size) < 5 * math.sqrt(30_000 / counts.size)).all()
    assert counts.size == (grammar.options[0] >= 0).sum() == 4


def test_windows_share_no_story():
    starts = np.array([0, 4, 6, 11, 15])
    assert first_stories(starts, 5, 9) == [0, 2]
    assert first_stories(starts, 4, 9) == [0, 1, 3]
    assert first_stories(starts, 4, 2) == [0, 1]
    assert first_stories(starts, 16, 2) == []


def test_expected_losses_of_one_target_are_the_second_word():
    """After "once" comes "there", after "a" a girl or a boy."""
    expected = expected_losses(1)
    assert expected.chance == pytest.approx(1.5 * math.log(2))
    assert (expected.memoryless, expected.floor) == pytest.approx((0.5 * math.log(2),) * 2)


def test_config_refuses():
    with pytest.raises(ValueError, match="length: must be at least 1, got 0; nearest valid: 1"):
        StoriesConfig(length=0)


def entropy(probabilities):
    positive = probabilities[probabilities > 0]
    return -(positive * np.log(positive)).sum()
