"""What is written as a layout is read back as the same mixers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.memories import GatedDeltaConfig
from mnemoscope.models import ContextConfig, MixerConfig, parse_layout
from mnemoscope.models.written import write_layout
from tests.unit.models.strategies import mixers


@given(st.lists(mixers | st.builds(ContextConfig, n_heads=st.sampled_from([1, 2])), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_layouts_are_read_back(blocks: list[MixerConfig]) -> None:
    assert parse_layout(write_layout(blocks)) == tuple(blocks)


@pytest.mark.parametrize(
    "layout",
    [
        "attention(window=16), gated_delta",
        "gated_delta | attention(window=16)",
        "gated_delta >> attention",
        "parallel(gated_delta, attention, gate_bias=2.0)",
        "(gated_delta | attention) * 3, attention * 2",
        "parallel(serial(gated_delta, attention), attention, fusion='multiplicative')",
        "context(gated_delta(n_heads=2), segment_tokens=16)",
    ],
)
def test_the_shortest_layout_is_written(layout: str) -> None:
    expected = layout.replace("serial(gated_delta, attention)", "gated_delta >> attention")
    assert write_layout(parse_layout(layout)) == expected


def test_options_at_their_defaults_are_left_out() -> None:
    assert write_layout([GatedDeltaConfig(n_heads=4, retains=False)]) == "gated_delta(retains=False)"
