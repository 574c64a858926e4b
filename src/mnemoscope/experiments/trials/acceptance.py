"""Is a remedy accepted? Seeds are the unit; each arm is compared with the control on the same seeds.

(i) the memory's effect rose, and its interval lies above the margin; (ii) the loss is not higher by the margin;
(iii) where memory is demanded, the loss fell. (i) alone is a memory that was forced, not made useful.

Intervals are Student's t over seeds, at 1 - 0.05 / (arms compared); the p-value flips the signs of the differences.

Source: decorative-memory specification, section 4, acceptance test of a remedy.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from mnemoscope.runs import Estimate
from mnemoscope.runs.trial import ArmComparison, ArmRecord, Outcome, SeedRecord

LEAST_SEEDS = 3
MOST_SIGNS = 14
"""Seeds of which all sign patterns are counted; of more, the first so many."""
MOST_REQUIRED = 10_000


def compare(control: ArmRecord, arm: ArmRecord, n_arms: int = 1) -> ArmComparison:
    """An arm against the control.

    Args:
        control: the first arm.
        arm: another one.
        n_arms: compared with this control; intervals are widened for it (Bonferroni).
    """
    pairs = _pairs(control, arm)
    margin = max((seed.margin or 0.0 for pair in pairs for seed in pair), default=0.0)
    n = len(pairs)
    if n < LEAST_SEEDS:
        because = f"{n} {'seed is' if n == 1 else 'seeds are'} finished in both arms; {LEAST_SEEDS} allow a statement"
        return ArmComparison(arm=arm.name, n_seeds=n, margin=margin, outcome="too few seeds", because=because)
    confidence = 1 - 0.05 / n_arms
    gains = _differences(pairs, "effect")
    effect_gain, loss_change = over_seeds(gains, confidence), over_seeds(_differences(pairs, "loss"), confidence)
    effect = over_seeds([seed.effect.value for _, seed in pairs if seed.effect], confidence)
    demanded = [-value for value in _differences(pairs, "demanded_loss")]
    demanded_gain = over_seeds(demanded, confidence) if len(demanded) == n else None
    shares, utilities = _differences(pairs, "share"), _differences(pairs, "utility")
    outcome, because = _outcome(effect_gain, effect, loss_change, demanded_gain, margin)
    return ArmComparison(
        arm=arm.name,
        n_seeds=n,
        margin=margin,
        effect_gain=effect_gain,
        effect=effect,
        share_gain=over_seeds(shares, confidence) if len(shares) == n else None,
        loss_change=loss_change,
        demanded_gain=demanded_gain,
        utility_gain=over_seeds(utilities, confidence) if len(utilities) == n else None,
        p_value=sign_flips(gains),
        outcome=outcome,
        because=because,
        required_seeds=_required(gains, confidence) if outcome == "inconclusive" else None,
    )


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean over seeds, with Student's t interval.

    Args:
        values: one per seed, at least 2.
        confidence: of the interval.
    """
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Estimate(value=mean, low=mean - half, high=mean + half, level=confidence)


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided p-value of the mean: the share of all sign patterns whose mean is at least as far from 0."""
    counted = np.asarray(differences[:MOST_SIGNS])
    signs = np.array(list(itertools.product((1, -1), repeat=len(counted))))
    means = np.abs(signs @ counted)
    return float(np.mean(means >= abs(counted.sum()) * (1 - 1e-12)))


def pooled(estimates: Sequence[Estimate], n_resamples: int = 10_000, seed: int = 0) -> Estimate | None:
    """Mean over seeds, resampling seeds and redrawing each seed's value within its own interval; None below two seeds.

    Args:
        estimates: one per seed, with 95 % intervals, which need not be symmetric.
        n_resamples: resamples.
        seed: of the draws.
    """
    if len(estimates) < 2:
        return None
    rng, n = np.random.default_rng([seed, len(estimates)]), len(estimates)
    value, low, high = (np.array([getattr(one, name) for one in estimates]) for name in ("value", "low", "high"))
    chosen, scores = rng.integers(0, n, (n_resamples, n)), rng.standard_normal((n_resamples, n))
    spread = np.where(scores < 0, (value - low)[chosen], (high - value)[chosen]) / stats.norm.ppf(0.975)
    means = (value[chosen] + scores * spread).mean(1)
    ends = np.quantile(means, [0.025, 0.975])
    return Estimate(value=float(value.mean()), low=float(ends[0]), high=float(ends[1]))


def _outcome(
    gain: Estimate, effect: Estimate, loss_change: Estimate, demanded: Estimate | None, margin: float
) -> tuple[Outcome, str]:
    """The first row of the table that fits, and why; see `mnemoscope.runs.trial.Outcome`."""
    used = gain.low > 0 and effect.low > margin
    unharmed = loss_change.high < margin
    useful = demanded is not None and demanded.low > 0
    changed = f"the effect changed by {gain}, the loss by {loss_change}, the margin is {margin:.3f}"
    fell = f"where memory is demanded the loss fell by {demanded}"
    if loss_change.low > margin:
        return "harmful", f"the loss rose by {loss_change}, more than the margin of {margin:.3f}"
    if used and unharmed and useful:
        return "accepted", f"{changed}, and {fell}"
    if used:
        there = "no position is known to demand memory" if demanded is None else fell
        return "forced, not useful", f"{changed}; {there}"
    if gain.high < margin:
        return "no effect", changed
    return "inconclusive", changed


def _pairs(control: ArmRecord, arm: ArmRecord) -> list[tuple[SeedRecord, SeedRecord]]:
    ours = {seed.seed: seed for seed in arm.seeds if seed.is_finished}
    return [(seed, ours[seed.seed]) for seed in control.seeds if seed.is_finished and seed.seed in ours]


def _differences(pairs: Sequence[tuple[SeedRecord, SeedRecord]], name: str) -> list[float]:
    """Of the arm less the control, of the seeds where both have the figure."""
    both = [(getattr(before, name), getattr(after, name)) for before, after in pairs]
    return [after.value - before.value for before, after in both if before is not None and after is not None]


def _required(differences: Sequence[float], confidence: float) -> int | None:
    """Seeds after which an interval of this mean and spread would leave zero out; None beyond `MOST_REQUIRED`."""
    mean, spread = abs(float(np.mean(differences))), float(np.std(differences, ddof=1))
    for n in range(len(differences) + 1, MOST_REQUIRED):
        if stats.t.ppf((1 + confidence) / 2, n - 1) * spread / math.sqrt(n) < mean:
            return n
    return None
