"""Sparse parity: the secret bits alone decide, they are the same everywhere, and no fewer of them tell anything."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, task_rng
from mnemoscope.tasks.sparse_parity import SparseParity, SparseParityConfig


@st.composite
def configs(draw):
    n_bits = draw(st.integers(8, 100))
    return SparseParityConfig(
        n_bits=n_bits,
        n_relevant=draw(st.integers(1, n_bits)),
        n_train=draw(st.none() | st.integers(1, min(300, 2 ** (n_bits - 1)))),
        data_seed=draw(st.integers(0, 2**64 - 1)),
    )


def parity(row, secret):
    odd = False
    for place in secret:
        odd ^= row[place] == 1
    return int(odd)


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=SparseParityConfig(), seed=0, split="train")
@example(config=SparseParityConfig(n_bits=32, n_relevant=32), seed=0, split="test")
@example(config=SparseParityConfig(n_bits=8, n_relevant=1, n_train=128), seed=0, split="train")
def test_one_who_knows_the_secret_answers(config, seed, split):
    task, n = SparseParity(config), config.n_bits
    secret = task.secret.tolist()
    assert secret == sorted(set(secret))
    assert len(secret) == config.n_relevant
    assert 0 <= secret[0] <= secret[-1] < n
    batch = task.batch(task_rng(seed, split, 0), 5, split)
    assert batch.inputs.shape == (5, n + 1) == (5, task.length)
    assert set(np.unique(batch.inputs[:, :n])) <= {0, 1}
    assert (batch.inputs[:, n] == 2).all()
    assert (batch.targets[:, :n] == IGNORE).all()
    assert batch.targets[:, n].tolist() == [parity(row, secret) for row in batch.inputs.tolist()]
    assert (batch.about["distance"][:, n] == n - secret[-1]).all()
    assert (batch.about["load"][:, n] == config.n_relevant).all()
    assert (batch.about["query"][:, n] == 0).all()
    assert all((values[:, :n] == -1).all() for values in batch.about.values())


def test_bits_are_fair_and_independent_in_every_word():
    task = SparseParity(SparseParityConfig(n_bits=70, n_train=None))
    bits = task.batch(np.random.default_rng(0), 20_000, "train").inputs[:, :-1] * 2.0 - 1
    correlations = bits.T @ bits / len(bits)
    assert (np.abs(bits.mean(axis=0)) < 5 / math.sqrt(20_000)).all()
    assert (np.abs(correlations - np.eye(70)) < 5.5 / math.sqrt(20_000)).all()


def test_the_bits_that_count_tell_all_and_fewer_of_them_nothing():
    task = SparseParity(SparseParityConfig(n_bits=12, n_train=None))
    batch = task.batch(np.random.default_rng(0), 20_000, "train")
    bits, answer = batch.inputs[:, :-1] * 2 - 1, batch.targets[:, -1] * 2 - 1
    for size in range(4):
        for places in itertools.combinations(range(12), size):
            agreement = abs((bits[:, places].prod(axis=1) * answer).mean())
            assert agreement == 1 if places == tuple(task.secret) else agreement < 0.05


def test_every_set_of_places_may_be_the_secret():
    of_seed = [SparseParityConfig(n_bits=8, n_relevant=2, n_train=1, data_seed=seed) for seed in range(2800)]
    drawn = [tuple(SparseParity(config).secret) for config in of_seed]
    counts = [drawn.count(places) for places in itertools.combinations(range(8), 2)]
    assert sum(counts) == 2800
    assert max(abs(count - 100) for count in counts) < 50


def test_secret_and_training_strings_depend_on_the_data_seed_alone():
    def data(**options):
        task = SparseParity(SparseParityConfig(n_bits=20, n_train=40, **options))
        drawn = task.batch(np.random.default_rng(options.get("n_relevant", 3)), 40, "train").inputs
        return task.secret.tolist(), sorted(drawn.tolist())

    assert data() == data()
    assert data()[1] == data(n_relevant=5)[1]
    assert data()[0] != data(data_seed=1)[0]
    assert data()[1] != data(data_seed=1)[1]


@pytest.mark.parametrize(("n_bits", "n_train"), [(8, 128), (33, 500)])
def test_a_full_batch_holds_every_training_string_once(n_bits, n_train):
    task = SparseParity(SparseParityConfig(n_bits=n_bits, n_train=n_train))
    batch = task.batch(task_rng(0, "train", 0), n_train, "train")
    assert len(set(map(tuple, batch.inputs.tolist()))) == n_train
    twice = task.batch(task_rng(0, "train", 1), 2 * n_train, "train")
    assert sorted(twice.inputs.tolist()) == sorted(2 * batch.inputs.tolist())


@pytest.mark.parametrize("n_train", [None, 60])
def test_splits_share_no_string(n_train):
    task = SparseParity(SparseParityConfig(n_bits=8, n_train=n_train))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 2000, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_losses():
    task = SparseParity(SparseParityConfig())
    assert task.chance_loss == task.memoryless_loss == math.log(2)
    assert task.floor_loss == 0
    answers = task.batch(np.random.default_rng(0), 20_000, "test").targets[:, -1]
    assert abs(answers.mean() - 0.5) < 5 * 0.5 / math.sqrt(20_000)


def test_the_strings_of_the_first_release():
    task = SparseParity(SparseParityConfig(n_bits=8, n_train=None))
    assert task.secret.tolist() == [0, 5, 6]
    batch = task.batch(task_rng(0, "train", 0), 2, "train")
    assert batch.inputs.tolist() == [[1, 0, 1, 1, 0, 0, 1, 1, 2], [0, 1, 0, 0, 1, 1, 0, 1, 2]]
    assert batch.targets[:, -1].tolist() == [0, 1]
    assert task.words([1, 0, 2]) == ["1", "0", "?"]
    fixed = SparseParity(SparseParityConfig(n_bits=40, n_relevant=4, n_train=5))
    assert fixed.secret.tolist() == [12, 21, 22, 35]
    row = fixed.batch(task_rng(0, "train", 0), 2, "train").inputs[0, :-1]
    assert "".join(map(str, row)) == "1000101110010001100011111110100101011010"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_bits": 7}, "n_bits: must be at least 8 .* got 7; nearest valid: 8"),
        ({"n_relevant": 0}, "n_relevant: must be between 1 and n_bits = 43, got 0; nearest valid: 1"),
        ({"n_relevant": 44}, "got 44; nearest valid: 43"),
        ({"n_train": 0}, "n_train: must be None or between 1 and .* got 0; nearest valid: 1"),
        ({"n_bits": 8, "n_train": 129}, "half of all strings, got 129; nearest valid: 128"),
        ({"data_seed": -1}, "data_seed: must be at least 0 .* got -1; nearest valid: 0"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        SparseParityConfig(**options)
