"""A bank of learned embeddings that an energy shapes, and the task never does.

    a_t = softmax_i(beta W_q x_t . M_i)      r_t = sum_i a_ti M_i      g_t = sigmoid(W_g [x_t; r_t] + bias)
    y_t = g_t * W_o r_t                      M_i constant here

    E(M) = E_t[-1/beta log (1/N) sum_i exp(beta q_t . M_i)] + 1/(2N) sum_i |M_i|^2      q_t = W_q x_t constant here

The slots receive the gradient of weight * E alone, everything else that of the task alone. E draws the slots towards
the queries; where beta lambda_max(E[q q^T]) < 1, one vector for all slots is where it leads (`collapse_threshold`).

Why: to study a memory whose own objective leads to a collapse that the task cannot see or mend.

Known limits: nothing of the sequence is written; where the energy makes the collapse stable, no setting of the task's
loss undoes it.

Source: a reconstruction of version 2 of the Parallax notes (note 004), whose equations are not public; the energy is
that of modern Hopfield networks, Ramsauer et al. 2020 (arXiv 2008.02217), equation 2.
Differs: without the second, bidirectional pass over the bank; slots on a sphere are an option of this package.
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
from mnemoscope.ops.bank_energy import Collapse, bank_collapse, bank_energy, on_sphere


@dataclass(frozen=True, kw_only=True)
class EnergyBankConfig:
    """Bank of learned embeddings under an energy.

    Args:
        n_slots: embeddings in the bank.
        inverse_temperature: beta of the addressing and of the energy; None for d_model ** -0.5.
        gated: multiply the contribution by a sigmoid gate per channel.
        weight: of the energy in what training minimises.
        sphere_radius: length to which every slot is scaled; None leaves their lengths free.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["energy_bank"] = "energy_bank"
    n_slots: int = 128
    inverse_temperature: float | None = None
    gated: bool = True
    weight: float = 0.1
    sphere_radius: float | None = None

    def __post_init__(self) -> None:
        where = "energy_bank"
        require(self.n_slots >= 1, f"{where}.n_slots", "at least 1", self.n_slots, "use 1 for a learned constant")
        for name, unset in (("inverse_temperature", "d_model ** -0.5"), ("sphere_radius", "free lengths")):
            value = getattr(self, name)
            works = value is None or 0 < value < math.inf
            require(works, f"{where}.{name}", f"positive and finite, or None for {unset}", value, "use None")
        require(0 < self.weight < math.inf, f"{where}.weight", "positive and finite", self.weight, "use 0.1")


class EnergyBankState(NamedTuple):
    """Empty: a bank remembers nothing of the sequence."""


class EnergyBank(nn.Module):
    """Bank under an energy. Read points: `read`, `contribution`, `gate` (b t d), `addressing` (b t m)."""

    role: Role = "memory"

    def __init__(self, config: EnergyBankConfig, d_model: int) -> None:
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

    def init_state(self, batch: int) -> EnergyBankState:
        """Empty."""
        return EnergyBankState()

    def step(self, x: Float[Tensor, "b d"], state: EnergyBankState) -> tuple[Float[Tensor, "b d"], EnergyBankState]:
        """Address, read, gate: one token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: EnergyBankState | None = None
    ) -> tuple[Float[Tensor, "b t d"], EnergyBankState]:
        """Every token on its own; no gradient reaches the slots."""
        slots = on_sphere(self.slots.detach(), self.config.sphere_radius)
        scores = self.inverse_temperature * (self.query(x) @ slots.T)
        read = self.read(self.addressing(scores.softmax(-1)) @ slots)
        y = self.out(read)
        if self.config.gated:
            y = self.gate(self.fusion(torch.cat([x, read], dim=-1)).sigmoid()) * y
        return self.contribution(y), EnergyBankState()

    def auxiliary_loss(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, ""]:
        """The weighted energy of the slots under the queries of x, in float32 at least; only the slots receive it."""
        slots = on_sphere(self.slots, self.config.sphere_radius)
        return self.config.weight * bank_energy(self._queries(x), slots, self.inverse_temperature)

    def collapse_threshold(self, x: Float[Tensor, "b t d"]) -> Collapse:
        """Whether slots that have all become one would stay so under the queries of x."""
        return bank_collapse(self._queries(x), self.inverse_temperature, self.config.sphere_radius)

    @torch.no_grad()
    def _queries(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "q d"]:
        return self.query(x).flatten(0, 1)

    def single_vector(self) -> Float[Tensor, "d"]:
        """The read if every slot held the mean slot: addressing sums to one, so it is that slot."""
        radius = self.config.sphere_radius
        return on_sphere(on_sphere(self.slots, radius).mean(0, keepdim=True), radius)[0]

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Nothing."""
        return 0

    def flops(self, batch: int, tokens: int) -> int:
        """Query, scores, read, gate and output projections; the energy is computed in training alone."""
        d, m = self.d_model, self.config.n_slots
        return 2 * batch * tokens * d * (2 * d + 2 * m + 2 * d * self.config.gated)
