"""RWKV-6 (Finch): a matrix per head whose key channels each forget at a data-dependent rate.

    S_t = Diag(w_t) S_{t-1} + k_t v_t^T     read_t = S_{t-1}^T r_t     w_t = exp(-exp(d_t))
    y_t = W_o (norm(read_t + (r_t . (u * k_t)) v_t) * swish(g_t))

The memory is read before the present token is written; the present token goes round it with a weight u per channel, the
bonus. r, k, v, g and d come from blends of the present token and the one before it, by data-dependent linear
interpolation with m = x_{t-1} - x_t (token shift):

    blend_j(t) = x_t + m * (mix_j + tanh((x_t + m * mix) A_j) B_j)
    r, k, v, g = W_j blend_j(t)     d = bias + tanh(blend_d(t) A) B

Why: decays by channel that depend on the input, beside a bonus for the present token.

Known limits: a write cannot replace what stands under the same key.

Source: Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892), the time mixing of Finch; the norm is a group norm
with one group per head, its epsilon that of the authors' code.
Differs: this is the time mixing alone, the channel mixing being the stack's MLP; starts that depend on the depth of a
layer are those of the first.
"""

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
from mnemoscope.ops.diagonal_decay import (
    Writes,
    diagonal_decay_flops,
    diagonal_decay_states,
    diagonal_decay_step,
    diagonal_decay_windowed,
)
from mnemoscope.ops.kernels import DIAGONAL_BEFORE_WRITE
from mnemoscope.ops.precision import read_states

GROUP_NORM_EPSILON = 64e-5
LOG_OF_TOTAL_DECAY = 7.0
"""exp(-exp(7)) is zero in float64 as well; beyond it the logarithm of the decay would overflow, and its gradient."""


@dataclass(frozen=True, kw_only=True)
class RWKV6Config:
    """RWKV-6 time mixing.

    Args:
        n_heads: heads, one state matrix each; d_model / n_heads channels of keys and values (64 in the source).
        shift_rank: rank of the five data-dependent token shifts.
        decay_rank: rank of the data-dependent decay.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["rwkv6"] = "rwkv6"
    n_heads: int = 4
    shift_rank: int = 32
    decay_rank: int = 64

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "rwkv6.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(self.shift_rank >= 1, "rwkv6.shift_rank", "at least 1", self.shift_rank, "use 32")
        require(self.decay_rank >= 1, "rwkv6.decay_rank", "at least 1", self.decay_rank, "use 64")


class RWKV6State(NamedTuple):
    """One matrix per head, and the last token for the shift."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b 1 d"]


class Tokens(NamedTuple):
    """What the blends of the tokens become."""

    r: Float[Tensor, "b t h k"]
    writes: Writes
    g: Float[Tensor, "b t d"]


