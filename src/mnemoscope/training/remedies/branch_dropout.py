"""Branch dropout: for some sequences of a batch, what could replace the memory is switched off as a whole (R2).

What it does: in training, with probability `strength`, a sequence's contribution of a route (attention, a skip) is
multiplied by zero; `shared` draws once for all routes of a sequence, so that nothing but the memory is left. It is
not rescaled by 1 / (1 - p): branches are alternatives that add up, not one noisy sum. Anneal with `final_strength`.

Why: a model that can reach the answer by attention alone never has to store it.

Published effect: none for whole branches; scheduled sliding-window dropout restores the use of linear attention
(arXiv 2510.05901). Measured for the specification: recall of 8 pairs, 2 blocks, window as long as the sequence: the
memory's share of the headroom rises from 0 to 39 % without it to 11 to 100 % with it, over four seeds.

Known problems: 2 of 8 of those runs did not use the memory at all afterwards; a memory that is used only where
attention is gone is a backup. Compare seeds, not runs.

Example: `BranchDropout(strength=0.5, final_strength=0.1)`, or `sites=("model.layers.*.self_attn",)`.

Source: decorative-memory specification, R2; stochastic depth is Huang et al., arXiv 1603.09382.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class BranchDropout(RemedyConfig):
    """Settings; `strength` is the probability that a sequence loses a branch, in [0, 1].

    Args:
        shared: one draw for all branches of a sequence.
    """

    kind: Literal["branch_dropout"] = "branch_dropout"
    strength: float = 0.5
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("strength", "final_strength"):
            value = getattr(self, name)
            if value is not None and value > 1:
                raise ValueError(f"BranchDropout.{name}: is a probability, in [0, 1], got {value}")

    def attach(self, model: nn.Module) -> "BranchDropoutTreatment":
        """On what every route contributes, or on the outputs of the modules named."""
        return BranchDropoutTreatment(self, model)


class BranchDropoutTreatment(Treatment):
    """Masks (b, 1, 1) on the branches' outputs (b, t, d)."""

    def __init__(self, remedy: BranchDropout, model: nn.Module) -> None:
        super().__init__(remedy)
        self.shared = remedy.shared
        self._kept: Tensor | None = None
        for place in find_places(model, remedy.sites, "route", "contribution"):
            self.on_detach(place.change(self._drop))

    def on_step(self, step: int, steps: int) -> None:
        """A shared mask lasts one step."""
        super().on_step(step, steps)
        self._kept = None

    def _drop(self, branch: Tensor) -> Tensor:
        if self.strength == 0:
            return branch
        kept = self._kept
        if kept is None or kept.shape[0] != branch.shape[0]:
            kept = torch.rand(branch.shape[0], device=branch.device) >= self.strength
            self._kept = kept if self.shared else None
        return branch * kept.to(branch.dtype).view(-1, *[1] * (branch.ndim - 1))
