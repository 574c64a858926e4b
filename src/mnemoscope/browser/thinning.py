"""Fewer points of a long curve, by the least and the greatest of equal buckets: no peak is lost."""

import numpy as np

from mnemoscope.browser.series import Curve


def thinned(curve: Curve, n_buckets: int) -> Curve:
    """At most `2 * n_buckets + 2` points of a curve, in their order, first and last among them.

    Of each bucket of equally many points, the least and the greatest finite one stay; where none is finite, one that is
    not, so that the gap is seen.
    """
    n = len(curve.values)
    if n <= 2 * n_buckets:
        return curve
    width = -(-n // n_buckets)
    padded = np.full(n_buckets * width, np.nan)
    padded[:n] = curve.values
    table = padded.reshape(n_buckets, width)
    table = table[: -(-n // width)]
    finite, starts = np.isfinite(table), np.arange(len(table)) * width
    least = starts + np.where(finite, table, np.inf).argmin(axis=1)
    greatest = starts + np.where(finite, table, -np.inf).argmax(axis=1)
    kept = np.unique(np.concatenate([least, greatest, [0, n - 1]]))
    return Curve(curve.steps[kept], curve.values[kept])


def between(curve: Curve, first: float | None, last: float | None) -> Curve:
    """The part of a curve from step `first` to step `last`; None for no such end."""
    if first is None and last is None:
        return curve
    low, high = -np.inf if first is None else first, np.inf if last is None else last
    kept = (curve.steps >= low) & (curve.steps <= high)
    return Curve(curve.steps[kept], curve.values[kept])
