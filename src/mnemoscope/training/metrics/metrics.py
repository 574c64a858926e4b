"""The metrics of a training: which step is looked at, and what is said of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.training.metrics.as_published import as_published
from mnemoscope.training.metrics.config import AS_PUBLISHED, MetricsConfig
from mnemoscope.training.metrics.effective_dimension import effective_dimension
from mnemoscope.training.metrics.gradient_weight_cosine import GradientWeightCosine, gradient_weight_cosine
from mnemoscope.training.metrics.grokking_phase import PHASES, GrokkingPhase
from mnemoscope.training.metrics.observing import Observation, observing
from mnemoscope.training.metrics.sites import AT_POINTS, gate_figures, memory_gates, point_figures, point_names
from mnemoscope.training.metrics.softmax_collapse import softmax_collapse


@final
class Metrics:
    """Looks at one step in `config.every`, and leaves all others alone.

        with metrics.observing(step):
            logits = model(inputs)
        loss(logits, targets).backward()
        clip(...)
        metrics.before_projection()
        project(...)
        metrics.after_projection()
        row |= metrics.figures(logits, targets)

    In a step that is not due, every call returns at once and `figures` is empty, so that a loop needs no branches. The
    model has hooks only within the block of a due step. With gradient accumulation the block may be entered once for
    every part of the batch: the last one counts. Nothing is drawn from a random generator.

    Figures are named `metric.figure`, or `metric.figure.path` of one tensor or site; what cannot be said (no such read
    point, no softmax, nothing written yet) is absent.

    Args:
        model: any; read points that it does not announce give no figures.
        config: which metrics, how often.
    """

    def __init__(self, model: nn.Module, config: MetricsConfig) -> None:
        self.model, self.config = model, config
        self.grokking = GrokkingPhase()
        self._observation: Observation | None = None
        self._cosines: dict[str, GradientWeightCosine] = {}
        self._gate = self._dimension = None

    def due(self, step: int) -> bool:
        """Whether a step, counted from 1, is looked at."""
        return step % self.config.every == 0

    @contextmanager
    def observing(self, step: int) -> Iterator[None]:
        """Around the forward pass of a step."""
        self._observation, self._cosines = None, {}
        if not self.due(step):
            yield
            return
        wanted = self.config.names
        with observing(self.model, point_names(wanted), "effective_dimension" in wanted) as observation:
            yield
        self._observation = observation

    def before_projection(self) -> None:
        """After the backward pass and clipping, before a projection of gradients, if there is one.

        Raises:
            ValueError: if no parameter has a gradient.
        """
        self._take_cosine("before")

    def after_projection(self) -> None:
        """After a projection of gradients; not needed where there is none.

        Raises:
            ValueError: if no parameter has a gradient.
        """
        self._take_cosine("after")

    def figures(
        self,
        logits: Float[Tensor, "*b vocab"],
        targets: Int[Tensor, "*b"] | Float[Tensor, "*b vocab"],
        softmax: bool = True,
    ) -> dict[str, float]:
        """Everything that is known of the step, which ends here; empty if it was not due.

        Args:
            logits: what the model gave.
            targets: tokens, or numbers where the task has no tokens (which have no softmax).
            softmax: whether the loss is a softmax's; False for StableMax and others.

        Raises:
            ValueError: if cosines are wanted and were not taken.
        """
        if self._observation is None:
            return {}
        observation, self._observation = self._observation, None
        found = dict[str, float]()
        for name in self.config.names:
            if name in AT_POINTS:
                found |= point_figures(name, observation)
        if "raw_gate" in self.config.names:
            found |= gate_figures(self.model, observation)
            self._gate = found.get("raw_gate.mean")
        if "softmax_collapse" in self.config.names and softmax and not targets.is_floating_point():
            found |= _collapse_figures(logits, targets)
        if "gradient_weight_cosine" in self.config.names:
            found |= self._cosine_figures()
        if "effective_dimension" in self.config.names:
            dimensions = _dimension_figures(observation, logits.shape[-1])
            self._dimension = _dimension_of_embedding(dimensions)
            found |= dimensions
        if AS_PUBLISHED in self.config.names:
            gates = [calls[-1] for calls in memory_gates(self.model, observation).values()]
            published = as_published(observation, gates, logits)
            found |= {f"{AS_PUBLISHED}.{name}": value for name, value in published.items()}
        return found if self.config.detail else {name: value for name, value in found.items() if _is_whole(name)}

    def evaluated(self, step: int, held_out_accuracy: float, train_accuracy: float | None = None) -> dict[str, float]:
        """The grokking phase after an evaluation, from the raw gate and the embedding of the last observed step.

        `phase` is an index of `PHASES`, `strict` is 0 or 1. Empty if the phase is not among the metrics.

        Args:
            step: finished optimiser steps, at least 1.
            held_out_accuracy: on data that is never trained on, in [0, 1].
            train_accuracy: on training data; None leaves the strict sense undecided.
        """
        if "grokking_phase" not in self.config.names:
            return {}
        phase = self.grokking
        phase.observe(step, held_out_accuracy, train_accuracy, self._gate, self._dimension)
        known = {"accuracy_slope": phase.accuracy_slope, "dimension_slope": phase.dimension_slope}
        found = {name: slope for name, slope in known.items() if slope == slope}
        found |= {"phase": float(PHASES.index(phase.phase)), "strict": float(phase.strict)}
        return {f"grokking_phase.{name}": value for name, value in found.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs, as float64 tensors."""
        last = [float("nan") if value is None else value for value in (self._gate, self._dimension)]
        return self.grokking.state_dict() | {"last": torch.tensor(last, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict()`.

        Raises:
            ValueError: for other names than it gives.
        """
        if "last" not in state:
            raise ValueError(
                f"Metrics.load_state_dict: must hold last, got {sorted(state)}; pass what state_dict() gave"
            )
        self.grokking.load_state_dict({name: values for name, values in state.items() if name != "last"})
        self._gate, self._dimension = (None if value != value else value for value in state["last"].tolist())

    def _take_cosine(self, when: str) -> None:
        if self._observation is not None and "gradient_weight_cosine" in self.config.names:
            self._cosines[when] = gradient_weight_cosine(self.model.named_parameters())

    def _cosine_figures(self) -> dict[str, float]:
        if not self._cosines:
            raise ValueError(
                "Metrics.figures: gradient_weight_cosine must be taken while gradients are live, got no call of "
                "before_projection(); call it after backward() and clipping, or leave the metric out of the names"
            )
        found = dict[str, float]()
        for when, cosine in self._cosines.items():
            if cosine.whole is not None:
                found[f"gradient_weight_cosine.{when}"] = cosine.whole
            found |= {f"gradient_weight_cosine.{when}.{name}": value for name, value in cosine.tensors.items()}
        return found


def _collapse_figures(logits: Tensor, targets: Tensor) -> dict[str, float]:
    collapse = softmax_collapse(logits, targets)
    named = {} if collapse is None else collapse._asdict()
    return {f"softmax_collapse.{name}": value for name, value in named.items()}


def _dimension_figures(observation: Observation, n_outputs: int) -> dict[str, float]:
    """Shares and participation ratios of embedding, head and final hidden states; tied weights are one part."""
    embedding, head = observation.embedding, observation.head(n_outputs)
    parts = dict[str, Tensor]()
    if embedding is not None and head is not None and embedding.weight is head.weight:
        parts["tied"] = embedding.weight
    else:
        parts |= {} if embedding is None else {"embedding": embedding.weight}
        parts |= {} if head is None else {"head": head.weight}
    if head is not None:
        parts["hidden"] = head.input.flatten(0, -2)
    found = dict[str, float]()
    for part, vectors in parts.items():
        _, share, participation = effective_dimension(vectors)
        found |= {
            f"effective_dimension.share.{part}": share,
            f"effective_dimension.participation.{part}": participation,
        }
    return found


def _dimension_of_embedding(figures: Mapping[str, float]) -> float | None:
    """What the phase follows."""
    shares = (figures.get(f"effective_dimension.share.{part}") for part in ("embedding", "tied"))
    return next((share for share in shares if share is not None), None)


def _is_whole(name: str) -> bool:
    """Whether a figure is of the whole model: parts have fixed names and always count."""
    return name.count(".") == 1 or name.startswith("effective_dimension.")
