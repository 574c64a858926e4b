"""Memories side by side and one after the other under the contract."""

from mnemoscope.memories import AttentionConfig, BankConfig, GatedDeltaConfig
from mnemoscope.models.mixers import ParallelConfig, SerialConfig
from tests.unit.memories.families.case import D_MODEL, B, Case, T

CASES = {
    "gated delta rule beside attention": Case(
        config=ParallelConfig(memory=GatedDeltaConfig(n_heads=2), beside=AttentionConfig(n_heads=2, window=16)),
        points={
            "memory.inner.state": (B, T, 2, 8, 8),
            "memory.inner.read": (B, T, 2, 8),
            "memory.inner.contribution": (B, T, D_MODEL),
            "memory.gate": (B, T, D_MODEL),
            "memory.contribution": (B, T, D_MODEL),
            "beside.inner.addressing": (B, 2, T, T),
            "beside.inner.read": (B, T, D_MODEL),
            "beside.inner.contribution": (B, T, D_MODEL),
            "beside.gate": (B, T, D_MODEL),
            "beside.contribution": (B, T, D_MODEL),
        },
    ),
    "bank beside full attention": Case(
        config=ParallelConfig(memory=BankConfig(n_slots=6), beside=AttentionConfig(n_heads=2), gate_bias=1.0)
    ),
    "gated delta rule gates attention": Case(
        config=ParallelConfig(
            memory=GatedDeltaConfig(n_heads=2), beside=AttentionConfig(n_heads=2, window=16), fusion="multiplicative"
        ),
        points={
            "memory.inner.state": (B, T, 2, 8, 8),
            "memory.inner.read": (B, T, 2, 8),
            "memory.inner.contribution": (B, T, D_MODEL),
            "memory.contribution": (B, T, D_MODEL),
            "beside.inner.addressing": (B, 2, T, T),
            "beside.inner.read": (B, T, D_MODEL),
            "beside.inner.contribution": (B, T, D_MODEL),
            "beside.contribution": (B, T, D_MODEL),
        },
    ),
    "gated delta rule before attention": Case(
        config=SerialConfig(first=GatedDeltaConfig(n_heads=2), second=AttentionConfig(n_heads=2, window=16)),
        points={
            "first.state": (B, T, 2, 8, 8),
            "first.read": (B, T, 2, 8),
            "first.contribution": (B, T, D_MODEL),
            "second.addressing": (B, 2, T, T),
            "second.read": (B, T, D_MODEL),
            "second.contribution": (B, T, D_MODEL),
        },
    ),
    "three side by side": Case(
        config=ParallelConfig(
            memory=GatedDeltaConfig(n_heads=2),
            beside=ParallelConfig(memory=BankConfig(n_slots=3), beside=AttentionConfig(n_heads=2)),
        ),
        long=True,
    ),
}
