"""Three moons: the published observations, and rollouts that reproduce the published errors of a known predictor."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import Task
from mnemoscope.tasks.streams import SPLITS, task_rng
from mnemoscope.tasks.three_moons import (
    DT,
    TRIPLES,
    ThreeMoons,
    ThreeMoonsConfig,
    observations,
    repeat_last,
    rollout,
    rollout_errors,
)

CONTEXTS = [30, 46, 90, 136, 200, 268, 300]


def identity_memory(n_heads, beta=50.0):
    """The analytic solution: per head, observations are keys, what followed them values, all matrices identities."""

    def predict(seen, n_known, /):
        b, n, channels = seen.shape
        if n == 1:
            return np.zeros((b, channels), dtype=seen.dtype)
        heads = seen.reshape(b, n, n_heads, -1).astype(np.float64)
        match = beta * np.einsum("bnhd,bhd->bnh", heads[:, :-1], heads[:, -1])
        weight = np.exp(match - match.max(1, keepdims=True))
        values = heads[:, 1:] * (np.arange(1, n) < n_known)[:, None, None]
        return np.einsum("bnh,bnhd->bhd", weight / weight.sum(1, keepdims=True), values).reshape(b, channels)

    return predict


@pytest.fixture(scope="module")
def validation():
    starts = np.random.default_rng(0).integers(8399, size=64)
    return observations(np.tile(TRIPLES["validation"], (64, 1)), starts, 801)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    split=st.sampled_from(SPLITS),
    length=st.integers(1, 90),
    observer=st.sampled_from(["sun", "planet"]),
)
def test_every_sequence_is_one_of_the_systems_of_its_split(seed, split, length, observer):
    task = ThreeMoons(ThreeMoonsConfig(length=length, observer=observer))
    batch = task.batch(task_rng(seed, split, 0), 4, split)
    assert batch.inputs.shape == batch.targets.shape == (4, length, 6)
    assert batch.inputs.dtype == batch.targets.dtype == np.float32
    assert not np.shares_memory(batch.inputs, batch.targets)
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    moons = (
        np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1).astype(np.float64).reshape(4, length + 1, 3, 2)
    )
    if observer == "planet":
        moons[:, :, :2] += moons[:, :, 2:]
    assert np.allclose((moons**2).sum(-1), 1, atol=1e-5)
    # cos(a) cos(b) + sin(a) sin(b) is the cosine of the angle between neighbours.
    turned = (moons[:, 1:] * moons[:, :-1]).sum(-1)
    known = np.cos(2 * math.pi * DT / np.array(TRIPLES[split]))
    assert all(any(np.allclose(row, triple, atol=1e-5) for triple in known) for row in turned)


def test_the_pinned_triples_are_those_with_the_smallest_full_periods():
    def full_period(triple):
        return math.lcm(*(int(2 * period) for period in triple)) / 2

    halves = [n / 2 for n in range(1, 8)]
    by_period = sorted(full_period(triple) for triple in itertools.combinations(halves, 3))
    kept = [triple for split in ("train", "validation") for triple in TRIPLES[split]]
    assert sorted(map(full_period, kept)) == by_period[:9]
    assert TRIPLES["train"][5] == (0.5, 1.0, 2.5)
    every = [triple for split in SPLITS for triple in TRIPLES[split]]
    assert len(set(every)) == len(every) == 11
    assert {triple for triple in itertools.combinations(halves, 3) if full_period(triple) <= 6} == set(every)


def test_the_longest_full_period_fits_three_times():
    assert math.isclose(800 * DT, 3 * 6)
    assert math.isclose(400 / 9 * DT, 1)


def test_splits_share_no_sequence():
    task = ThreeMoons(ThreeMoonsConfig(length=3))
    rows = [task.batch(np.random.default_rng(0), 3000, split).inputs.reshape(3000, -1) for split in SPLITS]
    different = [len(np.unique(part, axis=0)) for part in rows]
    assert len(np.unique(np.concatenate(rows), axis=0)) == sum(different)


def test_the_closed_form_of_the_identity_memory():
    """Periods (1, 2, 3), start 0: published to six digits, from the official code with identity weights."""
    seen = observations(np.array([[1.0, 2.0, 3.0]]), np.array([0]), 60)
    second = (0.427180, 0.904167, 0.362255, 0.932079, 0.340195, 0.940355)
    assert seen[0, 1] == pytest.approx(second, abs=1e-6)
    predict = identity_memory(3)
    predicted = np.stack([predict(seen[:, :n], n)[0] for n in range(1, 60)])
    assert predicted[1] == pytest.approx(second, abs=1e-6)
    late = (0.917192, 0.370504, -0.583328, -0.808523, 0.535862, -0.840439)
    assert predicted[50] == pytest.approx(late, abs=1e-5)
    clipped = np.clip(predicted - seen[0, 1:], -0.5, 0.5)
    assert (clipped**2).mean() == pytest.approx(0.01244393, abs=1e-7)


@pytest.mark.parametrize(
    ("n_heads", "protocol", "published"),
    [
        (3, "exact", (0.653, 0.444, 0.303, 0.283, 0.215, 0.092, 0.139)),
        (3, "official", (0.590, 0.367, 0.199, 0.086, 0.145, 0.058, 0.064)),
        (1, "exact", (0.614, 0.604, 0.607, 0.609, 0.609, 0.144, 0.160)),
    ],
)
def test_rollouts_reproduce_the_errors_of_the_identity_memory(validation, n_heads, protocol, published):
    """Published on 32 other sequences."""
    errors = rollout_errors(identity_memory(n_heads), validation, CONTEXTS, protocol=protocol)
    assert errors == pytest.approx(published, abs=0.015)


@pytest.mark.parametrize("protocol", ["exact", "official"])
def test_repeating_the_last_observation(validation, protocol):
    errors = rollout_errors(repeat_last, validation, CONTEXTS, protocol=protocol)
    assert errors == pytest.approx((0.607, 0.602, 0.604, 0.606, 0.605, 0.606, 0.606), abs=0.01)


def test_a_rollout_step_by_step():
    """A predictor that counts shows which step is held against which, and what it was told to store."""
    told = []

    def count(seen, n_known, /):
        told.append((seen.shape[1], n_known, float(seen[0, -1, 0])))
        return seen[:, -1] + 1

    context = np.arange(3.0).reshape(1, 3, 1)
    assert rollout(count, context, 4).ravel().tolist() == [3, 4, 5, 6]
    assert told == [(3, 3, 2.0), (4, 4, 3.0), (5, 5, 4.0), (6, 6, 5.0)]
    told.clear()
    assert rollout(count, context, 4, "official").ravel().tolist() == [4, 5, 6, 7]
    assert told == [(3, 3, 2.0), (4, 3, 3.0), (5, 3, 4.0), (6, 3, 5.0), (7, 3, 6.0)]
    truth = np.arange(9.0).reshape(1, 9, 1)
    assert rollout_errors(count, truth, [1, 5], 4).tolist() == [0, 0]
    assert rollout_errors(count, truth, [1, 5], 4, "official").tolist() == [1, 1]


def test_the_planet_sees_the_first_two_moons_from_the_third():
    seen = {view: observations(np.array([[1.0, 2.0, 3.0]]), np.array([5]), 4, view) for view in ("sun", "planet")}
    third = seen["sun"][..., 4:]
    assert np.allclose(seen["planet"], seen["sun"] - np.concatenate([third, third, 0 * third], axis=-1), atol=1e-6)


def test_a_vector_task_has_the_shape_of_a_task_and_no_tokens():
    task = ThreeMoons(ThreeMoonsConfig(length=2))
    assert isinstance(task, Task)
    assert (task.vocab_size, task.n_channels, task.length) == (0, 6, 2)
    assert task.chance_loss is task.memoryless_loss is task.floor_loss is None
    assert all(task.n_sequences(split) is None for split in SPLITS)
    assert task.words([[0.295, -1.0], [0.004, 0.5]]) == ["0.29/-1.00", "0.00/0.50"]
    assert task.words([0.25, 1]) == ["0.25", "1.00"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"length": 0}, "length: must be at least 1, got 0; nearest valid: 1"),
        ({"observer": "moon"}, "observer: must be 'sun' or 'planet', got 'moon'; nearest valid: 'sun'"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ThreeMoonsConfig(**options)


@pytest.mark.parametrize(("context", "nearest"), [(0, 1), (777, 776)])
def test_rollout_errors_refuses_a_context_without_room(validation, context, nearest):
    with pytest.raises(ValueError, match=f"between 1 and 776 of the 801 .* got {context}; nearest valid: {nearest}"):
        rollout_errors(repeat_last, validation, [context])


def test_rollout_errors_refuses_an_unknown_protocol(validation):
    with pytest.raises(ValueError, match="must be 'exact' or 'official', got 'fair'"):
        rollout_errors(repeat_last, validation, [1], protocol="fair")
