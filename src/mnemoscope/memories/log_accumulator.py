"""Log accumulator: what attention reads is summed up for ever, fading, and shown on a logarithmic scale.

    u_t = what causal attention reads at t, before its output projection
    "read":  A_t = g A_{t-1} + u_t          s_t = slog(A_t / scale)          compressed when read; a scan
    "loop":  s_t = slog(g s_{t-1} + u_t)                                     compressed in the loop; sequential
    y_t = W_o s_t          g = sigmoid(retention) per channel          slog(x) = sign(x) log(1 + |x|)

Bounds, for |u| <= U: |A| <= U / (1 - g) and |s| <= log(1 + U / (scale (1 - g))) in "read"; "loop" is a contraction
in s with factor max g.

Why: to see what a sum that fades and is compressed keeps of what attention has read.

Known limits: large and small sums become alike on a logarithmic scale; with compression in the loop tokens come one
after the other.

Source: a reconstruction of "M29c" of the Parallax notes (cumulative, decayed, compressed by log1p); equations of this
package, no code of the source.
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
from mnemoscope.memories.raw_attention import RawAttention, RawAttentionState, require_attention
from mnemoscope.ops.log_accumulation import CHUNK_TOKENS, fading_sum, log_loop, signed_log1p

HALF_LIVES = (2.0, 512.0)
"""Tokens after which a channel has forgotten half, at the start: log-spaced between the first and the last channel."""


@dataclass(frozen=True, kw_only=True)
class LogAccumulatorConfig:
    """Log accumulator.

    Args:
        compress: "read" keeps the plain sum and compresses what is read, "loop" compresses at every token.
        scale: the sum that counts as one; "loop" has none.
        n_heads: heads of the attention; must divide the model width.
        window: tokens the attention may look at, the present one included; None for all.
        rotary: rotate queries and keys by position.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["log_accumulator"] = "log_accumulator"
    compress: Literal["read", "loop"] = "read"
    scale: float = 1.0
    n_heads: int = 4
    window: int | None = None
    rotary: bool = True

    def __post_init__(self) -> None:
        where = "log_accumulator"
        known = self.compress in ("read", "loop")
        require(known, f"{where}.compress", 'one of "read", "loop"', self.compress, 'use "read"')
        require(0 < self.scale < math.inf, f"{where}.scale", "positive and finite", self.scale, "use 1")
        require(
            self.compress == "read" or self.scale == 1,
            f"{where}.scale",
            'left at 1 where compress="loop", which has no scale',
            self.scale,
            'set compress="read" or leave scale out',
        )
        require_attention(where, self.n_heads, self.window)


class LogAccumulatorState(NamedTuple):
    """The sum (compressed in "loop"), and what attention may still look at."""

    s: Float[Tensor, "b d"]
    attention: RawAttentionState


class LogAccumulator(nn.Module):
    """Log accumulator. Read points: `read`, `contribution`, `state` (b t d each), `addressing` (b h t t)."""

    role: Role = "memory"

    def __init__(self, config: LogAccumulatorConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.attention = RawAttention("log_accumulator", d_model, config.n_heads, config.window, config.rotary)
        shortest, longest = (math.log2(tokens) for tokens in HALF_LIVES)
        half_lives = torch.logspace(shortest, longest, d_model, base=2, dtype=torch.float64)
        # The logit of 2^(-1 / half-life).
        retention = -torch.expm1(math.log(2) / half_lives).log()
        self.retention = nn.Parameter(retention.to(torch.get_default_dtype()))
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.addressing = ReadPoint()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> LogAccumulatorState:
        """Nothing seen, nothing summed."""
        return LogAccumulatorState(empty_state(self.out.weight, batch, self.d_model), self.attention.init_state(batch))

    def step(
        self, x: Float[Tensor, "b d"], state: LogAccumulatorState
    ) -> tuple[Float[Tensor, "b d"], LogAccumulatorState]:
        """Look back, fade, add, compress: one token."""
        u, attention = self.attention(x.unsqueeze(1), state.attention, self.addressing)
        # In half precision a retention near one would be one.
        s = self.retention.to(state.s.dtype).sigmoid() * state.s + u.squeeze(1)
        s = signed_log1p(s) if self.config.compress == "loop" else s
        states = self.state(s.unsqueeze(1))
        return self._contribute(u, states).squeeze(1), LogAccumulatorState(states[:, 0].clone(), attention)

    def forward(
        self, x: Float[Tensor, "b t d"], state: LogAccumulatorState | None = None
    ) -> tuple[Float[Tensor, "b t d"], LogAccumulatorState]:
        """All tokens at once ("read"), or the sum token by token ("loop").

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        start = state.s if state else empty_state(x, x.shape[0], self.d_model)
        u, attention = self.attention(x, state and state.attention, self.addressing)
        accumulate = fading_sum if self.config.compress == "read" else log_loop
        states = self.state(accumulate(u, F.logsigmoid(self.retention), start))
        last = states[:, -1].clone(memory_format=torch.contiguous_format)
        return self._contribute(u, states), LogAccumulatorState(last, attention)

    def _contribute(self, u: Float[Tensor, "b t d"], states: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        shown = signed_log1p(states / self.config.scale) if self.config.compress == "read" else states
        return self.contribution(self.out(self.read(shown.to(u.dtype))))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """One sum a channel, and the keys and values of the attention."""
        return state_bytes(self.out.weight, carried=batch * self.d_model) + self.attention.state_bytes(batch, tokens)

    def flops(self, batch: int, tokens: int) -> int:
        """Attention, output projection, and the products of the scan, of which "loop" has none."""
        c = min(CHUNK_TOKENS, tokens)
        scan = -(-tokens // c) * c * c * self.d_model if self.config.compress == "read" else 0
        return self.attention.flops(batch, tokens) + 2 * batch * (scan + tokens * self.d_model**2)
