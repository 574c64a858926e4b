"""Memory Mosaics v2: smoothing over the recent pairs and, with parameters of its own, over the older ones.

Each level, head by head; what both may read overlaps on purpose:

    kbar_T = g_T W_k x_T + l_T kbar_{T-1}             g_T = exp(min(W_g x_T, 15))     l_T = exp(-|W_l x_T|)
    k_T = kbar_T / |kbar_T|                           vbar_T = c W_v x_T + (1 - c) W_v x_{T+1}
    v_T = s vbar_T / |vbar_T|                         s = exp(min(|theta|, 15))
    r_T = sum_{i in M(T)} softmax_i(beta(n) k_T . k_i) v_i,   n = |M(T)|,   0 where M(T) is empty
    beta(n) = b_1 n^a + b_0     b_0, b_1 = exp(min(., 10))     a = min(|.|, 1)
    y_T = W_o [r_T of the short level; r_T of the long level]

The short level reads M(T) = T - h..T-1, the long one 1..T - m, with m drawn anew for every batch in training. A pair
enters when the next token is known, so nothing of the future is read. The persistent level of the source is the
feed-forward part of the block, and no part of this memory.

Why: recent and old pairs are read with parameters of their own, and smoothing narrows as pairs become many.

Known limits: both levels keep their pairs, so memory grows with the sequence.

Source: Zhang, Bottou 2025, "Memory Mosaics at scale" (arXiv 2507.03285); equations 4 to 8 of Zhang et al. 2024
(arXiv 2405.06394).
Differs: W_o is cut in two, one part a level, which is the same map and makes each level a memory that can be judged
and removed; at theta = 0, where it starts, |theta| has slope 1 instead of 0, which would never let it go; gates are
scalars, one per head (the source does not say); the source's g has no bound, and lengths are guarded (`of_length`).
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.ops.attention import Past, attend
from mnemoscope.ops.leaky import leaky_average_flops, leaky_average_gated
from mnemoscope.ops.smoothing import smoothing_weights
from mnemoscope.ops.smoothing_read import of_length

LARGEST_LOG_BANDWIDTH = 10.0
LARGEST_LOG_SCALE = 15.0
LARGEST_LOG_GATE = 15.0


@dataclass(frozen=True, kw_only=True)
class MosaicV2Config:
    """Memory Mosaics v2.

    Args:
        n_heads: heads of either level; must divide the model width.
        levels: which levels there are.
        short_window: pairs that the short level reads, h.
        long_delay: how many tokens back the newest pair is that the long level reads, m; 1 for all pairs.
        longest_delay: in training `forward` draws m from long_delay to this, once per call, from torch's generator;
            None to draw nothing. `step` and evaluation use `long_delay`.
        block_index: blocks before this one; weights start as normal draws of deviation (2 d (block_index + 1))^-1/2,
            clipped at three deviations.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["mosaic_v2"] = "mosaic_v2"
    n_heads: int = 4
    levels: Literal["both", "short", "long"] = "both"
    short_window: int = 256
    long_delay: int = 64
    longest_delay: int | None = 256
    block_index: int = 0

    def __post_init__(self) -> None:
        where = "mosaic_v2"
        require(self.n_heads >= 1, f"{where}.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(self.short_window >= 1, f"{where}.short_window", "at least 1 pair", self.short_window, "use 1 or more")
        require(
            self.long_delay >= 1,
            f"{where}.long_delay",
            "at least 1, since the pair of a token is written after it",
            self.long_delay,
            "use 1 to read all pairs",
        )
        require(
            self.longest_delay is None or self.longest_delay >= self.long_delay,
            f"{where}.longest_delay",
            f"at least long_delay={self.long_delay}, or None to draw nothing",
            self.longest_delay,
            "use None",
        )
        require(self.block_index >= 0, f"{where}.block_index", "0 or more", self.block_index, "use 0 for the first")


class LevelState(NamedTuple):
    """The leaky average, the pairs that are or will be readable, and the last token's value, which waits for a peek."""

    average: Float[Tensor, "b h k"]
    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s k"]
    pending: Float[Tensor, "b h p k"]


class AbsentState(NamedTuple):
    """Of a level that is not there."""


class MosaicV2State(NamedTuple):
    """The states of both levels."""

    short: LevelState | AbsentState
    long: LevelState | AbsentState


class Pairs(NamedTuple):
    """Pairs from before these tokens, pairs written during them, and the queries that follow each of the latter."""

    old_k: Float[Tensor, "b h s k"]
    old_v: Float[Tensor, "b h s k"]
    k: Float[Tensor, "b h t k"]
    v: Float[Tensor, "b h t k"]
    q: Float[Tensor, "b h t k"]


class Retrieve(nn.Module):
    """The reads of all queries; a module of its own, so that a replay can answer it from the record."""

    def __init__(self, window: int | None, delay: int) -> None:
        super().__init__()
        self.window, self.delay = window, delay

    def forward(self, pairs: Pairs, extra: Int[Tensor, ""] | None) -> Float[Tensor, "b h t k"]:
        """Fused attention; queries come with their inverse temperature."""
        old_k, old_v, k, v, q = pairs
        n_old, n_new, width = old_k.shape[2], k.shape[2], k.shape[3]
        if n_new == 0:
            return q
        if self.window is None:
            return self._delayed(pairs, extra)
        if n_new > self.window:
            # Attention in blocks takes the past as a block of its own.
            missing = (0, 0, self.window - n_old, 0)
            old_k, old_v = F.pad(old_k, missing), F.pad(old_v, missing)
        past = Past(old_k, old_v, torch.full((), n_old, device=q.device))
        # Attention divides by the root of the width; here the inverse temperature is all there is.
        return attend(q * math.sqrt(width), k, v, past, self.window)

    def _delayed(self, pairs: Pairs, extra: Int[Tensor, ""] | None) -> Float[Tensor, "b h t k"]:
        """Query i sees all but the newest `delay - 1` of the pairs before it: causal after a shift."""
        n_old, n_new, lag = pairs.old_k.shape[2], pairs.k.shape[2], self.delay - 1
        n_blind, n_keys = min(max(lag - n_old, 0), n_new), n_old + n_new - lag
        q = pairs.q[:, :, n_blind:]
        if n_keys <= 0:
            return F.pad(q, (0, 0, n_blind, 0))
        k = torch.cat([pairs.old_k, pairs.k], dim=2)[:, :, :n_keys]
        v = torch.cat([pairs.old_v, pairs.v], dim=2)[:, :, :n_keys]
        if extra is not None:
            n_seen = torch.arange(1 + n_keys - q.shape[2], 1 + n_keys, device=q.device).unsqueeze(1) - extra
            # A row that sees nothing looks at the first pair, so that the softmax is one, and is emptied afterwards.
            mask = torch.arange(n_keys, device=q.device) < n_seen.clamp(min=1)
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0) * (n_seen > 0)
        elif n_keys == q.shape[2]:
            read = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        else:
            first = torch.ones(q.shape[2], n_keys, dtype=torch.bool, device=q.device)
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=first.tril(n_keys - q.shape[2]), scale=1.0)
        return F.pad(read, (0, 0, n_blind, 0))


