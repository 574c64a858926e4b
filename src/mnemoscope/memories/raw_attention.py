"""What causal attention reads, before any output projection: the input of memories that compress it further."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.ops.attention import Past, attend, attention_weights, visible_positions
from mnemoscope.ops.rotary import rotate


class RawAttentionState(NamedTuple):
    """Keys and values that may still be looked at (a window always holds `window`, the oldest perhaps empty)."""

    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s v"]
    n_tokens: Int[Tensor, ""]


class RawAttention(nn.Module):
    """Softmax attention over all tokens so far or the last `window`; heads side by side, nothing after them."""

    def __init__(self, where: str, d_model: int, n_heads: int, window: int | None, rotary: bool) -> None:
        super().__init__()
        require(
            d_model % n_heads == 0, f"{where}: d_model", f"a multiple of n_heads={n_heads}", d_model, "change either"
        )
        require(
            not rotary or (d_model // n_heads) % 2 == 0,
            f"{where}: channels a head",
            "even for rotary positions",
            d_model // n_heads,
            "change n_heads or set rotary=False",
        )
        self.d_model, self.n_heads, self.window, self.rotary = d_model, n_heads, window, rotary
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)

    def init_state(self, batch: int) -> RawAttentionState:
        """Nothing seen."""
        empty = self.qkv.weight.new_zeros(batch, self.n_heads, self.window or 0, self.d_model // self.n_heads)
        return RawAttentionState(
            empty, torch.zeros_like(empty), torch.zeros((), dtype=torch.int64, device=empty.device)
        )

    def forward(
        self, x: Float[Tensor, "b t d"], state: RawAttentionState | None, addressing: ReadPoint
    ) -> tuple[Float[Tensor, "b t d"], RawAttentionState]:
        """Fused; the weights are formed only if `addressing` is observed."""
        n_tokens, fresh = x.shape[1], state is None
        state = state or self.init_state(x.shape[0])
        q, k, v = rearrange(self.qkv(x), "b t (three h k) -> three b h t k", three=3, h=self.n_heads)
        if self.rotary:
            q, k = rotate(q, state.n_tokens), rotate(k, state.n_tokens)
        past = Past(state.k, state.v, state.n_tokens)
        if fresh and (self.window is None or self.window >= n_tokens or addressing.observed):
            past = Past(state.k[:, :, :0], state.v[:, :, :0], state.n_tokens)
        if addressing.observed:
            visible = visible_positions(n_tokens, past, self.window)
            weights = addressing(attention_weights(q, torch.cat([past.k, k], dim=2), visible))
            read = weights @ torch.cat([past.v, v], dim=2)
        else:
            read = attend(q, k, v, past, self.window)
        return rearrange(read, "b h t v -> b t (h v)"), self._remember(state, k, v)

    def _remember(
        self, state: RawAttentionState, k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t v"]
    ) -> RawAttentionState:
        n_old, n_new = state.k.shape[2], k.shape[2]
        keep = self.window or n_old + n_new
        # Cut before joining: a view of the joined tensor would keep every token alive, not the window alone.
        old, new = slice(max(n_old + n_new - keep, 0), None), slice(-keep, None)
        k = torch.cat([state.k[:, :, old], k[:, :, new]], dim=2)
        v = torch.cat([state.v[:, :, old], v[:, :, new]], dim=2)
        return RawAttentionState(k, v, state.n_tokens + n_new)

    def state_bytes(self, batch: int, tokens: int) -> int:
        """Keys and values of the window (or of all tokens), and the token count."""
        kept = tokens if self.window is None else self.window
        return tensor_bytes(2 * batch * self.d_model * kept, self.qkv.weight) + 8

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, scores and reads from an empty state."""
        if self.window is None or self.window >= tokens:
            pairs = tokens * tokens
        else:
            pairs = -(-tokens // self.window) * self.window * 2 * self.window
        return batch * (6 * tokens * self.d_model**2 + 4 * pairs * self.d_model)


def require_attention(where: str, n_heads: int, window: int | None) -> None:
    """Refuse heads and windows that no attention has."""
    require(n_heads >= 1, f"{where}.n_heads", "at least 1", n_heads, "use 1 or more")
    required = "at least 1 token, or None for all"
    require(
        window is None or window >= 1, f"{where}.window", required, window, "use 1 to look at the present token alone"
    )
