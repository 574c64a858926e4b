"""Diagonal state space layer (S4D): one linear time-invariant system per channel, then a gated mix of channels.

    s_t = A s_{t-1} + B x_t          r_t = 2 Re(C s_t)          y_t = glu(W_o gelu(r_t + D x_t) + bias)
    A = exp(step a)     B = (exp(step a) - 1) / a     a = -exp(log_rate) + i frequency

The input of channel c drives its own n complex states (each with its conjugate); nothing of A, B, C depends on the
input, so the layer writes, keeps and reads every token alike.

Why: the time-invariant state space, to see what selection adds in its successors.

Known limits: every token is written and kept alike, so nothing can be recalled by content.

Source: Gu, Gupta, Goel, Ré 2022, "On the Parameterization and Initialization of Diagonal State Space Models"
(arXiv 2206.11893), section 3 and equation 9 (S4D-Inv, S4D-Lin); gelu and glu as in S4 (arXiv 2111.00396), appendix.
Differs: B before discretisation is one, since only its product with C matters.
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
from mnemoscope.memories.parts import empty_state, require, state_bytes
from mnemoscope.ops.diagonal_ssm import (
    CHUNK_TOKENS,
    System,
    diagonal_ssm_chunked,
    diagonal_ssm_read,
    diagonal_ssm_states,
    diagonal_ssm_step,
    diagonal_ssm_windowed,
    discretise,
)

Start = Literal["lin", "inv"]


@dataclass(frozen=True, kw_only=True)
class S4DConfig:
    """Diagonal state space.

    Args:
        n_states: N, states of a channel counted with their conjugates; even. N / 2 complex numbers are stored.
        start: first frequencies: "lin" pi n, "inv" (N / pi) (N / (2 n + 1) - 1).
        shortest_step: smallest time step of a channel at the start; its memory is about 2 / step tokens.
        longest_step: largest time step of a channel at the start; channels are log-uniform in between.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["s4d"] = "s4d"
    n_states: int = 64
    start: Start = "lin"
    shortest_step: float = 0.001
    longest_step: float = 0.1

    def __post_init__(self) -> None:
        require_dynamics("s4d", self.n_states, self.start, self.shortest_step, self.longest_step)


def require_dynamics(where: str, n_states: int, start: str, shortest_step: float, longest_step: float) -> None:
    """Refuse a start that no `Dynamics` can have."""
    fix = "use an even number"
    require(n_states >= 2 and n_states % 2 == 0, f"{where}.n_states", "even and at least 2", n_states, fix)
    require(start in ("lin", "inv"), f"{where}.start", 'one of "lin", "inv"', start, 'use "lin"')
    require(
        0 < shortest_step <= longest_step < math.inf,
        f"{where}.shortest_step and longest_step",
        "positive, finite and in this order",
        (shortest_step, longest_step),
        "use 0.001 and 0.1",
    )


class Dynamics(nn.Module):
    """The trained numbers of one diagonal system per channel, and the discrete system that follows from them."""

    def __init__(self, channels: int, n_states: int, start: Start, shortest_step: float, longest_step: float) -> None:
        super().__init__()
        n = torch.arange(n_states // 2)
        frequency = math.pi * n if start == "lin" else n_states / math.pi * (n_states / (2 * n + 1) - 1)
        shape = (channels, n_states // 2)
        log_steps = torch.empty(channels).uniform_(math.log(shortest_step), math.log(longest_step))
        self.log_step = nn.Parameter(log_steps)
        self.log_rate = nn.Parameter(torch.full(shape, math.log(0.5)))
        self.frequency = nn.Parameter(frequency.expand(shape).clone())
        # A complex normal: half of its variance in either part.
        self.c = nn.Parameter(torch.randn(*shape, 2) * 0.5**0.5)

    def system(self) -> System:
        """In float32 at least."""
        return discretise(self.log_step, self.log_rate, self.frequency, self.c)


class S4DState(NamedTuple):
    """Complex states, real and imaginary part in the last axis; of each conjugate pair the one with C."""

    s: Float[Tensor, "b d n two"]


class Scan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record."""

    def forward(
        self, x: Float[Tensor, "b t d"], system: System, state: Float[Tensor, "b d n two"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n two"]]:
        """Chunked form."""
        return diagonal_ssm_chunked(x, system, state)


class S4D(nn.Module):
    """Diagonal state space. Read points: `read` (b t d), `contribution` (b t d), `state` (b t d n 2)."""

    role: Role = "memory"

    def __init__(self, config: S4DConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.dynamics = Dynamics(d_model, config.n_states, config.start, config.shortest_step, config.longest_step)
        self.skip = nn.Parameter(torch.randn(d_model))
        self.out = nn.Linear(d_model, 2 * d_model)
        self.scan = Scan()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> S4DState:
        """An empty memory."""
        return S4DState(empty_state(self.out.weight, batch, *self.dynamics.c.shape))

    def step(self, x: Float[Tensor, "b d"], state: S4DState) -> tuple[Float[Tensor, "b d"], S4DState]:
        """Turn and shrink the states, write, read: one token, in constant time and memory."""
        system = self.dynamics.system()
        s = diagonal_ssm_step(state.s, x, system)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = diagonal_ssm_read(s, system).to(x.dtype)
        return self._contribute(x.unsqueeze(1), read.unsqueeze(1)).squeeze(1), S4DState(s)

    def forward(
        self, x: Float[Tensor, "b t d"], state: S4DState | None = None
    ) -> tuple[Float[Tensor, "b t d"], S4DState]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state, system = state or self.init_state(x.shape[0]), self.dynamics.system()
        if self.state.observed:
            states = self.state(diagonal_ssm_states(x, system, state.s))
            read, s = diagonal_ssm_read(states, system).to(x.dtype), states[:, -1].clone()
        else:
            read, s = self.scan(x, system, state.s)
        return self._contribute(x, read), S4DState(s)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` tokens in the states: a convolution of `window` taps."""
        return self._contribute(x, diagonal_ssm_windowed(x, self.dynamics.system(), window))

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.contribution(F.glu(self.out(F.gelu(self.read(read) + self.skip * x))))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The states: the same for any number of tokens."""
        return state_bytes(self.out.weight, carried=batch * self.d_model * self.config.n_states)

    def flops(self, batch: int, tokens: int) -> int:
        """The products of the chunked form and the output projection."""
        return scan_flops(batch, tokens, self.d_model, self.config.n_states) + 4 * batch * tokens * self.d_model**2


def scan_flops(batch: int, tokens: int, channels: int, n_states: int) -> int:
    """The matrix products of `diagonal_ssm_chunked`: kernel, chunks by themselves, their writes and their reads."""
    c = min(CHUNK_TOKENS, tokens)
    n_chunks = -(-tokens // c)
    return 2 * channels * (n_states * c + batch * (n_chunks * c * (c + n_states) + tokens * n_states))
