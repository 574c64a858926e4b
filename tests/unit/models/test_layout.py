"""Layouts: what is written is what is built, and what cannot be read is refused in so many words."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.memories import AttentionConfig, BankConfig, GatedDeltaConfig
from mnemoscope.models import MixerConfig, ParallelConfig, parse_layout
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
        ("  attention ( window = None )  ", (AttentionConfig(),)),
        ("bank(inverse_temperature=2)", (BankConfig(inverse_temperature=2.0),)),
    ],
)
def test_examples(layout: str, expected: tuple[MixerConfig, ...]):
    assert parse_layout(layout) == expected


@given(written=st.lists(mixers, min_size=1, max_size=4), times=st.integers(1, 3))
def test_what_is_written_is_what_is_built(written: list[MixerConfig], times: int):
    # A layout has no word for the gate's bias.
    expected = tuple(
        ParallelConfig(memory=m.memory, beside=m.beside) if isinstance(m, ParallelConfig) else m for m in written
    )
    layout = ", ".join(layout_of(mixer) for mixer in written)
    assert parse_layout(layout) == expected
    assert parse_layout(f"({layout},) * {times}") == expected * times


@given(memory=memories)
def test_spaces_do_not_matter(memory: MixerConfig):
    layout = layout_of(memory)
    assert parse_layout(f" {layout.replace('=', ' = ').replace('(', ' ( ')} ") == parse_layout(layout) == (memory,)


ALTERNATIVES = "is neither a memory, nor memory(option=value), nor a | b, nor (a, b) * n"
LITERAL = "must be a number, True, False, None or a string"
ATTENTION_OPTIONS = "known: convolution, n_heads, normalise_qk, positions, smallest_window, window"


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("atention", "unknown memory 'atention'; did you mean 'attention'? known: attention, bank, gated_delta"),
        ("quantum", "unknown memory 'quantum'; known: attention, bank, gated_delta"),
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
        ("bank | attention | bank", f"'bank | attention' {ALTERNATIVES}"),
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


@given(st.text(alphabet="attention(),|*=2 window", max_size=30))
def test_any_text_is_read_or_refused(layout: str):
    with suppress(ValueError):
        assert isinstance(parse_layout(layout), tuple)
