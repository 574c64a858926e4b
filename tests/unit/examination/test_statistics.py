import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mnemoscope.examination.judgement.statistics import (
    Bootstrap,
    GroupSequential,
    alpha_spending,
    equivalence,
    hierarchical,
    holm,
    required_sequences,
)
from mnemoscope.runs import Estimate


def test_interval_equals_scipys_bca_within_resampling_noise():
    values = np.random.default_rng(0).gamma(0.5, size=400)
    ours = Bootstrap(400, 9999, seed=1).mean(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(2))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)
    assert ours.value == pytest.approx(values.mean())


def test_interval_covers_the_mean_about_95_times_in_100():
    rng = np.random.default_rng(3)
    bootstrap, covered = Bootstrap(200, 1000, seed=0), 0
    for _ in range(400):
        interval = bootstrap.mean(rng.gamma(1.0, size=200))
        covered += interval.low <= 1.0 <= interval.high
    assert 0.915 <= covered / 400 <= 0.98


def test_equal_values_give_an_interval_of_no_width():
    interval = Bootstrap(50, 500, seed=0).mean(np.full(50, 0.25))
    assert (interval.low, interval.high) == (0.25, 0.25)


def test_one_rare_value_gives_finite_bounds_in_order():
    values = np.zeros(100)
    values[0] = 5.0
    interval = Bootstrap(100, 500, seed=0).mean(values)
    assert np.isfinite([interval.low, interval.high]).all()
    assert interval.low <= interval.value <= interval.high


def test_ratio_is_paired_and_refuses_a_denominator_that_may_vanish():
    rng = np.random.default_rng(0)
    whole = 2.0 + rng.normal(size=300)
    ratio = Bootstrap(300, 1000, seed=0).ratio(0.5 * whole, whole)
    assert ratio is not None
    assert ratio.low == pytest.approx(0.5)
    assert ratio.high == pytest.approx(0.5)
    assert Bootstrap(300, 1000, seed=0).ratio(whole, whole - whole.mean()) is None


@pytest.mark.parametrize("effect", [0.1, 0.3])
def test_required_sequences_follow_the_sample_size_formula(effect: float):
    n, margin, deviation = 400, 0.2, 0.8
    half_width = 1.96 * deviation / n**0.5
    estimate = Estimate(value=effect, low=effect - half_width, high=effect + half_width)
    assert required_sequences(estimate, n, margin) == pytest.approx((2.8 * deviation / 0.1) ** 2, abs=1)


def test_required_sequences_decide_about_four_times_in_five():
    rng, margin, effect, deviation = np.random.default_rng(0), 0.1, 0.13, 0.2
    half_width = 1.96 * deviation / 20
    n = required_sequences(Estimate(value=effect, low=effect - half_width, high=effect + half_width), 400, margin)
    bootstrap = Bootstrap(n, 500, seed=0)
    decided = sum(bootstrap.mean(rng.normal(effect, deviation, n)).low > margin for _ in range(300))
    assert 0.7 <= decided / 300 <= 0.9


def test_many_means_are_the_means_one_by_one():
    values = np.random.default_rng(0).gamma(0.5, size=(5, 300)) - 0.4
    bootstrap = Bootstrap(300, 1000, seed=0)
    for one, several in zip([bootstrap.mean(row, 0.9) for row in values], bootstrap.means(values, 0.9), strict=True):
        assert (several.value, several.low, several.high) == pytest.approx((one.value, one.low, one.high), abs=1e-6)
        assert several.level == 0.9


def test_a_large_offset_costs_no_precision():
    values = np.random.default_rng(0).gamma(0.5, size=300)
    bootstrap = Bootstrap(300, 1000, seed=0)
    near, far = bootstrap.mean(values), bootstrap.mean(values + 1e6)
    assert far.low - 1e6 == pytest.approx(near.low, abs=1e-5)
    assert far.high - 1e6 == pytest.approx(near.high, abs=1e-5)


def test_every_resample_draws_n_sequences():
    counts = Bootstrap(37, 5000, seed=0).counts
    assert (counts.sum(1) == 37).all()
    assert counts.mean(0) == pytest.approx(np.ones(37), abs=0.1)
    assert counts.var(0).mean() == pytest.approx(36 / 37, rel=0.02)


