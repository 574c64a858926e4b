"""Forgetting MQAR: the last value counts, a rewrite never repeats the old one, and stale answers are told apart."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks import SPLITS, Forgetting, ForgettingConfig, task_rng
from mnemoscope.tasks.forgetting import accuracy_untouched, accuracy_updated, stale_answers, stale_rate

SIGMAS = 5


@st.composite
def configs(draw):
    vocab_size = draw(st.integers(4, 120))
    n_pairs = draw(st.integers(1, min(vocab_size // 2 - 1, 16)))
    n_updates = draw(st.integers(0, n_pairs))
    return ForgettingConfig(
        vocab_size=vocab_size,
        length=4 * n_pairs + 2 * n_updates + 2 * draw(st.integers(0, 12)),
        n_pairs=n_pairs,
        n_updates=n_updates,
        power_a=draw(st.sampled_from([0.01, 1.0])),
        random_non_queries=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32))
@example(config=ForgettingConfig(), seed=0)
@example(config=ForgettingConfig(vocab_size=4, length=6, n_pairs=1, n_updates=1), seed=0)
def test_a_reader_that_overwrites_answers_every_query(config, seed):
    n, written = config.n_pairs, 2 * (config.n_pairs + config.n_updates)
    batch = Forgetting(config).batch(task_rng(seed, "train", 0), 4, "train")
    for row, (inputs, targets) in enumerate(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)):
        last, old, written_at = {}, {}, {}
        for position in range(0, written, 2):
            key, value = inputs[position : position + 2]
            assert 1 <= key < config.vocab_size // 2 <= value < config.vocab_size
            assert (position >= 2 * n) == (key in last)
            if key in last:
                assert key not in old
                assert value != last[key]
                old[key] = last[key]
            last[key], written_at[key] = value, position + 1
        assert len(last) == n
        assert len(old) == config.n_updates
        assert len({inputs[position] for position in range(1, 2 * n, 2)}) == n
        asked = [position for position, target in enumerate(targets) if target != IGNORE]
        assert sorted(inputs[position] for position in asked) == sorted(last)
        assert all(position >= written and position % 2 == 0 for position in asked)
        assert [targets[position] for position in asked] == [last[inputs[position]] for position in asked]
        stale = stale_answers(batch)[row].tolist()
        assert [stale[position] for position in asked] == [old.get(inputs[position], -1) for position in asked]
        assert sum(value >= 0 for value in stale) == config.n_updates
        for query, position in enumerate(asked):
            about = {name: int(values[row, position]) for name, values in batch.about.items()}
            assert position - about["distance"] == written_at[inputs[position]]
            assert inputs[2 * about["item"]] == inputs[position]
            assert (about["load"], about["query"]) == (n, query)
        fillers = [inputs[position] for position in range(written, config.length) if targets[position] == IGNORE]
        assert config.random_non_queries or not any(fillers)
    assert all(np.array_equal(values >= 0, batch.targets != IGNORE) for values in batch.about.values())


def test_the_sequence_of_the_first_release():
    config = ForgettingConfig(vocab_size=12, length=14, n_pairs=2, n_updates=1, random_non_queries=False)
    batch = Forgetting(config).batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [1, 10, 4, 7, 4, 6, 1, 0, 0, 0, 4, 0, 0, 0]
    assert {i: int(t) for i, t in enumerate(batch.targets[0]) if t != IGNORE} == {6: 10, 10: 6}


@pytest.fixture
def drawn():
    """The sequence that the docstring draws: key 2 is updated from 8 to 11, key 4 is untouched."""
    inputs = np.array([[2, 8, 4, 7, 2, 11, 4, 0, 0, 0, 2, 0, 0, 0]])
    targets, item = np.full_like(inputs, IGNORE), np.full_like(inputs, -1)
    targets[0, [6, 10]], item[0, [6, 10]] = [7, 11], [1, 0]
    return Batch(inputs=inputs, targets=targets, about={"item": item})


@pytest.mark.parametrize(
    ("answers", "updated", "untouched", "stale"),
    [((7, 11), 1.0, 1.0, 0.0), ((7, 8), 0.0, 1.0, 1.0), ((8, 11), 1.0, 0.0, 0.0), ((11, 7), 0.0, 0.0, 0.0)],
)
def test_metrics_on_the_drawn_sequence(drawn, answers, updated, untouched, stale):
    predictions = np.zeros((1, 14), dtype=np.int64)
    predictions[0, [6, 10]] = answers
    assert np.flatnonzero(stale_answers(drawn)[0] >= 0).tolist() == [10]
    assert stale_answers(drawn)[0, 10] == 8
    assert accuracy_updated(predictions, drawn) == updated
    assert accuracy_untouched(predictions, drawn) == untouched
    assert stale_rate(predictions, drawn) == stale


def test_a_reader_of_first_values_is_stale_and_metrics_of_absent_keys_are_none():
    task = Forgetting(ForgettingConfig(vocab_size=40, length=40, n_pairs=6, n_updates=3))
    batch = task.batch(task_rng(0, "test", 0), 50, "test")
    stale = stale_answers(batch)
    first_values = np.where(stale >= 0, stale, batch.targets)
    assert accuracy_updated(first_values, batch) == 0
    assert accuracy_untouched(first_values, batch) == stale_rate(first_values, batch) == 1
    never = Forgetting(ForgettingConfig(n_updates=0)).batch(task_rng(0, "test", 0), 4, "test")
    assert accuracy_updated(never.targets, never) is stale_rate(never.targets, never) is None
    assert accuracy_untouched(never.targets, never) == 1
    always = Forgetting(ForgettingConfig(n_updates=8)).batch(task_rng(0, "test", 0), 4, "test")
    assert accuracy_untouched(always.targets, always) is None


def test_rewrites_are_uniform_among_other_values_and_so_are_updated_keys():
    task = Forgetting(ForgettingConfig(vocab_size=10, length=12, n_pairs=2, n_updates=1))
    batch = task.batch(np.random.default_rng(0), 20_000, "train")
    first = np.where(batch.inputs[:, 4] == batch.inputs[:, 0], batch.inputs[:, 1], batch.inputs[:, 3])
    # Where few sequences exist, a split owns an uneven part of them: the law is that of all that are drawn.
    written, updated = task._written(np.random.default_rng(0), 20_000)
    old = np.take_along_axis(written[:, 1:4:2], updated, axis=1)[:, 0]
    steps = np.bincount((written[:, 5] - old) % 5, minlength=5)
    assert steps[0] == 0
    assert (np.abs(steps[1:] - 5000) < SIGMAS * math.sqrt(20_000 * 3 / 16)).all()
    assert abs(updated.mean() - 0.5) < SIGMAS * 0.5 / math.sqrt(20_000)
    assert (first != batch.inputs[:, 5]).all()


def test_the_key_alone_says_nothing_of_the_last_value():
    task = Forgetting(ForgettingConfig(vocab_size=10, length=24, n_pairs=4, n_updates=2))
    batch = task.batch(np.random.default_rng(0), 20_000, "train")
    asked = batch.targets != IGNORE
    counts = np.zeros((5, 5))
    np.add.at(counts, (batch.inputs[asked], batch.targets[asked] - 5), 1)
    shares = counts[1:] / counts[1:].sum(1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(1).mean()
    assert math.isclose(entropy, task.memoryless_loss, abs_tol=1e-3)
    assert task.memoryless_loss == task.chance_loss == math.log(5)
    assert task.floor_loss == 0


def test_splits_share_no_context():
    task = Forgetting(ForgettingConfig(vocab_size=12, length=6, n_pairs=1, n_updates=1))
    seen = {
        split: {tuple(row[:4]) for row in task.batch(np.random.default_rng(0), 1000, split).inputs.tolist()}
        for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 3}, "ForgettingConfig.vocab_size: must be at least 4 .* nearest valid: 4"),
        ({"n_updates": 9}, "n_updates: must be between 0 and n_pairs = 8, got 9; nearest valid: 8"),
        ({"n_updates": -1}, "got -1; nearest valid: 0"),
        ({"length": 38}, r"at least 4 \* n_pairs \+ 2 \* n_updates = 40 .* got 38; nearest valid: 40"),
        ({"length": 41}, "got 41; nearest valid: 42"),
        ({"power_a": -1.0}, "ForgettingConfig.power_a: must be positive"),
        ({"n_pairs": 4096}, "n_pairs: .* nearest valid: 4095, or vocab_size >= 8194"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ForgettingConfig(**options)
