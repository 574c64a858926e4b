"""RWKV-7 (Goose): a matrix per head that decays, is corrected and is written channel by channel.

    S_t = (Diag(w_t) - (a_t * p_t) p_t^T) S_{t-1} + k~_t v_t^T     read_t = S_t^T r_t
    y_t = W_o (g_t * (norm(read_t) + (r_t . (bonus * k~_t)) v_t))

    r, k, v = W_j blend_j(t)                        blend_j(t) = x_t + mix_j * (x_{t-1} - x_t)
    w = exp(-e^-1/2 sigmoid(bias + tanh(blend_w A) B))
    a = sigmoid(bias + (blend_a A) B)               g = sigmoid(blend_g A) B
    p = l2(k * removal_scale)                       k~ = k * (1 + (a - 1) * rate_scale)

a is the rate of learning in context, one per channel: how much of the value under p is taken out, and of the new value
under k~ written. Unlike the delta rule, what is removed and what is written may stand under different keys.

Why: removal and writing under keys of their own let it replace one thing and keep the rest.

Known limits: more projections a token than its predecessors; a head still holds about as many pairs as key channels.

Source: Peng et al. 2025, "RWKV-7 Goose" (arXiv 2503.14456), section 4, with S transposed (keys by values); the norm is
a group norm with one group per head, its epsilon that of the authors' code.
Differs: there is no value residual, by which later layers blend in the first layer's values: a memory sees its own
input only. This is the time mixing alone, the channel mixing being the stack's MLP; starts that depend on the depth of
a layer are those of the first.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import Scan, TokenShift, empty_state, require, state_bytes
from mnemoscope.ops.kernels import RWKV7 as RWKV7_KERNEL
from mnemoscope.ops.precision import read_states
from mnemoscope.ops.rwkv7 import Writes, rwkv7_flops, rwkv7_states, rwkv7_step, rwkv7_windowed

GROUP_NORM_EPSILON = 64e-5
STRONGEST_DECAY = math.exp(-0.5)


@dataclass(frozen=True, kw_only=True)
class RWKV7Config:
    """RWKV-7 time mixing.

    Args:
        n_heads: heads, one state matrix each; d_model / n_heads channels of keys and values (64 in the source).
        decay_rank: rank of the projection to the decay.
        rate_rank: rank of the projection to the rate of learning in context.
        gate_rank: rank of the output gate.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["rwkv7"] = "rwkv7"
    n_heads: int = 4
    decay_rank: int = 64
    rate_rank: int = 64
    gate_rank: int = 128

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "rwkv7.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(self.decay_rank >= 1, "rwkv7.decay_rank", "at least 1", self.decay_rank, "use 64")
        require(self.rate_rank >= 1, "rwkv7.rate_rank", "at least 1", self.rate_rank, "use 64")
        require(self.gate_rank >= 1, "rwkv7.gate_rank", "at least 1", self.gate_rank, "use 128")


