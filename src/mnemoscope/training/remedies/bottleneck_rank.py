"""Low-rank bypass: a way round the memory that carries a few directions only (R6).

What it does: after each optimiser step the matrix W through which a route reaches the residual stream is brought
towards the nearest matrix of rank `rank`: W <- W - strength (W - W_rank), with W_rank its largest singular values and
their vectors. At strength 1 the bypass has that rank, in directions that training chooses. A bias stays.

It acts on weights, so that evaluation, checkpoints and the model after training have the same low-rank bypass; a
projection in training alone would give another function in evaluation. Detaching leaves the weights as trained.

Why: attention copies whole embeddings of far tokens; with few directions it can point, and the memory has to carry.

Published effect: none for memories; the specification counts it under information theory, with little direct evidence.

Known problems: costs a singular value decomposition of each matrix (`every` spaces them out; between them the rank
grows by what the optimiser adds). A small rank also hurts what attention does among neighbours.

Example: `BottleneckRank(rank=4)`, or `sites=("model.layers.*.self_attn.o_proj",)`.

Source: decorative-memory specification, R6; nearest matrix of a rank: Eckart & Young 1936.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mnemoscope.training.remedies.draws import require_share
from mnemoscope.training.remedies.projections import find_projections, weights_of
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class BottleneckRank(RemedyConfig):
    """Settings; `strength` is the part that is taken away of what lies beyond the rank, in [0, 1].

    Args:
        rank: directions that are left, at least 1.
        every: optimiser steps from one decomposition to the next; the last step always has one.
    """

    kind: Literal["bottleneck_rank"] = "bottleneck_rank"
    rank: int = 4
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self)
        for name in ("rank", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"BottleneckRank.{name}: must be at least 1, got {getattr(self, name)}")

    def attach(self, model: nn.Module) -> "BottleneckRankTreatment":
        """On the last layer of every route, or on the linear layers named."""
        return BottleneckRankTreatment(self, model)


class BottleneckRankTreatment(Treatment):
    """Projected weights."""

    def __init__(self, remedy: BottleneckRank, model: nn.Module) -> None:
        super().__init__(remedy)
        self.rank, self.every, self._due = remedy.rank, remedy.every, False
        self.beyond: float = 0.0
        """Share of the squared singular values beyond the rank, mean over layers, before they were last taken away."""
        projections = find_projections(model, remedy.sites)
        self._matrices = [next(weights_of(module)) for module in projections.values()]
        for path, matrix in zip(projections, self._matrices, strict=True):
            if remedy.rank >= min(matrix.shape):
                raise ValueError(
                    f"BottleneckRank.rank: must be below the rank that {path} can have, {min(matrix.shape)}, got "
                    f"{remedy.rank}"
                )

    def on_step(self, step: int, steps: int) -> None:
        """Whether the step ends with a decomposition."""
        super().on_step(step, steps)
        self._due = self.strength > 0 and (step % self.every == 0 or step == steps)

    @torch.no_grad()
    def after_step(self, computed: Computed) -> None:
        """Take away what lies beyond the rank."""
        if not self._due:
            return
        shares = []
        for matrix in self._matrices:
            u, s, v = torch.linalg.svd(matrix.float(), full_matrices=False)
            rest = (u[:, self.rank :] * s[self.rank :]) @ v[self.rank :]
            matrix -= (self.strength * rest).to(matrix.dtype)
            shares.append(float(s[self.rank :].square().sum() / s.square().sum().clamp_min(1e-30)))
        self.beyond = sum(shares) / len(shares)

    def figures(self) -> dict[str, float]:
        """The strength, and what lay beyond the rank."""
        return super().figures() | {"beyond_rank": self.beyond}
