"""Memory as a context (MAC): attention within a segment sees what a memory recalls for it, and writes what it found.

For each segment of tokens x, with the memory M as the segment found it and learned persistent tokens p:

    h_t = recall(M, x_t)                         what the memory holds for the token; nothing is written
    y_t = attention of x_t over [p; h_1..h_t; x_1..x_t]
    m_t, M = memory(y_t, M)                      written token by token, read after each write
    out_t = norm(y_t) * sigmoid(norm(m_t))

Source: Behrouz, Zhong, Mirrokni 2024, "Titans" (arXiv 2501.00663), section 4.1.
Differs: causal within the segment (a token sees what was recalled for earlier tokens, not for later ones, and the gate
reads the memory as far as it was written), rotary positions count from the segment's start, and persistent tokens stand
before every position.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Recalling, Role
from mnemoscope.memories import MemoryConfig, build_memory
from mnemoscope.memories.gated_delta import GatedDeltaConfig
from mnemoscope.memories.parts import RmsNorm, require, tensor_bytes
from mnemoscope.ops.rotary import rotate


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """Memory as a context.

    Args:
        memory: what recalls and is written to; one that can be read without writing (`Recalling`).
        segment_tokens: tokens that attend to each other; part of the model, as a chunk is.
        n_persistent: learned tokens that every position may look at.
        n_heads: heads of the attention within a segment.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["context"] = "context"
    memory: MemoryConfig = field(default_factory=GatedDeltaConfig)
    segment_tokens: int = 32
    n_persistent: int = 4
    n_heads: int = 4

    def __post_init__(self) -> None:
        require(self.segment_tokens >= 1, "context.segment_tokens", "at least 1", self.segment_tokens, "use 32")
        require(self.n_persistent >= 0, "context.n_persistent", "0 or more", self.n_persistent, "use 0 for none")
        require(self.n_heads >= 1, "context.n_heads", "at least 1", self.n_heads, "use 1 or more")


class ContextState(NamedTuple):
    """The memory as the open segment found it and as it is now, and the open segment's keys and values."""

    found: Any
    now: Any
    recall_tail: Tensor
    recalled_k: Float[Tensor, "b h s k"]
    recalled_v: Float[Tensor, "b h s k"]
    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s k"]


