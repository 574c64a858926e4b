"""Needle: one sentence hides a value, which the question asks for."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.needle import ADJECTIVES, KEYS, Needle, NeedleConfig, s_niah
from mnemoscope.tasks.retrieval import exact_match
from mnemoscope.tasks.streams import SPLITS, task_rng

VALUES = {
    "number": ("number", rb"\d{7}"),
    "word": ("word", rb"[a-z]{6}-[a-z]{6}"),
    "uuid": ("code", rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
}


def texts_of(batch):
    full = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    return [bytes(row.tolist()) for row in full.astype(np.uint8)]


def read(noun, value, text):
    """What a reader of the prompt alone would answer, with the question."""
    asked = re.search(rb"\nWhat is under the (\w+)\? Under the (\w+) is the %s " % noun.encode(), text)
    assert asked[1] == asked[2]
    said = re.findall(rb"\nUnder the %s is the %s (%s)\." % (asked[1], noun.encode(), value), text)
    assert len(said) == 1
    return asked, said[0]


@settings(deadline=None, max_examples=40)
@given(
    needle=st.sampled_from(sorted(VALUES)),
    haystack=st.sampled_from(["filler", "newlines", "prose"]),
    extra=st.integers(0, 300),
    seed=st.integers(0, 2**32),
    split=st.sampled_from(SPLITS),
)
def test_a_reader_of_the_prompt_knows_the_answer(needle, haystack, extra, seed, split):
    task = Needle(NeedleConfig(needle=needle, haystack=haystack, length=800 + extra, n_depths=4))
    batch = task.batch(task_rng(seed, split, 0), 3, split)
    noun, value = VALUES[needle]
    predictions = np.zeros_like(batch.targets)
    for row, text in enumerate(texts_of(batch)):
        asked, said = read(noun, value, text)
        assert text[asked.end() :] == said
        assert (batch.targets[row] != IGNORE).sum() == len(said)
        predictions[row, -len(said) :] = list(said)
    assert exact_match(predictions, batch.targets).all()


@settings(deadline=None, max_examples=20)
@given(needle=st.sampled_from(sorted(VALUES)), haystack=st.sampled_from(["filler", "prose"]), seed=st.integers(0, 99))
def test_what_is_said_of_a_byte_holds(needle, haystack, seed):
    batch = Needle(NeedleConfig(needle=needle, haystack=haystack)).batch(task_rng(seed, "train", 0), 3, "train")
    scored = batch.targets != IGNORE
    assert all(np.array_equal(values >= 0, scored) for values in batch.about.values())
    for row, position in zip(*np.nonzero(scored), strict=True):
        source = position - batch.about["distance"][row, position]
        assert batch.inputs[row, source] == batch.targets[row, position]
        begins = int(np.flatnonzero(batch.inputs[row, :source] == ord("\n"))[-1])
        assert bytes(batch.inputs[row, begins : begins + 11].tolist()) == b"\nUnder the "


def test_one_needle_of_each_kind():
    said = []
    for needle, (noun, value) in VALUES.items():
        batch = Needle(NeedleConfig(needle=needle)).batch(task_rng(0, "test", 0), 1, "test")
        asked, answer = read(noun, value, texts_of(batch)[0])
        said.append((asked[1].decode(), answer.decode()))
    assert said == [
        ("wheels", "4861499"),
        ("magnet", "zigzag-engine"),
        ("hammer", "de3e8fa2-e91c-5f58-b83f-a725a38eaefe"),
    ]


def test_no_split_shows_the_needles_of_another():
    task = Needle(NeedleConfig(needle="word", length=300, n_depths=1, haystack="newlines"))
    found = {}
    for split in SPLITS:
        texts = texts_of(task.batch(task_rng(0, split, 0), 3000, split))
        found[split] = {(asked[1], said) for asked, said in (read(*VALUES["word"], text) for text in texts)}
    assert sum(map(len, found.values())) == len(set().union(*found.values()))
    assert len(found["train"]) > 2500


def test_words_have_one_length():
    assert {len(word) for word in (*KEYS, *ADJECTIVES)} == {6}
    assert len(set(KEYS)) == len(set(ADJECTIVES)) == 32


@pytest.mark.parametrize("needle", sorted(VALUES))
def test_losses_are_those_of_counting(needle):
    task = Needle(NeedleConfig(needle=needle, length=360, haystack="newlines", n_depths=1))
    batch = task.batch(task_rng(0, "train", 0), 20_000, "train")
    scored = batch.targets != IGNORE
    joint = np.zeros((256, 256))
    np.add.at(joint, (batch.inputs[scored], batch.targets[scored]), 1 / scored.sum())
    assert task.chance_loss == pytest.approx(entropy(joint.sum(0)), abs=3e-3)
    assert task.memoryless_loss == pytest.approx(entropy(joint) - entropy(joint.sum(1)), abs=3e-3)
    assert task.floor_loss < task.memoryless_loss <= task.chance_loss


def test_the_losses_of_numbers_are_those_of_digits():
    task = Needle(NeedleConfig())
    assert task.chance_loss == task.memoryless_loss == pytest.approx(math.log(10))


def test_ruler_presets():
    assert [(s_niah(n, 2048).needle, s_niah(n, 2048).haystack) for n in (1, 2, 3)] == [
        ("number", "filler"),
        ("number", "prose"),
        ("uuid", "prose"),
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"needle": "key"}, "needle: must be one of number, word, uuid, got 'key'"),
        ({"length": 100, "n_depths": 1}, r"length: must be at least \d+"),
        ({"n_depths": -1}, "n_depths: must be at least 1, got -1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        NeedleConfig(**options)


def entropy(probabilities):
    positive = probabilities[probabilities > 0]
    return -(positive * np.log(positive)).sum()
