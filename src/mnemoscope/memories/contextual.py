"""Contextual memory of Memory Mosaics: pairs of this sequence, read by kernel smoothing before they are stored.

    q_T = k_T = s n(kbar_T)          kbar_T = phi(x_T, x_{T-1}, ...), one extractor for queries and keys
    v_i = u n(c p_i + (1 - c) p_{i+1})          p_t = W_v x_t          n(x) = x / |x|
    r_T = sum_{i < T} w(q_T, k_i) v_i           y_T = W_z r_T

with w the normalised kernel: exp(q . k) for softmax (equal to the Gaussian on keys of one length), exp(-|q - k|^2 / 2)
for the Gaussian on keys as they are. Per head: s = exp(min(10 key_scale, cap)), u = exp(10 value_scale), c = mix, and
the leak of the extractor. The value of a token looks one token ahead, so the pair of T enters when T + 1 is known, and
what is read at T is stored before T. The first token reads zeros, or, with `start="learned"`, a null value: a pair with
the key zero that stands in memory before the first token and stays there.

Why: keys that look back and values that look ahead bind neighbours within one layer, where a transformer needs two.

Known limits: every pair of the sequence is kept, so its state grows like that of attention; keys and queries share
one extractor.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), equations 2 to 8 and figure 8; scalars and starts as in
its code.
Differs: lengths are guarded (`of_length`), where the code divides by zero; extractors beside the leaky average,
kernels beside softmax and the null value are not in the paper.
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
from mnemoscope.memories.key_extractors import (
    GAIN,
    ConvolvedKeys,
    KeyExtractor,
    KeyKind,
    LeakyKeys,
    LegendreKeys,
    by_head,
    projection,
    require_retentions,
)
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.ops.smoothing_read import ReadKernel, of_length, read_weights, smoothing_read


@dataclass(frozen=True, kw_only=True)
class ContextualConfig:
    """Contextual memory.

    Args:
        n_heads: heads; must divide the model width.
        keys: the extractor of queries and keys.
        taps: tokens that "convolution" keys see, the present one included, where None is 4; 0 for the plain projection.
        order: coefficients a channel of "legendre" keys, where None is 4.
        horizon: tokens that "legendre" keys summarise, where None is 32.
        kernel: form of the weights.
        retentions: of "leaky" keys, what each head keeps from token to token; None learns it.
        top_k: how many pairs the kernel "top_k" reads.
        normalise_keys: draw keys to one length; off for the Gaussian, which is softmax on such keys.
        normalise_values: draw values to one length.
        inverse_temperature: beta of the logits; None learns it per head.
        peek: "mixed" learns how much of a value is that of the next token, "next" takes the next token's alone.
        start: the first token reads "zeros", or a "learned" null value that later reads weigh as well.
        scale_cap: largest log of the learned length of keys.
        bias: give every projection a bias.
        dropout: share of the weights that `forward` drops in training.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["contextual"] = "contextual"
    n_heads: int = 4
    keys: KeyKind = "leaky"
    taps: int | None = None
    order: int | None = None
    horizon: int | None = None
    retentions: tuple[float, ...] | None = None
    kernel: ReadKernel = "softmax"
    top_k: int | None = None
    normalise_keys: bool = True
    normalise_values: bool = True
    inverse_temperature: float | None = None
    peek: Literal["mixed", "next"] = "mixed"
    start: Literal["zeros", "learned"] = "zeros"
    scale_cap: float = 5.0
    bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        where, beta = "contextual", self.inverse_temperature
        require(self.n_heads >= 1, f"{where}.n_heads", "at least 1", self.n_heads, "use 1 or more")
        for name, kind, least in (("taps", "convolution", 0), ("order", "legendre", 1), ("horizon", "legendre", 1)):
            value = getattr(self, name)
            allowed = value is None or (self.keys == kind and value >= least)
            required = f"None, or at least {least} with keys='{kind}'"
            require(allowed, f"{where}.{name}", required, value, "use None")
        require_retentions(where, self.retentions, self.n_heads)
        leaky = self.keys == "leaky" or self.retentions is None
        require(leaky, f"{where}.retentions", "None, or with keys='leaky'", self.retentions, "use None")
        require(
            (self.top_k is not None and self.top_k >= 1) if self.kernel == "top_k" else self.top_k is None,
            f"{where}.top_k",
            "at least 1 with kernel='top_k', None with any other",
            self.top_k,
            "change either",
        )
        require(
            self.kernel != "gaussian" or not self.normalise_keys,
            f"{where}.normalise_keys",
            "off with kernel='gaussian', since on keys of one length it is softmax",
            self.normalise_keys,
            "set normalise_keys=False or kernel='softmax'",
        )
        require(
            beta is None or 0 < beta < math.inf,
            f"{where}.inverse_temperature",
            "positive and finite, or None to learn it",
            beta,
            "use None",
        )
        require(0 < self.scale_cap < 44, f"{where}.scale_cap", "in (0, 44), for float32", self.scale_cap, "use 5")
        require(0 <= self.dropout < 1, f"{where}.dropout", "in [0, 1)", self.dropout, "use 0 for none")


