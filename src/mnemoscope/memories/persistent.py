"""Persistent memory of Memory Mosaics: learned pairs, the same for all sequences, read by kernel smoothing.

    q_t = s^2 n(kbar_t)          kbar_t = W_k x_t + retention kbar_{t-1}          n(x) = x / |x|
    r_t = u mean_banks sum_j softmax_j(q_t . K_j) V_j                             y_t = W_p r_t

per head, with s = exp(min(10 key_scale, cap)), u = exp(10 value_scale) and retention = exp(-10 |leak|). The stored keys
have no scale of their own and no fixed length, which is why that of the query is squared.

Why: knowledge of the whole training set in the same form as memory of the sequence, so that both can be judged alike.

Known limits: it is the same for all sequences: a verdict of load-bearing here says nothing of memory in context.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 4 and figure 7, after Sukhbaatar et al. 2019
(arXiv 1907.01470); scalars and starts as in the code of the first.
Differs: the length of a query is guarded (`of_length`); the factor 1 - retention, which cancels, is left out.
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
from mnemoscope.memories.key_extractors import GAIN, LeakyKeys, projection, require_retentions
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.ops.smoothing_read import of_length


@dataclass(frozen=True, kw_only=True)
class PersistentConfig:
    """Persistent memory.

    Args:
        n_heads: heads; must divide the model width.
        n_slots: pairs a head and bank; None for `matched_slots`.
        n_banks: banks, each with a softmax of its own, whose reads are averaged.
        retentions: what each head of the query keeps from token to token; None learns it.
        scale_cap: largest log of s.
        bias: give every projection a bias.
        dropout: share of the weights dropped in training.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["persistent"] = "persistent"
    n_heads: int = 4
    n_slots: int | None = None
    n_banks: int = 1
    retentions: tuple[float, ...] | None = None
    scale_cap: float = 5.0
    bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        where = "persistent"
        require(self.n_heads >= 1, f"{where}.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(
            self.n_slots is None or self.n_slots >= 1,
            f"{where}.n_slots",
            "at least 1, or None for 3.5 d_model",
            self.n_slots,
            "use None",
        )
        require(self.n_banks >= 1, f"{where}.n_banks", "at least 1", self.n_banks, "use 1")
        require_retentions(where, self.retentions, self.n_heads)
        # The square of s must stay finite in float32.
        require(0 < self.scale_cap < 44, f"{where}.scale_cap", "in (0, 44)", self.scale_cap, "use 5")
        require(0 <= self.dropout < 1, f"{where}.dropout", "in [0, 1)", self.dropout, "use 0 for none")


class PersistentState(NamedTuple):
    """The leaky average that the next query goes on from; nothing of the sequence is stored."""

    average: Float[Tensor, "b h k"]


class Persistent(nn.Module):
    """Persistent memory. Read points: `addressing` (b t bank h m), `read` (b t h v), `contribution` (b t d)."""

    role: Role = "memory"

    def __init__(self, config: PersistentConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "persistent: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        self.config, self.d_model = config, d_model
        self.n_slots = config.n_slots or matched_slots(d_model)
        self.query = LeakyKeys(d_model, h, config.bias, config.retentions)
        self.key_scale = nn.Parameter(torch.full((h,), 1 / GAIN))
        width = d_model // h
        self.slot_keys, self.slot_values = (
            nn.Parameter(torch.randn(config.n_banks, h, self.n_slots, width) * width**-0.5) for _ in range(2)
        )
        self.value_scale = nn.Parameter(torch.full((h,), -0.5 / GAIN))
        self.out = projection(d_model, d_model, config.bias)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> PersistentState:
        """Nothing seen."""
        return PersistentState(self.query.init_carry(batch))

    def step(self, x: Float[Tensor, "b d"], state: PersistentState) -> tuple[Float[Tensor, "b d"], PersistentState]:
        """Average, address, read: one token."""
        average, carry = self.query.step(x, state.average)
        return self._respond(average.unsqueeze(1)).squeeze(1), PersistentState(carry)

    def forward(
        self, x: Float[Tensor, "b t d"], state: PersistentState | None = None
    ) -> tuple[Float[Tensor, "b t d"], PersistentState]:
        """All tokens at once; the weights are formed only if `addressing` is observed."""
        state = state or self.init_state(x.shape[0])
        averages, carry = self.query(x, state.average)
        return self._respond(averages), PersistentState(carry)

    def _respond(self, average: Float[Tensor, "b t h k"]) -> Float[Tensor, "b t d"]:
        length = (2 * (GAIN * self.key_scale).clamp(max=self.config.scale_cap)).exp()
        q = of_length(average, length)
        if self.addressing.observed:
            weights = torch.einsum("bthk,ghmk->btghm", q, self.slot_keys).softmax(-1)
            weights = F.dropout(self.addressing(weights), self.config.dropout, self.training)
            read = torch.einsum("btghm,ghmv->bthv", weights, self.slot_values)
        else:
            read = self._fused(rearrange(q, "b t h k -> b h t k"))
        read = self.read(self._scale() * read / self.config.n_banks)
        return self.contribution(self.out(read.flatten(2)))

    def _fused(self, q: Float[Tensor, "b h t k"]) -> Float[Tensor, "b t h v"]:
        """Reads of all banks, added up."""
        dropout, reads = self.config.dropout if self.training else 0.0, []
        for k, v in zip(self.slot_keys, self.slot_values, strict=True):
            k, v = k.expand(q.shape[0], -1, -1, -1), v.expand(q.shape[0], -1, -1, -1)
            reads.append(F.scaled_dot_product_attention(q, k, v, scale=1.0, dropout_p=dropout))
        return rearrange(sum(reads[1:], start=reads[0]), "b h t v -> b t h v")

    def _scale(self) -> Float[Tensor, "h 1"]:
        return (GAIN * self.value_scale).exp().unsqueeze(-1)

    def single_vector(self) -> Float[Tensor, "h v"]:
        """The read if every pair held the mean value of its head: the weights sum to one."""
        return self._scale() * self.slot_values.mean((0, 2))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The average, for any number of tokens."""
        return tensor_bytes(batch * self.query.carried(), self.out.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """Query, scores, reads and output projection."""
        d, m = self.d_model, self.config.n_banks * self.n_slots
        return self.query.flops(batch, tokens) + batch * tokens * (4 * m * d + 2 * d * d)


def matched_slots(d_model: int) -> int:
    """Pairs a head with which a block of both memories has as many weights as a transformer's: 3.5 d_model.

    Contextual 3 d^2 (keys, values, output), persistent 2 d^2 (query, output) and 2 d a pair, against 12 d^2.
    """
    return max(1, round(3.5 * d_model))
