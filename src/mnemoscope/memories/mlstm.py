"""The matrix memory of xLSTM: exponential write strengths, a forget gate per head, and a normaliser.

    q, k = W_q u, W_k u                      u = silu(conv(x))                      v = W_v x
    i_t = exp(cap(W_i x_t + b_i))            f_t = sigmoid(cap(W_f x_t + b_f))      o_t = sigmoid(W_g x_t)
    C_t = f_t C_{t-1} + i_t k_t v_t^T        n_t = f_t n_{t-1} + i_t k_t
    r_t = C_t^T q_t / max(|n_t . q_t|, 1)    y_t = W_o (o_t * layernorm(r_t))

per head, with q_t scaled by K^-1/2 and cap(x) = 15 tanh(x / 15). C and n are kept divided by exp(m_t), the largest
strength that a write in them still has, and the bound 1 with them.

Why: exponential gates let a single write outweigh everything before it.

Known limits: the stabiliser is part of the state and must be carried; a head holds about as many pairs as key
channels.

Source: Beck et al. 2024, "xLSTM" (arXiv 2405.04517), equations 19 to 27; soft cap, and the block without projections
around it, from Beck et al. 2025, "xLSTM 7B" (arXiv 2503.13427).
Differs: without a convolution (`convolution=0`) q and k come from x itself, as in xLSTM 7B; no learnt skip beside the
memory.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import NORM_EPSILON, ShortConvolution, empty_state, require, state_bytes
from mnemoscope.ops.decayed_reads import decayed_reads_flops
from mnemoscope.ops.mlstm import (
    CHUNK_TOKENS,
    ScaledState,
    Writes,
    mlstm_chunked,
    mlstm_read,
    mlstm_states,
    mlstm_step,
    mlstm_windowed,
)


@dataclass(frozen=True, kw_only=True)
class MLSTMConfig:
    """Matrix memory of xLSTM.

    Args:
        n_heads: heads, one state matrix each.
        head_width: channels V of a head's values; None for d_model / n_heads.
        key_width: channels K of a head's keys; None for head_width.
        convolution: taps of the short convolution before queries and keys; 0 for none.
        gate_cap: largest size of the gates' logits; None for no bound.
        normalise_read: layer-normalise the read per head.
        output_gate: multiply the read by sigmoid(W_g x).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["mlstm"] = "mlstm"
    n_heads: int = 4
    head_width: int | None = None
    key_width: int | None = None
    convolution: int = 4
    gate_cap: float | None = 15.0
    normalise_read: bool = True
    output_gate: bool = True

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "mlstm.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.head_width is None or self.head_width >= 1,
            "mlstm.head_width",
            "at least 1, or None for d_model / n_heads",
            self.head_width,
            "use None",
        )
        require(
            self.key_width is None or self.key_width >= 1,
            "mlstm.key_width",
            "at least 1, or None for head_width",
            self.key_width,
            "use None",
        )
        require(self.convolution >= 0, "mlstm.convolution", "0 taps or more", self.convolution, "use 0 for none")
        require(
            self.gate_cap is None or self.gate_cap > 0,
            "mlstm.gate_cap",
            "positive, or None for no bound",
            self.gate_cap,
            "use 15 as in xLSTM 7B",
        )


class MLSTMState(NamedTuple):
    """exp(-m) C, exp(-m) n and m per head, and the last inputs of the short convolution."""

    s: Float[Tensor, "b h k v"]
    normaliser: Float[Tensor, "b h k"]
    log_scale: Float[Tensor, "b h"]
    tail: Float[Tensor, "b tail d"]


