"""Layouts: what is written is what is built, and what cannot be read is refused in so many words."""

import re
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.memories import MEMORIES, AttentionConfig, BankConfig, GatedDeltaConfig
from mnemoscope.memories.presets import PRESETS
from mnemoscope.models import MixerConfig, ParallelConfig, SerialConfig, parse_layout
from tests.unit.models.strategies import layout_of, memories, mixers

SLIDING = AttentionConfig(window=16)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("attention", (AttentionConfig(),)),
        ("bank()", (BankConfig(),)),
        ("attention(window=16), gated_delta", (SLIDING, GatedDeltaConfig())),
        ("gated_delta | attention(window=16)", (ParallelConfig(memory=GatedDeltaConfig(), beside=SLIDING),)),
        ("(attention(window=16), gated_delta(n_heads=2)) * 2", (SLIDING, GatedDeltaConfig(n_heads=2)) * 2),
        ("attention * 2, bank", (AttentionConfig(), AttentionConfig(), BankConfig())),
        ("(bank | attention) * 2", (ParallelConfig(memory=BankConfig()),) * 2),
        ("delta_net", (GatedDeltaConfig(retains=False),)),
        ("delta_net(n_heads=2)", (GatedDeltaConfig(retains=False, n_heads=2),)),
        ("delta_net(retains=True)", (GatedDeltaConfig(),)),
        ("gated_delta >> attention(window=16)", (SerialConfig(first=GatedDeltaConfig(), second=SLIDING),)),
        ("(bank >> attention) * 2", (SerialConfig(first=BankConfig()),) * 2),
        (
            "bank >> gated_delta | attention",
            (ParallelConfig(memory=SerialConfig(first=BankConfig(), second=GatedDeltaConfig())),),
        ),
        (
            "bank | gated_delta | attention",
            (ParallelConfig(memory=ParallelConfig(memory=BankConfig(), beside=GatedDeltaConfig())),),
        ),
        ("parallel(bank, attention, gate_bias=2)", (ParallelConfig(memory=BankConfig(), gate_bias=2.0),)),
        (
            "parallel(bank, attention(window=16), fusion='multiplicative')",
            (ParallelConfig(memory=BankConfig(), beside=SLIDING, fusion="multiplicative"),),
        ),
        ("serial(bank, delta_net)", (SerialConfig(first=BankConfig(), second=GatedDeltaConfig(retains=False)),)),
        ("(attention, gated_delta * 3) * 2", ((AttentionConfig(),) + (GatedDeltaConfig(),) * 3) * 2),
        ("  attention ( window = None )  ", (AttentionConfig(),)),
        ("bank(inverse_temperature=2)", (BankConfig(inverse_temperature=2.0),)),
    ],
)
def test_examples(layout: str, expected: tuple[MixerConfig, ...]):
    assert parse_layout(layout) == expected


layouts = given(written=st.lists(mixers, min_size=1, max_size=4), times=st.integers(1, 3))


@settings(max_examples=30)
@layouts
def test_what_is_written_is_what_is_built(written: list[MixerConfig], times: int):
    assert_built(written, times)


@pytest.mark.long
@settings(max_examples=300)
@layouts
def test_three_hundred_layouts_are_built_as_written(written: list[MixerConfig], times: int):
    assert_built(written, times)


def assert_built(written: list[MixerConfig], times: int) -> None:
    expected = tuple(written)
    layout = ", ".join(layout_of(mixer) for mixer in written)
    assert parse_layout(layout) == expected
    assert parse_layout(f"({layout},) * {times}") == expected * times


@given(memory=memories)
def test_spaces_do_not_matter(memory: MixerConfig):
    layout = layout_of(memory)
    assert parse_layout(f" {layout.replace('=', ' = ').replace('(', ' ( ')} ") == parse_layout(layout) == (memory,)


