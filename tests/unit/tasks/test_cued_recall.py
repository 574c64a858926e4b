"""Cued recall: every key is asked once, of the pair it was stored with, in any order."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, CuedRecall, CuedRecallConfig, task_rng
from mnemoscope.tasks.episodes import memory_use


@st.composite
def configs(draw):
    n_keys = draw(st.integers(4, 40))
    return CuedRecallConfig(
        n_keys=n_keys, n_values=draw(st.integers(8, 40)), n_pairs=draw(st.integers(2, min(n_keys, 20)))
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32))
@example(config=CuedRecallConfig(), seed=0)
def test_a_reader_of_pairs_answers_every_query(config, seed):
    task, n = CuedRecall(config), config.n_pairs
    batch = task.batch(task_rng(seed, "train", 0), 3, "train")
    assert batch.inputs.shape == (3, 3 * n)
    assert task.reset_at == 2 * n
    assert (batch.targets[:, : 2 * n] == IGNORE).all()
    for row in range(3):
        tokens, answers = batch.inputs[row].tolist(), batch.targets[row].tolist()
        keys, values, asked = tokens[: 2 * n : 2], tokens[1 : 2 * n : 2], tokens[2 * n :]
        assert set(keys) <= set(range(config.n_keys))
        assert set(values) <= set(range(config.n_keys, task.vocab_size))
        assert sorted(asked) == sorted(set(keys)) == sorted(keys)
        for query, key in enumerate(asked):
            at, item = 2 * n + query, keys.index(key)
            assert answers[at] == values[item]
            expected = {"distance": at - (2 * item + 1), "item": item, "load": n, "query": query}
            assert {name: known[row, at] for name, known in batch.about.items()} == expected
    assert all((known[:, : 2 * n] == -1).all() for known in batch.about.values())


def test_the_sequence_of_the_first_release():
    task = CuedRecall(CuedRecallConfig(n_keys=8, n_values=8, n_pairs=3))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [6, 8, 1, 15, 0, 9, 0, 1, 6]
    assert batch.targets[0, 6:].tolist() == [9, 15, 8]
    assert task.words(batch.inputs[0, :4].tolist()) == ["k6", "v0", "k1", "v7"]


def test_halves_are_the_batch():
    task = CuedRecall(CuedRecallConfig())
    batch = task.batch(task_rng(0, "test", 3), 5, "test")
    episode = task.episode(task_rng(0, "test", 3), 5, "test")
    assert np.array_equal(batch.inputs[:, : task.reset_at], episode.storage.inputs)
    assert np.array_equal(batch.inputs[:, task.reset_at :], episode.retrieval.inputs)
    assert np.array_equal(batch.targets[:, task.reset_at :], episode.retrieval.targets)
    assert (episode.storage.targets == IGNORE).all()


def test_orders_and_values_are_uniform():
    task = CuedRecall(CuedRecallConfig(n_keys=64, n_values=4, n_pairs=3))
    about = task.episode(np.random.default_rng(0), 12_000, "train").retrieval.about["item"]
    for order in itertools.permutations(range(3)):
        assert abs((about == order).all(axis=1).sum() - 2000) < 5 * math.sqrt(12_000 * 5 / 36)
    values = task._pairs(np.random.default_rng(0), 30_000)[0][:, 3:] - 64
    counts = np.bincount(values @ [16, 4, 1], minlength=64)
    assert (np.abs(counts - 30_000 / 64) < 5 * math.sqrt(30_000 / 64)).all()


def test_controls_bring_a_reader_of_pairs_down_to_chance():
    task = CuedRecall(CuedRecallConfig())
    episode = task.episode(np.random.default_rng(0), 400, "validation")

    def read(storage, asked):
        pairs = [dict(zip(row[::2], row[1::2], strict=True)) for row in storage.inputs.tolist()]
        return np.array([[known.get(key, 64) for key in row] for known, row in zip(pairs, asked.inputs, strict=True)])

    use = memory_use(
        episode.retrieval.targets,
        memory=read(episode.storage, episode.retrieval),
        reset=np.full_like(episode.retrieval.targets, 64),
        wrong=read(episode.wrong().storage, episode.retrieval),
    )
    assert use.memory.mean == 1
    assert abs(use.reset.mean - 1 / 64) < 5 * use.reset.se
    assert abs(use.wrong.mean - 1 / 64) < 5 * use.wrong.se
    assert use.used


def test_losses():
    task = CuedRecall(CuedRecallConfig(n_keys=3, n_values=5, n_pairs=1))
    assert task.chance_loss == task.memoryless_loss == math.log(5)
    assert task.floor_loss == 0
    assert task.vocab_size == 8
    assert task.length == 3


def test_a_key_alone_says_nothing_of_its_value():
    task = CuedRecall(CuedRecallConfig(n_keys=4, n_values=4, n_pairs=2))
    asked = task.episode(np.random.default_rng(0), 20_000, "train").retrieval
    table = np.zeros((4, 4))
    np.add.at(table, (asked.inputs, asked.targets - 4), 1)
    shares = table / table.sum()
    entropy = -(shares * np.log(shares / shares.sum(1, keepdims=True))).sum()
    # The splits own whole pairs of pairs, of which there are few here: the law of training is a little uneven.
    assert entropy == pytest.approx(task.memoryless_loss, abs=0.02)


def test_splits_share_no_pairs():
    task = CuedRecall(CuedRecallConfig(n_keys=6, n_values=4, n_pairs=2))
    seen = {
        split: set(map(tuple, task.episode(np.random.default_rng(0), 1000, split).storage.inputs.tolist()))
        for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_keys": 0}, "n_keys: must be at least 1, got 0; nearest valid: 1"),
        ({"n_values": 1}, "n_values: must be at least 2, got 1; nearest valid: 2"),
        ({"n_pairs": 65}, r"n_pairs: must be between 1 and n_keys = 64 .* got 65; nearest valid: 64"),
        ({"n_pairs": 0}, "n_pairs: must be between 1 .* got 0; nearest valid: 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        CuedRecallConfig(**options)


def test_too_few_sequences_to_hold_some_out():
    with pytest.raises(ValueError, match="so few different sequences exist"):
        CuedRecall(CuedRecallConfig(n_keys=1, n_values=2, n_pairs=1)).batch(task_rng(0, "test", 0), 40, "test")
