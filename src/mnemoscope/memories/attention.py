"""Softmax attention, over everything so far or over a sliding window.

    r_t = sum_{s in W(t)} softmax_s(q_t . k_s / sqrt(K)) v_s          y_t = W_o r_t

W(t) is all of 1..t, or the last `window` tokens, the present one included. As a memory it stores every token it may
still look at; in a hybrid it is what can replace a recurrent memory, so its role is that of a route.

Why: the route around a memory, and the baseline: it forgets nothing within its window.

Known limits: keys and values grow with the tokens in view; without a short convolution one layer cannot bind a token
to the one before it.

Source: Vaswani et al. 2017 (arXiv 1706.03762), equation 1; rotary positions, Su et al. 2021 (arXiv 2104.09864); ALiBi,
Press, Smith, Lewis 2022 (arXiv 2108.12409); windows drawn anew for each training batch, Cabannes et al. 2025, "Short
window attention enables long-term memorization" (arXiv 2509.24552).
Differs: an optional short convolution over q, k, v, as linear-attention blocks have it, lets one layer bind a token to
the one before it. ALiBi's slopes are one geometric sequence for any number of heads. A drawn window is a power of two
times the smallest.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import RmsNorm, ShortConvolution, require, tensor_bytes
from mnemoscope.ops.attention import Past, alibi_slopes, attend, attention_weights, visible_positions
from mnemoscope.ops.rotary import rotate


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Softmax attention.

    Args:
        n_heads: heads; must divide the model width.
        window: tokens each position may look at, itself included; None for all.
        smallest_window: in training each call draws its window from this, twice this, and so on up to `window` (the
            stochastic window); None always uses `window`. Out of training it is always `window`.
        positions: "rotary" rotates queries and keys by position, "alibi" subtracts a multiple of a token's age from
            its score, "none" leaves order to the mask, to a convolution, or to learned positions of the stack.
        convolution: taps of the short convolution over q, k and v; 0 for none.
        normalise_qk: RMS-normalise queries and keys per head.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["attention"] = "attention"
    n_heads: int = 4
    window: int | None = None
    smallest_window: int | None = None
    positions: Literal["rotary", "alibi", "none"] = "rotary"
    convolution: int = 0
    normalise_qk: bool = False

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, "attention.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.window is None or self.window >= 1,
            "attention.window",
            "at least 1 token, or None for all",
            self.window,
            "use 1 to look at the present token alone",
        )
        require(
            self.smallest_window is None or (self.window is not None and 1 <= self.smallest_window <= self.window),
            "attention.smallest_window",
            f"from 1 to window={self.window}, and None without a window",
            self.smallest_window,
            "give a window of the longest length, or use None",
        )
        require(
            self.convolution >= 0,
            "attention.convolution",
            "0 taps or more",
            self.convolution,
            "use 0 for none",
        )


class AttentionState(NamedTuple):
    """Keys and values that may still be looked at (a window always holds `window`, the oldest perhaps empty)."""

    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s v"]
    n_tokens: Int[Tensor, ""]
    tail: Float[Tensor, "b tail d3"]


class Attention(nn.Module):
    """Softmax attention as a memory of width `d_model`. Read points: `read`, `contribution`, `addressing`."""

    role: Role = "route"

    def __init__(self, config: AttentionConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "attention: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        require(
            config.positions != "rotary" or (d_model // h) % 2 == 0,
            "attention: channels a head",
            "even for rotary positions",
            d_model // h,
            "change n_heads or positions",
        )
        self.config, self.d_model = config, d_model
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.convolution = ShortConvolution(3 * d_model, config.convolution)
        self.q_norm, self.k_norm = (RmsNorm(d_model // h) if config.normalise_qk else nn.Identity() for _ in range(2))
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> AttentionState:
        """Nothing seen."""
        h = self.config.n_heads
        empty = self.out.weight.new_zeros(batch, h, self.config.window or 0, self.d_model // h)
        n_tokens = torch.zeros((), dtype=torch.int64, device=empty.device)
        return AttentionState(empty, torch.zeros_like(empty), n_tokens, self.convolution.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: AttentionState) -> tuple[Float[Tensor, "b d"], AttentionState]:
        """One token: look at what is kept, keep the present token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: AttentionState | None = None, window: int | None = None
    ) -> tuple[Float[Tensor, "b t d"], AttentionState]:
        """All tokens at once with fused attention; the weights are formed only if `addressing` is observed.

        Args:
            x: inputs.
            state: what was seen before; None for nothing.
            window: a narrower window for this call alone; None for that of the config.
        """
        own = self._drawn_window() if self.training else self.config.window
        return self._attend(x, state, own if window is None else min(window, own or window))

    @property
    def reach(self) -> int | None:
        """The window."""
        return self.config.window

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with attention to the last `window` tokens only."""
        return self._attend(x, None, min(window, self.config.window or window))[0]

    def _drawn_window(self) -> int | None:
        """The window of one training call: from torch's global generator, as dropout draws."""
        smallest, window = self.config.smallest_window, self.config.window
        if smallest is None or window is None:
            return window
        doublings = int(torch.randint((window // smallest).bit_length(), ()))
        return smallest << doublings

    def _attend(
        self, x: Float[Tensor, "b t d"], state: AttentionState | None, window: int | None
    ) -> tuple[Float[Tensor, "b t d"], AttentionState]:
        n_tokens, fresh = x.shape[1], state is None
        state = state or self.init_state(x.shape[0])
        mixed, tail = self.convolution(self.qkv(x), state.tail)
        q, k, v = rearrange(mixed, "b t (three h k) -> three b h t k", three=3, h=self.config.n_heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.config.positions == "rotary":
            q, k = rotate(q, state.n_tokens), rotate(k, state.n_tokens)
        slopes = alibi_slopes(self.config.n_heads, q) if self.config.positions == "alibi" else None
        past = Past(state.k, state.v, state.n_tokens)
        if window is not None and window < state.k.shape[2]:
            # The newest of the kept tokens are all that a shorter window can reach.
            past = Past(state.k[:, :, -window:], state.v[:, :, -window:], state.n_tokens)
        if fresh and (window is None or window >= n_tokens or self.addressing.observed):
            past = Past(state.k[:, :, :0], state.v[:, :, :0], state.n_tokens)
        if self.addressing.observed:
            visible = visible_positions(n_tokens, past, window)
            weights = self.addressing(attention_weights(q, torch.cat([past.k, k], dim=2), visible, slopes))
            read = weights @ torch.cat([past.v, v], dim=2)
        else:
            read = attend(q, k, v, past, window, slopes)
        read = self.read(rearrange(read, "b h t v -> b t (h v)"))
        return self.contribution(self.out(read)), self._remember(state, k, v, tail)

    def _remember(
        self, state: AttentionState, k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t v"], tail: Tensor
    ) -> AttentionState:
        n_old, n_new = state.k.shape[2], k.shape[2]
        keep = self.config.window or n_old + n_new
        # Cut before joining: a view of the joined tensor would keep every token alive, not the window alone.
        old, new = slice(max(n_old + n_new - keep, 0), None), slice(-keep, None)
        k = torch.cat([state.k[:, :, old], k[:, :, new]], dim=2)
        v = torch.cat([state.v[:, :, old], v[:, :, new]], dim=2)
        return AttentionState(k, v, state.n_tokens + n_new, tail)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Keys and values of the window (or of all tokens), the convolution's tail, and the token count."""
        kept = tokens if self.config.window is None else self.config.window
        tail = max(self.config.convolution - 1, 0) * 3
        return tensor_bytes(batch * self.d_model * (2 * kept + tail), self.out.weight) + 8

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, scores and reads of `forward` from an empty state."""
        window = self.config.window
        if window is None or window >= tokens:
            pairs = tokens * tokens
        else:
            pairs = -(-tokens // window) * window * 2 * window
        return batch * (2 * tokens * self.d_model * 4 * self.d_model + 4 * pairs * self.d_model)