class RWKV6(nn.Module):
    """RWKV-6 time mixing. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: RWKV6Config, d_model: int) -> None:
        super().__init__()
        h, d = config.n_heads, d_model
        require(d % h == 0, "rwkv6: d_model", f"a multiple of n_heads={h}", d, "change either")
        self.config, self.d_model, self.head_width = config, d, d // h
        self.shift = TokenShift()
        place = torch.arange(d) / d
        # Early channels begin with the token before, late ones with the present token.
        self.mix = nn.Parameter(1 - place)
        self.mixes = nn.Parameter(torch.stack([1 - place.pow(p) for p in (0.5, 1.0, 1.0, 0.5, 1.0)]))
        self.shift_down = nn.Linear(d, 5 * config.shift_rank, bias=False)
        self.shift_up = nn.Parameter(torch.empty(5, config.shift_rank, d).uniform_(-1e-2, 1e-2))
        self.r, self.k, self.v, self.g = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.decay_down = nn.Linear(d, config.decay_rank, bias=False)
        self.decay_up = nn.Linear(config.decay_rank, d)
        for down in (self.shift_down, self.decay_down):
            nn.init.zeros_(down.weight)
        nn.init.uniform_(self.decay_up.weight, -1e-2, 1e-2)
        spread = torch.arange(d) / max(d - 1, 1)
        self.decay_up.bias = nn.Parameter(-6 + 5 * spread.pow(0.7))
        self.bonus = nn.Parameter(rearrange(0.1 * (torch.arange(1, d + 1) % 3 - 1), "(h k) -> h k", h=h))
        self.norm = nn.GroupNorm(h, d, eps=GROUP_NORM_EPSILON)
        self.out = nn.Linear(d, d, bias=False)
        self.scan = Scan(DIAGONAL_BEFORE_WRITE, self.head_width)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> RWKV6State:
        """An empty memory, and zeros for the token before the first."""
        w, weight = self.head_width, self.out.weight
        empty = empty_state(weight, batch, self.config.n_heads, w, w)
        return RWKV6State(empty, weight.new_zeros(batch, 1, self.d_model))

    def step(self, x: Float[Tensor, "b d"], state: RWKV6State) -> tuple[Float[Tensor, "b d"], RWKV6State]:
        """Read, forget, write: one token, in constant time and memory."""
        token, tail = self._inputs(x.unsqueeze(1), state.tail)
        read = read_states("bthk,bhkv->bthv", token.r, state.s)
        s = diagonal_decay_step(state.s, token.writes)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        return self._contribute(token, read).squeeze(1), RWKV6State(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: RWKV6State | None = None
    ) -> tuple[Float[Tensor, "b t d"], RWKV6State]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at the next token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        tokens, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(diagonal_decay_states(tokens.writes, state.s))
            before = torch.cat([state.s.unsqueeze(1), states[:, :-1]], dim=1)
            read, s = read_states("bthk,bthkv->bthv", tokens.r, before), states[:, -1].clone()
        else:
            read, s = self.scan(tokens.r, tokens.writes, state.s)
        return self._contribute(tokens, read), RWKV6State(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` tokens in memory (the present one by its bonus); the shift stays."""
        tokens, _ = self._inputs(x, self.init_state(x.shape[0]).tail)
        return self._contribute(tokens, diagonal_decay_windowed(tokens.r, tokens.writes, window, before_write=True))

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Tokens, Tensor]:
        previous, tail = self.shift(x, tail)
        difference = previous - x
        low = self.shift_down(x + difference * self.mix).tanh()
        shifts = torch.einsum("btjr,jrd->jbtd", rearrange(low, "b t (j r) -> b t j r", j=5), self.shift_up)
        blends = (x + difference * (mix + shift) for mix, shift in zip(self.mixes, shifts, strict=True))
        of_r, of_k, of_v, of_g, of_decay = blends
        decay = self.decay_up(self.decay_down(of_decay).tanh()).clamp(max=LOG_OF_TOTAL_DECAY)
        r, k, v, log_retention = (
            rearrange(y, "b t (h k) -> b t h k", h=self.config.n_heads)
            for y in (self.r(of_r), self.k(of_k), self.v(of_v), -decay.exp())
        )
        return Tokens(r, Writes(k, v, log_retention), self.g(of_g)), tail

    def _contribute(self, tokens: Tokens, read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        present = (tokens.r * self.bonus * tokens.writes.k).sum(-1, keepdim=True) * tokens.writes.v
        summed = self.read(read) + present
        normed = self.norm(rearrange(summed, "b t h v -> (b t) (h v)")).view_as(tokens.g)
        return self.contribution(self.out(normed * F.silu(tokens.g)))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the last token: the same for any number of tokens."""
        carried = batch * self.d_model * self.head_width
        return state_bytes(self.out.weight, carried=carried, shown=batch * self.d_model)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form."""
        d = self.d_model
        n_projected = 5 * d + 10 * self.config.shift_rank + 2 * self.config.decay_rank
        scan = diagonal_decay_flops(tokens, self.head_width, self.head_width, per_channel=True)
        return batch * (2 * tokens * d * n_projected + self.config.n_heads * scan)
