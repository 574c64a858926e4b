"""Inverse stochastic depth: the deeper a way round the memory lies, the more often it is missing (R2).

What it does: of L routes in the order of the model, the l-th is kept in training with probability
p_l = 1 - (l / L) (1 - p_L), drawn per sequence, and contributes nothing otherwise. `strength` is 1 - p_L, what the last
route is dropped with. Kept routes are not rescaled, since they add up with the memory as alternatives; `rescale`
divides them by p_l, as stochastic depth among like branches does.

Why: stochastic depth drops residual blocks; inverted, it drops what is not memory. Early routes mostly serve neighbours
and later ones retrieve, so later ones are dropped more.

Published effect: none for memories. Stochastic depth itself is a regulariser of deep residual networks.

Known problems: as of branch dropout; with one route it is branch dropout with probability 1 - p_L. With `rescale`,
evaluation sees contributions smaller than those of training, and in sums with a memory that is a shift.

Example: `StochasticDepth(strength=0.5)`, or `sites=("model.layers.*.self_attn",)`.

Source: Huang et al. 2016, arXiv 1603.09382, equation 4 (linear decay); the inversion is the specification's, R2.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mnemoscope.training.remedies.draws import Draws, require_share
from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class StochasticDepth(RemedyConfig):
    """Settings; `strength` is the probability that the last route is dropped, 1 - p_L, in [0, 1].

    Args:
        rescale: divide kept contributions by the probability that they are kept; then `strength` must be below 1.
    """

    kind: Literal["stochastic_depth"] = "stochastic_depth"
    strength: float = 0.5
    rescale: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self)
        if self.rescale and 1 in (self.strength, self.final_strength):
            raise ValueError(
                "StochasticDepth.rescale: needs strengths below 1, since what is never kept cannot be rescaled; lower "
                "strength and final_strength"
            )

    def attach(self, model: nn.Module) -> "StochasticDepthTreatment":
        """On what every route contributes, or on the outputs of the modules named, in the order of the model."""
        return StochasticDepthTreatment(self, model)


class StochasticDepthTreatment(Treatment):
    """Masks (b, 1, 1) on the routes' contributions (b, t, d)."""

    def __init__(self, remedy: StochasticDepth, model: nn.Module) -> None:
        super().__init__(remedy)
        self.rescale = remedy.rescale
        self._draws = Draws()
        order = {path: i for i, (path, _) in enumerate(model.named_modules())}
        places = sorted(find_places(model, remedy.sites, "route", "contribution"), key=lambda place: order[place.path])
        self.n_routes = len(places)
        for depth, place in enumerate(places, start=1):
            self.on_detach(place.change(lambda x, depth=depth: self._drop(x, depth)))

    def on_step(self, step: int, steps: int) -> None:
        """Draws last one step."""
        super().on_step(step, steps)
        if self.strength > 0:
            self._draws.renew()

    def survival(self, depth: int) -> float:
        """The probability that a route is kept in the present step; depth counts from 1."""
        return 1 - depth / self.n_routes * self.strength

    def _drop(self, branch: Tensor, depth: int) -> Tensor:
        if self.strength == 0:
            return branch
        kept = self._draws.uniform(branch.shape[0], depth, branch.device) < self.survival(depth)
        scale = 1 / self.survival(depth) if self.rescale else 1.0
        return branch * (kept.to(branch.dtype) * scale).view(-1, *[1] * (branch.ndim - 1))
