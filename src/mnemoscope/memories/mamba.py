"""Mamba: a vector of states per channel, advanced by steps that depend on the input.

    v, z = W_in x                            v = silu(conv(v) + bias)
    [l_t; k_t; q_t] = W_s v_t                s_t = softplus(W_step l_t + step_bias)
    h_t = exp(s_t A) h_{t-1} + s_t k_t v_t   r_t = q_t . h_t, channel by channel
    y_t = W_o ((r_t + D v_t) * silu(z_t))

s_t, A, k_t and q_t are Delta, A, B and C of the source.

Why: input-dependent steps let it keep a token or pass over it, which time-invariant state spaces cannot.

Known limits: a small state for every channel and no erasing by key: recall falls behind matrix states of the same
size.

Source: Gu and Dao 2023, "Mamba" (arXiv 2312.00752), algorithm 2, sections 3.4 and 3.6.
Differs: nothing in the equations; the read is announced before the skip D v_t, which is a path around the memory.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import ShortConvolution, empty_state, require, state_bytes
from mnemoscope.ops.precision import read_states
from mnemoscope.ops.selective_scan import (
    Writes,
    selective_scan_chunked,
    selective_scan_states,
    selective_scan_step,
    selective_scan_windowed,
)


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """Mamba.

    Args:
        expand: channels per unit of model width.
        d_state: entries of each channel's state.
        step_rank: rank of the map to the steps; None for d_model / 16, rounded up.
        convolution: taps of the short convolution; 0 for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["mamba"] = "mamba"
    expand: int = 2
    d_state: int = 16
    step_rank: int | None = None
    convolution: int = 4

    def __post_init__(self) -> None:
        require(self.expand >= 1, "mamba.expand", "at least 1", self.expand, "use 2 as in the source")
        require(self.d_state >= 1, "mamba.d_state", "at least 1", self.d_state, "use 16 as in the source")
        require(
            self.step_rank is None or self.step_rank >= 1,
            "mamba.step_rank",
            "at least 1, or None for d_model / 16",
            self.step_rank,
            "use None",
        )
        require(self.convolution >= 0, "mamba.convolution", "0 taps or more", self.convolution, "use 0 for none")


class MambaState(NamedTuple):
    """The states of all channels, and the last inputs of the short convolution."""

    s: Float[Tensor, "b inner order"]
    tail: Float[Tensor, "b tail inner"]


class Scan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record."""

    def forward(
        self, q: Float[Tensor, "b t order"], writes: Writes, state: Float[Tensor, "b inner order"]
    ) -> tuple[Float[Tensor, "b t inner"], Float[Tensor, "b inner order"]]:
        """Chunked form."""
        return selective_scan_chunked(q, writes, state)


class Inputs(NamedTuple):
    """What a stretch of tokens asks and writes, and what bypasses the memory."""

    q: Float[Tensor, "b t order"]
    writes: Writes
    z: Float[Tensor, "b t inner"]
    tail: Float[Tensor, "b tail inner"]


class Mamba(nn.Module):
    """Mamba. Read points: `read` (b t inner), `contribution` (b t d), `state` (b t inner order)."""

    role: Role = "memory"

    def __init__(self, config: MambaConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.inner = config.expand * d_model
        self.step_rank = config.step_rank or math.ceil(d_model / 16)
        self.inputs = nn.Linear(d_model, 2 * self.inner, bias=False)
        self.convolution = ShortConvolution(self.inner, config.convolution)
        self.convolution_bias = nn.Parameter(torch.empty(self.inner).uniform_(-0.5, 0.5))
        self.selection = nn.Linear(self.inner, self.step_rank + 2 * config.d_state, bias=False)
        self.step_projection = nn.Linear(self.step_rank, self.inner)
        nn.init.uniform_(self.step_projection.weight, -(self.step_rank**-0.5), self.step_rank**-0.5)
        self.step_projection.bias = nn.Parameter(draw_step_bias(self.inner))
        rates = torch.arange(1, config.d_state + 1, dtype=self.inputs.weight.dtype)
        self.log_rate = nn.Parameter(rates.log().repeat(self.inner, 1))
        self.skip = nn.Parameter(torch.ones(self.inner))
        self.out = nn.Linear(self.inner, d_model, bias=False)
        self.scan = Scan()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> MambaState:
        """An empty memory."""
        empty = empty_state(self.out.weight, batch, self.inner, self.config.d_state)
        return MambaState(empty, self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: MambaState) -> tuple[Float[Tensor, "b d"], MambaState]:
        """Decay, write, read: one token, in constant time and memory."""
        inputs = self._inputs(x.unsqueeze(1), state.tail)
        s = selective_scan_step(state.s, inputs.writes)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = read_states("btn,bdn->btd", inputs.q, s)
        return self._contribute(read, inputs).squeeze(1), MambaState(s, inputs.tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t d"], MambaState]:
        """All tokens in one scan; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        inputs = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(selective_scan_states(inputs.writes, state.s))
            read, s = read_states("btn,btdn->btd", inputs.q, states), states[:, -1].clone()
        else:
            read, s = self.scan(inputs.q, inputs.writes, state.s)
        return self._contribute(read, inputs), MambaState(s, inputs.tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the states; the short convolution stays as it is."""
        inputs = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(selective_scan_windowed(inputs.q, inputs.writes, window), inputs)

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> Inputs:
        v, z = self.inputs(x).chunk(2, dim=-1)
        mixed, tail = self.convolution(v, tail)
        v = F.silu(mixed + self.convolution_bias)
        n = self.config.d_state
        low_rank, k, q = self.selection(v).split([self.step_rank, n, n], dim=-1)
        step = F.softplus(self.step_projection(low_rank))
        return Inputs(q, Writes(k, v, step, -self.log_rate.exp()), z, tail)

    def _contribute(self, read: Float[Tensor, "b t inner"], inputs: Inputs) -> Float[Tensor, "b t d"]:
        read = self.read(read) + self.skip * inputs.writes.v
        return self.contribution(self.out(read * F.silu(inputs.z)))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """States and the convolution's tail: the same for any number of tokens."""
        tail = max(self.config.convolution - 1, 0)
        carried, shown = (batch * self.inner * n for n in (self.config.d_state, tail))
        return state_bytes(self.out.weight, carried=carried, shown=shown)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, and the reads; what moves the states on is no matrix product."""
        d, n, r = self.d_model, self.config.d_state, self.step_rank
        return 2 * batch * tokens * self.inner * (3 * d + (r + 2 * n) + r + n)


def draw_step_bias(n: int) -> Float[Tensor, "n"]:
    """Biases under which softplus gives steps log-uniform between 0.001 and 0.1, as in the source."""
    step = torch.empty(n).uniform_(math.log(1e-3), math.log(1e-1)).exp()
    return step + torch.log(-torch.expm1(-step))
