"""A recurrent memory of slots: routed tokens write them, attention reads them.

    S_t,i = (1 - w_ti) S_t-1,i + w_ti v_t           S_0 learned              v_t = W_v x_t
    w_ti  = sigmoid(W_g x_t + bias) a_ti            p_t = softmax(W_r x_t)
    r_t   = sum_i softmax_i(v^-1/2 q_t . S_t,i) S_t,i      q_t = W_q x_t     y_t = W_o r_t

    softmax          a_t = p_t: every slot is written a little
    loss_free        a_ti = p_ti for the K slots with the largest p_ti + bias_i, else 0
    expert_choice    a_t = p_t; slot i is written by the ceil(K C / m) tokens of a chunk of C with the largest w_ti
                     alone, in the order of time, after the chunk: within it, the slots of its start are read

v is the width of a slot, m their number. What is written depends on the inputs alone, not on the slots: the recurrence
is linear. The bias, which balances the loads, is changed by `rebalance` alone: bias_i <- bias_i + rate sign(mean load -
load_i).

Why: few large places, each written by the tokens that are routed to it, can be looked into one by one.

Known limits: routing may leave slots dead, which the measure `utilisation` shows; expert choice answers one chunk
late.

Source: slots with a retention each, whose write takes up what they give up, Zhang et al. 2024, "Gated Slot Attention"
(arXiv 2409.07146), section 3; expert choice, Zhou et al. 2022 (arXiv 2202.09368); balance without a loss, Wang et al.
2024 (arXiv 2408.15664), section 3.
Differs: a slot is its own key; writes are routed between the slots; expert choice within a chunk that is over, so that
no choice sees the future; w is kept below 1 - 1e-6, where the logarithm of what is retained is finite.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require, state_bytes
from mnemoscope.ops.precision import at_least_float32, read_states
from mnemoscope.ops.slot_writes import (
    slot_chunk_ends,
    slot_chunk_ends_flops,
    slot_states,
    slot_states_flops,
    slot_states_recurrent,
    slot_states_windowed,
    slot_step,
)

BALANCE_RATE = 1e-3
"""Of the source: what one step adds to a bias or takes from it."""

CHUNK_TOKENS = 16
"""Tokens among which a slot chooses, unless the configuration says otherwise."""


@dataclass(frozen=True, kw_only=True)
class SlotMemoryConfig:
    """Routed slots.

    Args:
        n_slots: m, vectors in the state.
        width: v, channels of a slot; None for d_model.
        routing: "softmax", "loss_free" or "expert_choice".
        slots_per_token: K, slots that a token may write, under "expert_choice" on average; None for 1, and None with
            "softmax".
        balance_rate: what one `rebalance` adds to a bias or takes from it under "loss_free"; None for 0.001.
        chunk_tokens: C, tokens among which a slot chooses under "expert_choice"; None for 16.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["slots"] = "slots"
    n_slots: int = 16
    width: int | None = None
    routing: Literal["softmax", "loss_free", "expert_choice"] = "softmax"
    slots_per_token: int | None = None
    balance_rate: float | None = None
    chunk_tokens: int | None = None

    def __post_init__(self) -> None:
        where, routing = "slots", self.routing
        names = ("softmax", "loss_free", "expert_choice")
        require(routing in names, f"{where}.routing", f"one of {names}", routing, 'use "softmax"')
        require(self.n_slots >= 1, f"{where}.n_slots", "at least 1", self.n_slots, "use 1 for a leaky average")
        works = self.width is None or self.width >= 1
        require(works, f"{where}.width", "at least 1, or None for d_model", self.width, "use None")
        n_written = self.slots_per_token
        works = n_written is None or (routing != "softmax" and 1 <= n_written <= self.n_slots)
        rule = f'None, or from 1 to n_slots={self.n_slots} with routing="loss_free" or "expert_choice"'
        require(works, f"{where}.slots_per_token", rule, n_written, "use None")
        rate = self.balance_rate
        works = rate is None or (routing == "loss_free" and 0 < rate < math.inf)
        rule = 'None, or positive and finite with routing="loss_free"'
        require(works, f"{where}.balance_rate", rule, rate, "use None")
        works = self.chunk_tokens is None or (routing == "expert_choice" and self.chunk_tokens >= 1)
        rule = 'None, or at least 1 with routing="expert_choice"'
        require(works, f"{where}.chunk_tokens", rule, self.chunk_tokens, "use None")


