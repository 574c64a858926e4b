"""Holm's adjustment of intervals, and the levels of looks."""

import numpy as np
import pytest

from mnemoscope.examination.judgement.family import Level, adjusted, p_value
from mnemoscope.examination.judgement.statistics import Bootstrap, alpha_spending, holm

N = 400


def effects(means: list[float], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = {}
    for index, mean in enumerate(means):
        noise = rng.normal(size=N)
        drawn[f"effect {index}"] = mean + noise - noise.mean()
    return drawn


def test_the_clearest_effect_is_held_to_the_strictest_level():
    found = adjusted(effects([0.3, 2.0, 1.0]), 0.0, Bootstrap(N, 2000, 0), Level())
    assert [round(1 - found[f"effect {i}"].level, 6) for i in (1, 2, 0)] == [0.016667, 0.025, 0.05]


def test_after_the_first_open_effect_the_level_stays():
    found = adjusted(effects([2.0, 0.02, 0.01]), 0.0, Bootstrap(N, 2000, 0), Level())
    assert [round(1 - found[f"effect {i}"].level, 6) for i in range(3)] == [0.016667, 0.025, 0.025]


def test_intervals_say_what_holms_p_values_say():
    values = effects([0.11, 0.13, 0.05, 0.2, 0.0, -0.12])
    rejected = [p < 0.05 for p in holm([p_value(value, 0.0) for value in values.values()])]
    found = adjusted(values, 0.0, Bootstrap(N, 10_000, 0), Level())
    assert [not estimate.low <= 0 <= estimate.high for estimate in found.values()] == rejected
    assert any(rejected)
    assert not all(rejected)


def test_false_alarms_in_a_family_are_rare():
    """20 effects of nothing: at 5 % each, two families in three would have a false one."""
    bootstrap = Bootstrap(N, 2000, 0)
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(60):
        values = {str(i): rng.normal(size=N) for i in range(20)}
        found = adjusted(values, 0.0, bootstrap, Level())
        wrong += any(not estimate.low <= 0 <= estimate.high for estimate in found.values())
    assert wrong <= 9


def test_a_look_spends_what_is_planned_for_it():
    fractions = (1 / 3, 2 / 3, 1.0)
    levels = [Level(fractions=fractions, look=look) for look in range(3)]
    assert [1 - level.confidence() for level in levels] == pytest.approx(alpha_spending(fractions))
    assert Level().confidence() == pytest.approx(0.95)
    assert Level().confidence(10) == pytest.approx(0.995)


def test_equal_values_have_no_doubt():
    assert p_value(np.full(5, 0.1), 0.0) == 0.0
    assert p_value(np.zeros(5), 0.0) == 1.0
