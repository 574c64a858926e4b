"""Gated delta rule memory: a matrix per head, decayed, corrected towards each new value, read by a query.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T          r_t = S_t^T q_t

    a_t = exp(-A softplus(W_a x_t + bias))     b_t = sigmoid(W_b x_t), doubled for negative eigenvalues
    q, k = l2(silu(conv(W x)))                 v = silu(conv(W_v x))
    y_t = W_o (rms(r_t) * silu(W_g x_t))

With `retains=False` it is the delta rule, with `erases=False` gated linear attention with one decay per head, with
both off linear attention without a normaliser.

Why: erasing what stands under a key before writing anew keeps recall where a sum of outer products interferes.

Known limits: a head holds about as many pairs as its keys have channels; beyond that, old pairs are blurred.

Source: Yang, Kautz, Hatamizadeh 2024, "Gated Delta Networks" (arXiv 2412.06464), equation 10 and figure 1; doubled
write strength, Grazzi et al. 2024 (arXiv 2411.12537).
Differs: heads share one width for keys and values; queries are scaled by K^-1/2.
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
from mnemoscope.memories.parts import RmsNorm, Scan, ShortConvolution, asked, empty_state, require, state_bytes
from mnemoscope.ops.gated_delta import (
    CHUNK_TOKENS,
    Writes,
    gated_delta_states,
    gated_delta_step,
    gated_delta_windowed,
)
from mnemoscope.ops.kernels import GATED_DELTA
from mnemoscope.ops.precision import read_states


@dataclass(frozen=True, kw_only=True)
class GatedDeltaConfig:
    """Gated delta rule.

    Args:
        n_heads: heads, one state matrix each.
        head_width: channels K = V of a head; None for d_model / n_heads.
        retains: learn a data-dependent retention; off, everything is retained (a_t = 1).
        erases: take the old value out before writing (delta rule); off, writes add up.
        negative_eigenvalues: write strength in (0, 2) instead of (0, 1).
        convolution: taps of the short convolution over q, k and v; 0 for none.
        normalise_qk: L2-normalise queries and keys; required where `erases` is on.
        normalise_read: RMS-normalise the read per head.
        output_gate: multiply the read by silu(W_g x).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["gated_delta"] = "gated_delta"
    n_heads: int = 4
    head_width: int | None = None
    retains: bool = True
    erases: bool = True
    negative_eigenvalues: bool = False
    convolution: int = 4
    normalise_qk: bool = True
    normalise_read: bool = True
    output_gate: bool = True

    def __post_init__(self) -> None:
        where = "gated_delta"
        require(self.n_heads >= 1, f"{where}.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.convolution >= 0,
            f"{where}.convolution",
            "0 taps or more",
            self.convolution,
            "use 0 for none",
        )
        require(
            self.head_width is None or self.head_width >= 1,
            f"{where}.head_width",
            "at least 1, or None for d_model / n_heads",
            self.head_width,
            "use None",
        )
        require(
            self.normalise_qk or not self.erases,
            f"{where}.normalise_qk",
            "on where erases=True, since I - b k k^T grows without bound for long keys",
            self.normalise_qk,
            "set normalise_qk=True or erases=False",
        )
        require(
            self.erases or not self.negative_eigenvalues,
            f"{where}.negative_eigenvalues",
            "off where erases=False, since without an erase term there are none",
            self.negative_eigenvalues,
            "set erases=True or negative_eigenvalues=False",
        )


