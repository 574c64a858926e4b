"""Signs in a training log and an examination that rows of the decision framework look for.

A sign that cannot be read from what was recorded is None, so that no row holds by default.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mnemoscope.runs.examination import SiteRecord

Aim = Literal[
    "retain longer",
    "respond faster",
    "learn faster",
    "more expressive",
    "more content",
    "more practice",
    "isolation",
    "easier task",
    "check natural use",
]
"""What somebody wants of a memory, which no measurement tells."""

TaskKind = Literal["language", "mathematics", "other"]
"""What rows of the framework tell apart; "other" is neither."""

FEWEST_POINTS = 6
PLATEAU = 0.02
MOVED = 0.01
STANDARD_ERRORS = 2.0

USED = frozenset({"load-bearing", "load-bearing (sole)", "load-bearing (shared)", "saturated"})
UNUSED = frozenset({"decorative", "decorative (scale)", "starved", "constant-bias", "clock", "redundant", "local-only"})

DIMENSIONS_OF_WEIGHTS = ("embedding_dimension_ratio", "head_dimension_ratio")
DIMENSION_RATIOS = (*DIMENSIONS_OF_WEIGHTS, "hidden_dimension_ratio")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a training, those that rows ask for; `orthogonal_gradient` is a strength, 0 for none."""

    weight_decay: float
    learning_rate: float
    stablemax: bool
    orthogonal_gradient: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a training and of one memory of its model.

    Args:
        site: the memory as it was examined; None where nobody did.
        metrics: rows of the training log, each with "step". Read are `loss` (unweighted), `accuracy` and
            `validation_accuracy`; `raw_gate_mean`, before any floor; `memory_utility` (accuracy with the memory less
            accuracy with it reset) and `memory_specificity` (less accuracy with another sequence's memory), each with
            its standard error as `..._error`; `memory_norm`, `memory_relative_update`, `memory_rank_share`;
            `embedding_dimension_ratio`, `head_dimension_ratio`, `hidden_dimension_ratio`; `gradient_weight_cosine`,
            as the gradient is used, and `..._before` any projection; `softmax_collapse`, of float32 softmax logits.
        task: what is learned; None where nobody says.
        settings: of the training; None where nobody says.
        aims: what is wanted.
        n_suspects: different changes that other rows propose.
    """

    site: SiteRecord | None = None
    metrics: Sequence[Mapping[str, float]] = ()
    task: TaskKind | None = None
    settings: Settings | None = None
    aims: frozenset[Aim] = frozenset()
    n_suspects: int = 0

    def series(self, name: str) -> list[tuple[float, float]]:
        """Steps and values, finite ones only."""
        return [(row["step"], row[name]) for row in self.metrics if name in row and math.isfinite(row[name])]

    def last(self, name: str) -> float | None:
        """The last value in the log."""
        points = self.series(name)
        return points[-1][1] if points else None

    def measured(self, name: str) -> float | None:
        """A measure of the examined memory."""
        return None if self.site is None else self.site.measures.get(name)

    @property
    def verdict(self) -> str | None:
        """Of the examined memory."""
        return None if self.site is None else self.site.verdict

    @property
    def raw_gate(self) -> float | None:
        """How far the gate is open before any floor lifts it."""
        logged = self.last("raw_gate_mean")
        return self.measured("gate_mean") if logged is None else logged

    @property
    def last_step(self) -> float | None:
        """How far the training has come."""
        return max((row["step"] for row in self.metrics), default=None)

    def later_half(self, name: str) -> list[float] | None:
        """Values in the later half of the log; None where they are too few to speak of a trend."""
        values = [value for _, value in self.series(name)]
        return values[len(values) // 2 :] if len(values) >= FEWEST_POINTS else None

    def plateau(self, name: str = "validation_accuracy") -> float | None:
        """The level at which the later half of the log stays within two points; None where it moves."""
        late = self.later_half(name)
        return sum(late) / len(late) if late and max(late) - min(late) <= PLATEAU else None

    def late_size(self, name: str) -> float | None:
        """The mean absolute value in the later half of the log, however few there are."""
        values = [abs(value) for _, value in self.series(name)]
        late = values[len(values) // 2 :]
        return sum(late) / len(late) if late else None

    def change(self, name: str) -> float | None:
        """The mean of the last quarter of the log less that of the quarter before."""
        late = self.later_half(name)
        if not late:
            return None
        middle = len(late) // 2
        return sum(late[middle:]) / (len(late) - middle) - sum(late[:middle]) / middle

    def relative_change(self, name: str) -> float | None:
        """`change` over the mean of the later half."""
        change, late = self.change(name), self.later_half(name)
        if change is None or not late:
            return None
        return change / max(abs(sum(late) / len(late)), 1e-12)

    def surely_positive(self, name: str) -> bool | None:
        """Whether a mean lies more than two standard errors above zero; None where either was not logged."""
        value, error = self.last(name), self.last(f"{name}_error")
        return None if value is None or error is None else value > STANDARD_ERRORS * error

    @property
    def is_used(self) -> bool | None:
        """Whether the memory does anything: by its verdict, or else by its utility; None where neither tells."""
        if self.verdict in USED or self.verdict in UNUSED:
            return self.verdict in USED
        return self.surely_positive("memory_utility")

    @property
    def dimension_ratios(self) -> dict[str, float]:
        """Effective dimension over width: of input embedding, output head and hidden states, each on its own."""
        ratios = ((name, self.last(name)) for name in DIMENSION_RATIOS)
        return {name: value for name, value in ratios if value is not None}


def fell(
    evidence: Evidence, name: str, start: float, end: float, *, within: float = math.inf, over: float = 0
) -> list[tuple[float, float]]:
    """All pairs of steps between which a quantity fell from at least `start` to at most `end`, in such a time."""
    points = evidence.series(name)
    return [
        (first, last)
        for first, high in points
        if high >= start
        for last, low in points
        if last > first and low <= end and over <= last - first <= within
    ]


def risen_by(evidence: Evidence, step: float, name: str = "validation_accuracy") -> bool | None:
    """Whether held-out accuracy had left its start by more than five points at a step; None where not logged."""
    points = evidence.series(name)
    before = [value for at, value in points if at <= step]
    return None if not before else max(before) > points[0][1] + 0.05


def first_step(evidence: Evidence, name: str, level: float) -> float | None:
    """The first step at which a quantity was at least so large."""
    return next((step for step, value in evidence.series(name) if value >= level), None)
