"""A bank of learned embeddings that an energy shapes, and the task never does.

    a_t = softmax_i(beta W_q x_t . M_i)      r_t = sum_i a_ti M_i      g_t = sigmoid(W_g [x_t; r_t] + bias)
    y_t = g_t * W_o r_t                      M_i constant here

    E(M) = E_t[-1/beta log (1/N) sum_i exp(beta q_t . M_i)] + 1/(2N) sum_i |M_i|^2      q_t = W_q x_t constant here

The slots receive the gradient of weight * E alone, everything else that of the task alone. E draws the slots towards
the queries; where beta lambda_max(E[q q^T]) < 1, one vector for all slots is where it leads (`collapse_threshold`).

With `bidirectional` the slots look first, at one another and at the tokens so far, and tokens read what they found:

    L_ti = softmax over [M; u_1..u_t] of (beta M_i . [M; u]), applied to [M; u]          u_s = W_u x_s
    a_t = softmax_i(beta q_t . L_ti)      r_t = sum_i a_ti L_ti

Why: to study a memory whose own objective leads to a collapse that the task cannot see or mend.

Known limits: nothing of the sequence is written, unless the slots look at it (every token then has slots of its own:
m d numbers a token while it is computed, and m (d + 1) carried on); where the energy makes the collapse stable, no
setting of the task's loss undoes it.

Source: a reconstruction of version 2 of the Parallax notes (note 004), whose equations are not public; the energy is
that of modern Hopfield networks, Ramsauer et al. 2020 (arXiv 2008.02217), equation 2.
Differs: the second pass sees the tokens so far and not all, since a decoder must be causal; slots on a sphere and slots
that stay as they were drawn are options of this package.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import empty_state, require, state_bytes
from mnemoscope.ops.bank_energy import Collapse, bank_collapse, bank_energy, on_sphere
from mnemoscope.ops.bank_looks import CHUNK_TOKENS, Looked, look_at_slots, look_at_tokens
from mnemoscope.ops.precision import at_least_float32


@dataclass(frozen=True, kw_only=True)
class EnergyBankConfig:
    """Bank of learned embeddings under an energy.

    Args:
        n_slots: embeddings in the bank.
        inverse_temperature: beta of the addressing and of the energy; None for d_model ** -0.5.
        gated: multiply the contribution by a sigmoid gate per channel.
        weight: of the energy in what training minimises.
        sphere_radius: length to which every slot is scaled; None leaves their lengths free.
        bidirectional: slots look at one another and at the tokens so far before they are read.
        fixed: slots stay as they were drawn; the energy is not minimised.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["energy_bank"] = "energy_bank"
    n_slots: int = 128
    inverse_temperature: float | None = None
    gated: bool = True
    weight: float = 0.1
    sphere_radius: float | None = None
    bidirectional: bool = False
    fixed: bool = False

    def __post_init__(self) -> None:
        where = "energy_bank"
        require(self.n_slots >= 1, f"{where}.n_slots", "at least 1", self.n_slots, "use 1 for a learned constant")
        for name, unset in (("inverse_temperature", "d_model ** -0.5"), ("sphere_radius", "free lengths")):
            value = getattr(self, name)
            works = value is None or 0 < value < math.inf
            require(works, f"{where}.{name}", f"positive and finite, or None for {unset}", value, "use None")
        require(0 < self.weight < math.inf, f"{where}.weight", "positive and finite", self.weight, "use 0.1")


class EnergyBankState(NamedTuple):
    """What slots that look at the tokens have seen: of no slot where they do not."""

    log_weight: Float[Tensor, "b looking"]
    mean: Float[Tensor, "b looking d"]


class EnergyBank(nn.Module):
    """Bank under an energy. Read points: `read`, `contribution`, `gate` (b t d), `addressing` (b t m)."""

    role: Role = "memory"

    def __init__(self, config: EnergyBankConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.inverse_temperature = config.inverse_temperature or d_model**-0.5
        self.slots = nn.Parameter(torch.randn(config.n_slots, d_model), requires_grad=not config.fixed)
        self.query = nn.Linear(d_model, d_model, bias=False)
        if config.bidirectional:
            self.look = nn.Linear(d_model, d_model, bias=False)
        if config.gated:
            self.fusion = nn.Linear(2 * d_model, d_model)
            self.gate = ReadPoint()
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> EnergyBankState:
        """No token seen."""
        weight = self.out.weight
        if not self.config.bidirectional:
            return EnergyBankState(empty_state(weight, batch, 0), empty_state(weight, batch, 0, self.d_model))
        slots = self._constant_slots().to(at_least_float32(weight.dtype))
        return EnergyBankState(*look_at_slots(slots, self.inverse_temperature, batch))

    def step(self, x: Float[Tensor, "b d"], state: EnergyBankState) -> tuple[Float[Tensor, "b d"], EnergyBankState]:
        """Address, read, gate: one token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: EnergyBankState | None = None
    ) -> tuple[Float[Tensor, "b t d"], EnergyBankState]:
        """Every token on its own, or after those before it; no gradient reaches the slots."""
        state = state or self.init_state(x.shape[0])
        slots, query = self._constant_slots(), self.query(x)
        if self.config.bidirectional:
            slots, state = self._looked(x, slots, state)
            scores = self.inverse_temperature * torch.einsum("btd,btmd->btm", query, slots)
            read = torch.einsum("btm,btmd->btd", self.addressing(scores.softmax(-1)), slots)
        else:
            scores = self.inverse_temperature * (query @ slots.T)
            read = self.addressing(scores.softmax(-1)) @ slots
        read = self.read(read)
        y = self.out(read)
        if self.config.gated:
            y = self.gate(self.fusion(torch.cat([x, read], dim=-1)).sigmoid()) * y
        return self.contribution(y), state

    def _constant_slots(self) -> Float[Tensor, "m d"]:
        return on_sphere(self.slots.detach(), self.config.sphere_radius)

    def _looked(
        self, x: Float[Tensor, "b t d"], slots: Float[Tensor, "m d"], state: EnergyBankState
    ) -> tuple[Float[Tensor, "b t m d"], EnergyBankState]:
        """The slots as every token finds them; in float32 at least, since it is a sum over all tokens."""
        precise = state.mean.dtype
        slots, tokens = slots.to(precise), self.look(x).to(precise)
        found, seen = look_at_tokens(slots, tokens, self.inverse_temperature, Looked(*state))
        return found.to(x.dtype), EnergyBankState(*seen)

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
        """Nothing, or a number and a vector of every slot that looks at tokens."""
        looking = self.config.n_slots if self.config.bidirectional else 0
        return state_bytes(self.out.weight, carried=batch * looking * (self.d_model + 1))

    def flops(self, batch: int, tokens: int) -> int:
        """Query, scores, read, gate and output projections; the energy is computed in training alone.

        Slots that look add their projection, their scores, and the means over chunks.
        """
        d, m = self.d_model, self.config.n_slots
        plain = 2 * batch * tokens * d * (2 * d + 2 * m + 2 * d * self.config.gated)
        if not self.config.bidirectional:
            return plain
        n_chunks, rest = divmod(tokens, CHUNK_TOKENS)
        # A token alone in its chunk is no matrix product.
        pairs = n_chunks * CHUNK_TOKENS**2 + (rest > 1) * rest**2
        return plain + 2 * batch * d * (tokens * (d + m) + pairs * m) + 4 * m * m * d
