"""Paired intervals over sequences, and how many of them may be looked at, how often.

The unit is the sequence: all its scored tokens are one value, and every condition sees the same sequences, so effects
are means of paired differences. Where runs of one recipe are compared the unit is the seed.

Source: bias-corrected and accelerated bootstrap, Efron 1987; for a mean the acceleration is a moment of the sample.
Looks: Lan & DeMets 1983, with the spending function that resembles O'Brien & Fleming 1979.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import optimize, special, stats

from mnemoscope.runs.examination import Estimate

Values = NDArray[np.float64]

Side = Literal["above", "within", "below", "open"]
"""Where an effect lies: surely above the margin, surely between minus the margin and the margin, surely below minus
the margin, or none of these."""

RESOLVED_DRAWS = 10
"""Tails that fewer draws reach are continued as those of a normal distribution."""


class Bootstrap:
    """Intervals for means, and for ratios of means, of values of the same n sequences.

    Args:
        n: number of sequences.
        n_resamples: resamples, each n draws with replacement, kept as counts so that a mean is a matrix product.
        seed: of the draws; one instance uses the same draws for every statistic.

    Cost: 4 n n_resamples bytes. Counts and products are float32 of centred values: good to a millionth of the spread.
    """

    def __init__(self, n: int, n_resamples: int, seed: int) -> None:
        self.n = n
        self.counts = _resampled_counts(np.random.default_rng([seed, n, n_resamples]), n, n_resamples)

    def mean(self, values: Values, confidence: float = 0.95) -> Estimate:
        """Mean with its BCa interval; values that are all equal give an interval of no width."""
        return self.means(values[None], confidence)[0]

    def means(self, values: Float[np.ndarray, "m {self.n}"], confidence: float = 0.95) -> list[Estimate]:
        """The means of m effects, in one matrix product."""
        centres = values.mean(1)
        draws = self._deviations(values - centres[:, None])
        return [self._interval(*each, confidence) for each in zip(values, centres, draws, strict=True)]

    def ratio(self, above: Values, below: Values, confidence: float = 0.95) -> Estimate | None:
        """Mean of `above` over mean of `below`, with a percentile interval; None where the denominator may be 0."""
        centres = np.array([above.mean(), below.mean()])
        numerators, denominators = self._deviations(np.stack([above, below]) - centres[:, None]) + centres[:, None]
        if denominators.min() <= 0:
            return None
        low, high = np.quantile(numerators / denominators, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(value=float(centres[0] / centres[1]), low=float(low), high=float(high), level=confidence)

    def _deviations(self, centred: Float[np.ndarray, "m {self.n}"]) -> Float[np.ndarray, "m resamples"]:
        """Means of the resamples, less those of the sample."""
        return (centred.astype(np.float32) @ self.counts.T).astype(np.float64) / self.n

    def _interval(self, values: Values, centre: float, draws: Values, confidence: float) -> Estimate:
        deviation = values - centre
        spread = float((deviation**2).sum())
        if spread <= 1e-30:
            return Estimate(value=centre, low=centre, high=centre, level=confidence)
        tie = 1e-6 * spread**0.5 / self.n
        below = (np.count_nonzero(draws < -tie) + 0.5 * np.count_nonzero(np.abs(draws) <= tie)) / len(draws)
        bias = stats.norm.ppf(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
        acceleration = float((deviation**3).sum()) / (6 * spread**1.5)
        shifted = bias + _half_width(confidence) * np.array([-1.0, 1.0])
        corrected = bias + shifted / np.maximum(1 - acceleration * shifted, 0.1)
        low, high = np.clip(centre + _quantiles(draws, corrected), values.min(), values.max())
        return Estimate(value=centre, low=float(low), high=float(high), level=confidence)


def _half_width(confidence: float) -> float:
    """Standard errors on either side of a normal mean; of what rounds to certainty, nine."""
    return float(min(9.0, stats.norm.isf((1 - confidence) / 2)))


def _resampled_counts(rng: np.random.Generator, n: int, n_resamples: int) -> Float[np.ndarray, "resamples n"]:
    """How often each sequence is drawn, a few resamples at a time so that they stay in the processor's cache."""
    counts = np.empty((n_resamples, n), np.float32)
    at_once = max(1, 2**17 // n)
    for start in range(0, n_resamples, at_once):
        part = counts[start : start + at_once]
        drawn = rng.integers(0, n, size=part.shape, dtype=np.int32) + n * np.arange(len(part), dtype=np.int32)[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    return counts


def _quantiles(draws: Values, scores: Values) -> Values:
    """Quantiles of centred draws at normal scores, the far tails continued through the last that is resolved."""
    furthest = stats.norm.isf(min(0.25, RESOLVED_DRAWS / len(draws)))
    kept = np.clip(scores, -furthest, furthest)
    beyond = np.where(np.abs(scores) > furthest, np.abs(scores) / furthest, 1.0)
    return np.quantile(draws, stats.norm.cdf(kept)) * beyond


def hierarchical(
    groups: Sequence[Values], n_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """Mean over seeds of the mean over sequences, resampling seeds and, within each, sequences.

    Every seed weighs the same. Percentile interval. With three to five seeds it is too narrow, as every bootstrap of so
    few units is: show the seeds beside it.

    Args:
        groups: for every seed the values of its sequences.
        n_resamples: resamples.
        seed: of the draws.
        confidence: of the interval.
    """
    if len(groups) < 2:
        raise ValueError(f"hierarchical: groups must be at least 2 seeds, got {len(groups)}; use Bootstrap for one")
    rng = np.random.default_rng([seed, len(groups), n_resamples])
    chosen = rng.integers(0, len(groups), size=(n_resamples, len(groups)))
    means = np.empty(chosen.shape)
    for index, values in enumerate(groups):
        drawn = chosen == index
        counts = _resampled_counts(rng, len(values), int(drawn.sum()))
        means[drawn] = (counts @ (values - values.mean()).astype(np.float32)) / len(values) + values.mean()
    low, high = np.quantile(means.mean(1), [(1 - confidence) / 2, (1 + confidence) / 2])
    centre = float(np.mean([values.mean() for values in groups]))
    return Estimate(value=centre, low=float(low), high=float(high), level=confidence)


def equivalence(effect: Estimate, margin: float) -> Side:
    """On which side of the margin an effect lies; `within` is equivalence to no effect.

    Two one-sided tests at level alpha need the interval at 1 - 2 alpha, so that this is the stricter reading.
    """
    if effect.low > margin:
        return "above"
    if effect.high < -margin:
        return "below"
    return "within" if effect.low > -margin and effect.high < margin else "open"


def required_sequences(estimate: Estimate, n: int, margin: float) -> int:
    """Sequences at which the effect would be on one side of the margin with 80 % power at the interval's level.

    n >= (1.96 + 0.84)^2 var / (effect - margin)^2 for a 95 % interval, the variance read off the interval; effects
    closer to the margin than a twentieth of it are taken to be that far away.
    """
    distance = max(abs(estimate.value - margin), 0.05 * margin)
    width = _half_width(estimate.level)
    standard_error = (estimate.high - estimate.low) / (2 * width)
    return int(np.ceil((width + 0.84) ** 2 * standard_error**2 * n / distance**2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: those at most alpha are rejected with a family-wise error of at most alpha.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted.tolist()


@cache
def alpha_spending(fractions: tuple[float, ...], alpha: float = 0.05) -> tuple[float, ...]:
    """Nominal two-sided levels of the looks, such that the chance of a false alarm at any of them is alpha.

        spent by fraction t, on either side:  2 - 2 Phi(z_{1 - alpha / 4} / sqrt(t))

    Three equal looks at 5 % give |z| = 3.71, 2.51, 1.99. Found look by look: the density of the sum that has crossed no
    boundary yet is carried on by quadrature.

    Args:
        fractions: of the sequences seen at each look, rising to 1.
        alpha: the level of all looks together.

    Source: Lan & DeMets 1983; Armitage, McPherson & Rowe 1969 for the recursion.
    """
    if not fractions or fractions[-1] != 1 or any(b <= a for a, b in zip((0.0, *fractions), fractions, strict=False)):
        raise ValueError(f"alpha_spending: fractions must rise from above 0 to 1, got {fractions}")
    if len(fractions) == 1:
        return (alpha,)
    spent = 4 * special.ndtr(special.ndtri(alpha / 4) / np.sqrt(fractions))
    nodes, weights = _quadrature()
    sums, density, bounds = np.zeros(1), np.ones(1), []
    for now, more, spend in zip(fractions, np.diff(fractions, prepend=0.0), np.diff(spent, prepend=0.0), strict=True):
        spread = float(np.sqrt(more))
        bound = optimize.root_scalar(_crossing, (sums, density, spread, spend), "brentq", (0.0, 12.0)).root
        bounds.append(bound / np.sqrt(now))
        steps = (bound * nodes[:, None] - sums) / spread
        density = np.exp(-0.5 * steps**2) @ density * bound * weights / (spread * np.sqrt(2 * np.pi))
        sums = bound * nodes
    return tuple(float(2 * special.ndtr(-bound)) for bound in bounds)


def _crossing(bound: float, sums: Values, density: Values, spread: float, less: float) -> float:
    """The chance that the next sum is the first beyond either bound, less what it should be."""
    tails = special.ndtr((sums - bound) / spread) + special.ndtr(-(sums + bound) / spread)
    return float(density @ tails) - less


@cache
def _quadrature() -> tuple[Values, Values]:
    return np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True, kw_only=True)
class GroupSequential:
    """A few planned looks at growing data; whichever one ends it, its intervals hold at 1 - alpha.

    The intervals of a look are at `confidence(look)`, so wide that all looks together miss with a chance of alpha:
    repeated confidence intervals, valid whatever made one stop. For a family of tests, Holm's share of alpha goes in:
    `confidence(look, alpha / m)`.

    Args:
        n: sequences at the last look.
        n_looks: equally spaced looks.
        alpha: the level of all looks together.

    Source: Jennison & Turnbull 1989, "Interim analyses: the repeated confidence interval approach".
    """

    n: int
    n_looks: int = 3
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.n_looks <= self.n:
            raise ValueError(f"GroupSequential: n_looks must be from 1 to n={self.n}, got {self.n_looks}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"GroupSequential: alpha must be between 0 and 1, got {self.alpha}")

    @property
    def sequences(self) -> tuple[int, ...]:
        """Sequences seen by each look."""
        return tuple(self.n * look // self.n_looks for look in range(1, self.n_looks + 1))

    def confidence(self, look: int, alpha: float | None = None) -> float:
        """Of the intervals at a look, counted from 0; `alpha` where only a part of the level is left to a test."""
        fractions = tuple(seen / self.n for seen in self.sequences)
        return 1 - alpha_spending(fractions, self.alpha if alpha is None else alpha)[look]

    def stop(self, look: int, intervals: Iterable[Estimate], margin: float) -> bool:
        """Whether nothing is left to decide: every interval lies on one side of the margin, or this was the last."""
        decided = all(effect.low > margin or effect.high < margin for effect in intervals)
        return decided or look == self.n_looks - 1
