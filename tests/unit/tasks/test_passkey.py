"""Passkey: the line is where it should be, its digits alone are scored, and a reader finds them."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks.passkey import PROMPT, Passkey, PasskeyConfig
from mnemoscope.tasks.retrieval import LINE, exact_match, match_by_depth
from mnemoscope.tasks.streams import SPLITS, task_rng


@st.composite
def passkey_configs(draw):
    n_depths, haystack = draw(st.integers(1, 12)), draw(st.sampled_from(["filler", "newlines", "prose", "code"]))
    shortest = PROMPT.n_bytes - 1 + (len(LINE) * (n_depths - 1) if haystack == "filler" else max(2, n_depths - 1))
    return PasskeyConfig(length=shortest + draw(st.integers(0, 400)), haystack=haystack, n_depths=n_depths)


def texts_of(batch):
    """Whole sequences, the last byte of the answer among them."""
    full = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    return [bytes(row.tolist()) for row in full.astype(np.uint8)]


@settings(deadline=None, max_examples=60)
@given(config=passkey_configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
def test_every_sequence_obeys_the_format(config, seed, split):
    task = Passkey(config)
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    for text, targets in zip(texts_of(batch), batch.targets, strict=True):
        key = text[-5:]
        said = b"\nThe passkey is %s. Remember it. %s is the passkey." % (key, key)
        assert re.fullmatch(rb"\d{5}", key)
        assert text.count(said) == 1
        assert re.match(rb"\n*One line of this text says a passkey. Keep it in mind.", text)
        assert text.endswith(b"\nWhat is the passkey? The passkey is " + key)
        assert [position for position, target in enumerate(targets) if target != IGNORE] == list(
            range(config.length - 5, config.length)
        )
        assert bytes(targets[-5:].tolist()) == key
        if config.haystack == "filler":
            rest = text.replace(said, b"").lstrip(b"\n")
            assert rest.count(LINE) == (len(rest) - PROMPT.n_bytes + PROMPT.n_needle) / len(LINE)
            assert len(text) - len(text.lstrip(b"\n")) < len(LINE)


def test_one_sequence():
    task = Passkey(PasskeyConfig(length=256, n_depths=2))
    text = texts_of(task.batch(task_rng(1, "train", 0), 1, "train"))[0].decode()
    assert text.lstrip("\n") == (
        "One line of this text says a passkey. Keep it in mind.\n"
        "The passkey is 59625. Remember it. 59625 is the passkey.\n"
        "The sky is wide. The field is quiet.\n"
        "The sky is wide. The field is quiet.\n"
        "What is the passkey? The passkey is 59625"
    )


@settings(deadline=None, max_examples=40)
@given(config=passkey_configs(), seed=st.integers(0, 2**32))
def test_what_is_said_of_a_digit_holds(config, seed):
    batch = Passkey(config).batch(task_rng(seed, "train", 0), 3, "train")
    scored = batch.targets != IGNORE
    assert all(np.array_equal(values >= 0, scored) for values in batch.about.values())
    for row, position in zip(*np.nonzero(scored), strict=True):
        source = position - batch.about["distance"][row, position]
        assert batch.inputs[row, source] == batch.targets[row, position]
        digit = position - (config.length - 5)
        rest = bytes(batch.inputs[row, source + 5 - digit :][:16].tolist())
        assert rest == b" is the passkey."


@pytest.mark.parametrize(
    ("haystack", "length", "n_depths"), [("filler", 1024, 10), ("filler", 600, 7), ("newlines", 400, 9)]
)
def test_depths_are_those_of_the_spec_and_uniform(haystack, length, n_depths):
    task = Passkey(PasskeyConfig(length=length, haystack=haystack, n_depths=n_depths))
    batch = task.batch(task_rng(0, "train", 0), 4000, "train")
    depths = task.depths(batch)
    counts = np.bincount((depths * n_depths).astype(int), minlength=n_depths)
    assert counts.size == n_depths
    assert (np.abs(counts - 4000 / n_depths) < 5 * np.sqrt(4000 / n_depths)).all()
    n_places = task._retrieval.haystack.n_places
    expected = {(math.floor((i + 0.5) / n_depths * n_places) + 0.5) / n_places for i in range(n_depths)}
    assert sorted(set(depths)) == pytest.approx(sorted(expected))
    for text, depth in zip(texts_of(batch)[:50], depths[:50], strict=True):
        before = text[: text.index(b"\nThe passkey is")].lstrip(b"\n")[len(PROMPT.prefix) :]
        step = len(LINE) if haystack == "filler" else 1
        assert len(before) // step == int(depth * n_places)


def test_passkeys_are_uniform_digits():
    task = Passkey(PasskeyConfig(length=400, n_depths=3))
    batch = task.batch(task_rng(0, "train", 0), 20_000, "train")
    for column in batch.targets[:, -5:].T:
        counts = np.bincount(column - ord("0"), minlength=10)
        assert (np.abs(counts - 2000) < 5 * np.sqrt(1800)).all()
    assert task.chance_loss == task.memoryless_loss == pytest.approx(math.log(10))


def test_no_split_shows_the_passkeys_of_another():
    task = Passkey(PasskeyConfig(length=300, n_depths=1))
    keys = {split: {text[-5:] for text in texts_of(task.batch(task_rng(0, split, 0), 3000, split))} for split in SPLITS}
    assert len(keys["train"]) > 2500
    assert sum(map(len, keys.values())) == len(set().union(*keys.values()))


def test_a_reader_answers_every_question_and_a_guesser_none():
    task = Passkey(PasskeyConfig(n_depths=4))
    batch = task.batch(task_rng(0, "test", 0), 64, "test")
    predictions = np.zeros_like(batch.targets)
    for row, inputs in enumerate(batch.inputs.astype(np.uint8)):
        found = re.search(rb"The passkey is (\d{5})\.", bytes(inputs))
        predictions[row, -5:] = list(found[1])
    matches = exact_match(predictions, batch.targets)
    assert matches.all()
    assert match_by_depth(matches, task.depths(batch), 4).tolist() == [1, 1, 1, 1]
    predictions[:32, -1] = 0
    assert exact_match(predictions, batch.targets).tolist() == [False] * 32 + [True] * 32


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"length": 200}, r"length: must be at least 485, 152 .* 10 places, got 200; nearest valid: 485"),
        ({"length": 150, "n_depths": 1}, "nearest valid: 152"),
        ({"length": 152, "n_depths": 1, "haystack": "prose"}, "nearest valid: 154"),
        ({"n_depths": 0}, "n_depths: must be at least 1, got 0; nearest valid: 1"),
        ({"haystack": ""}, "haystack: must be 'filler', .* got ''"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        PasskeyConfig(**options)


@pytest.mark.parametrize(
    ("length", "n_depths", "haystack"), [(485, 10, "filler"), (152, 1, "newlines"), (154, 3, "prose")]
)
def test_the_limits_themselves_are_accepted(length, n_depths, haystack):
    task = Passkey(PasskeyConfig(length=length, n_depths=n_depths, haystack=haystack))
    assert (task.batch(task_rng(0, "test", 0), 5, "test").targets[:, -5:] != IGNORE).all()


def test_unknown_corpora_are_refused_when_the_task_is_built():
    with pytest.raises(ValueError, match=r"'proze'.*nearest valid: 'prose'"):
        Passkey(PasskeyConfig(haystack="proze"))


def test_the_manifest_names_the_text():
    assert set(Passkey(PasskeyConfig()).manifest()) == {"name", "numpy"}
    assert {"bytes", "sha256", "python"} < set(Passkey(PasskeyConfig(haystack="prose")).manifest())