class Scan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record."""

    def forward(
        self, q: Float[Tensor, "b t h k"], writes: Writes, state: ScaledState
    ) -> tuple[Float[Tensor, "b t h v"], ScaledState]:
        """Chunked form."""
        return mlstm_chunked(q, writes, state)


class MLSTM(nn.Module):
    """Matrix memory of xLSTM.

    Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v), in units of exp(m), and `gate`
    (b t h v) where there is one.
    """

    role: Role = "memory"

    def __init__(self, config: MLSTMConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(
            config.head_width is not None or d_model % h == 0,
            "mlstm: d_model",
            f"a multiple of n_heads={h} unless head_width is given",
            d_model,
            "change either, or give head_width",
        )
        self.config, self.d_model = config, d_model
        self.head_width = config.head_width or d_model // h
        self.key_width = config.key_width or self.head_width
        self.convolution = ShortConvolution(d_model, config.convolution)
        self.qk = nn.Linear(d_model, 2 * h * self.key_width, bias=False)
        self.v = nn.Linear(d_model, h * self.head_width, bias=False)
        # The gates start the same for every token: heads retain by half-lives of some 14 to 280 tokens, as in the
        # source, and all write about as strongly.
        self.write_gate, self.retention_gate = nn.Linear(d_model, h), nn.Linear(d_model, h)
        nn.init.zeros_(self.write_gate.weight)
        nn.init.normal_(self.write_gate.bias, std=0.1)
        nn.init.zeros_(self.retention_gate.weight)
        self.retention_gate.bias = nn.Parameter(torch.linspace(3, 6, h))
        if config.normalise_read:
            self.norm_scale = nn.Parameter(torch.ones(h, self.head_width))
        if config.output_gate:
            self.output_gate = nn.Linear(d_model, h * self.head_width, bias=False)
            self.gate = ReadPoint()
        self.out = nn.Linear(h * self.head_width, d_model, bias=False)
        self.scan = Scan()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> MLSTMState:
        """An empty memory, in units of 1."""
        h, k, v = self.config.n_heads, self.key_width, self.head_width
        empty = partial(empty_state, self.out.weight, batch, h)
        return MLSTMState(empty(k, v), empty(k), empty(), self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: MLSTMState) -> tuple[Float[Tensor, "b d"], MLSTMState]:
        """Decay, write, read: one token, in constant time and memory."""
        x = x.unsqueeze(1)
        q, write, tail = self._inputs(x, state.tail)
        kept = mlstm_step(ScaledState(*state[:3]), write)
        if self.state.observed:
            kept = kept._replace(s=self.state(kept.s.unsqueeze(1)).squeeze(1))
        read = mlstm_read(q, ScaledState(*(part.unsqueeze(1) for part in kept)))
        return self._contribute(x, read).squeeze(1), MLSTMState(*kept, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: MLSTMState | None = None
    ) -> tuple[Float[Tensor, "b t d"], MLSTMState]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        q, writes, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = mlstm_states(writes, ScaledState(*state[:3]))
            states = states._replace(s=self.state(states.s))
            read, last = mlstm_read(q, states), ScaledState(*(part[:, -1].clone() for part in states))
        else:
            read, last = self.scan(q, writes, ScaledState(*state[:3]))
        return self._contribute(x, read), MLSTMState(last.s, last.normaliser, last.log_scale, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the memory; the short convolution stays as it is."""
        q, writes, _ = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(x, mlstm_windowed(q, writes, window))

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Float[Tensor, "b t h k"], Writes, Tensor]:
        mixed, tail = self.convolution(x, tail)
        u = F.silu(mixed) if self.config.convolution else x
        q, k = rearrange(self.qk(u), "b t (two h k) -> two b t h k", two=2, h=self.config.n_heads)
        v = rearrange(self.v(x), "b t (h v) -> b t h v", h=self.config.n_heads)
        log_strength, retained = self._capped(self.write_gate(x)), self._capped(self.retention_gate(x))
        return q * self.key_width**-0.5, Writes(k, v, log_strength, F.logsigmoid(retained)), tail

    def _capped(self, logits: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
        cap = self.config.gate_cap
        return logits if cap is None else cap * (logits / cap).tanh()

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        read = self.read(read)
        if self.config.normalise_read:
            read = self.norm_scale * F.layer_norm(read, read.shape[-1:], eps=NORM_EPSILON)
        if self.config.output_gate:
            gate = rearrange(self.output_gate(x).sigmoid(), "b t (h v) -> b t h v", h=self.config.n_heads)
            read = self.gate(gate) * read
        return self.contribution(self.out(read.flatten(2)))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices, normalisers, scales and the convolution's tail: the same for any number of tokens."""
        head = self.key_width * self.head_width + self.key_width + 1
        tail = max(self.config.convolution - 1, 0) * self.d_model
        return state_bytes(self.out.weight, carried=batch * self.config.n_heads * head, shown=batch * tail)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, and the products of the chunked form, which count the normaliser as one more value channel."""
        h, k, v = self.config.n_heads, self.key_width, self.head_width
        n_projected = h * (2 * k + 2 * v + v * self.config.output_gate + 2)
        c = min(CHUNK_TOKENS, tokens)
        asked = (batch, -(-tokens // c), c, h, k)
        reads = decayed_reads_flops(asked, asked, (*asked[:4], v + 1))
        return 2 * batch * tokens * self.d_model * n_projected + reads
