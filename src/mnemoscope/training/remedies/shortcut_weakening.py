"""Shortcut weakening: a way round the memory whose output is scaled down while the model learns (R10, and R6's scale).

What it does: the linear layer through which a route reaches the residual stream is multiplied by alpha = 1 - strength.
By default alpha falls from 1 to 0.1 over the first fifth of the training and stays there; a constant `strength` is the
plain residual scale of a bottleneck. It acts on weights: step by step W <- W alpha_t / alpha_{t-1}, so that evaluation,
checkpoints and the model after training have the weakened bypass, and detaching changes nothing. A hook in training
alone would hand over another function to evaluation, ten times as strong.

Why: gradient descent prefers what already has large outputs; a small bypass has to earn its way back.

Published effect: folklore; the specification asks to watch that the base loss is not inferior.

Known problems: the optimiser may grow the weights again. An optimiser with steps of fixed size (Adam) would do so
1 / alpha times faster on smaller weights, so each of its steps on the layer is multiplied by alpha; with that, a step
changes the output as if alpha stood behind the layer. What stands before a norm is not weakened: the norm scales it
back. The residual stream itself is no layer and is not scaled.

A controller around an external memory (NTM, DNC, MANN) is weakened in its configuration: fewer units (`hidden=32`), no
recurrence (`controller="feed_forward"`), outputs from reads alone (`output="reads"`).

Example: `ShortcutWeakening()`, or `sites=("model.layers.*.self_attn.o_proj",)`.

Source: decorative-memory specification, R10 and R6.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mnemoscope.training.remedies.projections import find_projections, weights_of
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class ShortcutWeakening(RemedyConfig):
    """Settings; `strength` is 1 - alpha, what is taken away of the bypass, in [0, 1)."""

    kind: Literal["shortcut_weakening"] = "shortcut_weakening"
    strength: float = 0.0
    final_strength: float | None = 0.9
    end: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and value >= 1:
                raise ValueError(
                    f"ShortcutWeakening.{name}: must be below 1, got {value}; 0.9 leaves a tenth of the route, and to "
                    "remove it leave it out of the layout"
                )

    def attach(self, model: nn.Module) -> "ShortcutWeakeningTreatment":
        """On the last layer of every route, or on the linear layers named."""
        return ShortcutWeakeningTreatment(self, model)


class ShortcutWeakeningTreatment(Treatment):
    """Scaled weights; the state holds the scale that they have."""

    alpha: Tensor

    def __init__(self, remedy: ShortcutWeakening, model: nn.Module) -> None:
        super().__init__(remedy)
        layers = find_projections(model, remedy.sites).values()
        self._weights = [weight for layer in layers for weight in weights_of(layer)]
        self._before: list[Tensor] = []
        self.register_buffer("alpha", torch.ones(()))

    @torch.no_grad()
    def on_step(self, step: int, steps: int) -> None:
        """Bring the weights to the scale of the step."""
        super().on_step(step, steps)
        before = self.alpha.item()
        alpha = self.alpha.fill_(1 - self.strength).item()
        if alpha != before:
            for weight in self._weights:
                weight *= alpha / before
        self._before = [weight.clone() for weight in self._weights] if self.strength > 0 else []

    @torch.no_grad()
    def after_step(self, computed: Computed) -> None:
        """Make the optimiser's step on these weights alpha times as long."""
        for weight, before in zip(self._weights, self._before, strict=bool(self._before)):
            weight.copy_(before + (1 - self.strength) * (weight - before))

    def figures(self) -> dict[str, float]:
        """The strength, and the scale of the bypass."""
        return super().figures() | {"alpha": self.alpha.item()}
