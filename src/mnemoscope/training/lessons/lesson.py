"""What every lesson is: how a step's data are drawn, and how the model is run on them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.tasks import Task
from mnemoscope.training.batches import evaluate, figures, logits_of
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.loss import is_scored
from mnemoscope.training.objective import objective_of
from mnemoscope.training.randomness import forked_rng, rng_state, set_rng_state
from mnemoscope.training.ranks import ALONE, Ranks
from mnemoscope.training.remedies import Computed, Treatment

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a lesson teaches, and to whom.

    Args:
        model: in training mode while a step is computed.
        task: of the run; evaluations are on it, whatever the lesson draws from.
        config: of the training.
        device: the model's.
        treatments: of the remedies that are on the model.
        ranks: the processes that compute a step together.
    """

    model: nn.Module
    task: Task
    config: TrainConfig
    device: torch.device
    treatments: tuple[Treatment, ...] = ()
    ranks: Ranks = ALONE

    def compute(
        self, inputs: Tensor, targets: Tensor, run: Callable[[Tensor], Float[Tensor, "b t vocab"]] | None = None
    ) -> Computed:
        """The task's loss on a batch; of several processes, each on its rows.

        Args:
            inputs: the whole batch, on any device.
            targets: on any device.
            run: from inputs to logits; None for the model itself.
        """
        share = row_share = 1.0
        if self.ranks.strategy is not None:
            whole = targets
            inputs, targets = self.ranks.own(inputs, targets)
            share, row_share = float(is_scored(targets).sum() / is_scored(whole).sum()), len(targets) / len(whole)
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        loss = objective_of(self.task, self.config.loss).loss if share else _nothing

        def logits() -> Float[Tensor, "b t vocab"]:
            return logits_of(self.model, inputs) if run is None else run(inputs)

        again = self.repeated(lambda: loss(logits(), targets))
        found = logits()
        return Computed(
            inputs=inputs,
            targets=targets,
            logits=found,
            loss=loss(found, targets),
            again=again,
            share=share,
            row_share=row_share,
        )

    def repeated(self, compute: Callable[[], Result]) -> Callable[[], Result]:
        """What computes again with the random numbers that come next, and leaves those as it found them."""
        rng = rng_state(self.device)

        def again() -> Result:
            with forked_rng(self.device):
                set_rng_state(self.device, rng)
                return compute()

        return again

    def figures(self, computed: Computed, task: Task | None = None) -> dict[str, float]:
        """The loss of a step and the figure of the task's unit.

        Args:
            computed: the step.
            task: whose sequences were seen; None for the run's own.
        """
        task = task or self.task
        scored = int(is_scored(computed.targets).sum())
        objective = objective_of(task, self.config.loss)
        beside = objective.beside(computed.logits, computed.targets).item() if scored else 0.0
        loss, n_rows = computed.loss.item(), float(len(computed.targets))
        if self.ranks.strategy is not None:
            own = (computed.share * loss, computed.share * beside, float(scored), n_rows)
            loss, beside, scored, n_rows = self.ranks.totals(own)
        return figures(loss, beside, scored / n_rows, task, "train")


@dataclass(frozen=True, kw_only=True)
class LessonConfig(ABC):
    """What the settings of every lesson have: a `kind`, and how to begin."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    @abstractmethod
    def begin(self, course: Course) -> "Lesson":
        """The lesson of one training.

        Raises:
            ValueError: a task or model that it cannot be given on.
        """


class Lesson(ABC):
    """How the steps of one training are taught.

    Args:
        course: what is taught to whom.
    """

    def __init__(self, course: Course) -> None:
        self.course = course

    @abstractmethod
    def forward(self, step: int) -> Computed:
        """The loss of one step (1 to `config.steps`), with its graph.

        Whatever is drawn depends on the step, the seed and the lesson's state alone, so that a resumed run sees it too.
        """

    def after_step(self, computed: Computed) -> None:
        """Called after the optimiser's step, with what `forward` returned."""
        return

    def figures(self, computed: Computed) -> dict[str, float]:
        """What is logged of a step's loss: `loss`, the figure of the task, and the lesson's own."""
        return self.course.figures(computed)

    def evaluate(self) -> dict[str, float]:
        """Figures on validation sequences; see `mnemoscope.training.batches.evaluate`."""
        course = self.course
        return evaluate(course.model, course.task, course.config, course.device, course.ranks)

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs to go on to the bit."""
        return {}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: the state of another lesson.
        """
        if state:
            raise ValueError(
                f"{type(self).__name__}: has no state, got {', '.join(state)}; resume the run's own lesson"
            )


def _nothing(logits: Tensor, targets: Tensor) -> Float[Tensor, ""]:
    """The loss of rows of which nothing is scored: 0, with a graph."""
    return 0.0 * logits.float().sum()
