"""A bank of learned embeddings, read by attention through a gate.

    a_t = softmax_i(beta W_q x_t . M_i)      r_t = sum_i a_ti M_i      g_t = sigmoid(W_g [x_t; r_t] + bias)
    y_t = g_t * W_o r_t

Nothing is written at run time: the slots are parameters, so the memory cannot hold anything of the sequence. What it
can be is a lookup table, or, when all slots or all addresses become one, a single learned vector behind a gate.

Why: to see a lookup table where a memory was meant: whatever it does, it cannot be memory of the sequence.

Known limits: trained by the task alone, slots or addresses may become one vector; then `fold` replaces the bank by
it.

Source: the memory bank of the Parallax notes (note 004), whose equations are not public: a reconstruction of v2 without
its energy term and without its second, bidirectional pass.
Differs: trained by the task's loss; the energy-trained `EnergyBank` is another memory.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """Bank of learned embeddings.

    Args:
        n_slots: embeddings in the bank.
        inverse_temperature: beta of the addressing softmax; None for d_model ** -0.5.
        gated: multiply the contribution by a sigmoid gate per channel.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["bank"] = "bank"
    n_slots: int = 128
    inverse_temperature: float | None = None
    gated: bool = True

    def __post_init__(self) -> None:
        require(self.n_slots >= 1, "bank.n_slots", "at least 1", self.n_slots, "use 1 for a learned constant")
        require(
            self.inverse_temperature is None or 0 < self.inverse_temperature < math.inf,
            "bank.inverse_temperature",
            "positive and finite, or None for d_model ** -0.5",
            self.inverse_temperature,
            "use None",
        )


class BankState(NamedTuple):
    """Empty: a bank remembers nothing of the sequence."""


class Bank(nn.Module):
    """Bank of learned embeddings. Read points: `read`, `contribution`, `gate` (b t d), `addressing` (b t m)."""

    role: Role = "memory"

    def __init__(self, config: BankConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.inverse_temperature = config.inverse_temperature or d_model**-0.5
        self.slots = nn.Parameter(torch.randn(config.n_slots, d_model))
        self.query = nn.Linear(d_model, d_model, bias=False)
        if config.gated:
            self.fusion = nn.Linear(2 * d_model, d_model)
            self.gate = ReadPoint()
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> BankState:
        """Empty."""
        return BankState()

    def step(self, x: Float[Tensor, "b d"], state: BankState) -> tuple[Float[Tensor, "b d"], BankState]:
        """Address, read, gate: one token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: BankState | None = None
    ) -> tuple[Float[Tensor, "b t d"], BankState]:
        """Every token on its own."""
        scores = self.inverse_temperature * (self.query(x) @ self.slots.T)
        read = self.read(self.addressing(scores.softmax(-1)) @ self.slots)
        y = self.out(read)
        if self.config.gated:
            y = self.gate(self.fusion(torch.cat([x, read], dim=-1)).sigmoid()) * y
        return self.contribution(y), BankState()

    def single_vector(self) -> Float[Tensor, "d"]:
        """The read if every slot held the mean slot: addressing sums to one, so it is that slot."""
        return self.slots.mean(0)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Nothing."""
        return 0

    def flops(self, batch: int, tokens: int) -> int:
        """Query, scores, read, gate and output projections."""
        d, m = self.d_model, self.config.n_slots
        return 2 * batch * tokens * d * (2 * d + 2 * m + 2 * d * self.config.gated)
