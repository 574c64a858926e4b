"""What every remedy is: settings that attach to a model, and the treatment that this gives.

remedy.attach(model)  ->  treatment              hooks at its places; nothing of the model is subclassed
treatment.on_step(step, steps)                   before the forward pass of every step: sets the strength
treatment.extra_loss(computed)                   after it: what is minimised beside the task, or None
treatment.detach()                               the model has the hooks and modules that it had before
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, kw_only=True)
class Computed:
    """One training step after the forward pass of the model, with its graph.

    Args:
        inputs: what the model was given, (b, t) tokens or (b, t, c) vectors.
        targets: what it was to predict, `IGNORE` or NaN where nothing is scored.
        logits: what it returned, (b, t, vocab).
        loss: the task's mean loss, a scalar.
        again: the task's loss of one more forward pass on the same batch with the same random numbers; hooks that were
            added in between act on it.
        share: of the scored targets of the step's whole batch, those that are this process's; 1 for one process.
        row_share: of its sequences.
    """

    inputs: Tensor
    targets: Tensor
    logits: Float[Tensor, "b t vocab"]
    loss: Float[Tensor, ""]
    again: Callable[[], Float[Tensor, ""]]
    share: float = 1.0
    row_share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RemedyConfig(ABC):
    """What the settings of every remedy have.

    Args:
        sites: path patterns of the modules that it acts on (`model.layers.*.mixer`, `path::part`); empty for all that
            the model announces of the kind that the remedy wants.
        strength: what it multiplies or how often it acts, at the first step it is on; each remedy says which.
        final_strength: at its last step; None keeps it constant.
        shape: of the way between the two.
        begin: the part of the training, in [0, 1), after which it is on.
        end: the part of the training, in (begin, 1], at which `final_strength` is reached; it stays there.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: str = ""
    sites: tuple[str, ...] = ()
    strength: float = 1.0
    final_strength: float | None = None
    shape: Literal["linear", "cosine"] = "linear"
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        where = type(self).__name__
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{where}.{name}: must be at least 0 and finite, got {value}")
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(
                f"{where}.begin, .end: must be parts of the training with 0 <= begin < end <= 1, got {self.begin} and "
                f"{self.end}; 0 and 1 are the whole training"
            )

    def strength_at(self, step: int, steps: int) -> float:
        """The strength of one step.

        Args:
            step: from 1 to `steps`.
            steps: of the whole training, at least 1.
        """
        done = (step - 1) / max(steps - 1, 1)
        if done < self.begin:
            return 0.0
        if self.final_strength is None:
            return self.strength
        way = min((done - self.begin) / (self.end - self.begin), 1.0)
        way = (1 - math.cos(math.pi * way)) / 2 if self.shape == "cosine" else way
        return self.strength + way * (self.final_strength - self.strength)

    @abstractmethod
    def attach(self, model: nn.Module) -> "Treatment":
        """Put the remedy on a model, in place.

        Raises:
            ValueError: where the model has no place for it.
        """


class Treatment(nn.Module):
    """A remedy on a model. Its parameters are trained with the model's, and its state dict is kept in checkpoints.

    The model is not a submodule: a treatment holds what it adds, never what it treats. It acts in training mode only.

    Args:
        remedy: its settings.
    """

    def __init__(self, remedy: RemedyConfig) -> None:
        super().__init__()
        self.remedy = remedy
        self.strength: float = 0.0
        """Of the present step; 0 before the first."""
        self._undo: list[Callable[[], None]] = []

    def on_step(self, step: int, steps: int) -> None:
        """Called before the forward pass of every step (1 to `steps`)."""
        self.strength = self.remedy.strength_at(step, steps)

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """What is minimised beside the task in this step, weighted; None for nothing."""
        return None

    def after_step(self, computed: Computed) -> None:
        """Called after the optimiser's step."""

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """Learning rates of parameters of the model as multiples of the training's; those not named keep it."""
        return {}

    def figures(self) -> dict[str, float]:
        """What is logged of it, by name; a strength is always logged."""
        return {"strength": self.strength}

    def detach(self) -> None:
        """Take everything off the model that was put on it. What was learned meanwhile stays."""
        while self._undo:
            self._undo.pop()()

    def on_detach(self, undo: Callable[[], None] | RemovableHandle) -> None:
        """Remember how to undo a change of the model; the last change is undone first."""
        self._undo.append(undo.remove if isinstance(undo, RemovableHandle) else undo)


@contextmanager
def treated(model: nn.Module, remedies: Sequence[RemedyConfig]) -> Iterator[tuple[Treatment, ...]]:
    """Remedies on a model for the block, in their order; afterwards, and after an error, it is as it was."""
    treatments: list[Treatment] = []
    try:
        for remedy in remedies:
            treatments.append(remedy.attach(model))
        device = next(model.parameters()).device
        yield tuple(treatment.to(device) for treatment in treatments)
    finally:
        for treatment in reversed(treatments):
            treatment.detach()