ALTERNATIVES = "is neither a memory, nor memory(option=value), nor a | b, nor a >> b, nor (a, b) * n"
LITERAL = "must be a number, True, False, None, a string or a tuple of them"
KNOWN = "known: " + ", ".join(sorted([*MEMORIES, *PRESETS]))
ATTENTION_OPTIONS = "known: convolution, n_heads, normalise_qk, positions, smallest_window, window"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("atention", f"unknown memory 'atention'; did you mean 'attention'? {KNOWN}"),
        ("zzzz", f"unknown memory 'zzzz'; {KNOWN}"),
        ("bank, gated_dleta", "unknown memory 'gated_dleta'; did you mean 'gated_delta'?"),
        ("attention(windw=3)", f"attention an unknown option 'windw'; did you mean 'window'? {ATTENTION_OPTIONS}"),
        ("attention(kind='bank')", "attention an unknown option 'kind'"),
        ("attention(**{'window': 3})", "attention an unknown option \"**{'window': 3}\""),
        ("attention(window=3, window=4)", "layout gives attention the option 'window' twice; keep one"),
        ("attention(", "layout 'attention(' cannot be read at column 10; write for instance 'attention(window=16)"),
        ("", "layout '' cannot be read at column 1"),
        ("attention; bank", "cannot be read at column 10"),
        ("attention(window=16) gated_delta", "cannot be read at column"),
        ("attention(16)", f"'attention(16)' {ALTERNATIVES}"),
        ("[attention]", f"'[attention]' {ALTERNATIVES}"),
        ("attention * 0", f"'attention * 0' {ALTERNATIVES}"),
        ("attention * n", f"'attention * n' {ALTERNATIVES}"),
        ("bank | 3", f"'3' {ALTERNATIVES}"),
        ("(bank, attention) | bank", f"'(bank, attention)' {ALTERNATIVES}"),
        ("parallel(bank)", "parallel must be given memory and beside in this order, got 1 of them"),
        ("parallel(bank, attention, gate=2)", "parallel an unknown option 'gate'; did you mean 'gate_bias'?"),
        ("parallel(bank, attention, memory=2)", "parallel an unknown option 'memory'"),
        ("parallel(bank, attention, fusion='sum')", "layout: parallel.fusion: Input should be 'convex' or"),
        ("parallel(bank, bank, fusion='multiplicative', gate_bias=1)", "parallel.gate_bias must be 0 where fusion="),
        ("memories.attention", f"'memories.attention' {ALTERNATIVES}"),
        ("attention(window=wide)", f"attention.window {LITERAL}, got 'wide'"),
        ("attention(window=8 * 2)", f"attention.window {LITERAL}, got '8 * 2'"),
        ("attention(window=[16])", f"attention.window {LITERAL}, got '[16]'"),
        ("bank(n_slots={1: 2, [1]: 3})", f"bank.n_slots {LITERAL}"),
        ("attention(window=__import__('os').getcwd())", f"attention.window {LITERAL}"),
        ("attention(window='16')", "attention.window: Input should be a valid integer, got '16'"),
        ("attention(n_heads=2.5)", "attention.n_heads: Input should be a valid integer, got 2.5"),
        ("attention(n_heads=True)", "attention.n_heads: Input should be a valid integer, got True"),
        ("attention(normalise_qk=1)", "attention.normalise_qk: Input should be a valid boolean, got 1"),
        ("attention(n_heads='a', window='b')", "got 'a'; layout: attention.window"),
        ("attention(window=-1)", "attention.window must be at least 1 token, or None for all, got -1"),
        ("bank(inverse_temperature=1e999)", "bank.inverse_temperature must be positive and finite"),
        ("gated_delta(normalise_qk=False)", "gated_delta.normalise_qk must be on where erases=True"),
    ],
)
def test_refusals(layout: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_layout(layout)


@given(st.text(alphabet="attention(),|*>=2 window", max_size=30))
def test_any_text_is_read_or_refused(layout: str):
    with suppress(ValueError):
        assert isinstance(parse_layout(layout), tuple)
