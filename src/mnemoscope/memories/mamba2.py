"""Mamba-2: a matrix per head that decays by one number a token (state-space duality).

    [z; u; l] = W_in x_t                     [v; k; q] = silu(conv(u) + bias)
    s_t = softplus(l_t + step_bias)          a_t = exp(-exp(log_rate) s_t), per head
    S_t = a_t S_{t-1} + s_t k_t v_t^T        r_t = S_t^T q_t
    y_t = W_o rms((r_t + D v_t) * silu(z_t))

s_t, k_t and q_t are Delta, B and C of the source; heads of a group share k_t and q_t, and the norm is taken per group.

Why: one decay a head makes the whole layer a product of matrices, which larger states can afford.

Known limits: a head forgets everything at one rate, and a write does not replace what stands under its key.

Source: Dao and Gu 2024, "Transformers are SSMs" (arXiv 2405.21060), sections 6 and 7.
Differs: heads are counted, and their width follows; the read is announced before the skip D v_t.
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
from mnemoscope.memories.mamba import draw_step_bias
from mnemoscope.memories.parts import NORM_EPSILON, Scan, ShortConvolution, empty_state, require, state_bytes
from mnemoscope.ops.decayed_reads import decayed_reads_flops
from mnemoscope.ops.kernels import SSD
from mnemoscope.ops.ssd import CHUNK_TOKENS, Writes, ssd_read, ssd_states, ssd_step, ssd_windowed


@dataclass(frozen=True, kw_only=True)
class Mamba2Config:
    """Mamba-2.

    Args:
        expand: channels of all heads per unit of model width.
        n_heads: heads, one state matrix each.
        n_groups: groups of heads that share queries and keys.
        d_state: channels of queries and keys.
        convolution: taps of the short convolution over values, keys and queries; 0 for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["mamba2"] = "mamba2"
    expand: int = 2
    n_heads: int = 4
    n_groups: int = 1
    d_state: int = 64
    convolution: int = 4

    def __post_init__(self) -> None:
        require(self.expand >= 1, "mamba2.expand", "at least 1", self.expand, "use 2 as in the source")
        require(self.n_heads >= 1, "mamba2.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.n_groups >= 1 and self.n_heads % self.n_groups == 0,
            "mamba2.n_groups",
            f"a divisor of n_heads={self.n_heads}",
            self.n_groups,
            "use 1 as in the source",
        )
        require(self.d_state >= 1, "mamba2.d_state", "at least 1", self.d_state, "use 64 or 128 as in the source")
        require(self.convolution >= 0, "mamba2.convolution", "0 taps or more", self.convolution, "use 0 for none")


class Mamba2State(NamedTuple):
    """One matrix per head, and the last inputs of the short convolution."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b tail mixed"]


class Inputs(NamedTuple):
    """What a stretch of tokens asks and writes, and what bypasses the memory."""

    q: Float[Tensor, "b t g k"]
    writes: Writes
    z: Float[Tensor, "b t inner"]
    tail: Float[Tensor, "b tail mixed"]


class Mamba2(nn.Module):
    """Mamba-2. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: Mamba2Config, d_model: int) -> None:
        super().__init__()
        h, inner = config.n_heads, config.expand * d_model
        require(
            inner % h == 0, "mamba2: expand * d_model", f"a multiple of n_heads={h}", inner, "change n_heads or expand"
        )
        self.config, self.d_model, self.inner = config, d_model, inner
        self.d_keys = config.n_groups * config.d_state
        mixed = inner + 2 * self.d_keys
        self.inputs = nn.Linear(d_model, inner + mixed + h, bias=False)
        self.convolution = ShortConvolution(mixed, config.convolution)
        self.convolution_bias = nn.Parameter(torch.empty(mixed).uniform_(-0.5, 0.5))
        self.step_bias = nn.Parameter(draw_step_bias(h))
        self.log_rate = nn.Parameter(torch.empty(h).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(h))
        self.norm_scale = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, d_model, bias=False)
        self.scan = Scan(SSD, config.d_state)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> Mamba2State:
        """An empty memory."""
        h = self.config.n_heads
        empty = empty_state(self.out.weight, batch, h, self.config.d_state, self.inner // h)
        return Mamba2State(empty, self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: Mamba2State) -> tuple[Float[Tensor, "b d"], Mamba2State]:
        """Decay, write, read: one token, in constant time and memory."""
        inputs = self._inputs(x.unsqueeze(1), state.tail)
        s = ssd_step(state.s, inputs.writes)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = ssd_read(inputs.q, s.unsqueeze(1))
        return self._contribute(read, inputs).squeeze(1), Mamba2State(s, inputs.tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: Mamba2State | None = None
    ) -> tuple[Float[Tensor, "b t d"], Mamba2State]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        inputs = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(ssd_states(inputs.writes, state.s))
            read, s = ssd_read(inputs.q, states), states[:, -1].clone()
        else:
            read, s = self.scan(inputs.q, inputs.writes, state.s)
        return self._contribute(read, inputs), Mamba2State(s, inputs.tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrices; the short convolution stays as it is."""
        inputs = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(ssd_windowed(inputs.q, inputs.writes, window), inputs)

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> Inputs:
        h, g = self.config.n_heads, self.config.n_groups
        z, mixed, step = self.inputs(x).split([self.inner, self.inner + 2 * self.d_keys, h], dim=-1)
        mixed, tail = self.convolution(mixed, tail)
        v, k, q = F.silu(mixed + self.convolution_bias).split([self.inner, self.d_keys, self.d_keys], dim=-1)
        step = F.softplus(step + self.step_bias)
        v = rearrange(v, "b t (h v) -> b t h v", h=h)
        k, q = (rearrange(part, "b t (g k) -> b t g k", g=g) for part in (k, q))
        return Inputs(q, Writes(k, v, step, -self.log_rate.exp() * step), z, tail)

    def _contribute(self, read: Float[Tensor, "b t h v"], inputs: Inputs) -> Float[Tensor, "b t d"]:
        read = self.read(read) + self.skip.unsqueeze(-1) * inputs.writes.v
        groups = rearrange(read.flatten(2) * F.silu(inputs.z), "b t (g w) -> b t g w", g=self.config.n_groups)
        normed = F.rms_norm(groups, groups.shape[-1:], eps=NORM_EPSILON).flatten(2)
        return self.contribution(self.out(self.norm_scale * normed))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the convolution's tail: the same for any number of tokens."""
        tail = max(self.config.convolution - 1, 0) * (self.inner + 2 * self.d_keys)
        return state_bytes(self.out.weight, carried=batch * self.inner * self.config.d_state, shown=batch * tail)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, and the products of the chunked form."""
        h, g = self.config.n_heads, self.config.n_groups
        projected = 2 * batch * tokens * self.d_model * (3 * self.inner + 2 * self.d_keys + h)
        c = min(CHUNK_TOKENS, tokens)
        asked = (batch, -(-tokens // c), c, g, self.config.d_state)
        return projected + decayed_reads_flops(asked, asked, (*asked[:3], h, self.inner // h))
