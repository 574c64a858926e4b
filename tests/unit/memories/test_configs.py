"""Configurations refuse what cannot work, and say where, what and how to mend it."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mnemoscope.memories import MEMORIES, AttentionConfig, BankConfig, GatedDeltaConfig, build_memory
from mnemoscope.memories.parts import ShortConvolution, require

REFUSED = [
    (lambda: AttentionConfig(n_heads=0), "attention.n_heads must be at least 1, got 0; use 1 or more"),
    (lambda: AttentionConfig(window=0), "attention.window must be at least 1 token, or None for all, got 0; use 1"),
    (lambda: AttentionConfig(smallest_window=4), "attention.smallest_window must be from 1 to window=None, and None"),
    (lambda: AttentionConfig(window=8, smallest_window=9), "attention.smallest_window must be from 1 to window=8"),
    (lambda: AttentionConfig(convolution=-1), "attention.convolution must be 0 taps or more, got -1; use 0 for none"),
    (lambda: GatedDeltaConfig(n_heads=-2), "gated_delta.n_heads must be at least 1, got -2"),
    (lambda: GatedDeltaConfig(head_width=0), "gated_delta.head_width must be at least 1, or None"),
    (lambda: GatedDeltaConfig(convolution=-1), "gated_delta.convolution must be 0 taps or more"),
    (lambda: GatedDeltaConfig(normalise_qk=False), "gated_delta.normalise_qk must be on where erases=True"),
    (
        lambda: GatedDeltaConfig(erases=False, negative_eigenvalues=True),
        "gated_delta.negative_eigenvalues must be off where erases=False",
    ),
    (lambda: BankConfig(n_slots=0), "bank.n_slots must be at least 1, got 0; use 1 for a learned constant"),
    (lambda: BankConfig(inverse_temperature=0.0), "bank.inverse_temperature must be positive and finite"),
    (lambda: BankConfig(inverse_temperature=float("inf")), "bank.inverse_temperature must be positive and finite"),
    (
        lambda: build_memory(AttentionConfig(n_heads=3), 16),
        "attention: d_model must be a multiple of n_heads=3",
    ),
    (lambda: build_memory(AttentionConfig(n_heads=2), 6), "attention: channels a head must be even for rotary"),
    (lambda: build_memory(GatedDeltaConfig(n_heads=3), 16), "gated_delta: d_model must be a multiple of n_heads=3"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_a_variant_is_validated_again():
    with pytest.raises(ValueError, match=r"attention\.window"):
        replace(AttentionConfig(), window=-1)


@pytest.mark.parametrize("kind", MEMORIES)
def test_every_kind_builds_its_module(kind: str):
    config_class, module_class = MEMORIES[kind]
    config = config_class()
    assert config.kind == kind
    memory = build_memory(config, 16)
    assert type(memory) is module_class
    assert memory.config is config


def test_what_works_passes():
    require(True, "here", "anything", None, "nothing to mend")
    build_memory(AttentionConfig(n_heads=2, positions="none"), 6)
    build_memory(GatedDeltaConfig(n_heads=3, head_width=4), 16)


@pytest.mark.parametrize("seed", range(3))
def test_retention_starts_between_a_thousandth_and_a_tenth_of_the_rate(seed: int):
    torch.manual_seed(seed)
    memory = build_memory(GatedDeltaConfig(n_heads=16), 64)
    step = torch.nn.functional.softplus(memory.retention_gate.bias)
    assert (step > 0.99e-3).all()
    assert (step < 1.01e-1).all()
    assert (memory.log_rate.exp() >= 1).all()
    assert (memory.log_rate.exp() <= 16).all()


@pytest.mark.parametrize("taps", [1, 3, 4])
def test_a_short_convolution_starts_even_over_its_taps(taps: int):
    torch.manual_seed(0)
    kernel = ShortConvolution(20_000, taps).weight
    assert kernel.abs().max() <= taps**-0.5
    # A uniform draw has a third of its squared bound as its variance.
    spread = kernel.square().mean(0) * 3 * taps
    assert (spread - 1).abs().max() < 0.05
    assert kernel.mean(0).abs().max() < 0.02


def test_the_tail_is_the_last_inputs():
    convolution, x = ShortConvolution(8, 4), torch.randn(2, 50, 8)
    assert torch.equal(convolution(x, convolution.init_tail(2))[1], x[:, -3:])


@pytest.mark.parametrize("taps", [0, 1])
def test_a_convolution_without_a_past_has_no_tail(taps: int):
    convolution, x = ShortConvolution(4, taps), torch.randn(2, 5, 4)
    y, tail = convolution(x, convolution.init_tail(2))
    assert tail.shape == (2, 0, 4)
    assert torch.equal(y, x if taps == 0 else x * convolution.weight[:, 0])
