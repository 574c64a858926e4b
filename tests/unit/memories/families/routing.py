"""Banks under an energy, mixtures of experts and routed slots under the contract."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from mnemoscope.memories import EnergyBankConfig, ExpertsConfig, SlotMemoryConfig
from tests.oracle import energy_bank, experts, slots
from tests.unit.memories.families.case import D_MODEL, B, Case, T

D = D_MODEL
Oracle = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def bank(config: EnergyBankConfig, long: bool = False) -> Case:
    beta = config.inverse_temperature or D**-0.5
    points = {"addressing": (B, T, config.n_slots), "read": (B, T, D), "contribution": (B, T, D)}

    def auxiliary(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        queries = (x @ weights["query.weight"].T).detach().flatten(0, 1)
        return config.weight * energy_bank.energy(queries, weights["slots"], beta, config.sphere_radius)

    return Case(
        config=config,
        oracle=partial(
            energy_bank.memory,
            inverse_temperature=beta,
            radius=config.sphere_radius,
            looking=config.bidirectional,
        ),
        auxiliary=auxiliary,
        parameters=config.n_slots * D + (2 + config.bidirectional) * D * D + (2 * D * D + D) * config.gated,
        points=points | ({"gate": (B, T, D)} if config.gated else {}),
        # Slots that do not look at tokens carry nothing.
        differentiable_state=config.bidirectional,
        long=long,
    )


def mixture(config: ExpertsConfig, oracle: Oracle, width: int, long: bool = False) -> Case:
    e = config.n_experts
    return Case(
        config=config,
        oracle=oracle,
        parameters=e * D + 2 * e * D * width + e * config.balanced,
        points={"addressing": (B, T, e), "read": (B, T, D), "contribution": (B, T, D)},
        differentiable_state=False,
        long=long,
    )


def routed(config: SlotMemoryConfig, oracle: Oracle, long: bool = False) -> Case:
    m, v = config.n_slots, config.width or D
    points = {"state": (B, T, m, v), "addressing": (B, T, m), "read": (B, T, v), "contribution": (B, T, D)}
    return Case(
        config=config,
        oracle=oracle,
        parameters=m * v + 3 * D * v + D * m + D + 1 + m * (config.routing == "loss_free"),
        points=points,
        written_together=config.chunk_tokens or 1,
        long=long,
    )


CASES = {
    "energy bank": bank(EnergyBankConfig(n_slots=6)),
    "energy bank on a sphere": bank(EnergyBankConfig(n_slots=6, sphere_radius=1.5, inverse_temperature=0.7)),
    "energy bank that looks at the tokens": bank(EnergyBankConfig(n_slots=6, bidirectional=True)),
    "energy bank without gate": bank(EnergyBankConfig(n_slots=6, gated=False), long=True),
    "experts chosen by tokens": mixture(
        ExpertsConfig(n_experts=4, width=12), partial(experts.by_token, n_chosen=2), width=12
    ),
    "balanced experts": mixture(
        ExpertsConfig(n_experts=5, experts_per_token=1, balanced=True),
        partial(experts.by_token, n_chosen=1),
        width=64,
        long=True,
    ),
    "experts that choose tokens": mixture(
        ExpertsConfig(n_experts=4, width=12, routing="expert_choice", chunk_tokens=7),
        partial(experts.by_expert, n_chosen=2, chunk_tokens=7),
        width=12,
    ),
    "slots": routed(SlotMemoryConfig(n_slots=6), partial(slots.by_token, n_chosen=None)),
    "balanced slots": routed(
        SlotMemoryConfig(n_slots=6, width=10, routing="loss_free", slots_per_token=2),
        partial(slots.by_token, n_chosen=2),
    ),
    "slots that choose tokens": routed(
        SlotMemoryConfig(n_slots=6, routing="expert_choice", slots_per_token=2, chunk_tokens=5),
        partial(slots.by_slot, n_chosen=2, chunk_tokens=5),
    ),
}
