"""Retention (RetNet): a matrix per head that forgets at a fixed rate, one rate per head.

    S_t = g_h S_{t-1} + k_t v_t^T     r_t = S_t^T q_t     g_h = 1 - 2^(-5-h), h = 0, 1, ...
    y_t = W_o (swish(W_g x_t) * norm(r_t))

with queries and keys rotated by their position. The first head keeps about 32 tokens, each next one twice as many,
whatever the input: nothing is forgotten on demand, and a cue fades exponentially.

Why: fixed rates, one a head, show what forgetting alone does, with nothing learned about when.

Known limits: what a head keeps is a matter of age and never of content.

Source: Sun et al. 2023, "Retentive Network" (arXiv 2307.08621), equations 5 to 8; the rotation is that of xPos (Sun et
al. 2022, arXiv 2212.10554) without its own decay, which g_h takes over. The norm is the group norm of equation 8 with
one group per head and nothing learned, as in the authors' code.
Differs: the scores are not normalised (section 2.4 there), since the norm of the read cancels any factor; channels are
rotated in pairs by halves, as everywhere in this package; queries are scaled by K^-1/2 instead of keys.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.contracts.precision import wide_dtype
from mnemoscope.memories.parts import NORM_EPSILON, Scan, empty_state, require, state_bytes
from mnemoscope.ops.diagonal_decay import (
    Writes,
    diagonal_decay_flops,
    diagonal_decay_states,
    diagonal_decay_step,
    diagonal_decay_windowed,
)
from mnemoscope.ops.kernels import DIAGONAL
from mnemoscope.ops.precision import read_states
from mnemoscope.ops.rotary import rotate


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """Retention.

    Args:
        n_heads: heads, one state matrix and one rate each.
        expansion: channels of all values together, in multiples of d_model.
        rotary: rotate queries and keys by position.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["retention"] = "retention"
    n_heads: int = 4
    expansion: int = 2
    rotary: bool = True

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "retention.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(self.expansion >= 1, "retention.expansion", "at least 1", self.expansion, "use 2")


class RetentionState(NamedTuple):
    """One matrix per head, and the position of the next token."""

    s: Float[Tensor, "b h k v"]
    n_tokens: Int[Tensor, ""]


class Retention(nn.Module):
    """Retention. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: RetentionConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "retention: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        require(
            not config.rotary or (d_model // h) % 2 == 0,
            "retention: channels a head",
            "even for rotary positions",
            d_model // h,
            "change n_heads or set rotary=False",
        )
        self.config, self.d_model = config, d_model
        self.key_width, self.value_width = d_model // h, config.expansion * d_model // h
        self.qk = nn.Linear(d_model, 2 * d_model, bias=False)
        self.v = nn.Linear(d_model, config.expansion * d_model, bias=False)
        self.output_gate = nn.Linear(d_model, config.expansion * d_model, bias=False)
        self.out = nn.Linear(config.expansion * d_model, d_model, bias=False)
        self.scan = Scan(DIAGONAL, self.key_width)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> RetentionState:
        """An empty memory."""
        empty = empty_state(self.out.weight, batch, self.config.n_heads, self.key_width, self.value_width)
        return RetentionState(empty, torch.zeros((), dtype=torch.int64, device=empty.device))

    def step(self, x: Float[Tensor, "b d"], state: RetentionState) -> tuple[Float[Tensor, "b d"], RetentionState]:
        """Forget a little, write, read: one token, in constant time and memory."""
        x = x.unsqueeze(1)
        q, write = self._inputs(x, state.n_tokens)
        s = diagonal_decay_step(state.s, write)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = read_states("bthk,bhkv->bthv", q, s)
        return self._contribute(x, read).squeeze(1), RetentionState(s, state.n_tokens + 1)

    def forward(
        self, x: Float[Tensor, "b t d"], state: RetentionState | None = None
    ) -> tuple[Float[Tensor, "b t d"], RetentionState]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        q, writes = self._inputs(x, state.n_tokens)
        if self.state.observed:
            states = self.state(diagonal_decay_states(writes, state.s))
            read, s = read_states("bthk,bthkv->bthv", q, states), states[:, -1].clone()
        else:
            read, s = self.scan(q, writes, state.s)
        return self._contribute(x, read), RetentionState(s, state.n_tokens + x.shape[1])

    @property
    def reach(self) -> None:
        """Everything since the first token, fading."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrix."""
        q, writes = self._inputs(x, torch.zeros((), dtype=torch.int64, device=x.device))
        return self._contribute(x, diagonal_decay_windowed(q, writes, window))

    def _inputs(self, x: Float[Tensor, "b t d"], start: Int[Tensor, ""]) -> tuple[Float[Tensor, "b t h k"], Writes]:
        h = self.config.n_heads
        q, k = rearrange(self.qk(x), "b t (two h k) -> two b h t k", two=2, h=h)
        if self.config.rotary:
            q, k = rotate(q, start), rotate(k, start)
        q, k = (rearrange(y, "b h t k -> b t h k") for y in (q * self.key_width**-0.5, k))
        v = rearrange(self.v(x), "b t (h v) -> b t h v", h=h)
        rate = torch.arange(h, device=x.device, dtype=wide_dtype(x.device)).add(5).neg().exp2()
        log_retention = torch.log1p(-rate).to(x.dtype).view(h, 1).expand(*q.shape[:3], 1)
        return q, Writes(k, v, log_retention)

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        read = F.layer_norm(self.read(read), read.shape[-1:], eps=NORM_EPSILON)
        gated = F.silu(self.output_gate(x)) * rearrange(read, "b t h v -> b t (h v)")
        return self.contribution(self.out(gated))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the position: the same for any number of tokens."""
        matrices = batch * self.config.n_heads * self.key_width * self.value_width
        return state_bytes(self.out.weight, carried=matrices) + 8

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form."""
        h, d = self.config.n_heads, self.d_model
        scan = diagonal_decay_flops(tokens, self.key_width, self.value_width, per_channel=False)
        return batch * (2 * tokens * d * d * (2 + 3 * self.config.expansion) + h * scan)
