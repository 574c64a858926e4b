"""Noisy bypass: a way round the memory that carries less, because noise is added to it (R6).

What it does: in training, x becomes x + strength * rms(x) * e on what a route contributes, with standard normal e and
the root mean square over the channels of each token. The model cannot escape by scaling x up. A channel with noise of
this size carries at most 1/2 ln(1 + 1 / strength^2) nats (a Gaussian channel's capacity).

Why: what has to be exact, such as a token that was seen long ago, is safer in the memory.

Published effect: none for memories; additive noise as a bottleneck is folklore.

Known problems: a wide contribution averages noise out; strengths below 1 may do nothing. Neighbours are disturbed as
much as retrieval is.

Example: `BottleneckNoise(strength=1.0, final_strength=0.2)`, or `sites=("model.layers.*.self_attn",)`.

Source: decorative-memory specification, R6.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mnemoscope.training.remedies.draws import Draws
from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class BottleneckNoise(RemedyConfig):
    """Settings; `strength` is the standard deviation of the noise over the root mean square of the contribution."""

    kind: Literal["bottleneck_noise"] = "bottleneck_noise"
    strength: float = 0.5

    def attach(self, model: nn.Module) -> "BottleneckNoiseTreatment":
        """On what every route contributes, or on the outputs of the modules named."""
        return BottleneckNoiseTreatment(self, model)


class BottleneckNoiseTreatment(Treatment):
    """Noise on contributions (b, t, d)."""

    def __init__(self, remedy: BottleneckNoise, model: nn.Module) -> None:
        super().__init__(remedy)
        self._draws = Draws()
        for stream, place in enumerate(find_places(model, remedy.sites, "route", "contribution")):
            self.on_detach(place.change(lambda x, stream=stream: self._disturb(x, stream)))

    def on_step(self, step: int, steps: int) -> None:
        """Noise lasts one step."""
        super().on_step(step, steps)
        if self.strength > 0:
            self._draws.renew()

    def _disturb(self, x: Tensor, stream: int) -> Tensor:
        if self.strength == 0:
            return x
        rms = x.detach().square().mean(-1, keepdim=True).sqrt()
        return x + self.strength * rms * self._draws.normal_like(x, stream)
