"""Memory as a context under the contract."""

from functools import partial

from mnemoscope.memories import GatedDeltaConfig
from mnemoscope.models.context import ContextConfig
from tests.oracle import context
from tests.unit.memories.families.case import D_MODEL, B, Case, T

BARE = GatedDeltaConfig(n_heads=2, convolution=0, normalise_read=False, output_gate=False)

CASES = {
    "gated delta rule as a context": Case(
        config=ContextConfig(memory=GatedDeltaConfig(n_heads=2), segment_tokens=5, n_persistent=3, n_heads=2),
    ),
    "bare gated delta rule as a context": Case(
        config=ContextConfig(memory=BARE, segment_tokens=7, n_persistent=0, n_heads=1),
        oracle=partial(context.memory, segment_tokens=7, n_heads=1, memory_heads=2),
        parameters=(4 * 16 * 16 + 2 * 16 + 2 * 16 + 2 + 2) + 4 * 16 * 16 + 2 * 16,
    ),
    "bare gated delta rule as a context with persistent tokens": Case(
        config=ContextConfig(memory=BARE, segment_tokens=32, n_persistent=3, n_heads=2),
        oracle=partial(context.memory, segment_tokens=32, n_heads=2, memory_heads=2),
        points={
            "recalled.read": (B, T, D_MODEL),
            "recalled.contribution": (B, T, D_MODEL),
            "memory.state": (B, T, 2, 8, 8),
            "memory.read": (B, T, 2, 8),
            "memory.contribution": (B, T, D_MODEL),
        },
    ),
}