class RWKV7State(NamedTuple):
    """One matrix per head, and the last token for the shift."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b 1 d"]


class Tokens(NamedTuple):
    """What the blends of the tokens become."""

    r: Float[Tensor, "b t h k"]
    writes: Writes
    g: Float[Tensor, "b t d"]


class RWKV7(nn.Module):
    """RWKV-7 time mixing. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: RWKV7Config, d_model: int) -> None:
        super().__init__()
        h, d = config.n_heads, d_model
        require(d % h == 0, "rwkv7: d_model", f"a multiple of n_heads={h}", d, "change either")
        self.config, self.d_model, self.head_width = config, d, d // h
        self.shift = TokenShift()
        place = torch.arange(d) / d
        # Early channels begin with the token before, late ones with the present token.
        self.mixes = nn.Parameter(torch.stack([1 - place.pow(p) for p in (0.2, 0.7, 0.7, 0.9, 0.9, 0.2)]))
        self.r, self.k, self.v = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.decay_down, self.rate_down, self.gate_down = (
            nn.Linear(d, rank, bias=False) for rank in (config.decay_rank, config.rate_rank, config.gate_rank)
        )
        self.decay_up, self.rate_up = nn.Linear(config.decay_rank, d), nn.Linear(config.rate_rank, d)
        self.gate_up = nn.Linear(config.gate_rank, d, bias=False)
        for down in (self.decay_down, self.rate_down):
            nn.init.zeros_(down.weight)
        spread = torch.arange(d) / max(d - 1, 1)
        self.decay_up.bias = nn.Parameter(-6 + 5 * spread.pow(0.85))
        nn.init.zeros_(self.rate_up.bias)
        self.removal_scale = nn.Parameter(torch.full((d,), 0.85))
        self.rate_scale = nn.Parameter(torch.ones(d))
        self.bonus = nn.Parameter(torch.zeros(h, d // h))
        self.norm = nn.GroupNorm(h, d, eps=GROUP_NORM_EPSILON)
        self.out = nn.Linear(d, d, bias=False)
        self.scan = Scan(RWKV7_KERNEL, self.head_width)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> RWKV7State:
        """An empty memory, and zeros for the token before the first."""
        w, weight = self.head_width, self.out.weight
        empty = empty_state(weight, batch, self.config.n_heads, w, w)
        return RWKV7State(empty, weight.new_zeros(batch, 1, self.d_model))

    def step(self, x: Float[Tensor, "b d"], state: RWKV7State) -> tuple[Float[Tensor, "b d"], RWKV7State]:
        """Forget, remove, write, read: one token, in constant time and memory."""
        token, tail = self._inputs(x.unsqueeze(1), state.tail)
        s = rwkv7_step(state.s, token.writes)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = read_states("bthk,bhkv->bthv", token.r, s)
        return self._contribute(token, read).squeeze(1), RWKV7State(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: RWKV7State | None = None
    ) -> tuple[Float[Tensor, "b t d"], RWKV7State]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        tokens, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(rwkv7_states(tokens.writes, state.s))
            read, s = read_states("bthk,bthkv->bthv", tokens.r, states), states[:, -1].clone()
        else:
            read, s = self.scan(tokens.r, tokens.writes, state.s)
        return self._contribute(tokens, read), RWKV7State(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrix; the token shift stays as it is."""
        tokens, _ = self._inputs(x, self.init_state(x.shape[0]).tail)
        return self._contribute(tokens, rwkv7_windowed(tokens.r, tokens.writes, window))

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Tokens, Tensor]:
        previous, tail = self.shift(x, tail)
        of_r, of_k, of_v, of_decay, of_rate, of_gate = (torch.lerp(x, previous, mix) for mix in self.mixes)
        decay = self.decay_up(self.decay_down(of_decay).tanh())
        g = self.gate_up(self.gate_down(of_gate).sigmoid())
        rate = self.rate_up(self.rate_down(of_rate)).sigmoid()
        k = self.k(of_k)
        written_k = k * (1 + (rate - 1) * self.rate_scale)
        r, k, v, removal_key, rate, log_retention = (
            rearrange(y, "b t (h k) -> b t h k", h=self.config.n_heads)
            for y in (
                self.r(of_r),
                written_k,
                self.v(of_v),
                k * self.removal_scale,
                rate,
                -STRONGEST_DECAY * decay.sigmoid(),
            )
        )
        return Tokens(r, Writes(k, v, F.normalize(removal_key, dim=-1), rate, log_retention), g), tail

    def _contribute(self, tokens: Tokens, read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        present = (tokens.r * self.bonus * tokens.writes.k).sum(-1, keepdim=True) * tokens.writes.v
        normed = self.norm(rearrange(self.read(read), "b t h v -> (b t) (h v)")).view_as(tokens.g)
        return self.contribution(self.out((normed + rearrange(present, "b t h v -> b t (h v)")) * tokens.g))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the last token: the same for any number of tokens."""
        carried = batch * self.d_model * self.head_width
        return state_bytes(self.out.weight, carried=carried, shown=batch * self.d_model)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form; its triangular solve is not a matrix product."""
        d, c = self.d_model, self.config
        n_projected = 4 * d + 2 * (c.decay_rank + c.rate_rank + c.gate_rank)
        return batch * (
            2 * tokens * d * n_projected + c.n_heads * rwkv7_flops(tokens, self.head_width, self.head_width)
        )