def test_intervals_widen_with_confidence_and_far_tails_are_continued():
    values = np.random.default_rng(0).normal(size=400)
    bootstrap = Bootstrap(400, 1000, seed=0)
    error = values.std() / 20
    for confidence in (0.9, 0.95, 0.99, 0.999, 1 - 1e-6):
        interval = bootstrap.mean(values, confidence)
        assert interval.high - interval.low == pytest.approx(2 * stats.norm.ppf((1 + confidence) / 2) * error, rel=0.15)


def test_certainty_gives_a_finite_interval_within_the_values():
    values = np.random.default_rng(0).normal(size=100)
    interval = Bootstrap(100, 500, seed=0).mean(values, 1.0)
    assert values.min() <= interval.low < interval.high <= values.max()
    assert required_sequences(interval, 100, 0.1) > 100


def bank(size: int) -> np.ndarray:
    """Differences of losses as they are: none in most sequences, a long tail in the rest, a few below zero."""
    rng = np.random.default_rng(11)
    return np.where(rng.random(size) < 0.6, 0.0, rng.lognormal(-1.0, 0.8, size) - 0.1)


def coverage(n: int, n_samples: int, n_resamples: int, seed: int) -> float:
    drawn_from = bank(200_000)
    samples = np.random.default_rng(seed).choice(drawn_from, size=(n_samples, n))
    intervals = Bootstrap(n, n_resamples, seed=seed).means(samples)
    return float(np.mean([interval.low <= drawn_from.mean() <= interval.high for interval in intervals]))


def test_interval_covers_the_mean_of_a_skewed_bank():
    assert 0.93 <= coverage(1024, 2000, 1000, seed=0) <= 0.97


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_interval_covers_the_mean_of_a_skewed_bank_in_two_thousand_samples(seed: int):
    assert 0.93 <= coverage(1024, 2000, 10_000, seed) <= 0.97


def test_hierarchical_interval_without_spread_between_seeds_is_that_of_sequences():
    rng = np.random.default_rng(0)
    groups = [rng.normal(0.5, 1.0, 100) for _ in range(60)]
    groups = [group - group.mean() + 0.5 for group in groups]
    interval = hierarchical(groups, 2000)
    assert interval.value == pytest.approx(0.5)
    error = np.sqrt(1.0 / (100 * 60))
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_hierarchical_interval_covers_the_mean_over_seeds_where_one_of_sequences_does_not():
    rng, covered, pooled = np.random.default_rng(0), 0, 0
    for trial in range(200):
        groups = [rng.normal(seed_mean, 1.0, 30) for seed_mean in rng.normal(0.0, 0.5, 25)]
        interval = hierarchical(groups, 400, seed=trial)
        covered += interval.low <= 0.0 <= interval.high
        half = 1.96 / np.sqrt(25 * 30)
        pooled += abs(interval.value) <= half
    assert covered / 200 >= 0.9
    assert pooled / 200 <= 0.6


def test_hierarchical_needs_seeds():
    with pytest.raises(ValueError, match="at least 2 seeds"):
        hierarchical([np.zeros(5)])


@pytest.mark.parametrize(
    ("low", "high", "side"),
    [
        (0.3, 0.5, "above"),
        (-0.1, 0.1, "within"),
        (-0.5, -0.3, "below"),
        (0.1, 0.3, "open"),
        (-0.5, 0.1, "open"),
        (-0.5, 0.5, "open"),
        (0.2, 0.3, "open"),
    ],
)
def test_equivalence_by_hand(low: float, high: float, side: str):
    assert equivalence(Estimate(value=(low + high) / 2, low=low, high=high), 0.2) == side


def test_required_sequences_at_a_wider_level_are_more():
    deviation, n, margin = 0.8, 400, 0.2
    wide = stats.norm.ppf(0.995)
    estimate = Estimate(value=0.3, low=0.3 - wide * deviation / 20, high=0.3 + wide * deviation / 20, level=0.99)
    assert required_sequences(estimate, n, margin) == pytest.approx(((wide + 0.84) * deviation / 0.1) ** 2, abs=1)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_steps_reject(p: list[float], alpha: float):
    rejected = set()
    for step, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        if p[index] * (len(p) - step) > alpha:
            break
        rejected.add(index)
    assert {index for index, adjusted in enumerate(holm(p)) if adjusted <= alpha} == rejected


