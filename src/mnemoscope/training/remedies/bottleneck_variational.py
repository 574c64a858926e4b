"""Variational bottleneck: a way round the memory that pays for every nat it carries (R6).

What it does: in training, a route's contribution m becomes z = m + s * e with standard normal e and a learned standard
deviation s for each channel, and the loss gains `strength` times the rate of this channel,

    KL(N(m, s^2) || N(0, 1)) = sum over channels of (s^2 + m^2 - 1 - ln s^2) / 2     in nats per token, mean over tokens

which is an upper bound on what z tells about the tokens. The weight rises from 1e-4 to 1e-2 by default. The mean is the
contribution itself, so that evaluation, where the remedy is off, computes the mean path: the same function without
noise, with no other weights than the model's.

Why: what is cheap to say stays on the bypass; what costs many nats, such as far tokens verbatim, moves to the memory.

Published effect: none for memories (specification: information theory, little direct evidence); as a regulariser of
classifiers, Alemi et al.

Known problems: with too much weight the noise drowns the bypass, what it does among neighbours included; the rate that
is logged goes to 0. The rate is in nats per token and route: compare weights only at like widths.

Example: `BottleneckVariational(strength=1e-4, final_strength=1e-2)`, or `sites=("model.layers.*.self_attn",)`.

Source: Alemi et al. 2017, arXiv 1612.00410, equation 17; decorative-memory specification, R6.
Differs: mean and standard deviation come from no encoder of their own; one standard deviation per channel, the same for
all tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.training.remedies.draws import Draws
from mnemoscope.training.remedies.places import find_places
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment


@dataclass(frozen=True, kw_only=True)
class BottleneckVariational(RemedyConfig):
    """Settings; `strength` is the weight of the rate, beta, in units of the loss per nat.

    Args:
        start_sigma: the standard deviation of every channel at the start, positive.
        width: channels of a contribution; None for those of the model's embedding, or of its first norm.
    """

    kind: Literal["bottleneck_variational"] = "bottleneck_variational"
    strength: float = 1e-4
    final_strength: float | None = 1e-2
    start_sigma: float = 0.1
    width: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_sigma < math.inf:
            raise ValueError(
                f"BottleneckVariational.start_sigma: must be positive and finite, got {self.start_sigma}; use 0.1"
            )
        if self.width is not None and self.width < 1:
            raise ValueError(f"BottleneckVariational.width: must be at least 1 channel, got {self.width}; use None")

    def attach(self, model: nn.Module) -> "BottleneckVariationalTreatment":
        """On what every route contributes, or on the outputs of the modules named."""
        return BottleneckVariationalTreatment(self, model)


class BottleneckVariationalTreatment(Treatment):
    """Noisy contributions (b, t, d) and what they carry."""

    def __init__(self, remedy: BottleneckVariational, model: nn.Module) -> None:
        super().__init__(remedy)
        self._draws = Draws()
        self._rates: dict[int, Tensor] = {}
        places = find_places(model, remedy.sites, "route", "contribution")
        start = torch.full((remedy.width or _width(model),), math.log(remedy.start_sigma))
        self.log_sigma = nn.ParameterList(nn.Parameter(start.clone()) for _ in places)
        for i, place in enumerate(places):
            self.on_detach(place.change(lambda x, i=i, path=place.path: self._disturb(x, i, path)))

    def on_step(self, step: int, steps: int) -> None:
        """Noise and rates last one step."""
        super().on_step(step, steps)
        self._rates = {}
        if self.strength > 0:
            self._draws.renew()

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """The rates of all routes, weighted."""
        return self.strength * torch.stack(list(self._rates.values())).sum() if self._rates else None

    def figures(self) -> dict[str, float]:
        """The strength, and nats per token of all routes together."""
        return super().figures() | {"nats": sum(float(rate.detach()) for rate in self._rates.values())}

    def _disturb(self, x: Tensor, i: int, path: str) -> Tensor:
        if self.strength == 0:
            return x
        log_sigma = self.log_sigma[i]
        if x.shape[-1] != log_sigma.shape[0]:
            raise ValueError(
                f"BottleneckVariational.width: must be the channels of {path}, {x.shape[-1]}, got {log_sigma.shape[0]}"
            )
        # The first pass of a step is the one that is trained on; a later one may have no graph.
        if i not in self._rates:
            self._rates[i] = rate(x, log_sigma)
        return x + (log_sigma.exp() * self._draws.normal_like(x, i)).to(x.dtype)


def rate(mean: Float[Tensor, "b t d"], log_sigma: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    """KL(N(mean, sigma^2) || N(0, 1)) in nats, summed over channels, mean over tokens; in float32 at least."""
    mean = mean.to(torch.promote_types(mean.dtype, torch.float32))
    return ((2 * log_sigma).exp() + mean.square() - 1 - 2 * log_sigma).sum(-1).mean() / 2


def _width(model: nn.Module) -> int:
    """Channels of the residual stream."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            return module.embedding_dim
    for name, parameter in model.named_parameters():
        if "norm" in name.lower() and parameter.ndim == 1:
            return parameter.shape[0]
    raise ValueError("BottleneckVariational.width: must be given for a model without an embedding and norms, got None")
