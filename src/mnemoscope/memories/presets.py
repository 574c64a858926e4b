"""Published memories that are special cases of a mechanism, by the name the literature knows them under."""

from mnemoscope.memories import AnyMemoryConfig
from mnemoscope.memories.gated_delta import GatedDeltaConfig

PRESETS: dict[str, AnyMemoryConfig] = {
    "delta_net": GatedDeltaConfig(retains=False),
}
"""A layout may name a preset in place of a mechanism, and change its options."""
