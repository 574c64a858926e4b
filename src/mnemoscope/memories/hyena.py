"""Hyena: long implicit convolutions and gates in turn.

    v_t, x^1_t ... x^N_t = conv(W x)_t                   a short convolution over every projection
    z^1 = v          z^{n+1}_t = x^n_t * (h^n * z^n)_t   for n = 1 ... N          y_t = W_o z^{N+1}_t
    h^n_l = ffn(e(l))_n exp(-decay l / L) + [l = 0] D_n  l = 0 ... L - 1
    e(l) = 1 + 2 K features: l / L, and cosine and minus sine of 2 pi k l / L for k = 1 ... K
    ffn: linear layers with sin(frequency * .) between them

Filters are functions of the lag, so their size does not grow with L = `max_tokens`. Each of the N stages looks back
L tokens and no further; through the stages in a row, an output depends on the last N (L - 1) + 1 tokens and those
that the short convolution adds.

The read is the last convolution, before its gate x^N. D is a tap at lag zero and is read with the others: from the
second stage on, what it passes has already been through a long convolution.

Why: long-range mixing without attention or a recurrent state, for comparison with both.

Known limits: a fixed longest sequence, and a stream that keeps all past inputs; filters do not depend on the input.

Source: Poli, Massaroli, Nguyen, Fu, Dao, Baccus, Bengio, Ermon, Ré 2023, "Hyena Hierarchy" (arXiv 2302.10866),
definition 3.1 and section 3.3.
Differs: as many long filters as the order (the released code has one less); features start at k = 1; the last layer
of the filters starts smaller by L^-1/2, so that a sum over L lags starts at the size of its terms; projections have
no bias.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import ShortConvolution, require, tensor_bytes
from mnemoscope.ops.long_convolution import long_convolution

FADED = 100.0
"""How much smaller the envelope is after the share of `max_tokens` that the configuration names."""


@dataclass(frozen=True, kw_only=True)
class HyenaConfig:
    """Hyena.

    Args:
        order: N, long convolutions in a row.
        max_tokens: L, taps of every long filter, the present token included; also what a stream must keep.
        convolution: taps of the short convolution over all projections; 0 for none.
        n_bands: K, frequencies of the positions that the filters are a function of.
        filter_width: width of the network that makes the filters.
        filter_depth: its layers between the first and the last.
        sine_frequency: first frequency of its sines; larger makes rougher filters.
        fastest_decay: share of max_tokens after which the first channel's envelope has faded to a hundredth.
        slowest_decay: the same of the last channel; channels are spread evenly between the two rates.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["hyena"] = "hyena"
    order: int = 2
    max_tokens: int = 1024
    convolution: int = 3
    n_bands: int = 8
    filter_width: int = 64
    filter_depth: int = 2
    sine_frequency: float = 10.0
    fastest_decay: float = 0.3
    slowest_decay: float = 1.5

    def __post_init__(self) -> None:
        for name in ("order", "max_tokens", "n_bands", "filter_width"):
            require(getattr(self, name) >= 1, f"hyena.{name}", "at least 1", getattr(self, name), "use 1 or more")
        for name in ("convolution", "filter_depth"):
            require(getattr(self, name) >= 0, f"hyena.{name}", "0 or more", getattr(self, name), "use 0 for none")
        frequency = self.sine_frequency
        require(0 < frequency < math.inf, "hyena.sine_frequency", "positive and finite", frequency, "use 10")
        require(
            0 < self.fastest_decay <= self.slowest_decay,
            "hyena.fastest_decay and slowest_decay",
            "positive and in this order",
            (self.fastest_decay, self.slowest_decay),
            "use 0.3 and 1.5",
        )


class HyenaState(NamedTuple):
    """The last inputs of every long convolution, oldest first, and those of the short one."""

    past: Float[Tensor, "b order s d"]
    tail: Float[Tensor, "b tail projected"]


