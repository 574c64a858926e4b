"""Bigrams: what follows a trigger is the same within a sequence, and asked from its second occurrence on."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, Bigrams, BigramsConfig, task_rng

ABOUT = ("distance", "item", "load", "query")


@settings(deadline=None, max_examples=60)
@given(vocab_size=st.integers(2, 30), length=st.integers(3, 120), part=st.floats(0, 1), seed=st.integers(0, 2**32))
@example(vocab_size=2, length=3, part=0, seed=0)
@example(vocab_size=64, length=256, part=0.07, seed=0)
def test_a_reader_of_the_sequence_answers_and_knows_what_is_asked(vocab_size, length, part, seed):
    n = 1 + round(part * (vocab_size - 2))
    batch = Bigrams(BigramsConfig(vocab_size=vocab_size, length=length, n_triggers=n)).batch(
        task_rng(seed, "train", 0), 4, "train"
    )
    for row in range(4):
        followed, n_asked = dict[int, int](), 0
        items = dict[int, int]()
        for t, (token, target) in enumerate(zip(batch.inputs[row], batch.targets[row], strict=True)):
            about = [batch.about[name][row, t] for name in ABOUT]
            if target == IGNORE:
                assert about == [-1] * 4
                continue
            last = max(i for i in range(t) if batch.inputs[row, i] == token)
            assert batch.inputs[row, last + 1] == target != token
            assert followed.setdefault(token, target) == target
            assert about == [t - last - 1, items.setdefault(token, about[1]), n, n_asked]
            n_asked += 1
        assert len(set(items.values())) == len(items) <= n
        assert not set(followed) & set(followed.values())


def test_every_recurrence_of_a_trigger_is_asked():
    batch = Bigrams(BigramsConfig(vocab_size=9, length=80, n_triggers=3)).batch(task_rng(0, "test", 0), 50, "test")
    for tokens, targets in zip(batch.inputs, batch.targets, strict=True):
        triggers = set(tokens[targets != IGNORE].tolist())
        for trigger in triggers:
            places = np.flatnonzero(tokens == trigger)
            assert targets[places[0]] == IGNORE
            assert (targets[places[1:]] != IGNORE).all()


def test_tokens_are_uniform_and_those_after_no_trigger_follow_the_law_of_the_world():
    batch = Bigrams(BigramsConfig(vocab_size=12, length=60, n_triggers=3)).batch(
        np.random.default_rng(0), 20_000, "train"
    )
    for tokens in (batch.inputs, batch.targets[batch.targets >= 0]):
        share = np.bincount(tokens.ravel(), minlength=12) / tokens.size
        assert np.abs(share - 1 / 12).max() < 0.003
    steps = (batch.inputs[:, 1] - batch.inputs[:, 0]) % 12
    law = 1 / np.array([12, *range(1, 12)])
    # One first token in four is a trigger, which is followed by any other token alike.
    expected = 3 / 4 * law / law.sum() + 1 / 4 * np.array([0, *[1 / 11] * 11])
    assert np.abs(np.bincount(steps, minlength=12) / len(steps) - expected).max() < 0.01


def test_the_sequence_of_the_first_release():
    task = Bigrams(BigramsConfig(vocab_size=8, length=14, n_triggers=2))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [1, 7, 2, 7, 0, 1, 7, 7, 2, 7, 0, 7, 3, 6]
    assert np.flatnonzero(batch.targets[0] != IGNORE).tolist() == [5]
    assert task.words([0, 2]) == ["0", "2"]


def test_losses():
    task = Bigrams(BigramsConfig())
    assert task.chance_loss == math.log(64)
    assert task.memoryless_loss is None
    assert task.floor_loss == 0


def test_splits_share_no_trigger_with_what_follows_it():
    task = Bigrams(BigramsConfig(vocab_size=16, length=200, n_triggers=1))
    pairs = list[set[tuple[int, int]]]()
    for split in SPLITS:
        batch = task.batch(np.random.default_rng(0), 200, split)
        asked = batch.targets != IGNORE
        pairs.append(set(zip(batch.inputs[asked].tolist(), batch.targets[asked].tolist(), strict=True)))
    assert all(pairs)
    assert sum(map(len, pairs)) == len(set().union(*pairs))
    assert task.n_sequences("test") is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 1}, "vocab_size: must be at least 2, got 1; nearest valid: 2"),
        ({"length": 2}, "length: must be at least 3, got 2; nearest valid: 3"),
        (
            {"n_triggers": 64},
            "n_triggers: must be between 1 and 63, one less than vocab_size, got 64; nearest valid: 63",
        ),
        ({"n_triggers": 0}, "n_triggers: must be between 1 and 63, .*nearest valid: 1"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        BigramsConfig(**options)
