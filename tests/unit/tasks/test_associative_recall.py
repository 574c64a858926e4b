"""Associative recall: a reader of the list finds the item after the one that is shown."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import SPLITS, AssociativeRecall, AssociativeRecallConfig, Task, task_rng


@st.composite
def configs(draw):
    n_bits = draw(st.integers(1, 31))
    n_vectors = draw(st.integers(-(-8 // n_bits), min(8, 62 // n_bits)) if n_bits < 8 else st.integers(1, 62 // n_bits))
    fewest = draw(st.integers(2, 6))
    return AssociativeRecallConfig(
        n_bits=n_bits, n_vectors=n_vectors, min_items=fewest, max_items=fewest + draw(st.integers(0, 8))
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=AssociativeRecallConfig(), seed=0, split="train")
@example(config=AssociativeRecallConfig(min_items=7, max_items=12), seed=0, split="test")
def test_a_reader_of_the_list_answers(config, seed, split):
    task, n, k = AssociativeRecall(config), config.n_bits, config.n_vectors
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    assert batch.inputs.shape == (4, task.length, n + 2)
    assert batch.targets.shape == (4, task.length, n)
    for row in range(4):
        inputs, targets = batch.inputs[row], batch.targets[row]
        starts = np.flatnonzero(inputs[:, n])
        count = len(starts)
        assert config.min_items <= count <= config.max_items
        assert starts.tolist() == [(k + 1) * item for item in range(count)]
        items = [inputs[start + 1 : start + 1 + k, :n].tobytes() for start in starts]
        assert len(set(items)) == count
        opens, closes = np.flatnonzero(inputs[:, n + 1])
        assert (opens, closes) == (count * (k + 1), (count + 1) * (k + 1))
        assert not inputs[np.r_[starts, opens, closes], :n].any()
        assert not inputs[closes + 1 :].any()
        answer = items.index(inputs[opens + 1 : closes, :n].tobytes()) + 1
        asked = slice(closes + 1, closes + 1 + k)
        assert targets[asked].tobytes() == items[answer]
        assert np.isnan(np.delete(targets, np.r_[asked], axis=0)).all()
        assert set(batch.about["distance"][row, asked].tolist()) == {closes - starts[answer]}
        assert set(batch.about["item"][row, asked].tolist()) == {answer}
        assert set(batch.about["load"][row, asked].tolist()) == {count}
        assert set(batch.about["query"][row, asked].tolist()) == {0}
    unscored = np.isnan(batch.targets).all(-1)
    assert all(((values == -1) == unscored).all() for values in batch.about.values())


def test_counts_and_queries_are_uniform():
    batch = AssociativeRecall(AssociativeRecallConfig()).batch(task_rng(0, "train", 0), 20_000, "train")
    counts, answers = batch.about["load"].max(1), batch.about["item"].max(1)
    assert (np.abs(np.bincount(counts)[2:] - 4000) < 5 * math.sqrt(20_000 * 0.16)).all()
    for count in range(2, 7):
        chosen = np.bincount(answers[counts == count], minlength=count)
        expected = chosen.sum() / (count - 1)
        assert chosen[0] == 0
        assert (np.abs(chosen[1:] - expected) < 5 * math.sqrt(expected) + 1e-9).all()


def test_every_item_can_be_used_up():
    """Four items of two bits: a permutation of all there are."""
    task = AssociativeRecall(AssociativeRecallConfig(n_bits=2, n_vectors=1, min_items=4, max_items=4))
    batch = task.batch(task_rng(0, "train", 0), 50, "train")
    shown = batch.inputs[:, [1, 3, 5, 7], :2] @ np.array([2, 1])
    assert (np.sort(shown, axis=1) == np.arange(4)).all()


def test_the_sequence_of_the_first_release():
    task = AssociativeRecall(AssociativeRecallConfig(n_bits=4, n_vectors=2, min_items=2, max_items=4))
    batch = task.batch(task_rng(1, "train", 0), 1, "train")
    read = "item 1110 1110 item 1100 1110 item 0100 1001 query 1110 1110 query 0000 0000 0000 0000 0000"
    assert " ".join(task.words(batch.inputs[0].tolist())) == read
    assert task.words(batch.targets[0].tolist()) == [*"." * 13, "1100", "1110", *"." * 3]


def test_losses_by_what_is_seen_at_scored_positions():
    task = AssociativeRecall(AssociativeRecallConfig(n_bits=4, n_vectors=1, max_items=6))
    batch = task.batch(task_rng(0, "train", 0), 60_000, "train")
    scored = ~np.isnan(batch.targets).any(-1)
    assert not batch.inputs[scored].any()
    rate = batch.targets[scored].mean(0)
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    assert entropy == pytest.approx(np.full(4, task.memoryless_loss), abs=2e-4)
    assert task.chance_loss == task.memoryless_loss == math.log(2)
    assert task.floor_loss == 0


def test_splits_share_no_list_whatever_is_asked():
    seen = {}
    for split in SPLITS:
        seen[split] = set()
        for most in (2, 4):
            task = AssociativeRecall(AssociativeRecallConfig(n_bits=5, n_vectors=1, max_items=most))
            batch = task.batch(np.random.default_rng(0), 1500, split)
            counts = batch.about["load"].max(1)
            seen[split] |= {row[: 2 * n].tobytes() for row, n in zip(batch.inputs, counts, strict=True)}
    assert all(len(part) > 40 for part in seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_it_has_the_shape_of_a_task():
    task = AssociativeRecall(AssociativeRecallConfig())
    assert isinstance(task, Task)
    assert (task.vocab_size, task.n_channels, task.n_outputs, task.length) == (0, 8, 6, 32)
    assert all(task.n_sequences(split) is None for split in SPLITS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_bits": 0}, "AssociativeRecallConfig.n_bits: must be between 1 and 31, got 0; nearest valid: 1"),
        ({"n_vectors": 0}, "n_vectors: must be between 1 and 10 = 62 // n_bits, got 0; nearest valid: 1"),
        ({"n_bits": 30, "n_vectors": 3}, "n_vectors: must be between 1 and 2 = 62 // n_bits, got 3; nearest valid: 2"),
        ({"max_items": 1}, "max_items: must be between 2 and 262144 .* got 1; nearest valid: 2"),
        ({"n_bits": 1, "n_vectors": 2}, r"max_items: must be between 2 and 4 = 2\^\(n_bits \* n_vectors\), got 6"),
        ({"min_items": 1}, "min_items: must be between 2 and 6 = max_items, got 1; nearest valid: 2"),
        ({"min_items": 7}, "min_items: must be between 2 and 6 = max_items, got 7; nearest valid: 6"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        AssociativeRecallConfig(**options)
