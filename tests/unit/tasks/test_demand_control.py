"""Memory-demand control: MQAR's tokens, but a reader of the last few tokens answers everything."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, DemandControl, DemandControlConfig, Mqar, MqarConfig, task_rng


@st.composite
def configs(draw):
    vocab_size = draw(st.integers(4, 120))
    n_pairs = draw(st.integers(1, min(vocab_size // 2 - 1, 16)))
    length = 4 * n_pairs + 2 * draw(st.integers(0, 20))
    return DemandControlConfig(
        vocab_size=vocab_size,
        length=length,
        n_pairs=n_pairs,
        window=draw(st.integers(2, length)),
        power_a=draw(st.sampled_from([0.01, 1.0])),
        random_non_queries=draw(st.booleans()),
    )


def recall_of(config):
    names = ("vocab_size", "length", "n_pairs", "power_a", "random_non_queries")
    return Mqar(MqarConfig(**{name: getattr(config, name) for name in names}))


@settings(deadline=None, max_examples=80)
@given(config=configs(), seed=st.integers(0, 2**32))
@example(config=DemandControlConfig(), seed=0)
@example(config=DemandControlConfig(window=2, random_non_queries=False, power_a=1.0), seed=0)
def test_a_reader_of_the_last_tokens_answers_every_query(config, seed):
    batch = DemandControl(config).batch(task_rng(seed, "train", 0), 4, "train")
    recall = recall_of(config).batch(task_rng(seed, "train", 0), 4, "train")
    first_value, asked = config.vocab_size // 2, batch.targets != IGNORE
    assert np.array_equal(asked, recall.targets != IGNORE)
    assert np.array_equal(batch.about["query"], recall.about["query"])
    for row, position in zip(*np.nonzero(asked), strict=True):
        window = batch.inputs[row, max(0, position - config.window + 1) : position + 1].tolist()
        values = [token for token in window if token >= first_value]
        assert values[-1] == batch.targets[row, position]
        distance = batch.about["distance"][row, position]
        assert 1 <= distance < config.window
        assert batch.inputs[row, position - distance] == batch.targets[row, position]
        assert (batch.inputs[row, position - distance + 1 : position + 1] < first_value).all()
    planted = batch.inputs != recall.inputs
    assert (np.nonzero(planted)[1] % 2 == 1).all()
    assert not planted[:, : 2 * config.n_pairs].any()
    assert (planted.sum(axis=1) <= config.n_pairs).all()
    assert (batch.inputs[planted] >= first_value).all()


def test_nothing_is_planted_where_a_value_is_near():
    config = DemandControlConfig(vocab_size=40, length=32, n_pairs=4, window=32, power_a=1.0)
    batch = DemandControl(config).batch(task_rng(0, "test", 0), 100, "test")
    assert np.array_equal(batch.inputs, recall_of(config).batch(task_rng(0, "test", 0), 100, "test").inputs)


def test_planted_distances_are_uniform():
    config = DemandControlConfig(n_pairs=1, length=256, window=8, power_a=1.0, random_non_queries=False)
    batch = DemandControl(config).batch(task_rng(0, "train", 0), 8000, "train")
    rows, positions = np.nonzero(batch.targets != IGNORE)
    far = positions >= 10
    distances = np.bincount(batch.about["distance"][rows, positions][far], minlength=8)
    expected = far.sum() / 4
    assert distances[[0, 2, 4, 6]].tolist() == [0, 0, 0, 0]
    assert (np.abs(distances[1::2] - expected) < 5 * math.sqrt(expected * 3 / 4)).all()


def test_the_sequence_of_the_first_release():
    config = DemandControlConfig(vocab_size=12, length=12, n_pairs=2, window=4, random_non_queries=False)
    batch = DemandControl(config).batch(task_rng(0, "train", 0), 1, "train")
    assert batch.inputs[0].tolist() == [1, 11, 5, 9, 0, 0, 1, 11, 5, 0, 0, 0]
    assert {i: int(t) for i, t in enumerate(batch.targets[0]) if t != IGNORE} == {6: 9, 8: 11}


def test_the_key_alone_says_nothing():
    task = DemandControl(DemandControlConfig(vocab_size=10, length=24, n_pairs=4))
    batch = task.batch(np.random.default_rng(0), 20_000, "train")
    asked = batch.targets != IGNORE
    counts = np.zeros((5, 5))
    np.add.at(counts, (batch.inputs[asked], batch.targets[asked] - 5), 1)
    shares = counts[1:] / counts[1:].sum(1, keepdims=True)
    assert math.isclose(-(shares * np.log(shares)).sum(1).mean(), task.memoryless_loss, abs_tol=1e-3)
    assert task.memoryless_loss == task.chance_loss == math.log(5)
    assert task.floor_loss == 0


def test_splits_share_no_pairs():
    task = DemandControl(DemandControlConfig(vocab_size=20, length=8, n_pairs=1))
    seen = {
        split: {tuple(row[:2]) for row in task.batch(np.random.default_rng(0), 1000, split).inputs.tolist()}
        for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"window": 1}, "window: must be between 2 .* length = 64, got 1; nearest valid: 2"),
        ({"window": 65}, "got 65; nearest valid: 64"),
        ({"length": 31}, r"DemandControlConfig.length: .* at least 4 \* n_pairs = 32 .* got 31; nearest valid: 32"),
        ({"n_pairs": 0}, "DemandControlConfig.n_pairs: .* nearest valid: 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        DemandControlConfig(**options)
