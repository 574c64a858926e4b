"""Spearman's correlation of hops with cosines, for thousands of shuffles.

Pairs are put in the order of their cosines. Where all pairs are taken, a shuffle leaves that order, and moves hops
between the pairs; so cosines are sorted once. Hops are few, and each has one rank; the rank of a cosine among those
pairs that count is a running count of them.
"""

from collections.abc import Callable
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Float, Int, UInt

DIGITS = 12
"""Cosines are equal if they are so to as many digits; the rest is rounding, and ranks would see it."""

InOrder: TypeAlias = Callable[[Int[np.ndarray, "n"]], tuple[UInt[np.ndarray, "p"], Int[np.ndarray, "classes"] | None]]
"""From an order of the rows to the hops of all pairs, 0 for those that do not count, by rising cosine; and where each
run of equal cosines starts, None where no two are equal."""


@final
class HopRanks:
    """The ranks of hops among the pairs that count: those at `least` hops or more.

    Args:
        counts: pairs at 0, 1, 2, ... hops; those at 0 never count.
        least: 1 for all pairs.
    """

    def __init__(self, counts: Int[np.ndarray, "h"], least: int) -> None:
        counts = np.where(np.arange(len(counts)) < least, 0, counts)
        self.n_pairs = int(counts.sum())
        self.counted: Float[np.ndarray, "h"] = (counts > 0).astype(float)
        """1 for hops that count."""
        ranks = np.cumsum(counts) - (counts - 1) / 2 - (self.n_pairs + 1) / 2
        norm = np.sqrt(counts @ np.square(ranks))
        self.target: Float[np.ndarray, "h"] | None = self.counted * ranks / norm if norm > 0 else None
        """The rank of each hop less the mean, of length 1 over all pairs; None where all are equal."""

    def correlation(self, codes: UInt[np.ndarray, "p"], starts: Int[np.ndarray, "classes"] | None) -> float:
        """With the cosines by which `codes` stand in order, see `InOrder`; NaN where either are all equal.

        Equal cosines share the mean of their ranks. Ranks' sum of squares about their mean is
        (N^3 - N - sum (t^3 - t)) / 12 over runs of t equal ones.
        """
        if self.target is None:
            return np.nan
        n, there, aimed = self.n_pairs, self.counted.take(codes), self.target.take(codes)
        ties = half = 0.0
        if starts is not None:
            there, aimed = np.add.reduceat(there, starts), np.add.reduceat(aimed, starts)
            ties, half = float((there**3 - there).sum()), float(aimed @ there) / 2
        squares = (n**3 - n - ties) / 12
        return float(aimed @ np.cumsum(there) - half) / np.sqrt(squares) if squares > 0 else np.nan


def all_pairs(unit: Float[np.ndarray, "n m"], codes: UInt[np.ndarray, "n n"]) -> InOrder:
    """Every pair of nodes, of rows of length 1 and the hops between nodes.

    Cost: one sort of n^2 / 2 cosines, then O(n^2) for each order.
    """
    n = len(unit)
    first, second = np.triu_indices(n, 1)
    cosines = np.round(unit @ unit.T, DIGITS)[first, second]
    rising = np.argsort(cosines, kind="stable")
    starts, place = _starts(cosines[rising]), (first * n + second)[rising]

    def in_order(order: Int[np.ndarray, "n"]) -> tuple[UInt[np.ndarray, "p"], Int[np.ndarray, "classes"] | None]:
        node = np.argsort(order)
        return codes.take(node, axis=0).take(node, axis=1).ravel().take(place), starts

    return in_order


def pairs_between(
    unit: Float[np.ndarray, "n m"],
    codes: UInt[np.ndarray, "s t"],
    sources: Int[np.ndarray, "s"],
    targets: Int[np.ndarray, "t"],
) -> InOrder:
    """Every source with every target, which are other nodes.

    Cost: a sort of s t cosines for each order.
    """

    def in_order(order: Int[np.ndarray, "n"]) -> tuple[UInt[np.ndarray, "p"], Int[np.ndarray, "classes"] | None]:
        cosines = np.round(unit[order[sources]] @ unit[order[targets]].T, DIGITS).ravel()
        rising = np.argsort(cosines)
        return codes.ravel().take(rising), _starts(cosines[rising])

    return in_order


def _starts(rising: Float[np.ndarray, "p"]) -> Int[np.ndarray, "classes"] | None:
    starts = np.flatnonzero(np.append(True, np.diff(rising) > 0)[: len(rising)])
    return None if len(starts) == len(rising) else starts