class Filters(nn.Module):
    """The implicit long filters of all stages."""

    def __init__(self, config: HyenaConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        w = config.filter_width
        widths = [1 + 2 * config.n_bands, *[w] * (config.filter_depth + 1)]
        layers = [nn.Linear(narrow, wide) for narrow, wide in pairwise(widths)]
        self.weights = nn.ParameterList(layer.weight for layer in layers)
        self.biases = nn.ParameterList(layer.bias for layer in layers)
        self.last = nn.Linear(w, config.order * d_model, bias=False)
        self.frequency = nn.Parameter(torch.full((w,), float(config.sine_frequency)))
        self.skip = nn.Parameter(torch.randn(config.order, d_model))
        with torch.no_grad():
            self.last.weight /= config.max_tokens**0.5

    def forward(self, n_lags: int) -> Float[Tensor, "order l d"]:
        """Taps at lags 0 to n_lags - 1, in float32 at least: half precision cannot tell late lags apart."""
        with torch.autocast(self.skip.device.type, enabled=False):
            return self._taps(n_lags)

    def _taps(self, n_lags: int) -> Float[Tensor, "order l d"]:
        compute = torch.float64 if self.skip.dtype == torch.float64 else torch.float32
        share = torch.arange(n_lags, device=self.skip.device, dtype=compute).unsqueeze(1) / self.config.max_tokens
        angle = 2 * math.pi * share * torch.arange(1, self.config.n_bands + 1, device=share.device)
        hidden = torch.cat([share, angle.cos(), -angle.sin()], dim=1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = F.linear(hidden, weight.to(compute), bias.to(compute))
            hidden = (self.frequency.to(compute) * hidden).sin()
        taps = rearrange(F.linear(hidden, self.last.weight.to(compute)), "l (order d) -> order l d", d=self.d_model)
        rates = [math.log(FADED) / end for end in (self.config.slowest_decay, self.config.fastest_decay)]
        decay = torch.linspace(rates[1], rates[0], self.d_model, device=share.device, dtype=compute)
        taps = taps * (-share * decay).exp()
        return torch.cat([taps[:, :1] + self.skip.to(compute).unsqueeze(1), taps[:, 1:]], dim=1)


class Scan(nn.Module):
    """One long convolution over all tokens; a module of its own, so that a replay can answer it from the record."""

    def forward(
        self, z: Float[Tensor, "b t d"], filters: Float[Tensor, "l d"], past: Float[Tensor, "b s d"]
    ) -> Float[Tensor, "b t d"]:
        """By fast Fourier transforms."""
        return long_convolution(z, filters, past)


class Hyena(nn.Module):
    """Hyena. Read points: `read` (b t d), `contribution` (b t d)."""

    role: Role = "memory"

    def __init__(self, config: HyenaConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        width = (config.order + 1) * d_model
        self.projection = nn.Linear(d_model, width, bias=False)
        self.convolution = ShortConvolution(width, config.convolution)
        self.filters = Filters(config, d_model)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.scan = Scan()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> HyenaState:
        """Zeros before the first token."""
        shape = (batch, self.config.order, self.config.max_tokens - 1, self.d_model)
        return HyenaState(self.out.weight.new_zeros(shape), self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: HyenaState) -> tuple[Float[Tensor, "b d"], HyenaState]:
        """One token: every stage weighs what it kept. The filters are made again for it, at all their lags."""
        (v, *gates), tail = self._inputs(x.unsqueeze(1), state.tail)
        z, past = v.squeeze(1), []
        for n, (h, gate) in enumerate(zip(self.filters(self.config.max_tokens), gates, strict=True)):
            seen = torch.cat([state.past[:, n], z.unsqueeze(1)], dim=1)
            read = (seen * h.flip(0)).sum(1).to(x.dtype)
            if n == self.config.order - 1:
                read = self.read(read.unsqueeze(1)).squeeze(1)
            z = gate.squeeze(1) * read
            past.append(seen[:, 1:])
        return self.contribution(self.out(z).unsqueeze(1)).squeeze(1), HyenaState(torch.stack(past, dim=1), tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: HyenaState | None = None
    ) -> tuple[Float[Tensor, "b t d"], HyenaState]:
        """All tokens at once, stage by stage, by fast Fourier transforms."""
        kept, n_tokens = self.config.max_tokens - 1, x.shape[1]
        # With nothing behind it a sequence needs no more lags than it has tokens, and no zeros to look back at.
        n_lags = self.config.max_tokens if state else min(self.config.max_tokens, n_tokens)
        (z, *gates), tail = self._inputs(x, state.tail if state else self.convolution.init_tail(x.shape[0]))
        past = []
        for n, (h, gate) in enumerate(zip(self.filters(n_lags), gates, strict=True)):
            before = state.past[:, n] if state else z[:, :0]
            # Cut before joining: a view of the joined tensor would keep every token alive, not the last ones alone.
            missing = max(kept - before.shape[1] - n_tokens, 0)
            older = before[:, max(before.shape[1] + n_tokens - kept, 0) :]
            newer = z[:, max(n_tokens - kept, 0) :]
            past.append(F.pad(torch.cat([older, newer], dim=1), (0, 0, missing, 0)))
            read = self.scan(z, h, before)
            z = gate * (self.read(read) if n == self.config.order - 1 else read)
        return self.contribution(self.out(z)), HyenaState(torch.stack(past, dim=1), tail)

    def _inputs(
        self, x: Float[Tensor, "b t d"], tail: Float[Tensor, "b tail projected"]
    ) -> tuple[tuple[Tensor, ...], Float[Tensor, "b tail projected"]]:
        mixed, tail = self.convolution(self.projection(x), tail)
        return mixed.chunk(self.config.order + 1, dim=-1), tail

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The inputs that the filters still reach, for every stage, and the short convolution's tail."""
        order, tail = self.config.order, max(self.config.convolution - 1, 0)
        per_channel = order * (self.config.max_tokens - 1) + (order + 1) * tail
        return tensor_bytes(batch * self.d_model * per_channel, self.out.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, and the network that makes the filters; transforms are not matrix products."""
        d, w, order = self.d_model, self.config.filter_width, self.config.order
        n_weights = w * (1 + 2 * self.config.n_bands + self.config.filter_depth * w + order * d)
        return 2 * batch * tokens * d * d * (order + 2) + 2 * min(tokens, self.config.max_tokens) * n_weights
