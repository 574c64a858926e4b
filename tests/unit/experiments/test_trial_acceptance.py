"""The acceptance test of a remedy, on seeds whose figures are set by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from mnemoscope.experiments.trials.acceptance import compare, over_seeds, pooled, sign_flips
from mnemoscope.runs import Estimate
from mnemoscope.runs.trial import ArmRecord, SeedRecord

MARGIN = 0.05


def estimate(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def arm(
    name: str,
    effects: Sequence[float],
    losses: Sequence[float],
    demanded: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
) -> ArmRecord:
    seeds = range(len(effects)) if seeds is None else seeds
    there = [None] * len(effects) if demanded is None else demanded
    rows = [
        SeedRecord(
            seed=seed,
            folder=f"{name}/seed-{seed}",
            loss=estimate(loss),
            demanded_loss=None if asked is None else estimate(asked),
            effect=estimate(effect),
            share=estimate(effect / 4),
            margin=MARGIN,
            verdict="inconclusive",
        )
        for seed, effect, loss, asked in zip(seeds, effects, losses, there, strict=True)
    ]
    return ArmRecord(name=name, what=name, seeds=rows)


CONTROL = arm("control", [0.0, 0.1, 0.05, 0.0], [1.0, 1.1, 0.9, 1.0], [2.0, 2.2, 1.8, 2.0])


@pytest.mark.parametrize(
    ("effects", "losses", "demanded", "outcome"),
    [
        ([2.0, 2.2, 1.9, 2.1], [0.9, 1.0, 0.8, 0.9], [1.0, 1.2, 0.8, 1.0], "accepted"),
        ([2.0, 2.2, 1.9, 2.1], [1.0, 1.1, 0.9, 1.0], [2.0, 2.2, 1.8, 2.0], "forced, not useful"),
        ([2.0, 2.2, 1.9, 2.1], [0.9, 1.0, 0.8, 0.9], None, "forced, not useful"),
        ([2.0, 2.2, 1.9, 2.1], [2.0, 2.1, 1.9, 2.0], [1.0, 1.2, 0.8, 1.0], "harmful"),
        ([0.0, 0.11, 0.05, 0.01], [1.0, 1.1, 0.9, 1.0], None, "no effect"),
        ([0.0, 3.0, 0.0, 2.0], [1.0, 1.1, 0.9, 1.0], None, "inconclusive"),
    ],
)
def test_outcomes(effects: list[float], losses: list[float], demanded: list[float] | None, outcome: str):
    found = compare(CONTROL, arm("treated", effects, losses, demanded))
    assert found.outcome == outcome, found.because
    assert (found.required_seeds is not None) == (outcome == "inconclusive")


def test_two_seeds_allow_no_statement():
    found = compare(CONTROL, arm("treated", [2.0, 2.0], [1.0, 1.0], seeds=[0, 3]))
    assert (found.outcome, found.n_seeds, found.effect_gain) == ("too few seeds", 2, None)


def test_only_the_same_finished_seeds_are_compared():
    unfinished = SeedRecord(seed=2, folder="", failure="killed")
    treated = arm("treated", [2.0, 2.1, 2.2], [1.0, 1.1, 1.0], seeds=[0, 1, 3])
    treated.seeds.append(unfinished)
    found = compare(CONTROL, treated)
    assert found.n_seeds == 3
    assert found.effect_gain is not None
    assert found.effect_gain.value == pytest.approx(np.mean([2.0 - 0.0, 2.1 - 0.1, 2.2 - 0.0]))
    assert found.loss_change is not None
    assert found.loss_change.value == pytest.approx(0.0, abs=1e-12)


def test_the_interval_is_students_t():
    found = over_seeds([1.0, 2.0, 4.0], confidence=0.9)
    theirs = stats.ttest_1samp([1.0, 2.0, 4.0], 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_more_arms_widen_the_intervals():
    treated = arm("treated", [2.0, 2.2, 1.9, 2.1], [0.9, 1.0, 0.8, 0.9])
    alone, among_five = compare(CONTROL, treated), compare(CONTROL, treated, n_arms=5)
    assert alone.effect_gain is not None
    assert among_five.effect_gain is not None
    assert among_five.effect_gain.high > alone.effect_gain.high
    assert among_five.effect_gain.level == pytest.approx(0.99)


def test_sign_flips_by_hand():
    # |sum| of the 8 patterns of (1, 2, 3): 6, 0, 2, 4, 4, 2, 0, 6
    assert sign_flips([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flips([1.0, 2.0, -3.0]) == 1.0
    assert sign_flips([0.5] * 20) == 2 / 2**14


def test_required_seeds_decide_at_the_same_spread():
    found = compare(CONTROL, arm("treated", [0.0, 3.0, 0.0, 2.0], [1.0, 1.1, 0.9, 1.0]))
    differences = np.array([0.0, 2.9, -0.05, 2.0])
    spread, n = differences.std(ddof=1), found.required_seeds
    assert n is not None
    half = [stats.t.ppf(0.975, k - 1) * spread / np.sqrt(k) for k in (n - 1, n)]
    assert half[1] < differences.mean() <= half[0]


def test_pooled_intervals_hold_both_kinds_of_spread():
    values = [0.1, 0.5, 0.9]
    exact, vague = (pooled([estimate(value, half) for value in values]) for half in (0.0, 0.5))
    assert exact is not None
    assert vague is not None
    assert exact.value == vague.value == pytest.approx(0.5)
    # Means of three draws from three values with replacement: 1 in 27 is the least value alone, so 2.5 % is that value.
    assert (exact.low, exact.high) == pytest.approx((0.1, 0.9))
    assert vague.high - vague.low > exact.high - exact.low
    assert pooled([estimate(0.5)]) is None


def test_an_uneven_interval_is_redrawn_unevenly():
    lopsided = Estimate(value=1.0, low=0.9, high=3.0)
    found = pooled([lopsided, lopsided])
    assert found is not None
    assert found.high - 1 > 5 * (1 - found.low)
