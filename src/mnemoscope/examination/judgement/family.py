"""The family of tests behind the verdicts of an examination, adjusted so that they hold together.

Every deciding effect of every site is one test: is it above or below the margin? With m tests at 5 % each, one in
twenty verdicts would rest on luck, so the intervals are widened by Holm's steps: the clearest effect is held to level
alpha / m, the next to alpha / (m - 1), until the first that lies on neither side of the margin; that one and all less
clear ones share its level.

Where the test sequences are looked at several times, each level is that of a repeated confidence interval.

Source: Holm 1979, "A simple sequentially rejective multiple test procedure"; Jennison & Turnbull 1989 for the looks.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mnemoscope.examination.judgement.statistics import Bootstrap, alpha_spending
from mnemoscope.runs.examination import Estimate

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Level:
    """What is left of alpha at one of several planned looks.

    Args:
        fractions: of the test sequences seen at each look.
        look: which of them this is, from 0.
        alpha: of everything together.
    """

    fractions: tuple[float, ...] = (1.0,)
    look: int = 0
    alpha: float = 0.05

    def confidence(self, tests: int = 1) -> float:
        """Of an interval where so many tests share alpha."""
        return 1 - alpha_spending(self.fractions, self.alpha / tests)[self.look]


def adjusted(
    effects: Mapping[Name, NDArray[np.float64]], margin: float, bootstrap: Bootstrap, level: Level
) -> dict[Name, Estimate]:
    """The effects with intervals that hold together.

    Args:
        effects: paired differences by name, one value for every sequence.
        margin: what each effect is compared with.
        bootstrap: of as many sequences.
        level: of the whole family.

    Returns:
        estimates by name, `level` being the confidence of each.
    """
    clearest_first = sorted(effects, key=lambda name: (p_value(effects[name], margin), str(name)))
    found: dict[Name, Estimate] = {}
    left, stopped = len(effects), False
    for name in clearest_first:
        found[name] = bootstrap.mean(effects[name], level.confidence(left))
        stopped = stopped or found[name].low <= margin <= found[name].high
        left -= not stopped
    return {name: found[name] for name in effects}


def p_value(values: NDArray[np.float64], margin: float) -> float:
    """Two-sided p-value of Student's t test that the mean is the margin; of equal values, 0 or 1."""
    distance, error = float(values.mean()) - margin, float(values.std(ddof=1)) / len(values) ** 0.5
    if error <= 1e-15:
        return float(distance == 0)
    return float(2 * stats.t.sf(abs(distance) / error, len(values) - 1))
