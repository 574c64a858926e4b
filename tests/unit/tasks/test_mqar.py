"""MQAR: every sequence obeys the format, and the draws obey their laws."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import Mqar, MqarConfig, task_rng
from mnemoscope.tasks.mqar import draw_distinct, draw_gaps, load_ladder, saturation_load

SIGMAS = 5
"""How many standard deviations an observed frequency may lie from its law; the seeds are fixed."""


@st.composite
def mqar_configs(draw):
    vocab_size = draw(st.integers(4, 200))
    n_pairs = draw(st.integers(1, min(vocab_size // 2 - 1, 24)))
    return MqarConfig(
        vocab_size=vocab_size,
        length=4 * n_pairs + 2 * draw(st.integers(0, 20)),
        n_pairs=n_pairs,
        power_a=draw(st.sampled_from([0.01, 0.5, 1.0, 3.0])),
        random_non_queries=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60)
@given(config=mqar_configs(), seed=st.integers(0, 2**32), size=st.integers(1, 6))
@example(config=MqarConfig(), seed=0, size=6)
@example(config=MqarConfig(vocab_size=4, length=4, n_pairs=1), seed=0, size=6)
@example(config=MqarConfig(vocab_size=13, length=20, n_pairs=5), seed=0, size=6)
def test_every_sequence_obeys_the_format(config, seed, size):
    n, first_value = config.n_pairs, config.vocab_size // 2
    batch = Mqar(config).batch(task_rng(seed, "train", 0), size, "train")
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        keys, values = inputs[0 : 2 * n : 2], inputs[1 : 2 * n : 2]
        assert len(set(keys)) == len(set(values)) == n
        assert all(1 <= key < first_value for key in keys)
        assert all(first_value <= value < config.vocab_size for value in values)
        asked_at = [position for position, target in enumerate(targets) if target != IGNORE]
        assert all(position >= 2 * n and position % 2 == 0 for position in asked_at)
        assert sorted(inputs[position] for position in asked_at) == sorted(keys)
        value_of = dict(zip(keys, values, strict=True))
        assert all(targets[position] == value_of[inputs[position]] for position in asked_at)
        fillers = [inputs[position] for position in range(2 * n, config.length) if targets[position] == IGNORE]
        assert all(0 <= token < config.vocab_size for token in fillers)
        assert config.random_non_queries or not any(fillers)


@settings(deadline=None, max_examples=30)
@given(config=mqar_configs(), seed=st.integers(0, 2**32))
def test_the_same_generator_gives_the_same_data(config, seed):
    first, second = (Mqar(config).batch(np.random.default_rng(seed), 4, "train") for _ in range(2))
    assert np.array_equal(first.inputs, second.inputs)
    assert np.array_equal(first.targets, second.targets)


def test_splits_share_no_context_even_where_few_exist():
    task = Mqar(MqarConfig(vocab_size=20, length=8, n_pairs=1))
    contexts = {
        split: {tuple(row[:2]) for row in task.batch(np.random.default_rng(0), 2000, split).inputs.tolist()}
        for split in ("train", "validation", "test")
    }
    assert all(contexts.values())
    assert sum(map(len, contexts.values())) == len(set().union(*contexts.values())) == 9 * 10


def test_a_split_that_owns_nothing_is_refused():
    task = Mqar(MqarConfig(vocab_size=4, length=4, n_pairs=1))
    # Two sequences exist, and both are trained on.
    with pytest.raises(ValueError, match="so few different sequences exist that the test split owns 0"):
        task.batch(np.random.default_rng(0), 8, "test")


@settings(deadline=None, max_examples=30)
@given(config=mqar_configs(), seed=st.integers(0, 2**32))
def test_what_is_said_of_a_query_holds(config, seed):
    n, batch = config.n_pairs, Mqar(config).batch(task_rng(seed, "train", 0), 3, "train")
    scored = batch.targets != IGNORE
    assert all(np.array_equal(values >= 0, scored) for values in batch.about.values())
    for row, position in zip(*np.nonzero(scored), strict=True):
        item = batch.about["item"][row, position]
        assert batch.inputs[row, 2 * item] == batch.inputs[row, position]
        assert batch.inputs[row, position - batch.about["distance"][row, position]] == batch.targets[row, position]
        assert batch.about["load"][row, position] == n
        assert batch.about["query"][row, position] == scored[row, :position].sum()


def test_fillers_cover_the_vocabulary_evenly():
    config = MqarConfig(vocab_size=10, length=64, n_pairs=1)
    batch = Mqar(config).batch(task_rng(0, "train", 0), 2000, "train")
    fillers = batch.inputs[:, 2:][batch.targets[:, 2:] == IGNORE]
    assert_frequencies(np.bincount(fillers, minlength=10), np.full(10, 0.1))


@pytest.mark.parametrize(("n", "pool"), [(1, 1), (2, 4), (2, 5), (3, 6), (3, 3), (3, 4)])
def test_distinct_draws_are_uniform_over_ordered_choices(n, pool):
    draws = draw_distinct(np.random.default_rng(0), 40_000, n, pool)
    choices = list(itertools.permutations(range(pool), n))
    assert_frequencies(count(draws, choices), np.full(len(choices), 1 / len(choices)))


@settings(deadline=None, max_examples=60)
@given(pool=st.integers(1, 5000), share=st.floats(0, 1), rows=st.integers(1, 8), seed=st.integers(0, 2**32))
@example(pool=4095, share=1.0, rows=4, seed=0)
@example(pool=4095, share=0.5, rows=4, seed=0)
def test_distinct_draws_are_distinct_for_any_load(pool, share, rows, seed):
    n = max(1, min(int(share * pool), 600))
    draws = draw_distinct(np.random.default_rng(seed), rows, n, pool)
    assert draws.shape == (rows, n)
    assert (np.diff(np.sort(draws, axis=1), axis=1) > 0).all()
    assert draws.min() >= 0
    assert draws.max() < pool


@pytest.mark.parametrize("power_a", [0.01, 0.5, 1.0, 2.5])
@pytest.mark.parametrize(("n", "space"), [(1, 6), (2, 5), (3, 4), (4, 4)])
def test_gaps_follow_successive_sampling(n, space, power_a):
    weights = np.arange(1, space + 1) ** (power_a - 1.0)
    choices = list(itertools.permutations(range(space), n))
    expected = np.array([successive_probability(choice, weights) for choice in choices])
    assert math.isclose(expected.sum(), 1)
    drawn = draw_gaps(np.random.default_rng(0), 40_000, n, space, power_a)
    assert_frequencies(count(drawn, choices), expected)


def test_gaps_follow_numpy_choice_without_replacement():
    n, space, rows, rng = 3, 5, 20_000, np.random.default_rng(1)
    weights = 0.01 * np.arange(1, space + 1) ** (0.01 - 1)
    chosen = [rng.choice(space, n, replace=False, p=weights / weights.sum()) for _ in range(rows)]
    choices = list(itertools.permutations(range(space), n))
    theirs = count(np.array(chosen), choices)
    ours = count(draw_gaps(rng, rows, n, space, 0.01), choices)
    assert (np.abs(ours - theirs) <= SIGMAS * np.sqrt(ours + theirs)).all()


def test_small_a_asks_right_after_the_pairs_and_one_asks_anywhere():
    def mean_position(power_a):
        task = Mqar(MqarConfig(length=256, n_pairs=4, power_a=power_a))
        return np.nonzero(task.batch(task_rng(0, "train", 0), 500, "train").targets != IGNORE)[1].mean()

    middle = 8 + (256 - 8 - 2) / 2
    assert abs(mean_position(1.0) - middle) < 5
    assert mean_position(0.01) < middle / 2


def test_chance_loss_is_guessing_among_the_values():
    assert Mqar(MqarConfig()).chance_loss == math.log(4096)
    assert Mqar(MqarConfig(vocab_size=13, n_pairs=2)).chance_loss == math.log(7)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"vocab_size": 3}, r"vocab_size: must be at least 4 .* got 3; nearest valid: 4"),
        ({"vocab_size": 16, "n_pairs": 8}, r"the 7 keys of .* 16, got 8; nearest valid: 7, or vocab_size >= 18"),
        ({"n_pairs": 0}, r"n_pairs: must be between 1 and the 4095 keys .* got 0; nearest valid: 1$"),
        ({"length": 30}, r"at least 4 \* n_pairs = 32 .* got 30; nearest valid: 32"),
        ({"length": 33}, r"must be even .* got 33; nearest valid: 34"),
        ({"power_a": 0.0}, r"power_a: must be positive and finite, got 0.0"),
        ({"power_a": math.nan}, r"power_a: must be positive and finite, got nan"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MqarConfig(**options)


@pytest.mark.parametrize("n_pairs", [1, 2, 7])
def test_the_limits_themselves_are_accepted(n_pairs):
    config = MqarConfig(vocab_size=2 * (n_pairs + 1), length=4 * n_pairs, n_pairs=n_pairs)
    targets = Mqar(config).batch(task_rng(0, "train", 0), 3, "train").targets
    assert (targets[:, 2 * n_pairs :: 2] != IGNORE).all()


@pytest.mark.parametrize(
    ("key_width", "loads"),
    [(1, [1, 2, 4]), (3, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16, 32, 64]), (12, [1, 2, 4, 8, 16, 32, 48])],
)
def test_the_ladder_doubles_up_to_four_times_the_key_width_at_one_length(key_width, loads):
    ladder = load_ladder(key_width)
    assert [config.n_pairs for config in ladder] == loads
    assert {(config.length, config.vocab_size, config.power_a) for config in ladder} == {(16 * key_width, 8192, 1.0)}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"key_width": 0}, "key_width must be at least 1, got 0; nearest valid: 1"),
        ({"key_width": 64, "vocab_size": 513}, r"8 \* key_width \+ 2 = 514, .* got 513; nearest valid: 514"),
    ],
)
def test_the_ladder_refuses(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_ladder(**arguments)


@pytest.mark.parametrize(
    ("accuracies", "load"),
    [
        ({1: 1.0, 2: 0.99, 4: 0.81, 8: 0.8, 16: 0.1}, 8),
        ({16: 0.1, 8: 0.95, 1: 0.9, 4: 0.71}, 16),
        ({1: 1.0, 2: 0.9, 4: 0.85}, None),
        ({1: 0.1, 2: 0.05}, None),
        ({4: 0.9, 1: 0.6, 16: 0.5}, None),
        ({1: 1.0, 2: 0.7, 4: 0.95}, 2),
    ],
)
def test_saturation_is_the_first_load_twenty_points_below_the_lightest(accuracies, load):
    assert saturation_load(accuracies) == load


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"accuracies": {1: 1.0}}, "at least 2 loads, got 1"),
        ({"accuracies": {1: 99.0, 2: 50.0}}, "between 0 and 1, got 99.0 at load 1; divide percentages by 100"),
        ({"accuracies": {1: 1.0, 2: math.nan}}, "got nan at load 2"),
        ({"accuracies": {1: 1.0, 2: 0.5}, "drop": 0.0}, "drop must be above 0 and at most 1, got 0.0"),
    ],
)
def test_saturation_refuses(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        saturation_load(**arguments)


def successive_probability(choice, weights):
    """Probability of drawing `choice` one by one, each by weight among what is left."""
    taken = np.cumsum([0, *(weights[gap] for gap in choice[:-1])])
    return math.prod(weights[gap] / (weights.sum() - before) for gap, before in zip(choice, taken, strict=True))


def count(draws, choices):
    place = {choice: index for index, choice in enumerate(choices)}
    return np.bincount([place[tuple(row)] for row in draws.tolist()], minlength=len(choices))


def assert_frequencies(counts, probabilities):
    n = counts.sum()
    spread = np.sqrt(n * probabilities * (1 - probabilities))
    assert (np.abs(counts - n * probabilities) <= SIGMAS * spread).all()
