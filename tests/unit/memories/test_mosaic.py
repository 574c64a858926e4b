"""What only the memories of Memory Mosaics promise: when a pair enters, what the first token reads, closed forms."""

import math
import re
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from mnemoscope.contracts import Slots
from mnemoscope.memories import ContextualConfig, FeedForwardConfig, PersistentConfig, build_memory
from mnemoscope.memories.contextual import Contextual
from mnemoscope.memories.feed_forward import matched_width
from mnemoscope.memories.persistent import Persistent, matched_slots
from tests.tolerances import CAUSAL, FLOAT32, FLOAT64, assert_close
from tests.unit.memories.cases import inputs, mixer_of, run_steps, tensors

D = 16

REFUSED = [
    (lambda: ContextualConfig(n_heads=0), "contextual.n_heads must be at least 1, got 0"),
    (lambda: ContextualConfig(taps=3), "contextual.taps must be None, or at least 0 with keys='convolution', got 3"),
    (lambda: ContextualConfig(keys="convolution", taps=-1), "contextual.taps must be None, or at least 0"),
    (lambda: ContextualConfig(keys="convolution", order=2), "contextual.order must be None, or at least 1 with keys="),
    (lambda: ContextualConfig(keys="legendre", horizon=0), "contextual.horizon must be None, or at least 1 with keys="),
    (lambda: ContextualConfig(kernel="top_k"), "contextual.top_k must be at least 1 with kernel='top_k', None with"),
    (lambda: ContextualConfig(top_k=4), "contextual.top_k must be at least 1 with kernel='top_k', None with any other"),
    (lambda: ContextualConfig(kernel="gaussian"), "contextual.normalise_keys must be off with kernel='gaussian'"),
    (lambda: ContextualConfig(inverse_temperature=0.0), "contextual.inverse_temperature must be positive and finite"),
    (lambda: ContextualConfig(scale_cap=0.0), "contextual.scale_cap must be in (0, 44), for float32, got 0.0"),
    (lambda: ContextualConfig(dropout=1.0), "contextual.dropout must be in [0, 1), got 1.0"),
    (lambda: build_memory(ContextualConfig(n_heads=3), 16), "contextual: d_model must be a multiple of n_heads=3"),
    (
        lambda: build_memory(ContextualConfig(n_heads=2, keys="legendre", order=3), 16),
        "legendre keys: order must be a divisor of the 8 channels a head, got 3",
    ),
    (lambda: ContextualConfig(retentions=(0.5,)), "contextual.retentions must be None to learn them, or a number in"),
    (
        lambda: ContextualConfig(n_heads=1, keys="legendre", retentions=(0.5,)),
        "contextual.retentions must be None, or with keys='leaky', got (0.5,)",
    ),
    (lambda: PersistentConfig(n_heads=1, retentions=(1.0,)), "persistent.retentions must be None to learn them, or a"),
    (lambda: PersistentConfig(n_heads=0), "persistent.n_heads must be at least 1, got 0"),
    (lambda: PersistentConfig(n_slots=0), "persistent.n_slots must be at least 1, or None for 3.5 d_model, got 0"),
    (lambda: PersistentConfig(n_banks=0), "persistent.n_banks must be at least 1, got 0"),
    (lambda: PersistentConfig(scale_cap=50.0), "persistent.scale_cap must be in (0, 44), got 50.0"),
    (lambda: PersistentConfig(dropout=-0.1), "persistent.dropout must be in [0, 1), got -0.1"),
    (lambda: build_memory(PersistentConfig(n_heads=3), 16), "persistent: d_model must be a multiple of n_heads=3"),
    (lambda: FeedForwardConfig(width=0), "feed_forward.width must be at least 1, or None for as many weights"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def contextual(config: ContextualConfig, seed: int = 0) -> Contextual:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        memory = build_memory(config, D)
    assert isinstance(memory, Contextual)
    return memory.double()


@pytest.mark.parametrize("kernel", ["softmax", "epanechnikov"])
@torch.no_grad()
def test_the_first_token_reads_exactly_nothing(kernel):
    memory = contextual(ContextualConfig(n_heads=2, kernel=kernel))
    assert not memory(inputs(7))[0][:, 0].any()
    assert not memory(inputs(1))[0].any()


@torch.no_grad()
def test_the_first_token_reads_exactly_the_null_value():
    memory = contextual(ContextualConfig(n_heads=2, start="learned"))
    memory.null += torch.arange(16.0).view(2, 8)
    for n_tokens in (1, 7):
        assert_close(
            memory(inputs(n_tokens))[0][:, 0], (memory.out.weight @ torch.arange(16.0).double()).expand(2, D), FLOAT64
        )


@torch.no_grad()
def test_the_second_token_reads_the_pair_of_the_first_whatever_its_key():
    memory, x = contextual(ContextualConfig(n_heads=2, peek="next", normalise_values=False)), inputs(2)
    assert_close(memory(x)[0][:, 1], x[:, 1] @ memory.value.weight.T @ memory.out.weight.T, FLOAT64)


@torch.no_grad()
def test_a_pair_enters_when_the_next_token_is_known():
    memory, x = contextual(ContextualConfig(n_heads=2)), inputs(5)
    _, state = memory(x[:, :4])
    assert state.k.shape[2] == 4
    assert state.v.shape[2] == 3
    _, after = memory.step(x[:, 4], state)
    assert torch.equal(after.v[:, :, :3], state.v)
    projected = (x[:, 3:5] @ memory.value.weight.T).unflatten(-1, (2, 8))
    mixed = memory.mix.view(2, 1) * projected[:, 0] + (1 - memory.mix.view(2, 1)) * projected[:, 1]
    unit = mixed / mixed.norm(dim=-1, keepdim=True)
    assert_close(after.v[:, :, 3], (10 * memory.value_scale).exp().view(2, 1) * unit, FLOAT64)


def test_no_read_sees_the_token_that_follows_though_values_do():
    """A gradient of the output at T to the input at T + 1, through two layers that both look ahead."""
    first, second = contextual(ContextualConfig(n_heads=2)), contextual(ContextualConfig(n_heads=2), seed=1)
    x = inputs(12).requires_grad_()
    y = second(x + first(x)[0])[0]
    for t in (0, 5, 10):
        gradient = torch.autograd.grad(y[:, t].square().sum(), x, retain_graph=True)[0]
        assert_close(gradient[:, t + 1 :], torch.zeros(2, 11 - t, D), CAUSAL)


@pytest.mark.parametrize("config", [ContextualConfig(n_heads=2), PersistentConfig(n_heads=2, n_slots=5)])
def test_inputs_of_zeros_have_finite_outputs_and_gradients(config):
    memory, x = build_memory(config, D), torch.zeros(2, 6, D, requires_grad=True)
    y, _ = memory(x)
    assert y.isfinite().all()
    gradients = torch.autograd.grad(y.square().sum(), [x, *memory.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("make", [ContextualConfig, PersistentConfig])
def test_retentions_that_are_given_are_kept_and_not_learned(make):
    memory = build_memory(make(n_heads=2, retentions=(0.25, 0.75)), D)
    (leak,) = [parameter for name, parameter in memory.named_parameters() if name.endswith("leak")]
    assert_close((-10 * leak).exp(), torch.tensor([0.25, 0.75]), FLOAT32)
    memory(inputs(5).float())[0].sum().backward()
    assert leak.grad is None
    assert all(parameter.grad is not None for parameter in memory.parameters() if parameter is not leak)


@torch.no_grad()
def test_scalars_start_and_act_as_published():
    memory = contextual(ContextualConfig(n_heads=8))
    assert_close(10 * memory.keys.leak, torch.linspace(0.5, 5, 8), FLOAT32)
    assert_close((10 * memory.key_scale).exp(), torch.full((8,), math.e), FLOAT32)
    assert_close((10 * memory.value_scale).exp(), torch.full((8,), 0.6065307), FLOAT32)
    assert (memory.mix >= 0).all()
    assert (memory.mix <= 1).all()
    memory.key_scale += 100
    k = memory(inputs(4))[1].k
    assert_close(k.norm(dim=-1), torch.full((2, 8, 4), math.exp(5), dtype=k.dtype), FLOAT64)


@torch.no_grad()
def test_the_gaussian_starts_as_sharp_for_raw_keys_as_softmax_for_unit_ones():
    memory = contextual(ContextualConfig(n_heads=2, kernel="gaussian", normalise_keys=False))
    assert_close((2 * 10 * memory.key_scale).exp(), torch.full((2,), math.e**2 / 8), FLOAT32)


@pytest.mark.parametrize(
    "config",
    [
        ContextualConfig(n_heads=2, bias=True),
        ContextualConfig(n_heads=2, keys="convolution", bias=True),
        ContextualConfig(n_heads=2, keys="legendre", bias=True),
        PersistentConfig(n_heads=2, n_slots=5, bias=True),
        FeedForwardConfig(bias=True),
        FeedForwardConfig(form="swiglu", bias=True),
    ],
    ids=str,
)
@torch.no_grad()
def test_with_biases_forward_still_equals_steps(config):
    memory, plain, x = build_memory(config, D).double(), config.__class__, inputs(40)
    biases = [parameter for name, parameter in memory.named_parameters() if name.endswith("bias")]
    assert biases
    assert plain().bias is False
    before = memory(x)[0]
    for bias in biases:
        assert not bias.any()
        bias += torch.randn(bias.shape, generator=torch.Generator().manual_seed(0))
    y, state = memory(x)
    stepped, stepped_state = run_steps(memory, x, memory.init_state(2))
    assert (y - before).abs().max() > 0.1
    assert_close(y, stepped, FLOAT64)
    for ours, theirs in zip(tensors(state), tensors(stepped_state), strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize(
    "config", [ContextualConfig(n_heads=2, dropout=0.5), PersistentConfig(n_heads=2, n_slots=9, dropout=0.5)], ids=str
)
@torch.no_grad()
def test_dropout_is_for_training_alone(config):
    memory, x = build_memory(config, D), inputs(12).float()
    memory.train()
    assert not torch.equal(memory(x)[0], memory(x)[0])
    memory.addressing.register_forward_hook(lambda _module, _args, output: output)
    assert not torch.equal(memory(x)[0], memory(x)[0])
    memory.eval()
    assert torch.equal(memory(x)[0], memory(x)[0])


@torch.no_grad()
def test_a_memory_of_equal_slots_reads_its_single_vector():
    memory, reads = mixer_of("persistent in two banks"), []
    assert isinstance(memory, Persistent)
    assert isinstance(memory, Slots)
    vector = memory.single_vector().clone()
    memory.slot_values.copy_(memory.slot_values.mean((0, 2), keepdim=True).expand_as(memory.slot_values))
    memory.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    memory(inputs(5))
    assert_close(reads[0], vector.expand(2, 5, 2, 8), FLOAT64)


@pytest.mark.parametrize("d_model", [128, 384, 768])
def test_matched_sizes_make_a_block_as_large_as_a_transformers(d_model: int):
    """Matrices alone: three of the contextual memory, and the persistent level, against 12 d_model^2."""
    h, d = d_model // 64, d_model
    persistent = 2 * d * d + 2 * h * matched_slots(d) * (d // h)
    assert 3 * d * d + persistent == 12 * d * d
    assert 2 * d * matched_width("mlp", d) == persistent
    assert 3 * d * matched_width("swiglu", d) == persistent


def three_moons(n_tokens: int) -> Tensor:
    """Sine and cosine of three moons of periods 1, 2 and 3, sampled 44.4 times per unit of time: (t 6)."""
    time = 6 / (800 / 3) * torch.arange(n_tokens, dtype=torch.float64)
    angles = [2 * math.pi * time / period + 0.3 for period in (1, 2, 3)]
    return torch.stack([wave(angle) for angle, wave in product(angles, (torch.sin, torch.cos))], dim=1)


@torch.no_grad()
def test_three_moons_with_identity_weights():
    """Figures of the official model (MLX 0.32, commit 1fff63b) with all three matrices the identity."""
    config = ContextualConfig(
        n_heads=3,
        keys="convolution",
        taps=0,
        normalise_keys=False,
        normalise_values=False,
        inverse_temperature=50.0,
        peek="next",
    )
    memory, x = build_memory(config, 6).double(), three_moons(60)
    assert isinstance(memory, Contextual)
    for name, weight in memory.named_parameters():
        if weight.numel():
            assert name in ("keys.project.weight", "value.weight", "out.weight")
            weight.copy_(torch.eye(6))
    y = memory(x.unsqueeze(0))[0][0]
    assert_close(y[1], x[1], FLOAT64)
    assert_close(y[1], torch.tensor([0.427180, 0.904167, 0.362255, 0.932079, 0.340195, 0.940355]), FLOAT32)
    assert_close(y[50], torch.tensor([0.917192, 0.370504, -0.583328, -0.808523, 0.535862, -0.840439]), FLOAT32)
    clipped = (y[:-1] - x[1:]).clamp(-0.5, 0.5).square().mean()
    assert clipped.item() == pytest.approx(0.01244393, rel=1e-6)
