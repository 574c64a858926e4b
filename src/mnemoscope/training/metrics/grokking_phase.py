"""The phase of a training, from the last ten evaluations.

With held-out accuracy a, its slope and that of the effective dimension (share of the token embedding) by least squares
per evaluation, and the raw gate g, the first that holds:

    insufficient_data     fewer than 10 evaluations
    grokked               a > 0.7, |slope of a| < 0.001, and g >= 0.1 (or there is no gate)
    gate_collapse         g < 0.1
    cleanup               a > 0.5
    circuit_formation     slope of the effective dimension < -0.001, or slope of a > 0.001
    memorization          otherwise

and, apart from it, the strict sense, the only one in which a report may say "grokking": training accuracy reached 0.99
after n steps and stayed there at every evaluation for 5 n steps or more before held-out accuracy crossed 0.9.

What it says: a name for where curves stand. How to read it: a description, never a reason to stop; it stops nothing.
`grokked` says that held-out accuracy is high and flat, strict or not. Traps: fed training accuracy it calls any
memorised table grokked; fed a floored gate it can never see a collapse; slopes are per evaluation, so they depend on
how often one evaluates. Cost: none.

Source: the phases of the Atlas tuning guide, fed held-out accuracy and the raw gate; the strict sense, Power et al.
2022 (arXiv 2201.02177) and Prieto et al. 2025 (arXiv 2501.04697).
"""

import math
from collections.abc import Mapping
from typing import Literal, final, get_args

import torch
from torch import Tensor

Phase = Literal["insufficient_data", "memorization", "circuit_formation", "cleanup", "gate_collapse", "grokked"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""A metrics row holds the index of the phase in this tuple."""

WINDOW = 10
FLAT = 0.001
OPEN = 0.1
FITTED, CROSSED, DELAY = 0.99, 0.9, 5


@final
class GrokkingPhase:
    """Follows the evaluations of one run; its state goes into checkpoints."""

    def __init__(self) -> None:
        self._accuracies: list[float] = []
        self._dimensions: list[float] = []
        self._gate = math.nan
        self._fitted_at = self._crossed_at = math.nan

    def observe(
        self,
        step: int,
        held_out_accuracy: float,
        train_accuracy: float | None = None,
        gate: float | None = None,
        dimension: float | None = None,
    ) -> None:
        """One evaluation.

        Args:
            step: finished optimiser steps, at least 1.
            held_out_accuracy: on data that is never trained on, in [0, 1].
            train_accuracy: on training data; None leaves the strict sense undecided.
            gate: mean of the raw gate; None where no memory has one.
            dimension: effective dimension of the token embedding as a share of its width; None where unknown.
        """
        self._accuracies = [*self._accuracies, held_out_accuracy][-WINDOW:]
        self._dimensions = [*self._dimensions, math.nan if dimension is None else dimension][-WINDOW:]
        self._gate = math.nan if gate is None else gate
        if not math.isnan(self._crossed_at):
            return
        if train_accuracy is not None and train_accuracy < FITTED:
            self._fitted_at = math.nan
        elif train_accuracy is not None and math.isnan(self._fitted_at):
            self._fitted_at = float(step)
        if held_out_accuracy >= CROSSED:
            self._crossed_at = float(step)

    @property
    def phase(self) -> Phase:
        """The phase after the last evaluation."""
        if len(self._accuracies) < WINDOW:
            return "insufficient_data"
        accuracy, rise, shut = self._accuracies[-1], self.accuracy_slope, self._gate < OPEN
        if accuracy > 0.7 and abs(rise) < FLAT and not shut:
            return "grokked"
        if shut:
            return "gate_collapse"
        if accuracy > 0.5:
            return "cleanup"
        return "circuit_formation" if self.dimension_slope < -FLAT or rise > FLAT else "memorization"

    @property
    def accuracy_slope(self) -> float:
        """Slope of the held-out accuracy, per evaluation; NaN before there are ten."""
        return _slope(self._accuracies)

    @property
    def dimension_slope(self) -> float:
        """Slope of the effective dimension, per evaluation; NaN where one of the ten is unknown."""
        return _slope(self._dimensions)

    @property
    def strict(self) -> bool:
        """Whether held-out accuracy crossed 0.9 only after training accuracy had been 0.99 for long enough."""
        return self._crossed_at - self._fitted_at >= DELAY * self._fitted_at

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next evaluation builds on, in float64; what is unknown is NaN."""
        parts = {
            "accuracies": self._accuracies,
            "dimensions": self._dimensions,
            "marks": [self._gate, self._fitted_at, self._crossed_at],
        }
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in parts.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict()`.

        Raises:
            ValueError: for other names than it gives.
        """
        if set(state) != {"accuracies", "dimensions", "marks"}:
            raise ValueError(
                f"GrokkingPhase.load_state_dict: must hold accuracies, dimensions and marks, got {sorted(state)}; "
                "pass what state_dict() gave"
            )
        self._accuracies, self._dimensions = state["accuracies"].tolist(), state["dimensions"].tolist()
        self._gate, self._fitted_at, self._crossed_at = state["marks"].tolist()


def _slope(values: list[float]) -> float:
    """Least-squares slope over 0, 1, ..., n - 1; NaN for fewer than `WINDOW` values."""
    if len(values) < WINDOW:
        return math.nan
    centre, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((i - centre) ** 2 for i in range(len(values)))
    return sum((i - centre) * (value - mean) for i, value in enumerate(values)) / spread
