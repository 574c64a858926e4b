"""The gate of a parallel mixer; its recurrence, costs and read points are tested with those of the memories."""

import pytest
import torch

from mnemoscope.memories import AttentionConfig, BankConfig, GatedDeltaConfig
from mnemoscope.models import Parallel, ParallelConfig, SerialConfig
from mnemoscope.models.mixers import build_mixer
from tests.tolerances import FLOAT64, assert_close


def test_a_gated_delta_memory_beside_attention_is_the_default():
    assert ParallelConfig() == ParallelConfig(memory=GatedDeltaConfig(), beside=AttentionConfig(), gate_bias=0.0)


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
@torch.no_grad()
def test_the_gate_starts_at_its_bias(bias: float):
    torch.manual_seed(0)
    mixer = Parallel(ParallelConfig(memory=BankConfig(n_slots=3), gate_bias=bias), 16).double()
    mixer.fusion.mix.weight.zero_()
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    gate = torch.sigmoid(torch.tensor(bias, dtype=torch.float64))
    expected = gate * mixer.memory.inner(x)[0] + (1 - gate) * mixer.beside.inner(x)[0]
    assert_close(mixer(x)[0], expected, FLOAT64)


@torch.no_grad()
def test_the_gate_looks_at_both_sides_channel_by_channel():
    torch.manual_seed(0)
    mixer = build_mixer(ParallelConfig(memory=BankConfig(n_slots=3)), 16).double()
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    memory, beside = mixer.memory.inner(x)[0][0], mixer.beside.inner(x)[0][0]
    for t in range(5):
        gate = (mixer.fusion.mix.weight @ torch.cat([memory[t], beside[t]]) + mixer.fusion.mix.bias).sigmoid()
        assert_close(mixer(x)[0][0, t], gate * memory[t] + (1 - gate) * beside[t], FLOAT64)


@torch.no_grad()
def test_a_memory_as_a_gate_multiplies_two_norms():
    torch.manual_seed(0)
    config = ParallelConfig(memory=BankConfig(n_slots=3), fusion="multiplicative")
    mixer = build_mixer(config, 16).double()
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    memory, beside = mixer.memory.inner(x)[0][0], mixer.beside.inner(x)[0][0]
    for t in range(5):
        m, a = (side[t] / (side[t].square().mean() + 1e-6).sqrt() for side in (memory, beside))
        assert_close(mixer(x)[0][0, t], a / (1 + (-m).exp()), FLOAT64)


@torch.no_grad()
def test_a_serial_mixer_is_the_second_of_the_first():
    torch.manual_seed(0)
    mixer = build_mixer(SerialConfig(first=BankConfig(n_slots=3)), 16).double()
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    assert_close(mixer(x)[0], mixer.second(mixer.first(x)[0])[0], FLOAT64)
