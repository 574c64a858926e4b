"""Planetary: every sky is that of a system on circles, and no split shows a system of another."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.tasks import Task
from mnemoscope.tasks.planetary import TICKS, Planetary, PlanetaryConfig, sky
from mnemoscope.tasks.streams import SPLITS, draw_owned, split_stream, task_rng


@st.composite
def configs(draw):
    observer = draw(st.sampled_from(["sun", "planet", "moon"]))
    return PlanetaryConfig(
        length=draw(st.integers(1, 30)),
        n_planets=draw(st.integers(1, 3)),
        n_moons=draw(st.integers(int(observer == "moon"), 2)),
        observer=observer,
        view=draw(st.sampled_from(["directions", "positions"])),
        shuffled=draw(st.booleans()),
        min_period=draw(st.integers(4, 20)),
        max_period=draw(st.integers(21, 60)),
    )


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32), split=st.sampled_from(SPLITS))
def test_every_sequence_is_a_moving_sky(config, seed, split):
    task = Planetary(config)
    batch = task.batch(task_rng(seed, split, 0), 3, split)
    n_bodies = config.n_planets * (1 + config.n_moons)
    assert batch.inputs.shape == batch.targets.shape == (3, config.length, 2 * n_bodies)
    assert batch.inputs.dtype == batch.targets.dtype == np.float32
    assert task.n_channels == 2 * n_bodies
    assert not np.shares_memory(batch.inputs, batch.targets)
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    distance = np.linalg.norm(batch.inputs.astype(np.float64).reshape(3, config.length, n_bodies, 2), axis=-1)
    assert np.allclose(distance, 1, atol=1e-5) if config.view == "directions" else (distance < 3).all()


@settings(deadline=None, max_examples=60)
@given(config=configs(), seed=st.integers(0, 2**32))
def test_bodies_stand_where_plain_geometry_puts_them(config, seed):
    rng = np.random.default_rng(seed)
    shape = (1, config.n_planets, 1 + config.n_moons)
    periods = rng.uniform(config.min_period, config.max_period, shape)
    phases = rng.uniform(0, 2 * math.pi, shape)
    seen = sky(config, periods, phases, 5)[0]
    for n in range(5):
        places = [(0.0, 0.0)]
        for planet in range(config.n_planets):
            x = y = 0.0
            far = (periods[0, planet, 0] / config.max_period) ** (2 / 3)
            for body in range(1 + config.n_moons):
                reach = far if body == 0 else far * body / (2 * config.n_moons)
                angle = 2 * math.pi * n / periods[0, planet, body] + phases[0, planet, body]
                place = (x + reach * math.cos(angle), y + reach * math.sin(angle))
                places.append(place)
                if body == 0:
                    x, y = place
        here = places.pop(["sun", "planet", "moon"].index(config.observer))
        for body, (x, y) in enumerate(places):
            towards = np.array([x - here[0], y - here[1]])
            if config.view == "directions":
                towards /= math.hypot(*towards)
            assert seen[n, body] == pytest.approx(towards, abs=1e-4)


def test_a_body_repeats_after_its_period_seen_from_what_it_circles():
    config = PlanetaryConfig(n_planets=2, n_moons=1, observer="planet", view="positions")
    seen = sky(config, np.array([[[40.0, 16.0], [64.0, 24.0]]]), np.ones((1, 2, 2)), 200)[0]
    sun, moon, other = seen[:, 0], seen[:, 1], seen[:, 2]
    assert np.allclose(sun[40:], sun[:-40], atol=1e-5)
    assert np.allclose(moon[16:], moon[:-16], atol=1e-5)
    assert not np.allclose(other[64:], other[:-64], atol=0.1)
    from_its_planet = seen[:, 3] - other
    assert np.allclose(from_its_planet[24:], from_its_planet[:-24], atol=1e-5)


def test_shuffling_permutes_whole_bodies():
    options = {"n_planets": 2, "n_moons": 2, "length": 6}
    rng = np.random.default_rng
    plain = Planetary(PlanetaryConfig(**options, shuffled=False)).batch(rng(3), 50, "train").inputs
    mixed = Planetary(PlanetaryConfig(**options)).batch(rng(3), 50, "train").inputs
    orders = set()
    for before, after in zip(plain.reshape(50, 6, 6, 2), mixed.reshape(50, 6, 6, 2), strict=True):
        order = tuple(
            next(old for old in range(6) if np.array_equal(after[:, new], before[:, old])) for new in range(6)
        )
        assert sorted(order) == list(range(6))
        orders.add(order)
    assert len(orders) > 40


def test_periods_are_distinct_and_uniform():
    task = Planetary(PlanetaryConfig(min_period=10, max_period=12, n_planets=3, n_moons=0))
    _, ticks = task._periods(np.random.default_rng(0), 20_000)
    assert all(len(set(row)) == 3 for row in ticks[:1000].tolist())
    counts = np.bincount(ticks.ravel() - 10 * TICKS, minlength=2 * TICKS + 1)
    assert counts.size == 2 * TICKS + 1
    assert (np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


def test_splits_share_no_system_even_where_few_exist():
    task = Planetary(PlanetaryConfig(n_planets=2, n_moons=0, min_period=4, max_period=6))
    systems = {}
    for split in SPLITS:
        content, ticks = draw_owned(task._periods, split_stream(np.random.default_rng(0), split), 10_000, split)
        assert np.array_equal(content, np.sort(ticks, axis=1))
        systems[split] = set(map(tuple, content.tolist()))
    assert all(systems.values())
    assert sum(map(len, systems.values())) == len(set.union(*systems.values())) == 33 * 32 // 2


def test_splits_share_no_sequence():
    task = Planetary(PlanetaryConfig(length=3))
    rows = [task.batch(np.random.default_rng(0), 300, split).inputs.reshape(300, -1) for split in SPLITS]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 900


def test_a_sky_is_that_of_the_first_release():
    """A change here changes the data of every stored run."""
    config = PlanetaryConfig(n_planets=1, n_moons=1, view="positions", shuffled=False, length=4)
    task = Planetary(config)
    batch = task.batch(np.random.default_rng(0), 1, "train")
    assert task.words(batch.inputs[0].tolist())[:2] == ["-0.27/-0.29/-0.00/0.20", "-0.21/-0.34/-0.01/0.20"]


def test_a_vector_task_has_the_shape_of_a_task_and_no_tokens():
    task = Planetary(PlanetaryConfig(length=2))
    assert isinstance(task, Task)
    assert (task.vocab_size, task.n_channels, task.length) == (0, 8, 2)
    assert task.chance_loss is task.memoryless_loss is task.floor_loss is None
    assert all(task.n_sequences(split) is None for split in SPLITS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"length": 0}, "length: must be at least 1, got 0; nearest valid: 1"),
        ({"n_planets": 0}, "n_planets: must be at least 1, got 0; nearest valid: 1"),
        ({"n_moons": -1}, "n_moons: must be at least 0, got -1; nearest valid: 0"),
        ({"n_moons": 0, "observer": "moon"}, "n_moons: must be at least 1, got 0; nearest valid: 1"),
        ({"min_period": 3}, "min_period: must be at least 4, got 3; nearest valid: 4"),
        ({"max_period": 16}, "at least 17, so that 4 bodies have distinct periods from 16 on, got 16"),
        ({"n_planets": 18, "n_moons": 0, "max_period": 17}, "at least 18, so that 18 bodies .* nearest valid: 18"),
        ({"observer": "star"}, "observer: must be one of sun, planet, moon, got 'star'; nearest valid: 'sun'"),
        ({"view": "angles"}, "view: must be one of directions, positions, got 'angles'; nearest valid: 'directions'"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        PlanetaryConfig(**options)


@pytest.mark.parametrize("shuffled", [True, False])
def test_systems_are_those_of_the_batch_and_go_on_later(shuffled):
    task = Planetary(PlanetaryConfig(length=30, view="positions", shuffled=shuffled))
    batch, systems = (draw(task_rng(3, "test", 0), 4, "test") for draw in (task.batch, task.systems))
    assert np.array_equal(task.observed(systems).inputs, batch.inputs)
    assert np.allclose(task.observed(systems.later(10)).inputs[:, :-10], batch.inputs[:, 10:], atol=1e-5)
    assert (np.sort(systems.order, axis=1) == np.arange(4)).all()
    assert (systems.order == np.arange(4)).all() != shuffled


def test_a_split_that_owns_no_system_is_refused():
    # One set of periods exists, and the training split owns it.
    task = Planetary(PlanetaryConfig(n_planets=17, n_moons=0, max_period=17, length=2))
    assert task.batch(np.random.default_rng(0), 2, "train").size == 2
    with pytest.raises(ValueError, match="so few different sequences exist that the test split owns 0"):
        task.batch(np.random.default_rng(0), 2, "test")
