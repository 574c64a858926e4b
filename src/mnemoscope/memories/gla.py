"""Gated linear attention (GLA): a matrix per head whose rows, the key channels, each forget at a rate of their own.

    S_t = Diag(a_t) S_{t-1} + k_t v_t^T     r_t = S_t^T q_t     a_t = sigmoid(W_2 W_1 x_t + bias)^(1/16)
    y_t = W_o (rms(r_t) * swish(W_g x_t + bias))

The decay depends on the present token alone and reaches whole rows: there is no targeted erasing.

Why: a decay for every key channel lets some of what is held last while the rest is forgotten.

Known limits: a write cannot replace what stands under the same key, so rewritten keys give stale answers.

Source: Yang et al. 2023, "Gated Linear Attention Transformers with Hardware-Efficient Training" (arXiv 2312.06635),
equation 3 and section 4.4.
Differs: the read is RMS-normalised per head, as in the authors' code, where the paper writes a layer norm; queries are
scaled by K^-1/2; an optional short convolution over q, k, v.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from einops import rearrange
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import RmsNorm, Scan, ShortConvolution, empty_state, require, state_bytes
from mnemoscope.ops.diagonal_decay import (
    Writes,
    diagonal_decay_flops,
    diagonal_decay_states,
    diagonal_decay_step,
    diagonal_decay_windowed,
)
from mnemoscope.ops.kernels import DIAGONAL
from mnemoscope.ops.precision import read_states


@dataclass(frozen=True, kw_only=True)
class GLAConfig:
    """Gated linear attention.

    Args:
        n_heads: heads, one state matrix each.
        key_width: channels K of a head's queries and keys; None for half those of its values, d_model / n_heads.
        retention_rank: rank of the projection to the decay.
        temperature: the root that is taken of the decay's sigmoid; higher retains longer.
        convolution: taps of the short convolution over q, k and v; 0 for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["gla"] = "gla"
    n_heads: int = 4
    key_width: int | None = None
    retention_rank: int = 16
    temperature: float = 16.0
    convolution: int = 0

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "gla.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.key_width is None or self.key_width >= 1,
            "gla.key_width",
            "at least 1, or None for d_model / n_heads / 2",
            self.key_width,
            "use None",
        )
        require(self.retention_rank >= 1, "gla.retention_rank", "at least 1", self.retention_rank, "use 16")
        require(0 < self.temperature < math.inf, "gla.temperature", "positive and finite", self.temperature, "use 16")
        require(self.convolution >= 0, "gla.convolution", "0 taps or more", self.convolution, "use 0 for none")


class GLAState(NamedTuple):
    """One matrix per head, and the last inputs of the short convolution."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b tail channels"]


class GLA(nn.Module):
    """Gated linear attention. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: GLAConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "gla: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        require(
            config.key_width is not None or (d_model // h) % 2 == 0,
            "gla: channels a head",
            "even unless key_width is given",
            d_model // h,
            "change n_heads or give key_width",
        )
        self.config, self.d_model = config, d_model
        self.value_width = d_model // h
        self.key_width = config.key_width or self.value_width // 2
        n_keys = h * self.key_width
        self.widths = [n_keys, n_keys, d_model]
        self.qkv = nn.Linear(d_model, sum(self.widths), bias=False)
        self.convolution = ShortConvolution(sum(self.widths), config.convolution)
        self.retention_down = nn.Linear(d_model, config.retention_rank, bias=False)
        self.retention_up = nn.Linear(config.retention_rank, n_keys)
        self.norm = RmsNorm(self.value_width)
        self.output_gate = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.scan = Scan(DIAGONAL, self.key_width)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> GLAState:
        """An empty memory."""
        empty = empty_state(self.out.weight, batch, self.config.n_heads, self.key_width, self.value_width)
        return GLAState(empty, self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: GLAState) -> tuple[Float[Tensor, "b d"], GLAState]:
        """Forget, write, read: one token, in constant time and memory."""
        x = x.unsqueeze(1)
        q, write, tail = self._inputs(x, state.tail)
        s = diagonal_decay_step(state.s, write)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        read = read_states("bthk,bhkv->bthv", q, s)
        return self._contribute(x, read).squeeze(1), GLAState(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: GLAState | None = None
    ) -> tuple[Float[Tensor, "b t d"], GLAState]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        q, writes, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(diagonal_decay_states(writes, state.s))
            read, s = read_states("bthk,bthkv->bthv", q, states), states[:, -1].clone()
        else:
            read, s = self.scan(q, writes, state.s)
        return self._contribute(x, read), GLAState(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrix; the short convolution stays as it is."""
        q, writes, _ = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(x, diagonal_decay_windowed(q, writes, window))

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Float[Tensor, "b t h k"], Writes, Tensor]:
        mixed, tail = self.convolution(self.qkv(x), tail)
        logits = self.retention_up(self.retention_down(x))
        q, k, v, log_retention = (
            rearrange(y, "b t (h k) -> b t h k", h=self.config.n_heads)
            for y in (*mixed.split(self.widths, dim=2), F.logsigmoid(logits) / self.config.temperature)
        )
        return q * self.key_width**-0.5, Writes(k, v, log_retention), tail

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        read = rearrange(self.norm(self.read(read)), "b t h v -> b t (h v)")
        return self.contribution(self.out(read * F.silu(self.output_gate(x))))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the convolution's tail: the same for any number of tokens."""
        matrices = self.config.n_heads * self.key_width * self.value_width
        tail = max(self.config.convolution - 1, 0) * sum(self.widths)
        return state_bytes(self.out.weight, carried=batch * matrices, shown=batch * tail)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form."""
        h, d, rank = self.config.n_heads, self.d_model, self.config.retention_rank
        projections = 2 * tokens * (d * (sum(self.widths) + 2 * d + rank) + rank * h * self.key_width)
        scan = diagonal_decay_flops(tokens, self.key_width, self.value_width, per_channel=True)
        return batch * (projections + h * scan)
