"""The recurrent block of Griffin: a vector of real-gated linear recurrent units beside a gate.

    u_t = conv(W_u x)_t + bias               i_t, r_t = sigmoid(B_i u_t + b_i), sigmoid(B_r u_t + b_r)
    a_t = exp(-8 r_t softplus(L))            h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t u_t)
    y_t = W_o (h_t * gelu(W_g x_t))

channel by channel; B_i and B_r are block-diagonal. The state is what is read.

Why: a cheap recurrent block whose state is one number a channel, made to stand beside local attention.

Known limits: no matrix of keys and values: it tracks well and recalls few pairs.

Source: De et al. 2024, "Griffin" (arXiv 2402.19427), section 2.4, equations 1 to 4; block-diagonal gates and the
tanh form of gelu as in RecurrentGemma (Botev et al. 2024, arXiv 2404.07839).
Differs: the three projections have no bias; 1 - a_t^2 is kept above 1e-12, where its root has a finite slope; the first
token of a sequence is scaled like any other.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import ShortConvolution, empty_state, require, state_bytes
from mnemoscope.ops.diagonal_scan import diagonal_scan, diagonal_scan_windowed

SHARPNESS = 8.0
"""c of the source: an open recurrence gate decays that many times faster than the channel's own rate."""

MIN_WRITTEN = 1e-12
"""Least share 1 - a^2 of the state's variance that a token writes."""


@dataclass(frozen=True, kw_only=True)
class RGLRUConfig:
    """Recurrent block of Griffin.

    Args:
        width: channels of the recurrence; None for d_model.
        n_blocks: blocks of the block-diagonal gates; must divide the width.
        convolution: taps of the short convolution; 0 for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["rg_lru"] = "rg_lru"
    width: int | None = None
    n_blocks: int = 4
    convolution: int = 4

    def __post_init__(self) -> None:
        require(
            self.width is None or self.width >= 1,
            "rg_lru.width",
            "at least 1, or None for d_model",
            self.width,
            "use None",
        )
        require(self.n_blocks >= 1, "rg_lru.n_blocks", "at least 1", self.n_blocks, "use 1 for dense gates")
        require(self.convolution >= 0, "rg_lru.convolution", "0 taps or more", self.convolution, "use 0 for none")


class RGLRUState(NamedTuple):
    """One number per channel, and the last inputs of the short convolution."""

    s: Float[Tensor, "b w"]
    tail: Float[Tensor, "b tail w"]


class BlockLinear(nn.Module):
    """A linear map whose matrix is block-diagonal."""

    def __init__(self, width: int, n_blocks: int) -> None:
        super().__init__()
        block = width // n_blocks
        self.weight = nn.Parameter(torch.randn(n_blocks, block, block) * block**-0.5)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """Map each block of channels by itself."""
        blocks = x.unflatten(-1, (self.weight.shape[0], -1))
        return torch.einsum("btni,nio->btno", blocks, self.weight).flatten(2) + self.bias


class Write(NamedTuple):
    """What the recurrence keeps and adds, in float32 at least."""

    log_retention: Float[Tensor, "b t w"]
    written: Float[Tensor, "b t w"]


class Scan(nn.Module):
    """The states of all tokens; a module of its own, so that a replay can answer it from the record."""

    def forward(self, write: Write, state: Float[Tensor, "b w"]) -> Float[Tensor, "b t w"]:
        """Scan along time."""
        return diagonal_scan(write.log_retention.exp(), write.written, state)


class RGLRU(nn.Module):
    """Recurrent block of Griffin. Read points: `state` and `read` (b t w), `contribution` (b t d)."""

    role: Role = "memory"

    def __init__(self, config: RGLRUConfig, d_model: int) -> None:
        super().__init__()
        width = config.width or d_model
        n = config.n_blocks
        require(width % n == 0, "rg_lru: width", f"a multiple of n_blocks={n}", width, "change either")
        self.config, self.d_model, self.width = config, d_model, width
        self.inputs = nn.Linear(d_model, 2 * width, bias=False)
        self.convolution = ShortConvolution(width, config.convolution)
        self.convolution_bias = nn.Parameter(torch.zeros(width))
        self.input_gate, self.recurrence_gate = BlockLinear(width, n), BlockLinear(width, n)
        # With an open gate a token retains between 90 % and 99.9 %, uniformly, as in the source.
        rate = -torch.empty(width).uniform_(0.9, 0.999).log() / SHARPNESS
        self.rate = nn.Parameter(rate.expm1().log())
        self.out = nn.Linear(width, d_model, bias=False)
        self.scan = Scan()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> RGLRUState:
        """An empty memory."""
        return RGLRUState(empty_state(self.out.weight, batch, self.width), self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: RGLRUState) -> tuple[Float[Tensor, "b d"], RGLRUState]:
        """Decay, write, read: one token, in constant time and memory."""
        x = x.unsqueeze(1)
        write, tail = self._write(x, state.tail)
        s = write.log_retention.exp() * state.s.unsqueeze(1) + write.written
        s = self.state(s)
        return self._contribute(x, s).squeeze(1), RGLRUState(s.squeeze(1), tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: RGLRUState | None = None
    ) -> tuple[Float[Tensor, "b t d"], RGLRUState]:
        """All tokens in one scan.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        write, tail = self._write(x, state.tail)
        states = self.state(self.scan(write, state.s))
        return self._contribute(x, states), RGLRUState(states[:, -1].clone(), tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the state; the short convolution stays as it is."""
        write, _ = self._write(x, self.convolution.init_tail(x.shape[0]))
        states = diagonal_scan_windowed(write.log_retention, write.written, window)
        return self._contribute(x, states)

    def _write(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Write, Float[Tensor, "b tail w"]]:
        mixed, tail = self.convolution(F.linear(x, self.inputs.weight[: self.width]), tail)
        u = mixed + self.convolution_bias
        # Half precision has no numbers between 0.996 and 1, where most retentions are.
        compute = torch.float64 if u.dtype == torch.float64 else torch.float32
        opened, admitted = (gate(u).to(compute).sigmoid() for gate in (self.recurrence_gate, self.input_gate))
        log_retention = -SHARPNESS * opened * F.softplus(self.rate.to(compute))
        write_strength = (-torch.expm1(2 * log_retention)).clamp(min=MIN_WRITTEN).sqrt()
        return Write(log_retention, write_strength * admitted * u), tail

    def _contribute(self, x: Float[Tensor, "b t d"], states: Float[Tensor, "b t w"]) -> Float[Tensor, "b t d"]:
        gate = F.gelu(F.linear(x, self.inputs.weight[self.width :]), approximate="tanh")
        return self.contribution(self.out(self.read(states.to(x.dtype)) * gate))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """States and the convolution's tail: the same for any number of tokens."""
        tail = max(self.config.convolution - 1, 0)
        return state_bytes(self.out.weight, carried=batch * self.width, shown=batch * self.width * tail)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and gates; the recurrence is no matrix product."""
        return 2 * batch * tokens * self.width * (3 * self.d_model + 2 * self.width // self.config.n_blocks)
