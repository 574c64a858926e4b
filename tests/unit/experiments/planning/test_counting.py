"""What is counted without computing: against the memories' own counts, against torch, and against closed forms."""

import pytest
import torch
from torch import nn

from mnemoscope.experiments.planning.check import step_peak_bytes
from mnemoscope.experiments.planning.tracing import step_of, trace, trace_decoding
from mnemoscope.experiments.planning.work import Counting, Work, counted_flops
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.training import TrainConfig

CONFIG = TrainConfig(steps=10, warmup_steps=0)


def stack_of(layout: str, d_model: int = 32) -> StackConfig:
    return StackConfig.of(layout, vocab_size=64, d_model=d_model)


V2 = "mosaic_v2(short_window=64, long_delay=4, longest_delay=8)"
"""Its weights are drawn from a truncated normal."""


@pytest.mark.parametrize("layout", ["attention", "linear_attention", "mamba2", "attention(window=16), gated_delta", V2])
def test_flops_of_a_forward_pass_are_those_that_the_memories_count(layout: str):
    config = stack_of(layout)
    traced = trace(lambda: Stack(config), 2, 64, CONFIG)
    assert traced.forward.flops == build(config, 0).flops(2, 64)
    assert 2.9 < traced.step.flops / traced.forward.flops < 3.2


def test_weights_gradients_and_moments_are_counted_once():
    config = stack_of("gated_delta")
    model, traced = build(config, 0), trace(lambda: Stack(config), 2, 32, CONFIG)
    n = sum(parameter.numel() for parameter in model.parameters())
    assert traced.n_parameters == n
    assert traced.weight_bytes == traced.gradient_bytes == 4 * n
    assert traced.optimiser_bytes == 8 * n + 4 * len(list(model.parameters()))


@pytest.mark.parametrize("layout", ["linear_attention", "mamba2"])
def test_the_peak_of_a_step_is_that_of_torchs_allocator_but_for_what_kernels_take(layout: str):
    config = stack_of(layout)
    traced = trace(lambda: Stack(config), 4, 64, CONFIG)
    measured = step_peak_bytes(step_of(build(config, 0), 4, 64, CONFIG))
    assert traced.peak_bytes - traced.weight_bytes - traced.optimiser_bytes == pytest.approx(measured, rel=0.1)


def test_activations_grow_with_the_batch_and_shrink_in_bfloat16():
    config = stack_of("linear_attention")
    small, large = (trace(lambda: Stack(config), batch, 64, CONFIG) for batch in (2, 4))
    mixed = trace(lambda: Stack(config), 4, 64, TrainConfig(steps=10, warmup_steps=0, precision="bf16-mixed"))
    assert large.activation_bytes == pytest.approx(2 * small.activation_bytes, rel=0.05)
    assert mixed.activation_bytes < large.activation_bytes
    assert mixed.weight_bytes == large.weight_bytes


@pytest.mark.parametrize(("layout", "grows"), [("gated_delta", False), ("attention", True)])
def test_the_state_of_a_stream_is_the_memories_own_count(layout: str, grows: bool):
    config = stack_of(layout)
    decoded = trace_decoding(lambda: Stack(config), 32)
    assert decoded.state_bytes == build(config, 0).state_bytes(1, 32)
    assert (decoded.later_state_bytes > decoded.state_bytes) is grows
    assert decoded.work.flops > 0


def test_bytes_of_an_operation_are_what_it_reads_and_writes():
    a, b = torch.ones(8, 4), torch.ones(1, 4)
    with Counting() as counting:
        (a + b.expand(8, 4)).reshape(4, 8)
    assert counting.work.n_bytes == 4 * (32 + 4 + 32)
    assert counting.work.flops == 0


def test_memory_that_is_let_go_is_not_held():
    with Counting() as counting:
        first = torch.zeros(1024)
        del first
        second = torch.zeros(256)
    assert (counting.held, counting.peak) == (1024, 4096)
    assert second.numel() == 256


def test_operations_beyond_the_cache_are_large_and_fused_attention_has_its_own_flops():
    query = torch.ones(1, 1, 16, 8)
    with Counting() as counting:
        nn.functional.scaled_dot_product_attention(query, query, query)
        torch.zeros(2**19) + 1
    assert counting.work.attention_flops == counting.work.flops == 2 * 2 * 16 * 16 * 8
    assert counting.work.large_bytes >= 2 * 4 * 2**19
    assert counting.work.small_bytes < 2**20


def test_work_adds_and_subtracts():
    assert Work(n_ops=2, flops=3) + Work(n_ops=1) - Work(flops=1) == Work(n_ops=3, flops=2)


def test_flops_of_a_block_are_counted_while_it_runs():
    a = torch.ones(4, 5)
    assert counted_flops(lambda: a @ a.T) == 2 * 4 * 5 * 4