@pytest.mark.parametrize(
    ("fractions", "published"),
    [
        ((1 / 3, 2 / 3, 1.0), (3.7103, 2.5114, 1.9930)),
        ((0.5, 1.0), (2.9626, 1.9686)),
        ((0.2, 0.4, 0.6, 0.8, 1.0), (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
        ((1.0,), (1.9600,)),
    ],
)
def test_boundaries_are_the_published_ones(fractions: tuple[float, ...], published: tuple[float, ...]):
    assert stats.norm.isf(np.array(alpha_spending(fractions)) / 2) == pytest.approx(published, abs=2e-4)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_boundaries_spend_the_level_under_a_multivariate_normal(alpha: float):
    fractions = np.array([0.25, 0.6, 1.0])
    bounds = stats.norm.isf(np.array(alpha_spending(tuple(fractions), alpha)) / 2)
    covariance = np.sqrt(np.minimum.outer(fractions, fractions) / np.maximum.outer(fractions, fractions))
    for n in (1, 2, 3):
        joint = stats.multivariate_normal(cov=covariance[:n, :n], seed=0)
        inside = joint.cdf(bounds[:n], lower_limit=-bounds[:n])
        spent = 4 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(fractions[n - 1]))
        assert 1 - inside == pytest.approx(spent, rel=0.02, abs=1e-6)


def test_fractions_must_rise_to_one():
    for fractions in [(), (0.5,), (0.5, 0.4, 1.0), (0.0, 1.0)]:
        with pytest.raises(ValueError, match="rise from above 0 to 1"):
            alpha_spending(fractions)


def test_looks_by_hand():
    plan = GroupSequential(n=1024)
    assert plan.sequences == (341, 682, 1024)
    assert 1 - plan.confidence(2) == pytest.approx(2 * stats.norm.sf(1.993), rel=0.01)
    assert plan.confidence(0) > plan.confidence(1) > plan.confidence(2)
    assert plan.confidence(2, alpha=0.01) > plan.confidence(2)
    above, below = Estimate(value=0.4, low=0.3, high=0.5), Estimate(value=0.0, low=-0.1, high=0.1)
    straddling = Estimate(value=0.2, low=0.1, high=0.3)
    assert plan.stop(0, [above, below], margin=0.2)
    assert not plan.stop(1, [above, straddling], margin=0.2)
    assert plan.stop(2, [above, straddling], margin=0.2)
    assert GroupSequential(n=10, n_looks=1).confidence(0) == pytest.approx(0.95)
    with pytest.raises(ValueError, match="n_looks"):
        GroupSequential(n=2, n_looks=3)


@pytest.mark.parametrize("effect", [0.0, 0.1, 0.2])
def test_intervals_cover_wherever_the_looks_stop(effect: float):
    plan, margin, n_trials = GroupSequential(n=300), 0.1, 40_000
    seen = np.array(plan.sequences)
    rng = np.random.default_rng(0)
    sums = (rng.normal(size=(n_trials, 3)) * np.sqrt(np.diff(seen, prepend=0))).cumsum(1)
    means = effect + sums / seen
    half = stats.norm.ppf([(1 + plan.confidence(look)) / 2 for look in range(3)]) / np.sqrt(seen)
    decided = np.abs(means - margin) > half
    decided[:, -1] = True
    stopped = decided.argmax(1)
    rows = np.arange(n_trials)
    at_stop = np.abs(means - effect)[rows, stopped] <= half[stopped]
    everywhere = (np.abs(means - effect) <= half).all(1)
    assert at_stop.mean() >= 0.948
    assert everywhere.mean() == pytest.approx(0.95, abs=0.004)
    if effect == margin:
        assert at_stop.mean() == pytest.approx(0.95, abs=0.004)
        peeking = (np.abs(means - effect) <= stats.norm.ppf(0.975) / np.sqrt(seen)).all(1)
        assert peeking.mean() < 0.91


def test_bootstrap_intervals_cover_wherever_the_looks_stop():
    plan, drawn_from = GroupSequential(n=480), bank(200_000)
    truth = float(drawn_from.mean())
    samples = np.random.default_rng(5).choice(drawn_from, size=(600, plan.n))
    covered, stopped = np.zeros(600, bool), np.zeros(600, bool)
    for look, seen in enumerate(plan.sequences):
        intervals = Bootstrap(seen, 1000, seed=look).means(samples[:, :seen], plan.confidence(look))
        for trial, interval in enumerate(intervals):
            if not stopped[trial] and plan.stop(look, [interval], truth - 0.04):
                stopped[trial] = True
                covered[trial] = interval.low <= truth <= interval.high
    assert stopped.all()
    assert 0.93 <= covered.mean() <= 0.975
