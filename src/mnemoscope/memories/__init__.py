"""The memory mechanisms of the literature, one readable file each.

May live here: one file per mechanism, in the order docstring with equations and source, Config, State, Module with
`step` (reads like the paper) and `forward` (the fast form), costs. May import: ops, contracts.
"""

from typing import Annotated

from pydantic import Field

from mnemoscope.memories.attention import Attention, AttentionConfig
from mnemoscope.memories.bank import Bank, BankConfig
from mnemoscope.memories.gated_delta import GatedDelta, GatedDeltaConfig

AnyMemoryConfig = AttentionConfig | BankConfig | GatedDeltaConfig
Memory = Attention | Bank | GatedDelta
MemoryConfig = Annotated[AnyMemoryConfig, Field(discriminator="kind")]

MEMORIES: dict[str, tuple[type[AnyMemoryConfig], type[Memory]]] = {
    "attention": (AttentionConfig, Attention),
    "bank": (BankConfig, Bank),
    "gated_delta": (GatedDeltaConfig, GatedDelta),
}
"""Every mechanism by the `kind` of its configuration."""


def build_memory(config: AnyMemoryConfig, d_model: int) -> Memory:
    """The module of a configuration, initialised from torch's global generator."""
    return MEMORIES[config.kind][1](config, d_model)  # pyright: ignore[reportArgumentType]


__all__ = [
    "MEMORIES",
    "AnyMemoryConfig",
    "Attention",
    "AttentionConfig",
    "Bank",
    "BankConfig",
    "GatedDelta",
    "GatedDeltaConfig",
    "Memory",
    "MemoryConfig",
    "build_memory",
]