class GatedDeltaState(NamedTuple):
    """One matrix per head, and the last inputs of the short convolution."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b tail d3"]


class GatedDelta(nn.Module):
    """Gated delta rule memory. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: GatedDeltaConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(
            config.head_width is not None or d_model % h == 0,
            "gated_delta: d_model",
            f"a multiple of n_heads={h} unless head_width is given",
            d_model,
            "change either, or give head_width",
        )
        self.config, self.d_model = config, d_model
        self.head_width = config.head_width or d_model // h
        width = h * self.head_width
        self.qkv = nn.Linear(d_model, 3 * width, bias=False)
        self.convolution = ShortConvolution(3 * width, config.convolution)
        self.write_gate = nn.Linear(d_model, h, bias=False)
        if config.retains:
            self.retention_gate = nn.Linear(d_model, h)
            self.log_rate = nn.Parameter(torch.empty(h).uniform_(1, 16).log())
            # Decay per token starts log-uniform between 0.1 % and 10 % of each head's rate, as in the source.
            step = torch.empty(h).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.retention_gate.bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.norm = RmsNorm(self.head_width) if config.normalise_read else nn.Identity()
        if config.output_gate:
            self.output_gate = nn.Linear(d_model, width, bias=False)
        self.out = nn.Linear(width, d_model, bias=False)
        self.scan = Scan(GATED_DELTA, self.head_width)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> GatedDeltaState:
        """An empty memory."""
        w = self.head_width
        empty = empty_state(self.out.weight, batch, self.config.n_heads, w, w)
        return GatedDeltaState(empty, self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: GatedDeltaState) -> tuple[Float[Tensor, "b d"], GatedDeltaState]:
        """Retain, erase, write, read: one token, in constant time and memory."""
        x = x.unsqueeze(1)
        q, write, tail = self._inputs(x, state.tail)
        s = gated_delta_step(state.s, write)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = read_states("bthk,bhkv->bthv", q, s)
        return self._contribute(x, read).squeeze(1), GatedDeltaState(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: GatedDeltaState | None = None
    ) -> tuple[Float[Tensor, "b t d"], GatedDeltaState]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        q, writes, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(gated_delta_states(writes, state.s))
            read, s = read_states("bthk,bthkv->bthv", q, states), states[:, -1]
        else:
            read, s = self.scan(q, writes, state.s)
        return self._contribute(x, read), GatedDeltaState(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrix; the short convolution stays as it is."""
        q, writes, _ = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(x, gated_delta_windowed(q, writes, window))

    def init_recall(self, batch: int) -> Float[Tensor, "b tail hk"]:
        """The inputs of the queries' convolution before the first token: zeros."""
        return self.convolution.init_tail(batch)[..., : self.config.n_heads * self.head_width].clone()

    def recall(
        self, x: Float[Tensor, "b t d"], state: GatedDeltaState, tail: Float[Tensor, "b tail hk"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b tail hk"]]:
        """What the matrix holds for the tokens' queries, through norm, gate and projection; nothing is written."""
        q, tail = asked(x, self.qkv, self.convolution, tail, self.config.n_heads)
        q = self._scaled(q)
        return self._project(x, read_states("bthk,bhkv->bthv", q, state.s)), tail

    def _scaled(self, q: Float[Tensor, "b t h k"]) -> Float[Tensor, "b t h k"]:
        return (F.normalize(q, dim=-1) if self.config.normalise_qk else q) * self.head_width**-0.5

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Float[Tensor, "b t h k"], Writes, Tensor]:
        mixed, tail = self.convolution(self.qkv(x), tail)
        q, k, v = rearrange(F.silu(mixed), "b t (three h k) -> three b t h k", three=3, h=self.config.n_heads)
        if self.config.normalise_qk:
            k = F.normalize(k, dim=-1)
        write_strength = self.write_gate(x).sigmoid()
        if self.config.negative_eigenvalues:
            write_strength = 2 * write_strength
        if self.config.retains:
            # Minus softplus; torch 2.13 compiles the gradient of softplus with the strides of the wrong tensor.
            log_retention = self.log_rate.exp() * F.logsigmoid(-self.retention_gate(x))
        else:
            log_retention = torch.zeros_like(write_strength)
        return (
            self._scaled(q),
            Writes(k, v, write_strength, log_retention, self.config.erases),
            tail,
        )

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        return self.contribution(self._project(x, self.read(read)))

    def _project(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        read = rearrange(self.norm(read), "b t h v -> b t (h v)")
        if self.config.output_gate:
            read = read * F.silu(self.output_gate(x))
        return self.out(read)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the convolution's tail: the same for any number of tokens."""
        h, w = self.config.n_heads, self.head_width
        tail = 3 * max(self.config.convolution - 1, 0)
        return state_bytes(self.out.weight, carried=batch * h * w * w, shown=batch * h * w * tail)

    def recall_flops(self, batch: int, tokens: int) -> int:
        """The query's, the gate's and the output's projections, and one product with the matrix."""
        h, w, d = self.config.n_heads, self.head_width, self.d_model
        return 2 * batch * tokens * h * w * (d * (2 + self.config.output_gate) + w)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, and the products of the chunked form; its triangular solve is not a matrix product."""
        h, w, d = self.config.n_heads, self.head_width, self.d_model
        n_projected = 4 * h * w + h * (1 + self.config.retains) + h * w * self.config.output_gate
        c = min(CHUNK_TOKENS, tokens)
        n_chunks = -(-tokens // c)
        chunk = c * c * w * (5 if self.config.erases else 2) + c * w * w * (3 if self.config.erases else 2)
        return 2 * batch * (tokens * d * n_projected + h * n_chunks * chunk)
