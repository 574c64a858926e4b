"""State-space memories beside transformers' blocks with the same weights; starts; refusals; compilation."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.memories import Mamba2Config, MambaConfig, MLSTMConfig, RGLRUConfig, build_memory
from tests.tolerances import BFLOAT16, FLOAT32_GRADIENT, FLOAT64, PEER_FLOAT32, assert_close
from tests.unit.memories.cases import inputs, mixer_of

D = 16


def load(peer: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Every parameter of the peer gets a value; none is left as it was drawn."""
    peer.load_state_dict(
        {name: tensor.detach().reshape(peer.get_parameter(name).shape) for name, tensor in weights.items()}
    )


def assert_same(mixer: nn.Module, theirs: Callable[[Tensor], Tensor], n_tokens: int) -> None:
    x = inputs(n_tokens).float()
    results = []
    for run in (lambda x: mixer(x)[0], theirs):
        given = x.clone().requires_grad_()
        y = run(given)
        results.append((y, torch.autograd.grad(y.square().sum(), given)[0]))
    (ours, our_gradient), (peers, peer_gradient) = results
    assert_close(ours, peers, PEER_FLOAT32)
    assert_close(our_gradient, peer_gradient, FLOAT32_GRADIENT)


@pytest.mark.parametrize("n_tokens", [1, 40])
def test_mamba_is_transformers_mixer(n_tokens: int):
    module = import_module("transformers.models.mamba.modeling_mamba")
    config = module.MambaConfig(hidden_size=D, state_size=4, time_step_rank=1, num_hidden_layers=1)
    mixer, peer = mixer_of("mamba", torch.float32), module.MambaMixer(config, layer_idx=0)
    load(
        peer,
        {
            "in_proj.weight": mixer.inputs.weight,
            "conv1d.weight": mixer.convolution.weight,
            "conv1d.bias": mixer.convolution_bias,
            "x_proj.weight": mixer.selection.weight,
            "dt_proj.weight": mixer.step_projection.weight,
            "dt_proj.bias": mixer.step_projection.bias,
            "A_log": mixer.log_rate,
            "D": mixer.skip,
            "out_proj.weight": mixer.out.weight,
        },
    )
    assert_same(mixer, peer, n_tokens)


@pytest.mark.parametrize("n_tokens", [1, 40])
def test_mamba_2_is_transformers_mixer(n_tokens: int):
    module = import_module("transformers.models.mamba2.modeling_mamba2")
    config = module.Mamba2Config(
        hidden_size=D,
        state_size=5,
        num_heads=4,
        head_dim=8,
        n_groups=2,
        chunk_size=16,
        num_hidden_layers=1,
        layer_norm_epsilon=1e-6,
    )
    mixer, peer = mixer_of("mamba-2 with groups", torch.float32), module.Mamba2Mixer(config, layer_idx=0)
    load(
        peer,
        {
            "in_proj.weight": mixer.inputs.weight,
            "conv1d.weight": mixer.convolution.weight,
            "conv1d.bias": mixer.convolution_bias,
            "dt_bias": mixer.step_bias,
            "A_log": mixer.log_rate,
            "D": mixer.skip,
            "norm.weight": mixer.norm_scale,
            "out_proj.weight": mixer.out.weight,
        },
    )
    assert_same(mixer, peer, n_tokens)


@pytest.mark.parametrize("n_tokens", [2, 40])
def test_rg_lru_is_transformers_block(n_tokens: int):
    module = import_module("transformers.models.recurrent_gemma.modeling_recurrent_gemma")
    config = module.RecurrentGemmaConfig(hidden_size=D, lru_width=D, num_attention_heads=4, num_hidden_layers=3)
    mixer, peer = mixer_of("rg-lru", torch.float32), module.RecurrentGemmaRecurrentBlock(config, 0)
    linear_x, linear_y = mixer.inputs.weight.chunk(2)
    nothing = torch.zeros(D)
    load(
        peer,
        {
            "linear_x.weight": linear_x,
            "linear_x.bias": nothing,
            "linear_y.weight": linear_y,
            "linear_y.bias": nothing,
            "linear_out.weight": mixer.out.weight,
            "linear_out.bias": nothing,
            "conv_1d.weight": mixer.convolution.weight,
            "conv_1d.bias": mixer.convolution_bias,
            "rg_lru.recurrent_param": mixer.rate,
            "rg_lru.input_gate_weight": mixer.input_gate.weight,
            "rg_lru.input_gate_bias": mixer.input_gate.bias,
            "rg_lru.recurrent_gate_weight": mixer.recurrence_gate.weight,
            "rg_lru.recurrent_gate_bias": mixer.recurrence_gate.bias,
        },
    )
    # The peer scales the token at position 0 by 1 instead of sqrt(1 - a^2); positions that start at 1 have none.
    positions = torch.arange(1, n_tokens + 1).expand(2, -1)
    assert_same(mixer, lambda x: peer(x, positions, None, use_cache=False)[0], n_tokens)


