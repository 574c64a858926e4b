"""Linear attention: a matrix per head that sums up keys times values, read by a query and divided by a normaliser.

    S_t = S_{t-1} + phi(k_t) v_t^T     z_t = z_{t-1} + phi(k_t)     r_t = S_t^T phi(q_t) / (z_t . phi(q_t))
    y_t = W_o r_t                      phi(x) = 1 + elu(x), relu(x) or x / K^1/4

Nothing is ever forgotten or corrected: what was written under similar keys interferes. z is held as one more column of
S, as if every value ended in a one.

Why: the simplest memory of fixed size, and the baseline of all that decay, erase or learn at test time.

Known limits: pairs interfere once there are about as many as key channels, and nothing makes room again.

Source: Katharopoulos et al. 2020, "Transformers are RNNs" (arXiv 2006.16236), equations 18 to 20 and 7 (phi).
Differs: relu and the identity in place of phi; the identity has no normaliser, whose sum could vanish; an optional
short convolution over q, k, v.
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
from mnemoscope.memories.parts import Scan, ShortConvolution, empty_state, require, state_bytes
from mnemoscope.ops.diagonal_decay import (
    Writes,
    diagonal_decay_flops,
    diagonal_decay_states,
    diagonal_decay_step,
    diagonal_decay_windowed,
)
from mnemoscope.ops.kernels import DIAGONAL
from mnemoscope.ops.precision import read_states

DENOMINATOR_EPSILON = 1e-6
"""Added to the normaliser: relu features of a query and all keys may be orthogonal."""


@dataclass(frozen=True, kw_only=True)
class LinearAttentionConfig:
    """Linear attention.

    Args:
        n_heads: heads, one state matrix each.
        head_width: channels K = V of a head; None for d_model / n_heads.
        feature_map: phi: "elu" (1 + elu), "relu" or "identity".
        normaliser: divide the read by z . phi(q); not with the identity.
        convolution: taps of the short convolution over q, k and v; 0 for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["linear_attention"] = "linear_attention"
    n_heads: int = 4
    head_width: int | None = None
    feature_map: Literal["elu", "relu", "identity"] = "elu"
    normaliser: bool = True
    convolution: int = 0

    def __post_init__(self) -> None:
        where = "linear_attention"
        require(self.n_heads >= 1, f"{where}.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.head_width is None or self.head_width >= 1,
            f"{where}.head_width",
            "at least 1, or None for d_model / n_heads",
            self.head_width,
            "use None",
        )
        require(
            self.feature_map in ("elu", "relu", "identity"),
            f"{where}.feature_map",
            "elu, relu or identity",
            self.feature_map,
            "use elu",
        )
        require(
            self.feature_map != "identity" or not self.normaliser,
            f"{where}.normaliser",
            "off where feature_map=identity, since z . q may vanish or be negative",
            self.normaliser,
            "set normaliser=False or use another feature map",
        )
        require(self.convolution >= 0, f"{where}.convolution", "0 taps or more", self.convolution, "use 0 for none")


class LinearAttentionState(NamedTuple):
    """One matrix per head (its last column is the normaliser's z), and the last inputs of the short convolution."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b tail d3"]


class LinearAttention(nn.Module):
    """Linear attention. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: LinearAttentionConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(
            config.head_width is not None or d_model % h == 0,
            "linear_attention: d_model",
            f"a multiple of n_heads={h} unless head_width is given",
            d_model,
            "change either, or give head_width",
        )
        self.config, self.d_model = config, d_model
        self.head_width = config.head_width or d_model // h
        width = h * self.head_width
        self.qkv = nn.Linear(d_model, 3 * width, bias=False)
        self.convolution = ShortConvolution(3 * width, config.convolution)
        self.out = nn.Linear(width, d_model, bias=False)
        self.scan = Scan(DIAGONAL, self.head_width)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> LinearAttentionState:
        """An empty memory."""
        w, h = self.head_width, self.config.n_heads
        empty = empty_state(self.out.weight, batch, h, w, w + self.config.normaliser)
        return LinearAttentionState(empty, self.convolution.init_tail(batch))

    def step(
        self, x: Float[Tensor, "b d"], state: LinearAttentionState
    ) -> tuple[Float[Tensor, "b d"], LinearAttentionState]:
        """Write, read: one token, in constant time and memory."""
        q, write, tail = self._inputs(x.unsqueeze(1), state.tail)
        s = diagonal_decay_step(state.s, write)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        found = read_states("bthk,bhkv->bthv", q, s)
        return self._contribute(found).squeeze(1), LinearAttentionState(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: LinearAttentionState | None = None
    ) -> tuple[Float[Tensor, "b t d"], LinearAttentionState]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        q, writes, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = self.state(diagonal_decay_states(writes, state.s))
            found, s = read_states("bthk,bthkv->bthv", q, states), states[:, -1].clone()
        else:
            found, s = self.scan(q, writes, state.s)
        return self._contribute(found), LinearAttentionState(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrix; the short convolution stays as it is."""
        q, writes, _ = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(diagonal_decay_windowed(q, writes, window))

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Float[Tensor, "b t h k"], Writes, Tensor]:
        mixed, tail = self.convolution(self.qkv(x), tail)
        q, k, v = rearrange(mixed, "b t (three h k) -> three b t h k", three=3, h=self.config.n_heads)
        if self.config.normaliser:
            v = F.pad(v, (0, 1), value=1.0)
        return self._features(q), Writes(self._features(k), v, torch.zeros_like(k[..., :1])), tail

    def _features(self, x: Float[Tensor, "b t h k"]) -> Float[Tensor, "b t h k"]:
        match self.config.feature_map:
            case "elu":
                return 1 + F.elu(x)
            case "relu":
                return F.relu(x)
            case "identity":
                return x * self.head_width**-0.25

    def _contribute(self, found: Float[Tensor, "b t h found"]) -> Float[Tensor, "b t d"]:
        if self.config.normaliser:
            found = found[..., :-1] / (found[..., -1:] + DENOMINATOR_EPSILON)
        return self.contribution(self.out(rearrange(self.read(found), "b t h v -> b t (h v)")))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the convolution's tail: the same for any number of tokens."""
        h, w = self.config.n_heads, self.head_width
        tail = 3 * max(self.config.convolution - 1, 0)
        carried = batch * h * w * (w + self.config.normaliser)
        return state_bytes(self.out.weight, carried=carried, shown=batch * h * w * tail)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form."""
        h, w = self.config.n_heads, self.head_width
        scan = diagonal_decay_flops(tokens, w, w + self.config.normaliser, per_channel=False)
        return batch * (8 * tokens * self.d_model * h * w + h * scan)
