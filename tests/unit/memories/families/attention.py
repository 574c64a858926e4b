"""Softmax attention under the contract."""

from functools import partial

from mnemoscope.memories import AttentionConfig
from tests.oracle import attention
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def case(config: AttentionConfig, parameters: int | None = None) -> Case:
    return Case(
        config=config,
        oracle=partial(attention.memory, n_heads=config.n_heads, window=config.window, positions=config.positions),
        parameters=parameters,
        points={"addressing": (B, config.n_heads, T, T), "read": (B, T, D_MODEL), "contribution": (B, T, D_MODEL)},
        on_demand=("addressing",),
    )


CASES = {
    "attention with alibi": case(AttentionConfig(n_heads=2, positions="alibi")),
    "attention with alibi over 7": case(AttentionConfig(n_heads=4, positions="alibi", window=7)),
    "attention over a stochastic window": case(AttentionConfig(n_heads=2, window=16, smallest_window=4)),
    "attention": case(AttentionConfig(n_heads=2), 4 * 16 * 16),
    "attention without rotary": case(AttentionConfig(n_heads=2, positions="none")),
    "attention with normalised qk": case(AttentionConfig(n_heads=2, normalise_qk=True), 4 * 16 * 16 + 2 * 8),
    "attention with convolution": case(AttentionConfig(n_heads=2, convolution=4), 4 * 16 * 16 + 4 * 3 * 16),
    "attention with one tap": case(AttentionConfig(n_heads=1, convolution=1)),
    "attention over 16": case(AttentionConfig(n_heads=2, window=16)),
    "attention over 2": case(AttentionConfig(n_heads=4, window=2)),
    "attention over 16 without rotary": case(AttentionConfig(n_heads=2, window=16, positions="none")),
    "attention over 7 with everything": case(AttentionConfig(n_heads=2, window=7, convolution=3, normalise_qk=True)),
}
