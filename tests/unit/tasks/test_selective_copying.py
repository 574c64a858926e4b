"""Selective copying: the data among the noise come back in order, and their places are uniform."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, SelectiveCopying, SelectiveCopyingConfig, task_rng


@st.composite
def configs(draw):
    n_tokens = draw(st.integers(1, 12))
    return SelectiveCopyingConfig(
        vocab_size=draw(st.integers(4, 40)), length=2 * n_tokens + draw(st.integers(0, 60)), n_tokens=n_tokens
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32))
@example(config=SelectiveCopyingConfig(), seed=0)
def test_a_reader_of_data_tokens_answers_every_marker(config, seed):
    n, marker = config.n_tokens, config.vocab_size - 1
    batch = SelectiveCopying(config).batch(task_rng(seed, "train", 0), 3, "train")
    assert (batch.inputs[:, -n:] == marker).all()
    assert (batch.inputs[:, :-n] < marker).all()
    assert (batch.targets[:, :-n] == IGNORE).all()
    for row in range(3):
        places = np.flatnonzero(batch.inputs[row, :-n])
        assert places.size == n
        assert batch.targets[row, -n:].tolist() == batch.inputs[row, places].tolist()
        markers = np.arange(config.length - n, config.length)
        assert batch.about["distance"][row, -n:].tolist() == (markers - places).tolist()
        assert batch.about["item"][row, -n:].tolist() == batch.about["query"][row, -n:].tolist() == list(range(n))
        assert set(batch.about["load"][row, -n:].tolist()) == {n}
    assert all((values[:, :-n] == -1).all() for values in batch.about.values())


def test_places_are_uniform_and_data_are_too():
    task = SelectiveCopying(SelectiveCopyingConfig(vocab_size=5, length=7, n_tokens=2))
    (drawn,) = task._drawn(np.random.default_rng(0), 30_000)
    choices = list(itertools.combinations(range(5), 2))
    counts = np.array([(drawn[:, 2:] == choice).all(axis=1).sum() for choice in choices])
    assert counts.sum() == 30_000
    assert (np.abs(counts - 3000) < 5 * math.sqrt(30_000 * 0.09)).all()
    data = np.bincount(3 * (drawn[:, 0] - 1) + drawn[:, 1] - 1, minlength=9)
    assert (np.abs(data - 30_000 / 9) < 5 * math.sqrt(30_000 * 8 / 81)).all()


def test_the_sequence_of_the_first_release():
    task = SelectiveCopying(SelectiveCopyingConfig(vocab_size=6, length=12, n_tokens=3))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [1, 4, 0, 0, 0, 0, 0, 1, 0, 5, 5, 5]
    assert batch.targets[0, -3:].tolist() == [1, 4, 1]
    assert task.words(batch.inputs[0, 6:10].tolist()) == [".", "1", ".", "?"]


def test_losses():
    task = SelectiveCopying(SelectiveCopyingConfig())
    assert task.chance_loss == task.memoryless_loss == math.log(14)
    assert task.floor_loss == 0


def test_splits_share_no_sequence():
    task = SelectiveCopying(SelectiveCopyingConfig(vocab_size=4, length=12, n_tokens=2))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 1000, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 3}, "vocab_size: must be at least 4 .* got 3; nearest valid: 4"),
        ({"n_tokens": 0}, "n_tokens: must be at least 1, got 0; nearest valid: 1"),
        ({"length": 31}, r"length: must be at least 2 \* n_tokens = 32 .* got 31; nearest valid: 32"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        SelectiveCopyingConfig(**options)
