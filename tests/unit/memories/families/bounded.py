"""Contextual memories of bounded size under the contract."""

from functools import partial

from mnemoscope.memories import BoundedConfig
from tests.oracle import bounded
from tests.unit.memories.families.case import D_MODEL, B, Case, T

PARAMETERS = 3 * 16 * 16 + 2 * (1 + 1 + 1 + 1)
"""Keys, values and output; per head the leak, the peek and two scales."""


def case(config: BoundedConfig, parameters: int | None = None, *, long: bool = False) -> Case:
    h = config.n_heads
    return Case(
        config=config,
        oracle=partial(
            bounded.memory,
            n_heads=h,
            capacity=config.capacity,
            policy=config.policy,
            retention=0.99 if config.usage_retention is None else config.usage_retention,
        ),
        parameters=parameters,
        points={
            "addressing": (B, h, T, config.capacity),
            "read": (B, T, h, D_MODEL // h),
            "contribution": (B, T, D_MODEL),
        },
        on_demand=("addressing",),
        constant_start=True,
        long=long,
    )


CASES = {
    "bounded by a ring": case(BoundedConfig(n_heads=2, capacity=7), PARAMETERS),
    "bounded by least recent use": case(BoundedConfig(n_heads=2, capacity=7, policy="lru"), PARAMETERS),
    "bounded by merging": case(BoundedConfig(n_heads=2, capacity=7, policy="merge"), PARAMETERS),
    "bounded by a ring of forty": case(BoundedConfig(n_heads=2, capacity=40), long=True),
    "bounded by least recent use that fades fast": case(
        BoundedConfig(n_heads=4, capacity=12, policy="lru", usage_retention=0.8), long=True
    ),
    "bounded by merging beyond 24": case(BoundedConfig(n_heads=4, capacity=24, policy="merge"), long=True),
}
