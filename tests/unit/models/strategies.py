"""Configurations at random, for the laws of layouts and files."""

import dataclasses

from hypothesis import strategies as st

from mnemoscope.memories import MEMORIES, AttentionConfig, BankConfig, GatedDeltaConfig
from mnemoscope.models import MixerConfig, ParallelConfig, SerialConfig, StackConfig
from tests.unit.memories.cases import CASES

attentions = st.builds(
    AttentionConfig,
    n_heads=st.sampled_from([1, 2, 4]),
    window=st.none() | st.integers(1, 40),
    positions=st.sampled_from(["rotary", "alibi", "none"]),
    convolution=st.integers(0, 4),
    normalise_qk=st.booleans(),
)
gated_deltas = st.builds(
    GatedDeltaConfig,
    n_heads=st.sampled_from([1, 2, 4]),
    head_width=st.none() | st.integers(1, 9),
    retains=st.booleans(),
    negative_eigenvalues=st.booleans(),
    convolution=st.integers(0, 4),
    normalise_read=st.booleans(),
    output_gate=st.booleans(),
) | st.builds(GatedDeltaConfig, erases=st.just(False), normalise_qk=st.booleans())
banks = st.builds(
    BankConfig,
    n_slots=st.integers(1, 300),
    inverse_temperature=st.none() | st.floats(1e-6, 1e6),
    gated=st.booleans(),
)
TRIED = [case.config for case in CASES.values() if case.config.kind in MEMORIES]
"""Every configuration that is held to the contract of a memory."""

# By number: a strategy that names them all is too long for hypothesis to print.
tried = st.integers(0, len(TRIED) - 1).map(lambda i: TRIED[i])

memories = attentions | gated_deltas | banks | tried


def compositions(parts: st.SearchStrategy[MixerConfig]) -> st.SearchStrategy[MixerConfig]:
    """Mixers made of others."""
    return (
        st.builds(ParallelConfig, memory=parts, beside=parts, gate_bias=st.floats(-5, 5))
        | st.builds(ParallelConfig, memory=parts, beside=parts, fusion=st.just("multiplicative"))
        | st.builds(SerialConfig, first=parts, second=parts)
    )


mixers = st.recursive(memories, compositions, max_leaves=3)
stacks = st.builds(
    StackConfig,
    vocab_size=st.integers(2, 50),
    d_model=st.sampled_from([8, 16]),
    mixers=st.lists(mixers, min_size=1, max_size=3).map(tuple),
    mlp_ratio=st.sampled_from([0.0, 1.0, 2.5]),
    tie_embeddings=st.booleans(),
) | st.builds(
    StackConfig,
    vocab_size=st.integers(2, 50),
    positions=st.just("learned"),
    max_tokens=st.integers(1, 1000),
)


def layout_of(mixer: MixerConfig) -> str:
    """A mixer as a layout writes it; every option is spelt out."""
    match mixer:
        case ParallelConfig(fusion="convex", gate_bias=0.0):
            return f"({layout_of(mixer.memory)} | {layout_of(mixer.beside)})"
        case ParallelConfig():
            parts = f"{layout_of(mixer.memory)}, {layout_of(mixer.beside)}"
            return f"parallel({parts}, fusion={mixer.fusion!r}, gate_bias={mixer.gate_bias!r})"
        case SerialConfig():
            return f"({layout_of(mixer.first)} >> {layout_of(mixer.second)})"
    options = {name: value for name, value in dataclasses.asdict(mixer).items() if name != "kind"}
    return f"{mixer.kind}({', '.join(f'{name}={value!r}' for name, value in options.items())})"
