"""MAD memorisation: one map for all splits and runs, which no sequence shows."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, MadMemorisation, MadMemorisationConfig, task_rng


@settings(deadline=None, max_examples=60)
@given(
    vocab_size=st.integers(8, 300),
    pairs=st.integers(4, 20),
    map_seed=st.integers(0, 2**64 - 1),
    seed=st.integers(0, 2**32),
    split=st.sampled_from(SPLITS),
)
@example(vocab_size=256, pairs=16, map_seed=12345, seed=0, split="train")
def test_one_who_knows_the_map_answers_every_key(vocab_size, pairs, map_seed, seed, split):
    config = MadMemorisationConfig(vocab_size=vocab_size, length=2 * pairs, map_seed=map_seed, n_train=7)
    task, n_keys = MadMemorisation(config), (vocab_size - 1) // 2
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    keys = batch.inputs[:, 0::2]
    assert keys.min() >= 0
    assert keys.max() < n_keys
    assert (batch.inputs[:, 1::2] == vocab_size - 1).all()
    assert (batch.targets[:, 0::2] == IGNORE).all()
    assert np.array_equal(batch.targets[:, 1::2], task.value_of[keys])
    assert np.unique(task.value_of).size == task.value_of.size == n_keys
    assert task.value_of.min() >= n_keys
    assert task.value_of.max() < vocab_size - 1
    assert np.array_equal(batch.about["item"][:, 1::2], keys)
    assert set(np.unique(batch.about["distance"][:, 1::2])) == {1}
    assert set(np.unique(batch.about["load"][:, 1::2])) == {n_keys}
    assert batch.about["query"][0, 1::2].tolist() == list(range(pairs))
    assert all((values[:, 0::2] == -1).all() for values in batch.about.values())


def test_the_map_depends_on_its_seed_alone():
    maps = [
        MadMemorisation(MadMemorisationConfig(map_seed=seed, length=length)).value_of
        for seed, length in ((1, 32), (1, 64), (2, 32))
    ]
    assert np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_the_published_training_set_shows_nearly_every_key():
    keys = MadMemorisation(MadMemorisationConfig()).batch(task_rng(0, "train", 0), 4000, "train").inputs[:, 0::2]
    assert np.unique(keys).size == 127
    assert len(set(map(tuple, keys.tolist()))) == 256


def test_the_sequence_of_the_first_release():
    task = MadMemorisation(MadMemorisationConfig(vocab_size=8, length=8))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [0, 7, 0, 7, 2, 7, 2, 7]
    assert batch.targets[0, 1::2].tolist() == [4, 4, 5, 5]
    assert task.words([0, 7, 4]) == ["k0", "?", "v1"]


@pytest.mark.parametrize("vocab_size", [15, 16])
def test_one_who_guesses_by_frequency_reaches_the_memoryless_loss(vocab_size):
    task = MadMemorisation(MadMemorisationConfig(vocab_size=vocab_size, n_train=None))
    targets = task.batch(np.random.default_rng(0), 20_000, "train").targets
    shares = np.bincount(targets[targets >= 0]) / (targets >= 0).sum()
    shares = shares[shares > 0]
    assert math.isclose(-(shares * np.log(shares)).sum(), task.memoryless_loss, abs_tol=1e-3)
    assert task.chance_loss == math.log(vocab_size - 1 - (vocab_size - 1) // 2)
    assert task.floor_loss == 0 < task.memoryless_loss <= task.chance_loss


def test_splits_share_no_sequence():
    task = MadMemorisation(MadMemorisationConfig(vocab_size=9, length=8, n_train=None))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 800, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 4}, "vocab_size: must be at least 5 .* got 4; nearest valid: 5"),
        ({"length": 31}, "length: must be even and at least 2, got 31; nearest valid: 32"),
        ({"length": -3}, "got -3; nearest valid: 2"),
        ({"map_seed": -1}, "map_seed: must be at least 0 .* nearest valid: 0"),
        ({"n_train": 0}, "n_train: must be at least 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MadMemorisationConfig(**options)