class Writes(NamedTuple):
    """What tokens would write, and how strongly into each slot."""

    v: Float[Tensor, "b t v"]
    write_strength: Float[Tensor, "b t m"]


class SlotMemoryState(NamedTuple):
    """The slots, and the tokens of the open chunk, which are not written yet; none but under "expert_choice"."""

    s: Float[Tensor, "b m v"]
    open: Writes


class Scan(nn.Module):
    """The slots after every token; a module of its own, so that a replay can answer it from the record."""

    def forward(self, writes: Writes, state: Float[Tensor, "b m v"]) -> Float[Tensor, "b t m v"]:
        """Scan along time."""
        return slot_states(*writes, state)


class SlotMemory(nn.Module):
    """Routed slots. Read points: `state` (b t m v), `addressing` (b t m), `read` (b t v), `contribution` (b t d)."""

    role: Role = "memory"

    def __init__(self, config: SlotMemoryConfig, d_model: int) -> None:
        super().__init__()
        m, width = config.n_slots, config.width or d_model
        self.config, self.d_model, self.width = config, d_model, width
        self.slots_per_token = config.slots_per_token or 1
        self.in_chunks = config.routing == "expert_choice"
        self.chunk_tokens = (config.chunk_tokens or CHUNK_TOKENS) if self.in_chunks else 1
        self.capacity = -(-self.slots_per_token * self.chunk_tokens // m)
        self.slots = nn.Parameter(torch.randn(m, width))
        self.query = nn.Linear(d_model, width, bias=False)
        self.value = nn.Linear(d_model, width, bias=False)
        self.router = nn.Linear(d_model, m, bias=False)
        self.write_gate = nn.Linear(d_model, 1)
        self.out = nn.Linear(width, d_model, bias=False)
        if config.routing == "loss_free":
            self.bias = nn.Parameter(torch.zeros(m), requires_grad=False)
        self.scan = Scan()
        self.state = ReadPoint()
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> SlotMemoryState:
        """The learned slots, and no open chunk."""
        slots = self.slots.expand(batch, -1, -1)
        return SlotMemoryState(slots.to(at_least_float32(slots.dtype), copy=True), self._no_tokens(slots))

    def step(self, x: Float[Tensor, "b d"], state: SlotMemoryState) -> tuple[Float[Tensor, "b d"], SlotMemoryState]:
        """One token: write and read, or under "expert_choice" read, and write once the chunk is full."""
        x, s, opened = x.unsqueeze(1), state.s, state.open
        v, w = writes = self._writes(x)
        if not self.in_chunks:
            s = slot_step(s, v[:, 0], w[:, 0])
        s = self.state(s.unsqueeze(1)).squeeze(1)
        y = self._contribute(x, s.unsqueeze(1)).squeeze(1)
        if self.in_chunks:
            v, w = opened = self._joined(opened, writes)
            if v.shape[1] == self.chunk_tokens:
                s = slot_states_recurrent(v, self._picked(w.unsqueeze(1)).squeeze(1), s)[:, -1].clone()
                opened = self._no_tokens(x)
        return y, SlotMemoryState(s, opened)

    def forward(
        self, x: Float[Tensor, "b t d"], state: SlotMemoryState | None = None
    ) -> tuple[Float[Tensor, "b t d"], SlotMemoryState]:
        """All tokens in matrix form.

        What replaces an observed state is read at its own token and, if it is the last and fills no chunk, returned;
        later tokens go on from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        writes = self._writes(x)
        if self.in_chunks:
            return self._forward_in_chunks(x, self._joined(state.open, writes), state.s)
        states = self.state(self.scan(writes, state.s))
        return self._contribute(x, states), SlotMemoryState(states[:, -1].clone(), state.open)

    def _forward_in_chunks(
        self, x: Float[Tensor, "b t d"], opened: Writes, s: Float[Tensor, "b m v"]
    ) -> tuple[Float[Tensor, "b t d"], SlotMemoryState]:
        """Tokens x, which are the last of those that are open."""
        n_open, n_tokens, c = opened.v.shape[1], x.shape[1], self.chunk_tokens
        n_full = n_open // c
        starts = s.unsqueeze(1)
        if n_full:
            v, w = (part[:, : n_full * c].unflatten(1, (n_full, c)) for part in opened)
            starts = torch.cat([starts, slot_chunk_ends(v, self._picked(w), s)], dim=1)
        chunk = torch.arange(n_open - n_tokens, n_open, device=x.device) // c
        states = self.state(starts.index_select(1, chunk))
        left = Writes(*(part[:, n_full * c :].clone() for part in opened))
        last = states[:, -1] if n_open % c else starts[:, -1]
        return self._contribute(x, states), SlotMemoryState(last.clone(), left)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` tokens written on the learned slots, by subtraction.

        Under "expert_choice" every window is run by itself: which tokens make a chunk, and so what is written,
        depends on where it begins.
        """
        b, n_tokens, _ = x.shape
        if not self.in_chunks:
            return self._contribute(x, slot_states_windowed(*self._writes(x), self.init_state(b).s, window))
        if window >= n_tokens:
            return self.forward(x)[0]
        windows = rearrange(x.unfold(1, window, 1), "b n d w -> (b n) w d")
        last = self.forward(windows)[0][:, -1].unflatten(0, (b, -1))
        return torch.cat([self.forward(x[:, :window])[0], last[:, 1:]], dim=1)

    @torch.no_grad()
    def load(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "m"]:
        """Share of the tokens of x that may write each slot under "loss_free"; sums to `slots_per_token`."""
        self._require_bias("load")
        chosen = self._chosen(self.router(x).softmax(-1))
        return F.one_hot(chosen, self.config.n_slots).sum(2).to(x.dtype).mean((0, 1))

    @torch.no_grad()
    def rebalance(self, load: Float[Tensor, "m"], rate: float | None = None) -> None:
        """Move every bias by one rate, `balance_rate` if None: up where the load is below its mean, down if above."""
        self._require_bias("rebalance")
        rate = self.config.balance_rate or BALANCE_RATE if rate is None else rate
        self.bias += rate * (load.mean() - load).sign()

    def _require_bias(self, asked: str) -> None:
        routing = self.config.routing
        rule = 'asked of routing="loss_free" only'
        require(routing == "loss_free", f"slots: {asked}", rule, routing, 'set routing="loss_free"')

    def _writes(self, x: Float[Tensor, "b t d"]) -> Writes:
        share = self.router(x).softmax(-1)
        if self.config.routing == "loss_free":
            chosen = self._chosen(share)
            share = torch.zeros_like(share).scatter(-1, chosen, share.gather(-1, chosen))
        return Writes(self.value(x), self.write_gate(x).sigmoid() * share)

    def _chosen(self, share: Float[Tensor, "b t m"]) -> Int[Tensor, "b t k"]:
        return (share.detach() + self.bias).topk(self.slots_per_token, dim=-1).indices

    def _picked(self, write_strength: Float[Tensor, "b n c m"]) -> Float[Tensor, "b n c m"]:
        """Each slot's choice of the tokens of a whole chunk."""
        strongest = write_strength.topk(self.capacity, dim=2)
        return torch.zeros_like(write_strength).scatter(2, strongest.indices, strongest.values)

    def _joined(self, opened: Writes, writes: Writes) -> Writes:
        return Writes(*(torch.cat(parts, dim=1) for parts in zip(opened, writes, strict=True)))

    def _no_tokens(self, x: Float[Tensor, "b _ _"]) -> Writes:
        return Writes(x.new_zeros(x.shape[0], 0, self.width), x.new_zeros(x.shape[0], 0, self.config.n_slots))

    def _contribute(self, x: Float[Tensor, "b t d"], states: Float[Tensor, "b t m v"]) -> Float[Tensor, "b t d"]:
        scores = read_states("btv,btmv->btm", self.query(x), states) * self.width**-0.5
        read = read_states("btm,btmv->btv", self.addressing(scores.softmax(-1)), states)
        return self.contribution(self.out(self.read(read)))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The slots, and what the tokens of the open chunk would write."""
        m, n_open = self.config.n_slots, tokens % self.chunk_tokens
        return state_bytes(self.slots, carried=batch * m * self.width, shown=batch * n_open * (self.width + m))

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, the recurrence in matrix form, and the two products of the read."""
        d, v, m = self.d_model, self.width, self.config.n_slots
        every_token = 2 * batch * tokens * (d * (3 * v + m + 1) + 2 * m * v)
        if not self.in_chunks:
            return every_token + slot_states_flops(batch, tokens, m, v)
        n_chunks = tokens // self.chunk_tokens
        if not n_chunks:
            return every_token
        return every_token + slot_chunk_ends_flops(batch, n_chunks, self.chunk_tokens, m, v)