@pytest.mark.parametrize("n_tokens", [16, 48])
def test_mlstm_is_transformers_layer(n_tokens: int):
    module = import_module("transformers.models.xlstm.modeling_xlstm")
    config = module.xLSTMConfig(
        hidden_size=D,
        num_heads=2,
        qk_dim_factor=0.5,
        v_dim_factor=1.0,
        chunk_size=16,
        mode="train",
        return_last_states=True,
        gate_soft_cap=15.0,
        # The peer adds this to the denominator, the source does not.
        eps=0.0,
    )
    mixer, peer = mixer_of("mlstm as in xlstm 7b", torch.float32), module.xLSTMLayer(config)
    q, k = mixer.qk.weight.chunk(2)
    load(
        peer,
        {
            "q.weight": q,
            "k.weight": k,
            "v.weight": mixer.v.weight,
            "ogate_preact.weight": mixer.output_gate.weight,
            "igate_preact.weight": mixer.write_gate.weight,
            "igate_preact.bias": mixer.write_gate.bias,
            "fgate_preact.weight": mixer.retention_gate.weight,
            "fgate_preact.bias": mixer.retention_gate.bias,
            "multihead_norm.weight": mixer.norm_scale,
            "out_proj.weight": mixer.out.weight,
        },
    )
    assert_same(mixer, lambda x: peer(x)[0], n_tokens)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [MambaConfig(), Mamba2Config()], ids=lambda config: config.kind)
def test_steps_start_between_a_thousandth_and_a_tenth(config: Any, seed: int):
    torch.manual_seed(seed)
    memory = build_memory(config, 64)
    step = F.softplus(memory.step_projection.bias if config.kind == "mamba" else memory.step_bias)
    assert (step > 0.99e-3).all()
    assert (step < 1.01e-1).all()


def test_the_rates_of_mamba_start_at_whole_numbers():
    rates = build_memory(MambaConfig(d_state=5), 16).log_rate.exp()
    assert_close(rates, torch.arange(1.0, 6.0).expand(32, 5), PEER_FLOAT32)


def test_the_rates_of_mamba_2_start_between_1_and_16():
    rates = build_memory(Mamba2Config(n_heads=64), 64).log_rate.exp()
    assert 0.99 < rates.min() < 3
    assert 14 < rates.max() < 16.01


def test_an_open_gate_of_an_rg_lru_starts_by_retaining_most():
    rate = F.softplus(build_memory(RGLRUConfig(), 256).rate)
    retained = (-8 * rate).exp()
    assert 0.899 < retained.min() < 0.91
    assert 0.99 < retained.max() < 0.9991


def test_the_retentions_of_an_mlstm_start_spread_over_its_heads():
    memory = build_memory(MLSTMConfig(n_heads=4), 16)
    assert_close(memory.retention_gate.bias, torch.tensor([3.0, 4.0, 5.0, 6.0]), FLOAT64)
    assert not memory.retention_gate.weight.any()
    assert not memory.write_gate.weight.any()


def test_a_shut_recurrence_gate_keeps_gradients_finite():
    """With nothing decayed the slope of sqrt(1 - a^2) is infinite."""
    mixer = mixer_of("rg-lru", torch.float32)
    with torch.no_grad():
        mixer.recurrence_gate.bias.fill_(-200)
    x = inputs(20).float().requires_grad_()
    y, _ = mixer(x)
    for gradient in torch.autograd.grad(y.square().sum(), [x, *mixer.parameters()]):
        assert gradient.isfinite().all()


