"""Key-value retrieval: a dictionary of the pairs answers every question, both ways."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import SPLITS, KeyValue, KeyValueConfig, Task, task_rng


@st.composite
def configs(draw):
    fewest = draw(st.integers(1, 6))
    return KeyValueConfig(
        n_bits=draw(st.integers(5, 31)),
        min_pairs=fewest,
        max_pairs=fewest + draw(st.integers(0, 20)),
        two_way=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=KeyValueConfig(), seed=0, split="train")
@example(config=KeyValueConfig(two_way=True), seed=0, split="test")
def test_a_dictionary_of_the_pairs_answers_everything(config, seed, split):
    task, n = KeyValue(config), config.n_bits
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    assert batch.inputs.shape == (4, task.length, 2 * n + (2 if config.two_way else 1))
    assert batch.targets.shape == (4, task.length, n)
    for row in range(4):
        inputs, targets = batch.inputs[row], batch.targets[row]
        (pairs,) = np.flatnonzero(inputs[:, 2 * n])
        assert config.min_pairs <= pairs <= config.max_pairs
        keys = [inputs[place, :n].tobytes() for place in range(pairs)]
        values = [inputs[place, n : 2 * n].tobytes() for place in range(pairs)]
        assert len(set(keys)) == pairs
        blocks = [(keys, values, pairs + 1)]
        if config.two_way:
            assert np.flatnonzero(inputs[:, 2 * n + 1]).tolist() == [2 * pairs + 1]
            assert len(set(values)) == pairs
            blocks.append((values, keys, 2 * pairs + 2))
        scored = []
        for way, (asked, answers, begins) in enumerate(blocks):
            items = []
            for question in range(pairs):
                position = begins + question
                assert not inputs[position, n:].any()
                item = asked.index(inputs[position, :n].tobytes())
                assert targets[position].tobytes() == answers[item]
                known = {name: int(values[row, position]) for name, values in batch.about.items()}
                expected = {
                    "distance": position - item,
                    "item": item,
                    "load": pairs,
                    "query": way * pairs + question,
                }
                assert known == expected
                items.append(item)
                scored.append(position)
            assert sorted(items) == list(range(pairs))
        assert np.isnan(np.delete(targets, scored, axis=0)).all()
        assert not inputs[scored[-1] + 1 :].any()
        assert not inputs[:pairs, 2 * n :].any()
    unscored = np.isnan(batch.targets).all(-1)
    assert all(((values == -1) == unscored).all() for values in batch.about.values())


def test_questions_come_in_every_order_and_each_way_has_its_own():
    task = KeyValue(KeyValueConfig(min_pairs=3, max_pairs=3, two_way=True))
    batch = task.batch(task_rng(0, "train", 0), 12_000, "train")
    first, second = (batch.about["item"][:, start : start + 3] @ np.array([9, 3, 1]) for start in (4, 8))
    both = np.unique(first * 27 + second, return_counts=True)[1]
    assert both.size == 36
    assert (np.abs(both - 12_000 / 36) < 5 * math.sqrt(12_000 / 36)).all()


def test_keys_stand_in_no_order():
    """In the source they ascend."""
    batch = KeyValue(KeyValueConfig(min_pairs=2, max_pairs=2)).batch(task_rng(0, "train", 0), 10_000, "train")
    keys = batch.inputs[:, :2, :6] @ (2.0 ** np.arange(6)[::-1])
    assert (keys[:, 0] < keys[:, 1]).mean() == pytest.approx(0.5, abs=0.025)


def test_values_may_be_equal_only_where_they_are_not_asked():
    def equal(two_way):
        config = KeyValueConfig(n_bits=2, min_pairs=2, max_pairs=2, two_way=two_way)
        inputs = KeyValue(config).batch(task_rng(0, "train", 0), 5000, "train").inputs
        return (inputs[:, 0, 2:4] == inputs[:, 1, 2:4]).all(1).mean()

    assert equal(two_way=False) == pytest.approx(0.25, abs=0.08)
    assert equal(two_way=True) == 0


def test_the_sequence_of_the_first_release():
    task = KeyValue(KeyValueConfig(n_bits=3, min_pairs=2, max_pairs=3))
    batch = task.batch(task_rng(4, "train", 0), 1, "train")
    read = "111:010 001:100 keys? 001:000 111:000 000:000 000:000"
    assert " ".join(task.words(batch.inputs[0].tolist())) == read
    assert " ".join(task.words(batch.targets[0].tolist())) == ". . . 100 010 . ."


def test_the_two_way_sequence_of_the_first_release():
    task = KeyValue(KeyValueConfig(n_bits=3, min_pairs=2, max_pairs=3, two_way=True))
    batch = task.batch(task_rng(3, "train", 0), 1, "train")
    read = "001:011 011:110 keys? 011:000 001:000 values? 110:000 011:000 000:000 000:000 000:000"
    assert " ".join(task.words(batch.inputs[0].tolist())) == read
    assert " ".join(task.words(batch.targets[0].tolist())) == ". . . 110 011 . 011 001 . . ."


@pytest.mark.parametrize("two_way", [False, True])
def test_losses_by_what_is_seen_at_scored_positions(two_way):
    """The present vector names one of 32 keys; the entropy of every bit of the answer, given which."""
    task = KeyValue(KeyValueConfig(n_bits=5, min_pairs=2, max_pairs=6, two_way=two_way))
    batch = task.batch(task_rng(0, "train", 0), 40_000, "train")
    scored = ~np.isnan(batch.targets).any(-1)
    assert not batch.inputs[scored][:, 5:].any()
    seen, wanted = batch.inputs[scored][:, :5] @ (2.0 ** np.arange(5)), batch.targets[scored]
    nats = 0.0
    for key in range(32):
        rate = wanted[seen == key].mean(0)
        nats -= (seen == key).mean() * (rate * np.log(rate) + (1 - rate) * np.log1p(-rate)).mean()
    assert nats == pytest.approx(task.memoryless_loss, abs=3e-4)
    assert task.chance_loss == task.memoryless_loss == math.log(2)
    assert task.floor_loss == 0


@pytest.mark.parametrize("two_way", [False, True])
def test_splits_share_no_list_of_pairs(two_way):
    seen = {}
    for split in SPLITS:
        seen[split] = set()
        for most in (1, 3):
            task = KeyValue(KeyValueConfig(n_bits=4, min_pairs=1, max_pairs=most, two_way=two_way))
            batch = task.batch(np.random.default_rng(0), 1500, split)
            counts = batch.about["load"].max(1)
            seen[split] |= {row[:n, :8].tobytes() for row, n in zip(batch.inputs, counts, strict=True)}
    assert all(len(part) > 20 for part in seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_it_has_the_shape_of_a_task():
    for two_way, shape in ((False, (13, 6, 33)), (True, (14, 6, 50))):
        task = KeyValue(KeyValueConfig(two_way=two_way))
        assert isinstance(task, Task)
        assert (task.n_channels, task.n_outputs, task.length) == shape
        assert task.vocab_size == 0
        assert all(task.n_sequences(split) is None for split in SPLITS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_bits": 32}, "KeyValueConfig.n_bits: must be between 1 and 31, got 32; nearest valid: 31"),
        ({"max_pairs": 65}, r"max_pairs: must be between 1 and 64 = 2\^n_bits, got 65; nearest valid: 64"),
        ({"max_pairs": 0}, "max_pairs: must be between 1 and 64 .* got 0; nearest valid: 1"),
        ({"min_pairs": 0}, "min_pairs: must be between 1 and 16 = max_pairs, got 0; nearest valid: 1"),
        ({"min_pairs": 17}, "min_pairs: must be between 1 and 16 = max_pairs, got 17; nearest valid: 16"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        KeyValueConfig(**options)
