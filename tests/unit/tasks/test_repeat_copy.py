"""Repeat copy: the vectors come back as often as the count says, and then the end."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import SPLITS, RepeatCopy, RepeatCopyConfig, Task, task_rng


@st.composite
def configs(draw):
    shortest, fewest = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    return RepeatCopyConfig(
        n_bits=draw(st.integers(5, 31)),
        min_length=shortest,
        max_length=shortest + draw(st.integers(0, 8)),
        min_repeats=fewest,
        max_repeats=fewest + draw(st.integers(0, 12)),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=RepeatCopyConfig(), seed=0, split="train")
def test_a_reader_of_vectors_and_count_answers_everything(config, seed, split):
    task, n = RepeatCopy(config), config.n_bits
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    assert batch.inputs.shape == (4, task.length, n + 2)
    assert batch.targets.shape == (4, task.length, n + 1)
    for row in range(4):
        inputs, targets = batch.inputs[row], batch.targets[row]
        (delimiter,) = np.flatnonzero(inputs[:, n])
        assert config.min_length <= delimiter <= config.max_length
        repeats = round(float(inputs[delimiter, n + 1]) * math.sqrt(8.25) + 5.5)
        assert config.min_repeats <= repeats <= config.max_repeats
        assert inputs[delimiter, n + 1] == pytest.approx((repeats - 5.5) / math.sqrt(8.25), abs=1e-6)
        assert not inputs[:delimiter, n:].any()
        assert not inputs[delimiter, :n].any()
        assert not inputs[delimiter + 1 :].any()
        position = delimiter + 1
        for copy in range(repeats):
            for item in range(delimiter):
                assert targets[position].tolist() == [*inputs[item, :n].tolist(), 0]
                known = {name: int(values[row, position]) for name, values in batch.about.items()}
                question = copy * delimiter + item
                expected = {"distance": position - item, "item": item, "load": delimiter + 1, "query": question}
                assert known == expected
                position += 1
        assert targets[position, n] == 1
        assert np.isnan(targets[position, :n]).all()
        known = {name: int(values[row, position]) for name, values in batch.about.items()}
        assert known == {
            "distance": position - delimiter,
            "item": delimiter,
            "load": delimiter + 1,
            "query": repeats * delimiter,
        }
        assert np.isnan(targets[: delimiter + 1]).all()
        assert np.isnan(targets[position + 1 :]).all()
        assert position == delimiter * (repeats + 1) + 1 <= task.length - 1
    unscored = np.isnan(batch.targets).all(-1)
    assert all(((values == -1) == unscored).all() for values in batch.about.values())


def test_the_longest_sequence_fills_its_length():
    task = RepeatCopy(RepeatCopyConfig(min_length=3, max_length=3, min_repeats=4, max_repeats=4))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.targets[0, -1, -1] == 1


def test_a_count_is_the_same_number_in_every_config():
    """And has mean 0 and variance 1 in the published range."""
    numbers = {}
    for most in (10, 20):
        task = RepeatCopy(RepeatCopyConfig(max_repeats=most, max_length=2))
        batch = task.batch(task_rng(0, "train", 0), 400, "train")
        rows, delimiters = np.nonzero(batch.inputs[:, :, -2])
        copies = (batch.about["query"].max(1) / delimiters).astype(int)
        numbers[most] = dict(zip(copies.tolist(), batch.inputs[rows, delimiters, -1].tolist(), strict=True))
    assert set(numbers[10]) == set(range(1, 11))
    assert numbers[10].items() <= numbers[20].items()
    assert np.mean(list(numbers[10].values())) == pytest.approx(0, abs=1e-6)
    assert np.var(list(numbers[10].values())) == pytest.approx(1, abs=1e-6)


def test_the_sequence_of_the_first_release():
    task = RepeatCopy(RepeatCopyConfig(n_bits=4, max_length=2, max_repeats=3))
    batch = task.batch(task_rng(2, "train", 0), 1, "train")
    assert " ".join(task.words(batch.inputs[0].tolist())) == "1000 0100 x2 0000 0000 0000 0000 0000 0000 0000"
    assert " ".join(task.words(batch.targets[0].tolist())) == ". . . 1000 0100 1000 0100 end . ."


@pytest.mark.parametrize(
    "config", [RepeatCopyConfig(), RepeatCopyConfig(n_bits=5, min_length=2, max_length=3, max_repeats=2)]
)
def test_losses_by_what_is_seen_at_scored_positions(config):
    task = RepeatCopy(config)
    batch = task.batch(task_rng(0, "train", 0), 6000, "train")
    scored = ~np.isnan(batch.targets)
    assert not batch.inputs[scored.any(-1)].any()
    # The best constant for every output, over all numbers of the batch.
    nats = 0.0
    for output in range(task.n_outputs):
        rate = batch.targets[..., output][scored[..., output]].mean()
        nats -= scored[..., output].sum() * (rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    assert nats / scored.sum() == pytest.approx(task.memoryless_loss, rel=3e-3)
    assert task.memoryless_loss < task.chance_loss == math.log(2)
    assert task.floor_loss == 0


def test_memoryless_loss_by_hand():
    """One vector of 5 bits, once: 5 fair bits, and an end that comes at one of two positions; 7 numbers."""
    task = RepeatCopy(RepeatCopyConfig(n_bits=5, max_length=1, max_repeats=1))
    assert task.memoryless_loss == pytest.approx(math.log(2))
    task = RepeatCopy(RepeatCopyConfig(n_bits=2, min_length=3, max_length=3, max_repeats=1))
    end = math.log(4) + 3 * math.log(4 / 3)
    assert task.memoryless_loss == pytest.approx((6 * math.log(2) + end) / 10)


def test_splits_share_no_vectors_whatever_the_count():
    seen = {}
    for split in SPLITS:
        seen[split] = set()
        for most in (2, 4):
            task = RepeatCopy(RepeatCopyConfig(n_bits=5, max_length=most, max_repeats=2))
            batch = task.batch(np.random.default_rng(0), 1500, split)
            lengths = batch.inputs[:, :, -2].argmax(1)
            seen[split] |= {row[:n, :5].tobytes() for row, n in zip(batch.inputs, lengths, strict=True)}
    assert all(len(part) > 40 for part in seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_it_has_the_shape_of_a_task():
    task = RepeatCopy(RepeatCopyConfig())
    assert isinstance(task, Task)
    assert (task.vocab_size, task.n_channels, task.n_outputs, task.length) == (0, 10, 9, 112)
    assert all(task.n_sequences(split) is None for split in SPLITS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_bits": 40}, "RepeatCopyConfig.n_bits: must be between 1 and 31, got 40; nearest valid: 31"),
        ({"max_length": 0}, "max_length: must be at least 1, got 0; nearest valid: 1"),
        ({"min_length": 12}, "min_length: must be between 1 and 10 = max_length, got 12; nearest valid: 10"),
        ({"max_repeats": -1}, "max_repeats: must be at least 1, got -1; nearest valid: 1"),
        ({"min_repeats": 0}, "min_repeats: must be between 1 and 10 = max_repeats, got 0; nearest valid: 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        RepeatCopyConfig(**options)