class Level(nn.Module):
    """One level, a memory in itself. Read points: `read` (b t h k), `contribution` (b t d), `addressing` (b h t s).

    The columns of `addressing` are the pairs in memory, oldest first, and last one of zeros: the present token, whose
    pair is not yet there.

    Args:
        config: of the memory.
        d_model: width of the model.
        window: pairs that are read, the newest of all; None for all.
        delay: how many tokens back the newest pair is that is read.
    """

    role: Role = "memory"

    def __init__(self, config: MosaicV2Config, d_model: int, window: int | None, delay: int) -> None:
        super().__init__()
        h = config.n_heads
        self.d_model, self.n_heads, self.window, self.delay = d_model, h, window, delay
        self.longest_delay = config.longest_delay if window is None else None
        self.key, self.value, self.out = (nn.Linear(d_model, d_model, bias=False) for _ in range(3))
        self.gates = nn.Linear(d_model, 2 * h, bias=False)
        deviation = (2 * d_model * (config.block_index + 1)) ** -0.5
        for linear in (self.key, self.value, self.gates, self.out):
            nn.init.trunc_normal_(linear.weight, std=deviation, a=-3 * deviation, b=3 * deviation)
        self.present_share = nn.Parameter(torch.rand(h))
        self.log_scale = nn.Parameter(torch.zeros(h))
        self.log_floor = nn.Parameter(torch.full((h,), 1.5))
        self.log_slope = nn.Parameter(torch.full((h,), 1.5))
        self.exponent = nn.Parameter(torch.full((h,), 1 / 3))
        self.retrieve = Retrieve(window, delay)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> LevelState:
        """Nothing seen."""
        width = self.d_model // self.n_heads
        empty = self.out.weight.new_zeros(batch, self.n_heads, 0, width)
        return LevelState(empty.new_zeros(batch, self.n_heads, width), empty, empty.clone(), empty.clone())

    def step(self, x: Float[Tensor, "b d"], state: LevelState) -> tuple[Float[Tensor, "b d"], LevelState]:
        """Write the pair of the token before, whose value may now peek at this one; then read."""
        y, state = self._run(x.unsqueeze(1), state, None)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: LevelState | None = None
    ) -> tuple[Float[Tensor, "b t d"], LevelState]:
        """All tokens at once with fused attention; the weights are formed only if `addressing` is observed."""
        extra = None
        if self.training and self.longest_delay is not None:
            extra = torch.randint(self.longest_delay - self.delay + 1, (), device=x.device)
        return self._run(x, state or self.init_state(x.shape[0]), extra)

    def _run(
        self, x: Float[Tensor, "b t d"], state: LevelState, extra: Int[Tensor, ""] | None
    ) -> tuple[Float[Tensor, "b t d"], LevelState]:
        pairs, state = self._write(x, state)
        # The very first token has no pair before it, and reads nothing.
        n_without = x.shape[1] - pairs.q.shape[2]
        q = pairs.q * self.inverse_temperature(self._n_readable(pairs, extra)).unsqueeze(-1)
        pairs = pairs._replace(q=q.to(x.dtype))
        if self.addressing.observed:
            weights = self.addressing(F.pad(self._weights(pairs, extra), (0, 1, n_without, 0)))
            read = weights[..., :-1] @ torch.cat([pairs.old_v, pairs.v], dim=2)
        else:
            read = F.pad(self.retrieve(pairs, extra), (0, 0, n_without, 0))
        read = self.read(rearrange(read, "b h t k -> b t h k"))
        return self.contribution(self.out(rearrange(read, "b t h k -> b t (h k)"))), state

    def _write(self, x: Float[Tensor, "b t d"], state: LevelState) -> tuple[Pairs, LevelState]:
        log_strength, decay = self.gates(x).chunk(2, dim=-1)
        k, v = (rearrange(project(x), "b t (h k) -> b t h k", h=self.n_heads) for project in (self.key, self.value))
        strength = log_strength.clamp(max=LARGEST_LOG_GATE).exp().unsqueeze(-1)
        k, average = leaky_average_gated(strength * k, -decay.abs(), state.average)
        k, v = of_length(rearrange(k, "b t h k -> b h t k")), rearrange(v, "b t h k -> b h t k")

        n_pending = state.pending.shape[2]
        last_k = of_length(state.average).unsqueeze(2)[:, :, :n_pending]
        seen = torch.cat([state.pending, v], dim=2)
        share, scale = self.present_share[:, None, None], self._scale()[:, None, None]
        new_v = scale * of_length(share * seen[:, :, :-1] + (1 - share) * seen[:, :, 1:])
        new_k = torch.cat([last_k, k[:, :, :-1]], dim=2)
        pairs = Pairs(state.k, state.v, new_k, new_v, k[:, :, 1 - n_pending :])
        average = average.to(state.average.dtype)
        return pairs, LevelState(average, *self._remember(pairs), v[:, :, -1:].clone())

    def _remember(self, pairs: Pairs) -> tuple[Float[Tensor, "b h s k"], Float[Tensor, "b h s k"]]:
        n_old, n_new = pairs.old_k.shape[2], pairs.k.shape[2]
        keep = min(n_old + n_new, self.window or n_old + n_new)
        # Cut before joining: a view of the joined tensor would keep every pair alive, not the window alone.
        old, new = slice(n_old + n_new - keep, None), slice(n_new - min(keep, n_new), None)
        k = torch.cat([pairs.old_k[:, :, old], pairs.k[:, :, new]], dim=2)
        return k, torch.cat([pairs.old_v[:, :, old], pairs.v[:, :, new]], dim=2)

    def _n_readable(self, pairs: Pairs, extra: Int[Tensor, ""] | None) -> Int[Tensor, "t"]:
        """How many pairs each query reads."""
        n_old, n_new = pairs.old_k.shape[2], pairs.k.shape[2]
        n = torch.arange(n_old + 1, n_old + n_new + 1, device=pairs.k.device) - (self.delay - 1)
        return (n if extra is None else n - extra).clamp(min=0, max=self.window)

    def _weights(self, pairs: Pairs, extra: Int[Tensor, ""] | None) -> Float[Tensor, "b h t s"]:
        """What the fused read never forms."""
        k = torch.cat([pairs.old_k, pairs.k], dim=2)
        n_pairs, n_new = k.shape[2], pairs.k.shape[2]
        lag = self.delay - 1 if extra is None else self.delay - 1 + extra
        end = torch.arange(n_pairs - n_new + 1, n_pairs + 1, device=k.device).unsqueeze(1) - lag
        pair = torch.arange(n_pairs, device=k.device)
        start = end - (self.window or n_pairs + 1)
        return smoothing_weights(pairs.q @ k.mT, (pair < end) & (pair >= start), "softmax")

    def inverse_temperature(self, n_pairs: Int[Tensor, "t"]) -> Float[Tensor, "h t"]:
        """beta of n pairs; that of no pair is never used, and is that of one."""
        # In half precision counts of pairs beyond a few hundred would be rounded.
        compute = torch.float64 if self.exponent.dtype == torch.float64 else torch.float32
        logs = (self.log_floor.to(compute), self.log_slope.to(compute))
        floor, slope = (log.clamp(max=LARGEST_LOG_BANDWIDTH).exp().unsqueeze(1) for log in logs)
        exponent = self.exponent.to(compute).abs().clamp(max=1).unsqueeze(1)
        return slope * n_pairs.clamp(min=1).to(compute) ** exponent + floor

    def _scale(self) -> Float[Tensor, "h"]:
        # The slope of abs is 0 at 0, where this parameter starts; it would stay there.
        size = torch.where(self.log_scale < 0, -self.log_scale, self.log_scale)
        return size.clamp(max=LARGEST_LOG_SCALE).exp()

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The average, a pair for every token but the last (or the window's), and the value that waits."""
        n_pairs = max(tokens - 1, 0) if self.window is None else min(max(tokens - 1, 0), self.window)
        return tensor_bytes(batch * self.d_model * (1 + 2 * n_pairs + (tokens > 0)), self.out.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, the leaky average, scores and reads of `forward` from an empty state."""
        d, n = self.d_model, tokens - 1
        if self.window is None:
            n_scores = max(tokens - self.delay, 0) ** 2
        else:
            n_scores = n * n if n <= self.window else -(-n // self.window) * 2 * self.window**2
        projected = 2 * batch * tokens * d * (3 * d + 2 * self.n_heads)
        return projected + leaky_average_flops(batch, tokens, d) + 4 * batch * d * n_scores


class MosaicV2(nn.Module):
    """Memory Mosaics v2. Read points: `contribution` (b t d), and those of the levels `short` and `long`."""

    def __init__(self, config: MosaicV2Config, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "mosaic_v2: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        self.config, self.d_model = config, d_model
        self.short = Level(config, d_model, config.short_window, 1) if config.levels != "long" else None
        self.long = Level(config, d_model, None, config.long_delay) if config.levels != "short" else None
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> MosaicV2State:
        """Both levels empty."""
        return MosaicV2State(
            *(AbsentState() if level is None else level.init_state(batch) for level in (self.short, self.long))
        )

    def step(self, x: Float[Tensor, "b d"], state: MosaicV2State) -> tuple[Float[Tensor, "b d"], MosaicV2State]:
        """One token through both levels; each pair is written one token late."""
        y, after = torch.zeros_like(x), list(state)
        for i, (level, before) in enumerate(zip((self.short, self.long), state, strict=True)):
            if level is not None and isinstance(before, LevelState):
                contribution, after[i] = level.step(x, before)
                y = y + contribution
        return self.contribution(y.unsqueeze(1)).squeeze(1), MosaicV2State(*after)

    def forward(
        self, x: Float[Tensor, "b t d"], state: MosaicV2State | None = None
    ) -> tuple[Float[Tensor, "b t d"], MosaicV2State]:
        """All tokens through both levels."""
        state = state or self.init_state(x.shape[0])
        y, after = torch.zeros_like(x), list(state)
        for i, (level, before) in enumerate(zip((self.short, self.long), state, strict=True)):
            if level is not None and isinstance(before, LevelState):
                contribution, after[i] = level(x, before)
                y = y + contribution
        return self.contribution(y), MosaicV2State(*after)

    def only(self, level: Literal["short", "long"]) -> "MosaicV2":
        """A copy with one level, as where the source removes the long one after training."""
        kept = copy.deepcopy(self)
        kept.config = replace(self.config, levels=level)
        if level == "short":
            kept.long = None
        else:
            kept.short = None
        return kept

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Both states."""
        return sum(level.state_bytes(batch, tokens) for level in (self.short, self.long) if level is not None)

    def flops(self, batch: int, tokens: int) -> int:
        """Both levels."""
        return sum(level.flops(batch, tokens) for level in (self.short, self.long) if level is not None)
