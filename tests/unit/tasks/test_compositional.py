"""Compositional MQAR: the grid is whole, and neither key alone tells a value."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, Compositional, CompositionalConfig, task_rng


@st.composite
def configs(draw):
    n_first, n_second = draw(st.integers(2, 5)), draw(st.integers(2, 5))
    cells = n_first * n_second
    return CompositionalConfig(
        vocab_size=3 * cells + draw(st.integers(0, 40)),
        length=6 * cells + draw(st.integers(0, 30)),
        n_first=n_first,
        n_second=n_second,
        power_a=draw(st.sampled_from([0.01, 1.0])),
        random_non_queries=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32))
@example(config=CompositionalConfig(), seed=0)
@example(config=CompositionalConfig(vocab_size=11, length=24), seed=0)
def test_a_reader_of_both_keys_answers_every_query(config, seed):
    cells, third = config.n_first * config.n_second, config.vocab_size // 3
    batch = Compositional(config).batch(task_rng(seed, "train", 0), 4, "train")
    assert all(np.array_equal(values >= 0, batch.targets != IGNORE) for values in batch.about.values())
    for row, (inputs, targets) in enumerate(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)):
        grid = {(inputs[i], inputs[i + 1]): (inputs[i + 2], i // 3) for i in range(0, 3 * cells, 3)}
        firsts, seconds = {first for first, _ in grid}, {second for _, second in grid}
        assert (len(firsts), len(seconds), len(grid)) == (config.n_first, config.n_second, cells)
        assert all(1 <= first < third for first in firsts)
        assert all(third <= second < 2 * third for second in seconds)
        assert len({value for value, _ in grid.values()}) == cells
        assert all(2 * third <= value < config.vocab_size for value, _ in grid.values())
        asked = [position for position, target in enumerate(targets) if target != IGNORE]
        assert {(inputs[position - 1], inputs[position]) for position in asked} == set(grid)
        for query, position in enumerate(asked):
            value, item = grid[inputs[position - 1], inputs[position]]
            about = {name: int(values[row, position]) for name, values in batch.about.items()}
            assert targets[position] == value
            assert about == {"distance": position - 3 * item - 2, "item": item, "load": cells, "query": query}
        queried = {place for position in asked for place in (position - 1, position)}
        fillers = [inputs[place] for place in range(3 * cells, config.length) if place not in queried]
        assert config.random_non_queries or not any(fillers)


def test_either_key_alone_leaves_as_many_values_as_the_other_has_keys():
    config = CompositionalConfig(vocab_size=60, length=72, n_first=3, n_second=4)
    batch = Compositional(config).batch(task_rng(0, "train", 0), 50, "train")
    for row in batch.inputs[:, :36].reshape(50, 12, 3).tolist():
        by_first, by_second = Counter(first for first, _, _ in row), Counter(second for _, second, _ in row)
        assert set(by_first.values()) == {4}
        assert set(by_second.values()) == {3}


def test_the_sequence_of_the_first_release():
    config = CompositionalConfig(vocab_size=12, length=24, random_non_queries=False)
    task = Compositional(config)
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    context, queries = [3, 4, 11, 1, 5, 8, 3, 5, 9, 1, 4, 10], [1, 4, 0, 3, 4, 0, 1, 5, 0, 3, 5, 0]
    assert batch.inputs[0].tolist() == context + queries
    assert {i: int(t) for i, t in enumerate(batch.targets[0]) if t != IGNORE} == {13: 10, 16: 11, 19: 8, 22: 9}
    assert task.words(context[:4]) == ["a3", "b0", "v3", "a1"]
    assert task.words([0, 8]) == [".", "v0"]


def test_places_in_the_grid_are_uniform():
    task = Compositional(CompositionalConfig(vocab_size=24, length=24))
    (written,) = task._written(np.random.default_rng(0), 24_000)
    # Which first keys stand in the four cells, as a pattern of equal and unequal: 3 patterns, equally likely.
    same = (written[:, 0:1] == written[:, 3:12:3]).argmax(axis=1)
    assert (np.abs(np.bincount(same, minlength=3) - 8000) < 5 * math.sqrt(24_000 * 2 / 9)).all()


def test_the_second_key_alone_says_nothing():
    task = Compositional(CompositionalConfig(vocab_size=16, length=24))
    batch = task.batch(np.random.default_rng(0), 20_000, "train")
    asked = batch.targets != IGNORE
    counts = np.zeros((5, 6))
    np.add.at(counts, (batch.inputs[asked] - 5, batch.targets[asked] - 10), 1)
    shares = counts / counts.sum(1, keepdims=True)
    assert math.isclose(-(shares * np.log(shares)).sum(1).mean(), task.memoryless_loss, abs_tol=1e-3)
    assert task.memoryless_loss == task.chance_loss == math.log(6)
    assert task.floor_loss == 0


def test_splits_share_no_context():
    task = Compositional(CompositionalConfig(vocab_size=11, length=24))
    seen = {
        split: {tuple(row[:12]) for row in task.batch(np.random.default_rng(0), 2000, split).inputs.tolist()}
        for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_first": 1}, "n_first: must be at least 2, .* got 1; nearest valid: 2"),
        ({"n_second": 0}, "n_second: must be at least 2, .* got 0; nearest valid: 2"),
        ({"vocab_size": 9}, "vocab_size: must hold 2 first keys, 2 second keys and 4 values .* nearest valid: 10"),
        ({"vocab_size": -5}, "vocab_size: .* got -5; nearest valid: 10"),
        ({"length": 23}, r"length: must be at least 6 \* n_first \* n_second = 24 .* got 23; nearest valid: 24"),
        ({"power_a": math.inf}, "power_a: must be positive and finite, got inf"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        CompositionalConfig(**options)


def test_the_nearest_vocabulary_is_the_next_that_fits():
    for n_first in range(2, 8):
        for n_second in range(2, 8):
            with pytest.raises(ValueError, match="nearest valid") as refusal:
                CompositionalConfig(vocab_size=1, length=600, n_first=n_first, n_second=n_second)
            nearest = int(str(refusal.value).rsplit(maxsplit=1)[1])
            CompositionalConfig(vocab_size=nearest, length=600, n_first=n_first, n_second=n_second)
            with pytest.raises(ValueError, match=f"nearest valid: {nearest}"):
                CompositionalConfig(vocab_size=nearest - 1, length=600, n_first=n_first, n_second=n_second)