REFUSED = [
    (lambda: MambaConfig(expand=0), "mamba.expand must be at least 1, got 0; use 2"),
    (lambda: MambaConfig(d_state=0), "mamba.d_state must be at least 1, got 0"),
    (lambda: MambaConfig(step_rank=0), "mamba.step_rank must be at least 1, or None"),
    (lambda: MambaConfig(convolution=-1), "mamba.convolution must be 0 taps or more, got -1; use 0 for none"),
    (lambda: Mamba2Config(expand=0), "mamba2.expand must be at least 1"),
    (lambda: Mamba2Config(n_heads=0), "mamba2.n_heads must be at least 1"),
    (lambda: Mamba2Config(n_groups=3), "mamba2.n_groups must be a divisor of n_heads=4, got 3"),
    (lambda: Mamba2Config(n_groups=0), "mamba2.n_groups must be a divisor of n_heads=4, got 0"),
    (lambda: Mamba2Config(d_state=0), "mamba2.d_state must be at least 1"),
    (lambda: Mamba2Config(convolution=-1), "mamba2.convolution must be 0 taps or more"),
    (
        lambda: build_memory(Mamba2Config(n_heads=3), 16),
        "mamba2: expand * d_model must be a multiple of n_heads=3, got 32",
    ),
    (lambda: RGLRUConfig(width=0), "rg_lru.width must be at least 1, or None for d_model"),
    (lambda: RGLRUConfig(n_blocks=0), "rg_lru.n_blocks must be at least 1"),
    (lambda: RGLRUConfig(convolution=-1), "rg_lru.convolution must be 0 taps or more"),
    (lambda: build_memory(RGLRUConfig(n_blocks=3), 16), "rg_lru: width must be a multiple of n_blocks=3, got 16"),
    (lambda: MLSTMConfig(n_heads=0), "mlstm.n_heads must be at least 1"),
    (lambda: MLSTMConfig(head_width=0), "mlstm.head_width must be at least 1, or None"),
    (lambda: MLSTMConfig(key_width=0), "mlstm.key_width must be at least 1, or None for head_width"),
    (lambda: MLSTMConfig(convolution=-1), "mlstm.convolution must be 0 taps or more"),
    (lambda: MLSTMConfig(gate_cap=0.0), "mlstm.gate_cap must be positive, or None for no bound, got 0.0"),
    (lambda: build_memory(MLSTMConfig(n_heads=3), 16), "mlstm: d_model must be a multiple of n_heads=3"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


@pytest.mark.parametrize("case", ["mamba", "mamba-2", "rg-lru", "mlstm"])
def test_autocast_leaves_the_recurrence_alone(case: str):
    """Projections are rounded to bfloat16; what remembers is not."""
    mixer, x = mixer_of(case, torch.float32), inputs(100).float().requires_grad_()
    exact, _ = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = mixer(x)
    assert_close(y, exact, BFLOAT16)
    assert state.s.dtype in (torch.float32, torch.bfloat16)
    for gradient in torch.autograd.grad(y.float().square().sum(), [x, *mixer.parameters()]):
        assert gradient.isfinite().all()


COMPARE = """
import torch
from mnemoscope.memories import Mamba2Config, MambaConfig, MLSTMConfig, RGLRUConfig, build_memory

torch.set_num_threads(1)
for config in (MambaConfig(), Mamba2Config(d_state=8), RGLRUConfig(), MLSTMConfig()):
    torch.manual_seed(0)
    memory = build_memory(config, 16)
    x, results = torch.randn(2, 100, 16, requires_grad=True), []
    for model in (memory, torch.compile(memory, backend="aot_eager", fullgraph=True)):
        y, state = model(x)
        y, state = model(x, state)
        loss = y.square().sum() + sum(part.square().sum() for part in state)
        results.append([y, *torch.autograd.grad(loss, [x, *memory.parameters()])])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.long
def test_the_graph_is_captured_whole(tmp_path: Path):
    # In a process of its own, since checked shapes would break the graph.
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", COMPARE], env=environment, check=True, timeout=600)
