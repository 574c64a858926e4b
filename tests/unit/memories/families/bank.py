"""Banks of learned embeddings under the contract."""

from functools import partial

from mnemoscope.memories import BankConfig
from tests.oracle import bank
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def case(config: BankConfig, parameters: int) -> Case:
    points = {"addressing": (B, T, config.n_slots), "read": (B, T, D_MODEL), "contribution": (B, T, D_MODEL)}
    return Case(
        config=config,
        oracle=partial(bank.memory, inverse_temperature=config.inverse_temperature or D_MODEL**-0.5),
        parameters=parameters,
        points=points | ({"gate": (B, T, D_MODEL)} if config.gated else {}),
    )


CASES = {
    "bank": case(BankConfig(n_slots=6), 6 * 16 + 2 * 16 * 16 + 2 * 16 * 16 + 16),
    "bank without gate": case(BankConfig(n_slots=6, gated=False), 6 * 16 + 2 * 16 * 16),
    "sharp bank": case(BankConfig(n_slots=6, inverse_temperature=1.5), 6 * 16 + 2 * 16 * 16 + 2 * 16 * 16 + 16),
}
