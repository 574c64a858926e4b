"""Copy: what a reader of vectors writes down is what is asked for, in sequences of their own lengths."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import SPLITS, Copying, CopyingConfig, Task, task_rng
from mnemoscope.tasks.bit_vectors import bit_errors


@st.composite
def configs(draw):
    least = draw(st.integers(1, 8))
    return CopyingConfig(n_bits=draw(st.integers(5, 31)), min_length=least, max_length=least + draw(st.integers(0, 30)))


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=CopyingConfig(), seed=0, split="train")
@example(config=CopyingConfig(min_length=40, max_length=120), seed=0, split="test")
def test_a_reader_of_vectors_answers_everything_that_is_asked(config, seed, split):
    task = Copying(config)
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    assert batch.inputs.shape == (4, task.length, config.n_bits + 1)
    assert batch.targets.shape == (4, task.length, config.n_bits)
    for row in range(4):
        (delimiter,) = np.flatnonzero(batch.inputs[row, :, -1])
        assert config.min_length <= delimiter <= config.max_length
        read = batch.inputs[row, :delimiter, :-1]
        assert set(np.unique(read)) <= {0, 1}
        assert batch.inputs[row, delimiter].tolist() == [0] * config.n_bits + [1]
        assert not batch.inputs[row, delimiter + 1 :].any()
        asked = slice(delimiter + 1, 2 * delimiter + 1)
        assert np.array_equal(batch.targets[row, asked], read)
        assert np.isnan(np.delete(batch.targets[row], np.r_[asked], axis=0)).all()
        assert set(batch.about["distance"][row, asked].tolist()) == {delimiter + 1}
        assert batch.about["item"][row, asked].tolist() == list(range(delimiter))
        assert batch.about["query"][row, asked].tolist() == list(range(delimiter))
        assert set(batch.about["load"][row, asked].tolist()) == {delimiter}
    unscored = np.isnan(batch.targets).all(-1)
    assert all(((values == -1) == unscored).all() for values in batch.about.values())


def test_lengths_and_bits_are_uniform():
    task = Copying(CopyingConfig(n_bits=6, min_length=3, max_length=7))
    _, codes, lengths = task._drawn(np.random.default_rng(0), 20_000)
    counts = np.bincount(lengths, minlength=8)
    assert not counts[:3].any()
    assert (np.abs(counts[3:] - 4000) < 5 * math.sqrt(20_000 * 0.16)).all()
    assert (np.abs(np.bincount(codes[:, 0], minlength=64) - 312.5) < 5 * math.sqrt(312.5)).all()


def test_lengths_differ_within_a_batch():
    batch = Copying(CopyingConfig()).batch(task_rng(0, "train", 0), 200, "train")
    assert set(batch.inputs[:, :, -1].argmax(1).tolist()) == set(range(1, 21))


def test_the_sequence_of_the_first_release():
    task = Copying(CopyingConfig(n_bits=4, min_length=2, max_length=4))
    batch = task.batch(task_rng(1, "train", 0), 1, "train")
    assert " ".join(task.words(batch.inputs[0].tolist())) == "1110 1100 0100 | 0000 0000 0000 0000 0000"
    assert " ".join(task.words(batch.targets[0].tolist())) == ". . . . 1110 1100 0100 . ."


def test_losses_by_what_is_seen_at_scored_positions():
    task = Copying(CopyingConfig())
    batch = task.batch(task_rng(0, "train", 0), 5000, "train")
    scored = ~np.isnan(batch.targets).any(-1)
    assert not batch.inputs[scored].any()
    rate = batch.targets[scored].mean(0)
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    assert entropy == pytest.approx(np.full(8, task.memoryless_loss), abs=1e-4)
    assert task.chance_loss == task.memoryless_loss == math.log(2)
    assert task.floor_loss == 0


def test_guessing_errs_in_half_of_the_bits():
    batch = Copying(CopyingConfig(min_length=20)).batch(task_rng(0, "validation", 0), 500, "validation")
    guesses = np.random.default_rng(1).random(batch.targets.shape)
    assert bit_errors(guesses, batch.targets).mean() == pytest.approx(80, abs=2)


def lists(config, split, n=1500):
    """Every sequence as (length, bits), without its padding."""
    batch = Copying(config).batch(np.random.default_rng(0), n, split)
    lengths = batch.inputs[:, :, -1].argmax(1)
    return {row[:length, :-1].tobytes() for row, length in zip(batch.inputs, lengths, strict=True)}


def test_splits_share_no_sequence_even_between_ranges_of_lengths():
    short, long = (CopyingConfig(n_bits=5, min_length=1, max_length=most) for most in (2, 4))
    seen = {split: lists(short, split) | lists(long, split) for split in SPLITS}
    assert all(len(part) > 40 for part in seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_it_has_the_shape_of_a_task():
    task = Copying(CopyingConfig())
    assert isinstance(task, Task)
    assert (task.vocab_size, task.n_channels, task.n_outputs, task.length) == (0, 9, 8, 41)
    assert all(task.n_sequences(split) is None for split in SPLITS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_bits": 0}, "CopyingConfig.n_bits: must be between 1 and 31, got 0; nearest valid: 1"),
        ({"n_bits": 32}, "n_bits: must be between 1 and 31, got 32; nearest valid: 31"),
        ({"max_length": 0}, "max_length: must be at least 1, got 0; nearest valid: 1"),
        ({"min_length": 0}, "min_length: must be between 1 and 20 = max_length, got 0; nearest valid: 1"),
        ({"min_length": 21}, "min_length: must be between 1 and 20 = max_length, got 21; nearest valid: 20"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        CopyingConfig(**options)


def test_too_few_sequences_are_refused():
    with pytest.raises(ValueError, match="so few different sequences exist"):
        Copying(CopyingConfig(n_bits=1, max_length=1)).batch(task_rng(0, "test", 0), 20, "test")
