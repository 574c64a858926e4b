"""Based: linear attention whose features are the second-order Taylor series of the exponential.

    S_t = S_{t-1} + phi(k_t) v_t^T     z_t = z_{t-1} + phi(k_t)     r_t = S_t^T phi(q_t) / (z_t . phi(q_t))
    y_t = W_o r_t                      phi(x) = [1, x / f^1/4, (x ⊗ x) / (2 f)^1/2]

so that phi(q) . phi(k) = 1 + s + s^2 / 2 with s = q . k / f^1/2, for queries and keys of a few channels f. It is never
below 1/2, so the normaliser never vanishes. z is held as one more column of S, as if every value ended in a one.

The source's model is a hybrid: such layers between layers of softmax attention over 64 tokens and short gated
convolutions. Here this is the memory alone; the window is a part of the layout, one after the other as in the source
(`based, attention(window=64)`) or side by side (`based | attention(window=64)`), where an examination can tell the two
apart. The short convolution is an option of the memory.

Why: sharper addressing than first-order features at a state that still does not grow with the sequence.

Known limits: the state is a product of features and values, and features grow with the square of the key width;
nothing is forgotten, so long sequences interfere.

Source: Arora et al. 2024, "Simple linear attention language models balance the recall-throughput tradeoff"
(arXiv 2402.18668), section 4.
Differs: the short convolution is that over q, k, v of other linear-attention layers, not a gated layer of its own.
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
from mnemoscope.ops.kernels import diagonal_in_chunks
from mnemoscope.ops.precision import read_states

CHUNK_TOKENS = 128
"""Longer than for plain keys: a state of 1 + f + f^2 features is dear, scores within a chunk are cheap beside it."""


@dataclass(frozen=True, kw_only=True)
class BasedConfig:
    """Linear attention with Taylor features.

    Args:
        n_heads: heads, one state matrix each.
        feature_width: channels f of queries and keys of a head; their features are 1 + f + f^2.
        convolution: taps of the short convolution over q, k and v; 0 for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["based"] = "based"
    n_heads: int = 4
    feature_width: int = 16
    convolution: int = 3

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "based.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(self.feature_width >= 1, "based.feature_width", "at least 1", self.feature_width, "use 16")
        require(self.convolution >= 0, "based.convolution", "0 taps or more", self.convolution, "use 0 for none")


class BasedState(NamedTuple):
    """One matrix per head (its last column is the normaliser's z), and the last inputs of the short convolution."""

    s: Float[Tensor, "b h k v"]
    tail: Float[Tensor, "b tail channels"]


class Based(nn.Module):
    """Linear attention with Taylor features. Read points: `read` (b t h v), `contribution`, `state` (b t h k v)."""

    role: Role = "memory"

    def __init__(self, config: BasedConfig, d_model: int) -> None:
        super().__init__()
        h, f = config.n_heads, config.feature_width
        require(d_model % h == 0, "based: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        self.config, self.d_model = config, d_model
        self.value_width, self.n_features = d_model // h, 1 + f + f * f
        self.widths = [h * f, h * f, d_model]
        self.qkv = nn.Linear(d_model, sum(self.widths), bias=False)
        self.convolution = ShortConvolution(sum(self.widths), config.convolution)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.scan = Scan(diagonal_in_chunks(CHUNK_TOKENS), self.n_features)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> BasedState:
        """An empty memory."""
        empty = empty_state(self.out.weight, batch, self.config.n_heads, self.n_features, self.value_width + 1)
        return BasedState(empty, self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: BasedState) -> tuple[Float[Tensor, "b d"], BasedState]:
        """Write, read: one token, in constant time and memory."""
        q, write, tail = self._inputs(x.unsqueeze(1), state.tail)
        s = diagonal_decay_step(state.s, write)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        found = read_states("bthk,bhkv->bthv", q, s)
        return self._contribute(found).squeeze(1), BasedState(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: BasedState | None = None
    ) -> tuple[Float[Tensor, "b t d"], BasedState]:
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
        return self._contribute(found), BasedState(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` writes in the matrix; the short convolution stays as it is."""
        q, writes, _ = self._inputs(x, self.convolution.init_tail(x.shape[0]))
        return self._contribute(diagonal_decay_windowed(q, writes, window, chunk_tokens=CHUNK_TOKENS))

    def _inputs(self, x: Float[Tensor, "b t d"], tail: Tensor) -> tuple[Float[Tensor, "b t h k"], Writes, Tensor]:
        mixed, tail = self.convolution(self.qkv(x), tail)
        q, k, v = (rearrange(y, "b t (h k) -> b t h k", h=self.config.n_heads) for y in mixed.split(self.widths, dim=2))
        k, v = taylor_features(k), F.pad(v, (0, 1), value=1.0)
        return taylor_features(q), Writes(k, v, torch.zeros_like(k[..., :1])), tail

    def _contribute(self, found: Float[Tensor, "b t h found"]) -> Float[Tensor, "b t d"]:
        read = self.read(found[..., :-1] / found[..., -1:])
        return self.contribution(self.out(rearrange(read, "b t h v -> b t (h v)")))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices and the convolution's tail: the same for any number of tokens."""
        matrices = self.config.n_heads * self.n_features * (self.value_width + 1)
        tail = max(self.config.convolution - 1, 0) * sum(self.widths)
        return state_bytes(self.out.weight, carried=batch * matrices, shown=batch * tail)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form."""
        scan = diagonal_decay_flops(
            tokens, self.n_features, self.value_width + 1, per_channel=False, chunk_tokens=CHUNK_TOKENS
        )
        projections = 2 * tokens * self.d_model * (sum(self.widths) + self.d_model)
        return batch * (projections + self.config.n_heads * scan)


def taylor_features(x: Float[Tensor, "b t h f"]) -> Float[Tensor, "b t h k"]:
    """[1, x, x ⊗ x / sqrt(2)] of x / f^1/4."""
    x = x * x.shape[-1] ** -0.25
    square = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2) * 0.5**0.5
    return torch.cat([torch.ones_like(x[..., :1]), x, square], dim=-1)
