"""Advice on layouts: each rule by hand, and the laws that hold for all."""

import pytest
import torch
from hypothesis import given, settings

from mnemoscope.models import StackConfig, build, parse_layout
from mnemoscope.training.remedies.advice import ADVICE, advise, swapped
from tests.unit.models.strategies import stacks


def _advised(layout: str, n_tokens: int = 64) -> dict[str, str]:
    config = StackConfig.of(layout, vocab_size=8, d_model=16)
    return {finding.rule.name: finding.layout for finding in advise(config, n_tokens)}


def test_each_rule_by_hand() -> None:
    assert _advised("attention(n_heads=2), attention(window=8), linear_attention(n_heads=2), gated_delta") == {
        "memory_first": "linear_attention(n_heads=2), attention(n_heads=2), attention(window=8), gated_delta",
        "small_windows": "attention(n_heads=2, window=8), attention(window=8), "
        "linear_attention(n_heads=2), gated_delta",
        "no_positions_on_full_attention": "attention(n_heads=2, positions='none'), attention(window=8), "
        "linear_attention(n_heads=2), gated_delta",
        "gate_and_delta_rule": "attention(n_heads=2), attention(window=8), gated_delta(n_heads=2), gated_delta",
        "negative_eigenvalues": "attention(n_heads=2), attention(window=8), linear_attention(n_heads=2), "
        "gated_delta(negative_eigenvalues=True)",
    }


def test_rules_reach_into_compositions() -> None:
    advised = _advised("parallel(gated_delta(retains=False), attention(window=17), gate_bias=1), context(gated_delta)")
    assert advised["small_windows"] == (
        "parallel(gated_delta(retains=False), attention(window=8), gate_bias=1.0), context(gated_delta)"
    )
    assert advised["gate_and_delta_rule"].startswith("parallel(gated_delta, attention(window=17)")
    assert advised["negative_eigenvalues"].endswith("context(gated_delta(negative_eigenvalues=True))")
    assert "memory_first" not in advised


def test_a_controller_is_narrowed() -> None:
    advised = _advised("ntm(output='controller_and_reads', forget_bias=2.0)")
    assert advised == {"plain_controller": "ntm(controller='feed_forward')"}


@pytest.mark.parametrize(
    "layout",
    [
        "attention * 2",
        "feed_forward, attention",
        "gated_delta(negative_eigenvalues=True), attention(window=16)",
        "gated_delta(negative_eigenvalues=True) | attention(window=16)",
    ],
)
def test_where_there_is_nothing_to_say_nothing_is_said(layout: str) -> None:
    assert _advised(layout) == {}


def test_a_window_is_wide_by_the_length_of_the_sequences() -> None:
    assert "small_windows" not in _advised("gated_delta, attention(window=16)", n_tokens=64)
    assert _advised("gated_delta, attention(window=17)", n_tokens=64)["small_windows"] == (
        "gated_delta, attention(window=8)"
    )
    assert _advised("gated_delta, attention(window=48)", n_tokens=48)["no_positions_on_full_attention"] == (
        "gated_delta, attention(window=48, positions='none')"
    )
    with pytest.raises(ValueError, match="advise: n_tokens must be at least 1, got 0"):
        _advised("attention", n_tokens=0)


@given(stacks)
@settings(max_examples=15, deadline=None)
def test_what_is_advised_is_another_stack_and_enough(config: StackConfig) -> None:
    for finding in advise(config, 32):
        assert finding.config != config
        assert parse_layout(finding.layout) == finding.config.mixers
        assert finding.rule not in [again.rule for again in advise(finding.config, 32)]


def test_what_is_advised_can_be_built_and_run() -> None:
    config = StackConfig.of("attention(n_heads=1), mamba, linear_attention(n_heads=2)", vocab_size=8, d_model=6)
    for finding in advise(config, 16):
        logits = build(finding.config, 0)(torch.zeros(1, 4, dtype=torch.int64))
        assert logits.shape == (1, 4, 8)
        assert finding.layout in str(finding)
        assert finding.rule.source in str(finding)


def test_every_rule_says_why_and_where_from() -> None:
    names = [rule.name for rule in ADVICE]
    assert len(set(names)) == len(names)
    assert all(rule.says and ("arXiv" in rule.source or "folklore" in rule.source) for rule in ADVICE)


def test_a_mixer_is_swapped_wherever_it_stands() -> None:
    config = StackConfig.of("linear_attention | attention, context(linear_attention), attention", vocab_size=8)
    other = swapped(config, "gated_delta(n_heads=2)", replaces="linear_attention")
    expected = "gated_delta(n_heads=2) | attention, context(gated_delta(n_heads=2)), attention"
    assert other == StackConfig.of(expected, vocab_size=8)


def test_swaps_that_cannot_be_are_refused() -> None:
    config = StackConfig.of("context(gated_delta), attention", vocab_size=8)
    with pytest.raises(
        ValueError, match="replaces must be one of attention, gated_delta, which the stack has, got 'ntm'"
    ):
        swapped(config, "mamba", replaces="ntm")
    with pytest.raises(ValueError, match="mixer must be one block, got 2"):
        swapped(config, "mamba, mamba", replaces="attention")
    with pytest.raises(ValueError, match="within context stands a single memory, got parallel"):
        swapped(config, "mamba | attention", replaces="gated_delta")
