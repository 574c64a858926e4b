"""Key extractors of Memory Mosaics: from the inputs so far to a key per head, the same for queries and for keys.

    leaky         kbar_t = W x_t + retention kbar_{t-1},  retention = exp(-10 |leak|) of each head
    convolution   kbar_t = sum_{i < taps} w_i W x_{t-i},  channel by channel; no taps for W x_t itself
    legendre      kbar_t = the last `horizon` tokens of W x as `order` polynomial coefficients a channel

What an extractor carries from token to token is one tensor. The length of a key is the business of the memory.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), equation 7, and table 1.2 of its code for the leaks;
the summary, Voelker et al. 2019 (NeurIPS, "Legendre Memory Units").
Differs: the factor 1 - retention of the code is left out, since lengths cancel; a summarised series has head width /
order channels, so that keys are as wide as those of the other extractors.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.memories.parts import ShortConvolution, require
from mnemoscope.ops.leaky import leaky_average, leaky_average_flops, leaky_average_step
from mnemoscope.ops.legendre import init_legendre_state, legendre_flops, legendre_summary

GAIN = 10.0
"""Scalars of a head are stored a tenth as large as they act, so that they learn ten times as fast."""

KeyKind = Literal["leaky", "convolution", "legendre"]


class LeakyKeys(nn.Module):
    """Leaky averages of the projected inputs; timescales start spread over the heads, or are given and stay."""

    def __init__(
        self, d_model: int, n_heads: int, bias: bool = False, retentions: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.project = projection(d_model, d_model, bias)
        fixed = retentions is not None
        rates = torch.tensor([-math.log(kept) for kept in retentions]) if fixed else torch.linspace(0.5, 5, n_heads)
        self.leak = nn.Parameter(rates / GAIN, requires_grad=not fixed)

    def init_carry(self, batch: int) -> Float[Tensor, "b h k"]:
        """The average of nothing."""
        return self.leak.new_zeros(batch, self.n_heads, self.project.out_features // self.n_heads)

    def step(self, x: Float[Tensor, "b d"], carry: Tensor) -> tuple[Float[Tensor, "b h k"], Tensor]:
        """The average after one more token."""
        carry = leaky_average_step(by_head(self.project(x), self.n_heads), self._log_retention(), carry)
        return carry, carry.to(self.leak.dtype)

    def forward(self, x: Float[Tensor, "b t d"], carry: Tensor) -> tuple[Float[Tensor, "b t h k"], Tensor]:
        """The average after every token."""
        averages, carry = leaky_average(by_head(self.project(x), self.n_heads), self._log_retention(), carry)
        return averages, carry.to(self.leak.dtype)

    def _log_retention(self) -> Float[Tensor, "h"]:
        return -GAIN * self.leak.abs()

    def carried(self) -> int:
        """Numbers carried for a sequence."""
        return self.project.out_features

    def flops(self, batch: int, tokens: int) -> int:
        """Projection and average."""
        d = self.project.out_features
        return 2 * batch * tokens * d * d + leaky_average_flops(batch, tokens, d)


class ConvolvedKeys(nn.Module):
    """A short convolution of the projected inputs; without taps, the projected input alone."""

    def __init__(self, d_model: int, n_heads: int, taps: int, bias: bool = False) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.project = projection(d_model, d_model, bias)
        self.convolution = ShortConvolution(d_model, taps)

    def init_carry(self, batch: int) -> Float[Tensor, "b tail d"]:
        """Inputs before the first token: zeros."""
        return self.convolution.init_tail(batch)

    def step(self, x: Float[Tensor, "b d"], carry: Tensor) -> tuple[Float[Tensor, "b h k"], Tensor]:
        """The key of one more token."""
        k, carry = self.forward(x.unsqueeze(1), carry)
        return k.squeeze(1), carry

    def forward(self, x: Float[Tensor, "b t d"], carry: Tensor) -> tuple[Float[Tensor, "b t h k"], Tensor]:
        """The keys of all tokens."""
        k, carry = self.convolution(self.project(x), carry)
        return by_head(k, self.n_heads), carry

    def carried(self) -> int:
        """Numbers carried for a sequence."""
        return max(self.convolution.taps - 1, 0) * self.convolution.channels

    def flops(self, batch: int, tokens: int) -> int:
        """The projection; the convolution is no matrix product."""
        return 2 * batch * tokens * self.project.out_features**2


class LegendreKeys(nn.Module):
    """A summary of the projected inputs: a head's series are few enough that its key keeps the head's width."""

    def __init__(self, d_model: int, n_heads: int, order: int, horizon: int, bias: bool = False) -> None:
        super().__init__()
        width = d_model // n_heads
        require(
            width % order == 0,
            "legendre keys: order",
            f"a divisor of the {width} channels a head",
            order,
            "change order, n_heads or d_model",
        )
        self.n_heads, self.order, self.horizon = n_heads, order, horizon
        self.project = projection(d_model, d_model // order, bias)

    def init_carry(self, batch: int) -> Float[Tensor, "b h d m"]:
        """A series that was zero for ever."""
        series = self.project.out_features // self.n_heads
        return init_legendre_state(batch, self.n_heads, series, self.order, self.project.weight)

    def step(self, x: Float[Tensor, "b d"], carry: Tensor) -> tuple[Float[Tensor, "b h k"], Tensor]:
        """The summary after one more token."""
        k, carry = self.forward(x.unsqueeze(1), carry)
        return k.squeeze(1), carry

    def forward(self, x: Float[Tensor, "b t d"], carry: Tensor) -> tuple[Float[Tensor, "b t h k"], Tensor]:
        """The summary after every token."""
        k, carry = legendre_summary(by_head(self.project(x), self.n_heads), self.order, self.horizon, carry)
        return rearrange(k, "b t h d m -> b t h (d m)"), carry

    def carried(self) -> int:
        """Numbers carried for a sequence."""
        return self.project.out_features * self.order

    def flops(self, batch: int, tokens: int) -> int:
        """Projection and summary."""
        series = self.project.out_features
        projected = 2 * batch * tokens * self.project.in_features * series
        return projected + legendre_flops(batch * series, tokens, self.order)


KeyExtractor = LeakyKeys | ConvolvedKeys | LegendreKeys


def require_retentions(where: str, retentions: tuple[float, ...] | None, n_heads: int) -> None:
    """Refuse retentions that are not one in (0, 1) for each head."""
    require(
        retentions is None or (len(retentions) == n_heads and all(0 < kept < 1 for kept in retentions)),
        f"{where}.retentions",
        f"None to learn them, or a number in (0, 1) for each of {n_heads} heads",
        retentions,
        "use None",
    )


def projection(d_in: int, d_out: int, bias: bool) -> nn.Linear:
    """A linear map drawn from N(0, 1 / d_in), its bias zero."""
    linear = nn.Linear(d_in, d_out, bias=bias)
    nn.init.normal_(linear.weight, std=d_in**-0.5)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def by_head(x: Float[Tensor, "*b d"], n_heads: int) -> Float[Tensor, "*b h k"]:
    """Channels cut into heads."""
    return x.unflatten(-1, (n_heads, -1))