class Recalled(nn.Module):
    """What the memory gives to the segment as context. Read points: `read`, `contribution` (both b t d)."""

    role: Role = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def forward(self, h: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Announce it."""
        return self.contribution(self.read(h))


class Context(nn.Module):
    """Memory as a context. Read points: those of `recalled` (the context) and of `memory` (the gate)."""

    def __init__(self, config: ContextConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(
            d_model % (2 * h) == 0,
            "context: d_model",
            f"a multiple of twice n_heads={h}, since rotary positions pair channels",
            d_model,
            "change either",
        )
        memory = build_memory(config.memory, d_model)
        if not isinstance(memory, Recalling):
            raise ValueError(
                f"context.memory must be one that can be read without writing, got {config.memory.kind!r}; "
                "use gated_delta, omega or omega_mlp"
            )
        self.config, self.d_model = config, d_model
        self.memory = memory
        self.recalled = Recalled()
        self.persistent = nn.Parameter(torch.randn(config.n_persistent, d_model) * d_model**-0.5)
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key_value = nn.Linear(d_model, 2 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.attended_norm, self.memory_norm = (RmsNorm(d_model) for _ in range(2))

    def init_state(self, batch: int) -> ContextState:
        """An empty memory and an empty segment."""
        h = self.config.n_heads
        empty = self.out.weight.new_zeros(batch, h, 0, self.d_model // h)
        buffers = (torch.zeros_like(empty) for _ in range(4))
        tail = self.memory.init_recall(batch)
        return ContextState(self.memory.init_state(batch), self.memory.init_state(batch), tail, *buffers)

    def step(self, x: Float[Tensor, "b d"], state: ContextState) -> tuple[Float[Tensor, "b d"], ContextState]:
        """Recall, attend, write, gate: one token."""
        y, state = self._segment(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: ContextState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ContextState]:
        """Segment by segment; the first piece fills the segment that the state left open."""
        state = state or self.init_state(x.shape[0])
        outputs, done = [], 0
        while done < x.shape[1]:
            n_left = self.config.segment_tokens - state.k.shape[2]
            y, state = self._segment(x[:, done : done + n_left], state)
            outputs.append(y)
            done += y.shape[1]
        return torch.cat(outputs, dim=1), state

    def _segment(self, x: Float[Tensor, "b t d"], state: ContextState) -> tuple[Float[Tensor, "b t d"], ContextState]:
        h, recall_tail = self.memory.recall(x, state.found, state.recall_tail)
        y, buffers = self._attend(x, self.recalled(h), state)
        gate, now = self.memory(y, state.now)
        out = self.attended_norm(y) * self.memory_norm(gate).sigmoid()
        if buffers[-1].shape[2] == self.config.segment_tokens:
            # Two states that share no tensor, so that a state can be written to a file.
            return out, ContextState(_copy(now), now, recall_tail, *(buffer[:, :, :0].clone() for buffer in buffers))
        return out, ContextState(state.found, now, recall_tail, *buffers)

    def _attend(
        self, x: Float[Tensor, "b t d"], h: Float[Tensor, "b t d"], state: ContextState
    ) -> tuple[Float[Tensor, "b t d"], tuple[Tensor, ...]]:
        start = torch.tensor(state.k.shape[2], device=x.device)
        q = rotate(self._heads(self.query(x)), start)
        (k_h, v_h), (k_x, v_x) = (self._heads(self.key_value(part)).chunk(2, dim=-1) for part in (h, x))
        new = (rotate(k_h, start), v_h, rotate(k_x, start), v_x)
        buffers = tuple(torch.cat([old, fresh], dim=2) for old, fresh in zip(state[3:], new, strict=True))
        k_p, v_p = self._heads(self.key_value(self.persistent).expand(x.shape[0], -1, -1)).chunk(2, dim=-1)
        k, v = torch.cat([k_p, buffers[0], buffers[2]], dim=2), torch.cat([v_p, buffers[1], buffers[3]], dim=2)
        n_seen, n_new = buffers[0].shape[2], x.shape[1]
        causal = torch.ones(n_new, n_seen, dtype=torch.bool, device=x.device).tril(n_seen - n_new)
        always = causal.new_ones(n_new, self.config.n_persistent)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.cat([always, causal, causal], dim=1))
        return self.out(rearrange(y, "b h t k -> b t (h k)")), buffers

    def _heads(self, x: Float[Tensor, "b t hk"]) -> Float[Tensor, "b h t k"]:
        return rearrange(x, "b t (h k) -> b h t k", h=self.config.n_heads)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The memory twice, the recall's tail, and four tensors of the open segment."""
        n_open, tail = tokens % self.config.segment_tokens, self.memory.init_recall(batch)
        found = self.memory.state_bytes(batch, tokens - n_open)
        open_segment = tensor_bytes(4 * batch * n_open * self.d_model, self.out.weight)
        return found + self.memory.state_bytes(batch, tokens) + tail.nbytes + open_segment

    def flops(self, batch: int, tokens: int) -> int:
        """Recall, projections, attention and memory of every segment from an empty state.

        Exact where a memory costs the same at every segment; one with chunks of its own is counted as if each segment
        began a chunk of an empty memory.
        """
        n_whole, rest = divmod(tokens, self.config.segment_tokens)
        sizes = {self.config.segment_tokens: n_whole, rest: 1} if rest else {self.config.segment_tokens: n_whole}
        return sum(n_segments * self._segment_flops(batch, size) for size, n_segments in sizes.items())

    def _segment_flops(self, batch: int, tokens: int) -> int:
        d, n_persistent = self.d_model, self.config.n_persistent
        projected = 2 * d * d * (batch * tokens * 6 + n_persistent * 2)
        attended = 4 * batch * tokens * (n_persistent + 2 * tokens) * d
        return projected + attended + self.memory.recall_flops(batch, tokens) + self.memory.flops(batch, tokens)


def _copy(state: Any) -> Any:
    return state.clone() if isinstance(state, Tensor) else type(state)(*map(_copy, state))
