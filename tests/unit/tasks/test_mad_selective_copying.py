"""MAD selective copying: tokens come back in order, and blanks follow the published law from one generator."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, MadSelectiveCopying, MadSelectiveCopyingConfig, task_rng


@st.composite
def configs(draw):
    n_tokens = draw(st.integers(2, 12))
    return MadSelectiveCopyingConfig(
        vocab_size=draw(st.integers(6, 40)),
        length=2 * n_tokens + 2 + draw(st.integers(0, 60)),
        n_tokens=n_tokens,
        n_train=draw(st.sampled_from([None, 5])),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=MadSelectiveCopyingConfig(), seed=0, split="test")
def test_a_reader_of_tokens_answers_in_order(config, seed, split):
    n, blank = config.n_tokens, config.vocab_size - 2
    batch = MadSelectiveCopying(config).batch(task_rng(seed, split, 0), 3, split)
    assert (batch.inputs[:, -n:] == blank).all()
    assert (batch.inputs[:, -n - 1] == blank + 1).all()
    assert (batch.inputs[:, -n - 2] < blank).all()
    assert (batch.targets[:, :-n] == IGNORE).all()
    for row in range(3):
        places = np.flatnonzero(batch.inputs[row] < blank)
        assert places.size == n
        assert batch.targets[row, -n:].tolist() == batch.inputs[row, places].tolist()
        asked_at = np.arange(config.length - n, config.length)
        assert batch.about["distance"][row, -n:].tolist() == (asked_at - places).tolist()
        assert batch.about["item"][row, -n:].tolist() == batch.about["query"][row, -n:].tolist() == list(range(n))
        assert set(batch.about["load"][row, -n:].tolist()) == {n}


def test_blanks_follow_the_published_law():
    """Each blank is inserted before a token drawn uniformly, as one at a time."""
    n, rows = 3, 30_000
    task = MadSelectiveCopying(MadSelectiveCopyingConfig(vocab_size=6, length=11, n_tokens=n))
    (drawn,) = task._draw(np.random.default_rng(0), rows, "train")
    expected = {}
    for befores in itertools.product(range(n), repeat=4):
        places = tuple(i + sum(before <= i for before in befores) for i in range(n))
        expected[places] = expected.get(places, 0) + 1 / n**4
    assert set(map(tuple, drawn[:, n:].tolist())) == set(expected)
    for places, p in expected.items():
        count = (drawn[:, n:] == places).all(axis=1).sum()
        assert abs(count - rows * p) < 5 * math.sqrt(rows * p * (1 - p))


def test_the_global_random_state_is_neither_read_nor_moved():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (
        MadSelectiveCopying(MadSelectiveCopyingConfig(n_train=50)).batch(task_rng(0, "train", 0), 9, "train")
        for _ in range(2)
    )
    assert np.array_equal(first.inputs, second.inputs)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_sequence_of_the_first_release():
    task = MadSelectiveCopying(MadSelectiveCopyingConfig(vocab_size=6, length=12, n_tokens=3))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [1, 4, 4, 2, 4, 4, 4, 0, 5, 4, 4, 4]
    assert batch.targets[0, -3:].tolist() == [1, 2, 0]
    assert task.words([1, 4, 5]) == ["1", ".", "copy"]


def test_losses():
    task = MadSelectiveCopying(MadSelectiveCopyingConfig())
    assert task.chance_loss == task.memoryless_loss == math.log(14)
    assert task.floor_loss == 0


@pytest.mark.parametrize("n_train", [None, 100])
def test_splits_share_no_sequence(n_train):
    task = MadSelectiveCopying(MadSelectiveCopyingConfig(vocab_size=5, length=10, n_tokens=3, n_train=n_train))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 800, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 3}, "vocab_size: must be at least 4 .* got 3; nearest valid: 4"),
        ({"n_tokens": 0}, "n_tokens: must be at least 1, got 0; nearest valid: 1"),
        ({"length": 33}, r"length: must be at least 2 \* n_tokens \+ 2 = 34 .* got 33; nearest valid: 34"),
        ({"n_train": 0}, "n_train: must be at least 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MadSelectiveCopyingConfig(**options)
