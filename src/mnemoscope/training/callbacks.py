"""Callbacks: what looks on while a model is trained, and takes no part in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A training between two steps.

    Args:
        step: finished optimiser steps, from 1.
        steps: of the whole run.
        model: in training mode, with the gradients of its last step.
        row: figures of the step, those of an evaluation included; empty where none were due.
        say: shows one line to the user.
    """

    step: int
    steps: int
    model: nn.Module
    row: Mapping[str, float]
    say: Callable[[str], None]


class Callback(Protocol):
    """Called after every step; must leave the model, its gradients and all randomness as they were."""

    @property
    def name(self) -> str:
        """Under which its state is kept; no two of a training may share one."""
        ...

    def after_step(self, moment: Moment) -> dict[str, float]:
        """Figures to write beside those of the step, by name; empty for none."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs; kept in every checkpoint."""
        ...

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; from the beginning where it is empty.

        Raises:
            ValueError: the state of something else.
        """
        ...