class ContextualState(NamedTuple):
    """The pairs in memory; the key of the last token, whose value is not known yet, stands at the end of `k`."""

    carry: Float[Tensor, "b ..."]
    projected: Float[Tensor, "b h last v"]
    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s1 v"]


class Smoothing(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record."""

    def __init__(self, config: ContextualConfig) -> None:
        super().__init__()
        self.kernel: ReadKernel = config.kernel
        self.top_k, self.dropout = config.top_k, config.dropout

    def forward(
        self, q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h s k"], v: Float[Tensor, "b h s v"]
    ) -> Float[Tensor, "b h t v"]:
        """Fused form where there is one."""
        return smoothing_read(q, k, v, self.kernel, self.top_k, self.dropout if self.training else 0.0)

    def weights(self, q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h s k"]) -> Float[Tensor, "b h t s"]:
        """What each query reads."""
        return read_weights(q, k, self.kernel, self.top_k)


class Contextual(nn.Module):
    """Contextual memory. Read points: `addressing` (b h t s) over the pairs, `read` (b t h v), `contribution` (b t d).

    With `start="learned"` the null pair is the first of the pairs.
    """

    role: Role = "memory"

    def __init__(self, config: ContextualConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "contextual: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        self.config, self.d_model = config, d_model
        self.keys = _build_keys(config, d_model)
        self.value = projection(d_model, d_model, config.bias)
        if config.peek == "mixed":
            self.mix = nn.Parameter(torch.rand(h))
        if config.inverse_temperature is None:
            # Keys as they are have a squared length of about the width; the inverse temperature makes up for it.
            start = 1.0 if config.normalise_keys else 1.0 - math.log(d_model // h) / 2
            self.key_scale = nn.Parameter(torch.full((h,), start / GAIN))
        if config.normalise_values:
            self.value_scale = nn.Parameter(torch.full((h,), -0.5 / GAIN))
        if config.start == "learned":
            self.null = nn.Parameter(torch.zeros(h, d_model // h))
        self.out = projection(d_model, d_model, config.bias)
        self.smoothing = Smoothing(config)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> ContextualState:
        """Nothing seen."""
        empty = self.out.weight.new_zeros(batch, self.config.n_heads, 0, self.d_model // self.config.n_heads)
        return ContextualState(self.keys.init_carry(batch), empty, empty.clone(), empty.clone())

    def step(self, x: Float[Tensor, "b d"], state: ContextualState) -> tuple[Float[Tensor, "b d"], ContextualState]:
        """Complete the pair of the token before, read all pairs, keep the present key for later: O(s d)."""
        k, carry = self.keys.step(x, state.carry)
        q = self._lengthened(k).unsqueeze(2)
        projected = by_head(self.value(x), self.config.n_heads).unsqueeze(2)
        v = torch.cat([state.v, self._values(torch.cat([state.projected, projected], dim=2))], dim=2)
        past_k, past_v = self._with_null(state.k, v)
        read = self.addressing(self.smoothing.weights(q, past_k)) @ past_v
        state = ContextualState(carry, projected, torch.cat([state.k, q], dim=2), v)
        return self._contribute(read).squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: ContextualState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ContextualState]:
        """All tokens at once; with a fused kernel the weights are formed only if `addressing` is observed."""
        state = state or self.init_state(x.shape[0])
        k, carry = self.keys(x, state.carry)
        q = rearrange(self._lengthened(k), "b t h k -> b h t k")
        projected = rearrange(by_head(self.value(x), self.config.n_heads), "b t h v -> b h t v")
        v = torch.cat([state.v, self._values(torch.cat([state.projected, projected], dim=2))], dim=2)
        k = torch.cat([state.k, q], dim=2)
        past_k, past_v = self._with_null(k[:, :, :-1], v)
        if self.addressing.observed:
            weights = self.addressing(self.smoothing.weights(q, past_k))
            read = F.dropout(weights, self.config.dropout, self.training) @ past_v
        else:
            read = self.smoothing(q, past_k, past_v)
        return self._contribute(read), ContextualState(
            carry, projected[:, :, -1:].clone(memory_format=torch.contiguous_format), k, v
        )

    def _lengthened(self, k: Float[Tensor, "*b h k"]) -> Float[Tensor, "*b h k"]:
        """Queries and keys at the length that makes their products logits."""
        if self.config.inverse_temperature is None:
            length = (GAIN * self.key_scale).clamp(max=self.config.scale_cap).exp()
        else:
            length = k.new_full((self.config.n_heads,), self.config.inverse_temperature**0.5)
        return of_length(k, length) if self.config.normalise_keys else k * length.unsqueeze(-1)

    def _values(self, projected: Float[Tensor, "b h t v"]) -> Float[Tensor, "b h t1 v"]:
        """The values of all tokens but the last, each from its own and the next projection."""
        v = projected[:, :, 1:]
        if self.config.peek == "mixed":
            v = torch.lerp(v, projected[:, :, :-1], self.mix[:, None, None].to(v.dtype))
        if not self.config.normalise_values:
            return v
        scale = (GAIN * self.value_scale).exp()
        return of_length(v.transpose(1, 2), scale).transpose(1, 2)

    def _with_null(
        self, k: Float[Tensor, "b h s k"], v: Float[Tensor, "b h s v"]
    ) -> tuple[Float[Tensor, "b h s1 k"], Float[Tensor, "b h s1 v"]]:
        """The pairs that are read: those of the sequence, behind the null pair if there is one."""
        if self.config.start == "zeros":
            return k, v
        null = self.null.unsqueeze(1).expand(v.shape[0], -1, -1, -1)
        return torch.cat([torch.zeros_like(null), k], dim=2), torch.cat([null, v], dim=2)

    def _contribute(self, read: Float[Tensor, "b h t v"]) -> Float[Tensor, "b t d"]:
        read = self.read(rearrange(read, "b h t v -> b t h v"))
        return self.contribution(self.out(read.flatten(2)))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """What the extractor carries, the last projected value, and the pairs: 2 d_model numbers a token."""
        kept = tokens + max(tokens - 1, 0) + min(tokens, 1)
        return tensor_bytes(batch * (self.keys.carried() + self.d_model * kept), self.out.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """Keys, values, weights, reads and the output projection of `forward` from an empty state."""
        d, null = self.d_model, self.config.start == "learned"
        width = d + self.config.n_heads * (self.config.kernel == "gaussian")
        n_read = tokens - 1 + null
        n_queries = n_read if self.config.kernel in ("softmax", "gaussian") else tokens
        return self.keys.flops(batch, tokens) + batch * (4 * tokens * d * d + 4 * n_queries * n_read * width)


def _build_keys(config: ContextualConfig, d_model: int) -> KeyExtractor:
    match config.keys:
        case "leaky":
            return LeakyKeys(d_model, config.n_heads, config.bias, config.retentions)
        case "convolution":
            return ConvolvedKeys(d_model, config.n_heads, 4 if config.taps is None else config.taps, config.bias)
        case "legendre":
            return LegendreKeys(d_model, config.n_heads, config.order or 4, config.horizon or 32, config.bias)
