"""Networks that learn at test time: what configurations refuse, what weights carry, and where the network starts."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mnemoscope.memories import OmegaMlp, OmegaMlpConfig
from mnemoscope.models import StackConfig, build, load_model, save_model
from mnemoscope.ops.memory_network import Network, read_network
from tests.tolerances import FLOAT32, FLOAT64, assert_close
from tests.unit.memories.cases import inputs, trained

REFUSED = [
    (lambda: OmegaMlpConfig(n_heads=0), "omega_mlp.n_heads must be at least 1, got 0; use 1 or more"),
    (lambda: OmegaMlpConfig(chunk_tokens=0), "omega_mlp.chunk_tokens must be at least 1, got 0"),
    (lambda: OmegaMlpConfig(window=0), "omega_mlp.window must be at least 1, got 0"),
    (lambda: OmegaMlpConfig(expansion=5), "omega_mlp.expansion must be 1, 2, 3 or 4, got 5; use 4"),
    (lambda: OmegaMlpConfig(head_width=0), "omega_mlp.head_width must be at least 1, or None"),
    (lambda: OmegaMlpConfig(convolution=-1), "omega_mlp.convolution must be 0 taps or more"),
    (lambda: OmegaMlpConfig(initial_retention=1.0), "omega_mlp.initial_retention must be between 0 and 1"),
    (lambda: OmegaMlpConfig(initial_step_size=0.0), "omega_mlp.initial_step_size must be between 0 and 1"),
    (
        lambda: OmegaMlpConfig(retains=False, initial_retention=0.9),
        "omega_mlp.initial_retention must be left at 0.999 where retains=False, got 0.9",
    ),
    (
        lambda: OmegaMlpConfig(momentum=False, initial_momentum=0.5),
        "omega_mlp.initial_momentum must be left at 0.9 where momentum=False, got 0.5",
    ),
    (lambda: OmegaMlpConfig(window=1, gated_window=True), "omega_mlp.gated_window must be off where window=1"),
    (
        lambda: OmegaMlpConfig(granularity="chunk"),
        "omega_mlp.window must be 1 where granularity='chunk', since a chunk's",
    ),
    (lambda: OmegaMlpConfig(normalise_qk=False), "omega_mlp.normalise_qk must be on where objective='delta'"),
    (lambda: OmegaMlpConfig(degree=2), "omega_mlp.degree must be None, got 2"),
    (lambda: OmegaMlp(OmegaMlpConfig(n_heads=3), 16), "omega_mlp: d_model must be a multiple of n_heads=3"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def memory_of(config: OmegaMlpConfig, d_model: int = 16) -> OmegaMlp:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return OmegaMlp(config, d_model).double()


def test_weights_carry_the_length_of_the_chunk(tmp_path: Path):
    model = build(StackConfig.of("omega_mlp(chunk_tokens=5, n_heads=2)", vocab_size=11, d_model=16), seed=0)
    save_model(model, tmp_path)
    loaded, tokens = load_model(tmp_path), torch.arange(11).view(1, 11)
    assert torch.equal(loaded(tokens), model(tokens))
    document = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(document.replace('"chunk_tokens": 5', '"chunk_tokens": 16'))
    expected = "omega_mlp.chunk_tokens of the weights must be 16, that of the configuration they are loaded into, got 5"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}; build the memory with chunk_tokens=5"):
        load_model(tmp_path)


def test_a_state_dict_of_another_chunk_is_refused():
    config = OmegaMlpConfig(n_heads=2, chunk_tokens=8)
    memory_of(config).load_state_dict(memory_of(config).state_dict())
    with pytest.raises(ValueError, match=r"^omega_mlp\.chunk_tokens of the weights must be 16"):
        memory_of(replace(config, chunk_tokens=16)).load_state_dict(memory_of(config).state_dict())


def test_a_state_dict_of_another_granularity_is_refused():
    config = OmegaMlpConfig(n_heads=2, window=1)
    per_chunk = memory_of(replace(config, granularity="chunk"))
    per_chunk.load_state_dict(per_chunk.state_dict())
    with pytest.raises(ValueError, match=r"^omega_mlp\.granularity of the weights must be chunk.*got token"):
        per_chunk.load_state_dict(memory_of(config).state_dict())


def test_weights_that_carry_the_length_alone_are_per_token():
    config = OmegaMlpConfig(n_heads=2, window=1)
    weights = memory_of(config).state_dict() | {"_extra_state": torch.tensor(16)}
    memory_of(config).load_state_dict(weights)
    with pytest.raises(ValueError, match=r"^omega_mlp\.granularity of the weights must be chunk.*got token"):
        memory_of(replace(config, granularity="chunk")).load_state_dict(weights)


def test_per_chunk_no_read_knows_its_own_chunk():
    memory, x, reads = (
        memory_of(OmegaMlpConfig(n_heads=2, window=1, chunk_tokens=4, granularity="chunk")),
        inputs(9),
        [],
    )
    memory.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    memory(x)
    with torch.no_grad():
        memory.gates.step_size.bias.fill_(-torch.inf)
        memory.gates.retention.bias.fill_(torch.inf)
    memory(x)
    assert_close(reads[0][:, :4], reads[1][:, :4], FLOAT64)
    assert (reads[0][:, 4:] - reads[1][:, 4:]).abs().amax((0, 2, 3)).min() > 1e-6


def test_a_detached_write_reads_the_same_and_does_not_learn_to_write():
    config, x = OmegaMlpConfig(n_heads=2, chunk_tokens=8, window=2, gated_window=True), inputs(20)
    learning, detached = memory_of(config), memory_of(replace(config, detach_write=True))
    assert torch.equal(learning(x)[0], detached(x)[0])
    untrained = set()
    for memory in (learning, detached):
        named = trained(memory)
        grads = torch.autograd.grad(memory(x)[0][:, -1].square().sum(), list(named.values()), allow_unused=True)
        untrained = {name for name, grad in zip(named, grads, strict=True) if grad is None or not grad.any()}
        keys_and_values = dict(zip(named, grads, strict=True))["qkv.weight"][16:]
        assert bool(keys_and_values.any()) == (memory is learning)
        if memory is learning:
            assert not untrained
    assert untrained == {name for name in trained(detached) if name.startswith("gates.")}


@pytest.mark.parametrize("n_features", [8, 17])
def test_the_residual_stands_where_features_are_as_wide_as_values(n_features: int):
    """A network of zeros reads nothing but its residual."""
    features = {} if n_features == 8 else {"features": "elementwise", "degree": 2}
    memory, x, reads = memory_of(OmegaMlpConfig(n_heads=2, **features)), inputs(5), []
    memory.up.data.zero_()
    memory.down.data.zero_()
    memory.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    memory(x)
    assert bool(reads[0].any()) == (n_features == 8)


def test_a_fresh_memory_reads_with_its_trained_network_but_for_one_step():
    memory, x, seen = memory_of(OmegaMlpConfig(n_heads=2, initial_step_size=1e-9)), inputs(1), []
    memory.read.register_forward_hook(lambda _module, _args, output: seen.append(output))
    memory(x)
    q, _, _ = memory._inputs(x, memory.convolution.init_tail(2))
    network = Network(*(0.999 * w.expand(2, -1, -1, -1) for w in (memory.up, memory.down)))
    assert (seen[0] - read_network(network, q, memory.rule.shape)).abs().max() < 1e-8


@pytest.mark.parametrize(
    "options",
    [{}, {"chunk_tokens": 64}, {"gated": True}, {"momentum": False}, {"window": 1}, {"retains": False}],
    ids=str,
)
@torch.no_grad()
def test_the_start_is_stable_for_keys_that_are_all_alike(options: dict[str, int | bool]):
    """Chunks of like keys are where stale gradients overshoot."""
    memory, reads = memory_of(OmegaMlpConfig(**options), 32), []
    x = inputs(400, batch=1).repeat(1, 1, 2) + 3 * torch.randn(32, generator=torch.Generator().manual_seed(0))
    memory.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    _, state = memory(x)
    assert reads[0].abs().max() < 10
    assert state.memory.running.up.norm() < 3 * memory.up.norm()


def test_normalised_weights_have_the_trained_spread_as_every_chunk_begins():
    memory = memory_of(OmegaMlpConfig(n_heads=2, chunk_tokens=4, normalise_memory=True))
    _, state = memory(inputs(9))
    for layer, gain in zip(state.memory.start, (memory.up_gain, memory.down_gain), strict=True):
        assert_close(layer.std(-2, correction=0), gain.expand(2, -1, -1), FLOAT32)
        assert_close(layer.mean(-2), torch.zeros_like(layer[..., 0, :]), FLOAT64)


def test_a_replaced_state_is_what_is_read_and_what_is_kept():
    memory, x = memory_of(OmegaMlpConfig(n_heads=2, normalise_read=False, output_gate=False)), inputs(7)

    def emptied(_module: object, _args: object, states: Tensor) -> Tensor:
        return torch.zeros_like(states)

    reads = []
    memory.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    with memory.state.register_forward_hook(emptied):
        _, state = memory(x)
        stepped = memory.init_state(2)
        for t in range(7):
            _, stepped = memory.step(x[:, t], stepped)
    q, _, _ = memory._inputs(x, memory.convolution.init_tail(2))
    assert_close(reads[0], q, FLOAT64)
    assert_close(torch.cat(reads[1:], dim=1), q, FLOAT64)
    assert not state.memory.running.up.any()
    assert not stepped.memory.running.down.any()
