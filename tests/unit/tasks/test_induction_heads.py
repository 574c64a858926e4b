"""Induction heads: the special token stands twice, and what followed it the first time is asked."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, InductionHeads, InductionHeadsConfig, task_rng
from mnemoscope.tasks.induction_heads import TEST_LENGTHS, length_ladder


@settings(deadline=None, max_examples=60)
@given(vocab_size=st.integers(3, 40), length=st.integers(3, 200), seed=st.integers(0, 2**32))
@example(vocab_size=16, length=256, seed=0)
@example(vocab_size=30, length=3, seed=0)
def test_a_reader_of_the_special_token_answers(vocab_size, length, seed):
    config = InductionHeadsConfig(vocab_size=vocab_size, length=length)
    batch = InductionHeads(config).batch(task_rng(seed, "train", 0), 4, "train")
    assert (batch.targets[:, :-1] == IGNORE).all()
    for row in range(4):
        first, last = np.flatnonzero(batch.inputs[row] == 0)
        assert last == length - 1
        assert batch.targets[row, -1] == batch.inputs[row, first + 1]
        about = {name: int(values[row, -1]) for name, values in batch.about.items()}
        assert about == {"distance": last - first - 1, "item": 0, "load": 1, "query": 0}
    assert all((values[:, :-1] == -1).all() for values in batch.about.values())


def test_places_and_tokens_are_uniform():
    batch = InductionHeads(InductionHeadsConfig(vocab_size=4, length=12)).batch(
        np.random.default_rng(0), 20_000, "train"
    )
    places = np.bincount((batch.inputs[:, :-1] == 0).argmax(axis=1), minlength=10)
    assert (np.abs(places - 2000) < 5 * math.sqrt(20_000 * 0.09)).all()
    tokens = np.bincount(batch.inputs[batch.inputs > 0], minlength=4)[1:]
    assert (np.abs(tokens / tokens.sum() - 1 / 3) < 0.01).all()
    answers = np.bincount(batch.targets[:, -1], minlength=4)[1:]
    assert (np.abs(answers - 20_000 / 3) < 5 * math.sqrt(20_000 * 2 / 9)).all()


def test_the_sequence_of_the_first_release():
    task = InductionHeads(InductionHeadsConfig(vocab_size=6, length=10))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [0, 2, 2, 1, 3, 2, 3, 3, 1, 0]
    assert batch.targets[0, -1] == 2
    assert task.words([0, 2]) == ["*", "2"]


def test_losses():
    task = InductionHeads(InductionHeadsConfig())
    assert task.chance_loss == task.memoryless_loss == math.log(15)
    assert task.floor_loss == 0


def test_the_ladder_is_the_published_one_and_its_longest_sequences_can_be_drawn():
    ladder = length_ladder(InductionHeadsConfig())
    assert TEST_LENGTHS[0] == 64
    assert TEST_LENGTHS[-1] == 2**20
    assert [config.length for config in ladder] == [2**i for i in range(6, 21)]
    assert {config.vocab_size for config in ladder} == {16}
    batch = InductionHeads(ladder[-1]).batch(task_rng(0, "test", 0), 1, "test")
    assert np.flatnonzero(batch.inputs[0] == 0).size == 2


def test_splits_share_no_beginning():
    task = InductionHeads(InductionHeadsConfig(vocab_size=3, length=10))
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), 1000, split).inputs.tolist())) for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize("name", ["vocab_size", "length"])
def test_config_refuses(name):
    with pytest.raises(ValueError, match=f"{name}: must be at least 3, got 2; nearest valid: 3"):
        InductionHeadsConfig(**{name: 2})
