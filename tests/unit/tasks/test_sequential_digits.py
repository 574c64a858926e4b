"""Sequential digits: pictures are shown whole, in one order for all, and each stands in one split."""

import math
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, task_rng
from mnemoscope.tasks.sequential_digits import SequentialDigits, SequentialDigitsConfig, load_pictures

PIXELS, DIGITS = load_pictures()
DIGIT_OF = {tuple(picture): digit for picture, digit in zip(PIXELS.tolist(), DIGITS.tolist(), strict=True)}


@st.composite
def configs(draw):
    return SequentialDigitsConfig(
        order_seed=draw(st.none() | st.integers(0, 2**64 - 1)),
        scale=draw(st.integers(1, 4)),
        n_held_out=draw(st.integers(3, 800)),
        split_seed=draw(st.integers(0, 2**64 - 1)),
        train_on=draw(st.sampled_from(("answers", "all"))),
    )


def small_picture(row, config, pixel_at):
    """The 64 pixels that a sequence shows; all copies of one must agree."""
    copies = [[] for _ in range(64)]
    for position, grey in enumerate(row):
        copies[pixel_at[position]].append(grey)
    assert {len(grey) for grey in copies} == {config.scale**2}
    assert all(len(set(grey)) == 1 for grey in copies)
    return tuple(grey[0] for grey in copies)


@settings(deadline=None, max_examples=40)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
@example(config=SequentialDigitsConfig(), seed=0, split="test")
def test_every_sequence_is_a_picture_and_ends_in_its_digit(config, seed, split):
    task = SequentialDigits(config)
    batch = task.batch(task_rng(seed, split, 0), 3, split)
    assert task.length == 64 * config.scale**2
    assert batch.inputs.shape == (3, task.length)
    for row, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert targets[-1] - 17 == DIGIT_OF[small_picture(row, config, task.pixel_at.tolist())]
        next_pixels = split == "train" and config.train_on == "all"
        assert targets[:-1] == (row[1:] if next_pixels else [IGNORE] * (task.length - 1))
    assert set(batch.about) == {"query"}
    assert (batch.about["query"][:, -1] == 0).all()
    assert (batch.about["query"][:, :-1] == -1).all()


def test_pixels_come_row_by_row_or_in_one_order_for_all():
    assert SequentialDigits(SequentialDigitsConfig()).pixel_at.tolist() == list(range(64))
    doubled = SequentialDigits(SequentialDigitsConfig(scale=2)).pixel_at.reshape(16, 16)
    assert doubled[:2, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert doubled[15, 15] == 63
    orders = [SequentialDigits(SequentialDigitsConfig(order_seed=seed)).pixel_at.tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(64)) != orders[0]


@pytest.mark.parametrize("n_held_out", [180, 800])
def test_splits_share_no_picture_and_leave_none_out(n_held_out):
    task = SequentialDigits(SequentialDigitsConfig(n_held_out=n_held_out))
    sizes = {"train": 1797 - 2 * n_held_out, "validation": n_held_out, "test": n_held_out}
    seen = {
        split: set(map(tuple, task.batch(np.random.default_rng(0), size, split).inputs.tolist()))
        for split, size in sizes.items()
    }
    assert {split: len(pictures) for split, pictures in seen.items()} == sizes
    assert set().union(*seen.values()) == set(DIGIT_OF)
    assert task.n_sequences("train") is None
    assert task.n_sequences("validation") == task.n_sequences("test") == n_held_out


def test_the_order_of_pixels_and_what_is_scored_do_not_move_pictures_between_splits():
    def digits(**options):
        task = SequentialDigits(SequentialDigitsConfig(**options))
        return task.batch(task_rng(0, "test", 0), 20, "test").targets[:, -1].tolist()

    assert digits() == digits(order_seed=1) == digits(train_on="all") == digits(scale=2)
    assert digits() != digits(split_seed=1)


@pytest.mark.parametrize(
    "config",
    [
        SequentialDigitsConfig(),
        SequentialDigitsConfig(order_seed=3),
        SequentialDigitsConfig(train_on="all"),
        SequentialDigitsConfig(train_on="all", order_seed=3, scale=2, n_held_out=700),
    ],
)
def test_the_memoryless_loss_is_that_of_the_best_table_of_the_present_token(config):
    task = SequentialDigits(config)
    batch = task.batch(task_rng(0, "train", 0), 1797 - 2 * config.n_held_out, "train")
    scored = [
        (shown, target)
        for shown, target in zip(batch.inputs.ravel().tolist(), batch.targets.ravel().tolist(), strict=True)
        if target != IGNORE
    ]
    pairs, shown = Counter(scored), Counter(pair[0] for pair in scored)
    loss = -sum(n * math.log(n / shown[pair[0]]) for pair, n in pairs.items()) / len(scored)
    assert math.isclose(task.memoryless_loss, loss, rel_tol=1e-9)
    assert task.memoryless_loss < task.chance_loss


def test_chance():
    assert SequentialDigits(SequentialDigitsConfig()).chance_loss == math.log(10)
    everything = SequentialDigits(SequentialDigitsConfig(train_on="all")).chance_loss
    assert math.isclose(everything, (63 * math.log(17) + math.log(10)) / 64)
    assert SequentialDigits(SequentialDigitsConfig()).floor_loss is None


def test_the_picture_of_the_first_release():
    task = SequentialDigits(SequentialDigitsConfig())
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0, :8].tolist() == [0, 0, 3, 15, 2, 0, 0, 0]
    assert batch.inputs[0, -8:].tolist() == [0, 0, 5, 16, 1, 0, 0, 0]
    assert task.words(batch.targets[0, -1:].tolist()) == ["four"]
    assert task.words([0, 16, 17, 26]) == ["0", "16", "zero", "nine"]
    assert task.manifest()["sha256"] == "267f86e03ae0481efa68bbcf4dcd04133dbc88a3145b0551cb2221500a4881e0"
    permuted = SequentialDigits(SequentialDigitsConfig(order_seed=0))
    assert permuted.pixel_at[:10].tolist() == [33, 16, 59, 1, 20, 52, 10, 7, 32, 38]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"scale": 0}, "scale: must be between 1 and 16, got 0; nearest valid: 1"),
        ({"scale": 17}, "got 17; nearest valid: 16"),
        ({"n_held_out": 0}, "n_held_out: must be between 1 and 800, got 0; nearest valid: 1"),
        ({"n_held_out": 900}, "got 900; nearest valid: 800"),
        ({"train_on": "digit"}, "train_on: must be 'answers' or 'all', got 'digit'; nearest valid: 'answers'"),
        ({"order_seed": -1}, "order_seed: must be at least 0 .* got -1; nearest valid: 0"),
        ({"split_seed": 2**64}, "split_seed: .* nearest valid: 18446744073709551615"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        SequentialDigitsConfig(**options)


def test_batch_refuses_more_held_out_pictures_than_there_are():
    task = SequentialDigits(SequentialDigitsConfig())
    with pytest.raises(ValueError, match="at most 180, the sequences of the test split, got 181; nearest valid: 180"):
        task.batch(np.random.default_rng(0), 181, "test")


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"needs scikit-learn, .*; pip install 'mnemoscope\[images\]'"):
        SequentialDigits(SequentialDigitsConfig())


def test_other_pictures_are_refused(monkeypatch):
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda return_X_y: (PIXELS[:9] + 1, DIGITS[:9]))
    with pytest.raises(ValueError, match=r"must carry 1797 pictures .*, got \(9, 64\) up to 17"):
        load_pictures()
