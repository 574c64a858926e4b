"""What the Omega memory promises beyond the contract: starts, files, detached writes, and agreement with a peer."""

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.contracts import Windowed
from mnemoscope.memories import Omega, OmegaConfig, build_memory
from mnemoscope.models import StackConfig, build, load_model, save_model
from mnemoscope.ops.omega import Rule, Store, Writes
from mnemoscope.ops.omega_chunked import omega_chunked
from mnemoscope.ops.omega_per_chunk import PerChunkStore, PerChunkWrites, omega_per_chunk
from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import inputs, mixer_of, run_pieces, run_steps, tensors, trained
from tests.unit.memories.families.omega import case

REFUSED = [
    (lambda: OmegaConfig(n_heads=0), "omega.n_heads must be at least 1, got 0; use 1 or more"),
    (lambda: OmegaConfig(chunk_tokens=0), "omega.chunk_tokens must be at least 1, got 0"),
    (lambda: OmegaConfig(window=0), "omega.window must be at least 1, got 0"),
    (lambda: OmegaConfig(head_width=0), "omega.head_width must be at least 1, or None for d_model / n_heads, got 0"),
    (lambda: OmegaConfig(convolution=-1), "omega.convolution must be 0 or more, got -1; use 0 for none"),
    (lambda: OmegaConfig(orthogonalise=-1), "omega.orthogonalise must be 0 or more, got -1"),
    (lambda: OmegaConfig(orthogonalise=5, update_every=3), "omega.update_every must be a divisor of chunk_tokens=16"),
    (lambda: OmegaConfig(update_every=4), "omega.update_every must be 1 where orthogonalise=0"),
    (
        lambda: OmegaConfig(orthogonalise=5, update_every=4, momentum=False),
        "omega.update_every must be 1 where momentum=False",
    ),
    (lambda: OmegaConfig(granularity="chunk"), "omega.window must be 1 where granularity='chunk'"),
    (
        lambda: OmegaConfig(granularity="chunk", window=1, orthogonalise=5, update_every=8),
        "omega.update_every must be chunk_tokens=16 where granularity='chunk'",
    ),
    (
        lambda: OmegaConfig(granularity="chunk", window=1, update_every=16),
        "omega.update_every must be 1 where orthogonalise=0",
    ),
    (lambda: OmegaConfig(window=1, gated_window=True), "omega.gated_window must be off where window=1"),
    (lambda: OmegaConfig(degree=2), "omega.degree must be None, got 2; leave it out"),
    (lambda: OmegaConfig(features="monomial"), "omega.degree must be at least 1, got None; give degree=2"),
    (lambda: OmegaConfig(features="sketch", degree=2), "omega.sketch_width must be at least 1, got None"),
    (
        lambda: OmegaConfig(features="monomial", degree=2, sketch_width=8),
        "omega.sketch_width must be None for features='monomial', got 8",
    ),
    (lambda: OmegaConfig(sketch_seed=1), "omega.sketch_seed must be 0 for features='identity'"),
    (lambda: OmegaConfig(learned_coefficients=True), "omega.learned_coefficients must be off for features='identity'"),
    (lambda: OmegaConfig(normalise_qk=False), "omega.normalise_qk must be on where objective='delta'"),
    (lambda: OmegaConfig(initial_retention=1.0), "omega.initial_retention must be between 0 and 1, both excluded"),
    (lambda: OmegaConfig(initial_step_size=0.0), "omega.initial_step_size must be between 0 and 1, both excluded"),
    (
        lambda: OmegaConfig(retains=False, initial_retention=0.5),
        "omega.initial_retention must be left at 0.99 where retains=False, got 0.5",
    ),
    (
        lambda: OmegaConfig(momentum=False, initial_momentum=0.5),
        "omega.initial_momentum must be left at 0.9 where momentum=False, got 0.5",
    ),
    (lambda: build_memory(OmegaConfig(n_heads=3), 16), "omega: d_model must be a multiple of n_heads=3"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


CHANGED = {
    "n_heads": 2,
    "head_width": 8,
    "chunk_tokens": 8,
    "granularity": "chunk",
    "window": 2,
    "momentum": False,
    "retains": False,
    "gated_window": True,
    "features": "elementwise",
    "degree": 3,
    "sketch_width": 7,
    "sketch_seed": 1,
    "learned_coefficients": True,
    "objective": "dot",
    "orthogonalise": 4,
    "update_every": 4,
    "convolution": 2,
    "normalise_qk": False,
    "normalise_read": False,
    "output_gate": False,
    "initial_retention": 0.9,
    "initial_momentum": 0.5,
    "initial_step_size": 0.01,
}
"""One other value for each field, and where it needs company."""

COMPANY = {
    "granularity": OmegaConfig(window=1),
    "degree": OmegaConfig(features="monomial", degree=2),
    "features": OmegaConfig(features="monomial", degree=2),
    "sketch_width": OmegaConfig(features="sketch", degree=2, sketch_width=9),
    "sketch_seed": OmegaConfig(features="sketch", degree=2, sketch_width=9),
    "learned_coefficients": OmegaConfig(features="monomial", degree=2),
    "orthogonalise": OmegaConfig(orthogonalise=5),
    "update_every": OmegaConfig(orthogonalise=5),
    "normalise_qk": OmegaConfig(objective="dot"),
}


@pytest.mark.parametrize("name", CHANGED)
@torch.no_grad()
def test_every_option_reaches_the_function(name: str):
    """With the same draws of weights, another value of any option is another function or other gradients."""
    results = []
    for config in (
        COMPANY.get(name, OmegaConfig()),
        replace(COMPANY.get(name, OmegaConfig()), **{name: CHANGED[name]}),
    ):
        torch.manual_seed(0)
        memory = build_memory(config, 16).double()
        results.append((sum(p.numel() for p in memory.parameters()), memory(inputs(40))[0]))
    (n_before, before), (n_after, after) = results
    # Trained coefficients start where the fixed ones are: there the count of parameters tells.
    assert n_before != n_after or not torch.allclose(before, after, rtol=1e-6, atol=1e-9)


def test_every_option_was_tried():
    assert set(CHANGED) == {field.name for field in fields(OmegaConfig)} - {"kind", "detach_write"}


@pytest.mark.parametrize("n_tokens", [1, 9])
def test_gates_start_at_the_configured_values(n_tokens: int):
    config = OmegaConfig(initial_retention=0.97, initial_momentum=0.8, initial_step_size=0.03)
    gates = build_memory(config, 16).gates(10 * torch.randn(2, n_tokens, 16))
    for found, wanted in ((gates.log_retention.exp(), 0.97), (gates.log_momentum.exp(), 0.8), (gates.step_size, 0.03)):
        assert_close(found, torch.full((2, n_tokens, 4), wanted), FLOAT64._replace(relative=1e-6))


def test_an_absent_gate_is_neutral():
    gates = build_memory(OmegaConfig(momentum=False, retains=False), 16).gates(torch.randn(2, 3, 16))
    assert gates.log_momentum is None
    assert not gates.log_retention.any()
    assert (gates.window_weight == 1).all()


@pytest.mark.parametrize(
    ("window", "granularity"), [(1, "token"), (4, "token"), (16, "token"), (1, "chunk")], ids=lambda value: str(value)
)
@pytest.mark.parametrize("chunk_tokens", [1, 16, 64])
@pytest.mark.parametrize("momentum", [True, False])
@torch.no_grad()
def test_the_default_step_writes_a_constant_once_and_does_not_overshoot(
    window: int, granularity: Literal["token", "chunk"], chunk_tokens: int, momentum: bool
):
    torch.manual_seed(0)
    config = OmegaConfig(
        n_heads=1,
        window=window,
        granularity=granularity,
        chunk_tokens=chunk_tokens,
        momentum=momentum,
        convolution=0,
    )
    memory = build_memory(config, 16)
    x = torch.randn(1, 1, 16).expand(1, 1024, 16)
    _, _, value = torch.nn.functional.silu(memory.qkv(x[:, 0])).chunk(3, dim=-1)
    matrix = memory(x)[1].store.memory
    # A single key and a single value: the matrix is their product times how much of the value was learnt.
    learnt = torch.linalg.matrix_norm(matrix)[0, 0] / value.norm()
    assert 0.5 < learnt < 1.5


@pytest.mark.parametrize(("step_size", "overflows"), [(0.025, False), (0.4, True)])
@torch.no_grad()
def test_steps_too_large_for_a_chunk_overflow_once_the_memory_is_carried_on(step_size: float, overflows: bool):
    """A chunk of 32 tokens with one key steps 64 step_size along it: 1.6 comes nearer to the value, 26 goes past it."""
    torch.manual_seed(0)
    config = OmegaConfig(
        n_heads=1, window=1, chunk_tokens=32, convolution=0, momentum=False, initial_step_size=step_size
    )
    memory = build_memory(config, 16)
    x, state, norms = torch.randn(1, 1, 16).expand(1, 32, 16), None, list[float]()
    for _ in range(8):
        _, state = memory(x, state)
        norms.append(float(state.store.memory.norm()))
    assert (norms[-1] > 1e6 * norms[0]) == overflows
    if not overflows:
        assert norms[-1] < 2 * norms[0]


@pytest.mark.parametrize("saved", [{"chunk_tokens": 8}, {"chunk_tokens": 16, "orthogonalise": 3, "update_every": 2}])
def test_weights_of_another_chunk_are_refused(saved: dict[str, int]):
    ours = {"orthogonalise": 3} if "orthogonalise" in saved else {}
    weights = build_memory(OmegaConfig(**saved), 16).state_dict()
    name = "chunk_tokens" if saved["chunk_tokens"] == 8 else "update_every"
    ours_value, got = (16, 8) if name == "chunk_tokens" else (1, 2)
    message = (
        f"omega.{name} of the weights must be {ours_value}, that of the configuration they are loaded into, got {got}; "
        f"build the memory with {name}={got}, or train again"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build_memory(OmegaConfig(**ours), 16).load_state_dict(weights)


@pytest.mark.parametrize("saved", ["token", "chunk"])
def test_weights_of_another_granularity_are_refused(saved: Literal["token", "chunk"]):
    weights = build_memory(OmegaConfig(window=1, granularity=saved), 16).state_dict()
    ours: Literal["token", "chunk"] = "chunk" if saved == "token" else "token"
    with pytest.raises(ValueError, match=rf"^omega\.granularity of the weights must be {ours}, .* got {saved}; build"):
        build_memory(OmegaConfig(window=1, granularity=ours), 16).load_state_dict(weights)
    build_memory(OmegaConfig(window=1, granularity=saved), 16).load_state_dict(weights)


PER_CHUNK = {
    "long chunks": OmegaConfig(n_heads=2, chunk_tokens=16, window=1, granularity="chunk"),
    "odd chunks of monomials": OmegaConfig(
        n_heads=2, chunk_tokens=7, window=1, granularity="chunk", features="monomial", degree=2, retains=False
    ),
    "orthogonalised": OmegaConfig(
        n_heads=2, chunk_tokens=8, window=1, granularity="chunk", orthogonalise=2, update_every=8
    ),
    "inner products": OmegaConfig(
        n_heads=2, chunk_tokens=5, window=1, granularity="chunk", momentum=False, objective="dot", convolution=0
    ),
}
every_per_chunk = pytest.mark.parametrize("name", PER_CHUNK)


def of_long_chunks(name: str) -> Omega:
    """With gates that differ from token to token."""
    torch.manual_seed(3)
    memory = Omega(PER_CHUNK[name], 16).double()
    for parameter in memory.gates.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return memory


@every_per_chunk
def test_long_chunks_are_those_of_the_equations(name: str):
    memory, x = of_long_chunks(name), inputs(35).requires_grad_()
    fast, oracle = memory(x)[0], case(PER_CHUNK[name]).oracle
    assert oracle is not None
    named = dict(memory.named_parameters())
    slow = torch.stack([oracle(named, sequence) for sequence in x])
    assert_close(fast, slow, FLOAT64)
    weigh, wanted = inputs(35, seed=5), [x, *trained(memory).values()]
    theirs = torch.autograd.grad((slow * weigh).sum(), wanted)
    for ours, exact in zip(torch.autograd.grad((fast * weigh).sum(), wanted), theirs, strict=True):
        assert_close(ours, exact, FLOAT64)


@every_per_chunk
@torch.no_grad()
def test_long_chunks_stream_in_any_pieces(name: str):
    memory, x = of_long_chunks(name), inputs(50)
    whole, last = memory(x)
    stepped, after = run_steps(memory, x, memory.init_state(2))
    assert_close(stepped, whole, FLOAT64)
    for ours, exact in zip(tensors(after), tensors(last), strict=True):
        assert_close(ours, exact, FLOAT64)
    for cuts in ([1], [3, 4, 9], [16, 32], [15, 17, 33, 49]):
        pieces, after = run_pieces(memory, x, memory.init_state(2), cuts)
        assert_close(pieces, whole, FLOAT64)
        for ours, exact in zip(tensors(after), tensors(last), strict=True):
            assert_close(ours, exact, FLOAT64)


@every_per_chunk
@pytest.mark.parametrize("n_tokens", [1, 4, 7, 8, 16, 17, 50])
@torch.no_grad()
def test_long_chunks_cost_what_they_say(name: str, n_tokens: int):
    memory, x = of_long_chunks(name), inputs(n_tokens, batch=3)
    with FlopCounterMode(display=False) as counter:
        _, state = memory(x)
    assert memory.flops(batch=3, tokens=n_tokens) == counter.get_total_flops()
    held = sum(t.untyped_storage().nbytes() for t in tensors(state))
    assert memory.state_bytes(batch=3, tokens=n_tokens) == held


@torch.no_grad()
def test_a_chunk_is_read_when_it_is_complete():
    """What a token writes is seen by the last token of its chunk and by those after it, by none between."""
    memory, x = of_long_chunks("inner products"), inputs(14)
    other = x.clone()
    other[:, 6] = inputs(1, seed=2)[:, 0]
    changed = (memory(other)[0] != memory(x)[0]).any(-1).any(0)
    assert changed.nonzero().flatten().tolist() == [6, 9, 10, 11, 12, 13]


def test_weights_without_a_chunk_are_refused():
    memory = build_memory(OmegaConfig(), 16)
    weights = {name: tensor for name, tensor in memory.state_dict().items() if "extra" not in name}
    with pytest.raises(RuntimeError, match="extra_state"):
        memory.load_state_dict(weights)


LAYOUT = "omega(n_heads=2, chunk_tokens=8, features='sketch', degree=2, sketch_width=12, sketch_seed=3)"


def test_a_model_survives_a_folder(tmp_path: Path):
    model = build(StackConfig.of(LAYOUT, vocab_size=11, d_model=16), seed=5)
    save_model(model, tmp_path)
    loaded, tokens = load_model(tmp_path), torch.randint(11, (2, 30))
    assert torch.equal(loaded(tokens), model(tokens))


def test_a_folder_whose_configuration_was_changed_is_refused(tmp_path: Path):
    save_model(build(StackConfig.of(LAYOUT, vocab_size=11, d_model=16), seed=5), tmp_path)
    path = tmp_path / "model.json"
    path.write_text(re.sub(r'"chunk_tokens": *8', '"chunk_tokens": 4', path.read_text()))
    with pytest.raises(ValueError, match=r"omega\.chunk_tokens of the weights must be 4, .* got 8; build the memory"):
        load_model(tmp_path)


def test_a_detached_write_is_the_same_function_and_trains_the_read_alone():
    results = {}
    for detached in (False, True):
        torch.manual_seed(0)
        config = OmegaConfig(n_heads=2, features="monomial", degree=2, learned_coefficients=True, gated_window=True)
        memory = build_memory(replace(config, detach_write=detached), 16).double()
        y, _ = memory(inputs(20))
        named = dict(memory.named_parameters())
        grads = torch.autograd.grad(y[:, -1].square().sum(), list(named.values()), allow_unused=True)
        results[detached] = (y, dict(zip(named, grads, strict=True)))
    (y, attached), (same, detached_grads) = results[False], results[True]
    assert_close(same, y, FLOAT64)
    assert all(gradient is not None and gradient.any() for gradient in attached.values())
    untrained = {name for name, gradient in detached_grads.items() if gradient is None}
    assert untrained == {name for name in attached if name.startswith("gates.")}
    q, k, v = detached_grads["qkv.weight"].chunk(3)
    assert q.any()
    assert not k.any()
    assert not v.any()
    assert detached_grads["features.scales"].any()


@pytest.mark.parametrize("case", ["omega", "omega of a window longer than the chunk"])
@torch.no_grad()
def test_a_replaced_state_carries_on_in_the_stream(case: str):
    """A memory emptied at the end of a chunk is a fresh one but for its momentum, window and convolution."""
    memory, x = mixer_of(case), inputs(40)
    chunk = memory.config.chunk_tokens
    hook = memory.state.register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
    _, state = run_steps(memory, x[:, :chunk], memory.init_state(2))
    hook.remove()
    assert not state.store.memory.any()
    assert not state.store.anchor.any()
    assert state.store.surprise.any()
    stepped, _ = run_steps(memory, x[:, chunk:], state)
    assert_close(memory(x[:, chunk:], state)[0], stepped, FLOAT64)


def test_it_offers_no_window_of_its_own():
    """What a shorter past would have been cut into other chunks: nothing is to be subtracted."""
    assert not isinstance(build_memory(OmegaConfig(), 16), Windowed)


def peer_of(d: int, chunk_size: int, batch_size: int | None) -> Any:
    """titans-pytorch with a matrix."""
    with warnings.catch_warnings():
        # One of its dependencies scripts a function as it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        titans = import_module("titans_pytorch")
    torch.manual_seed(0)
    model = import_module("titans_pytorch.memory_models").MemoryMLP(dim=d, depth=1)
    peer = titans.NeuralMemory(
        dim=d, chunk_size=chunk_size, batch_size=batch_size, model=model, mem_model_norm_add_residual=False
    )
    return peer.double()


@pytest.mark.parametrize(("chunk", "n_tokens"), [(1, 7), (5, 20), (12, 12)])
def test_a_peer_computes_the_same_titans(chunk: int, n_tokens: int):
    """titans-pytorch with a matrix, its weights, keys, values and gates imported, from its learned first memory.

    What it calls chunk_size pools momentum and decay over tokens, so that it is 1 here; what it calls batch_size is
    our chunk. Left out, all its gradients are taken at the first memory, as by our rule in one chunk. Its loss is the
    mean over channels where ours is the sum, its retention is one minus its decay.
    """
    d = 6
    peer = peer_of(d, chunk_size=1, batch_size=None if chunk == n_tokens else chunk)
    x = torch.randn(2, n_tokens, d, dtype=torch.float64)
    theirs, _ = peer(x)

    def head(tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(2)

    written = peer.store_norm(x)
    step_size = peer.to_adaptive_step[0](written).sigmoid() / d
    retention = 1 - peer.to_decay_factor[0](written).sigmoid()
    momentum = peer.to_momentum[0](written).sigmoid()
    first = peer.memory_model_parameters[0].expand(2, 1, d, d)
    writes = Writes(
        head(peer.to_keys(written)),
        head(peer.to_values(written)),
        torch.ones_like(step_size),
        step_size,
        retention.log(),
        momentum.log(),
    )
    q = head(peer.to_queries(peer.retrieve_norm(x)))
    ours, _ = omega_chunked(q, writes, Store(first, first, torch.zeros_like(first)), Rule(chunk))
    assert_close(ours.squeeze(2), theirs, FLOAT64)


@pytest.mark.parametrize(("chunk", "n_tokens"), [(1, 7), (5, 20), (5, 23), (16, 64)])
def test_a_peer_computes_the_same_titans_per_chunk(chunk: int, n_tokens: int):
    """titans-pytorch with chunks and batches of the same size: one step of descent a chunk, from its learned memory.

    Its gates are those of the mean token of a chunk, whose logits are the mean logits; the last token of a chunk reads
    what the chunk has made of the memory. Its decay is one minus our retention: the logit has the other sign.
    """
    peer = peer_of(6, chunk_size=chunk, batch_size=chunk)
    x = torch.randn(2, n_tokens, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    written, first = peer.store_norm(x), peer.memory_model_parameters[0].expand(2, 1, 6, 6)
    writes = PerChunkWrites(
        peer.to_keys(written).unsqueeze(2),
        peer.to_values(written).unsqueeze(2),
        peer.to_adaptive_step[0](written).sigmoid() / 6,
        torch.stack([-peer.to_decay_factor[0](written), peer.to_momentum[0](written)], dim=2),
        retains=True,
        momentum=True,
    )
    nothing = torch.zeros_like(first)
    store = PerChunkStore(first, nothing, nothing, torch.zeros(2, 2, 1, dtype=torch.float64))
    q = peer.to_queries(peer.retrieve_norm(x)).unsqueeze(2)
    ours, _ = omega_per_chunk(q, writes, store, Rule(chunk))
    assert_close(ours.squeeze(2), peer(x)[0], FLOAT64)


COMPILE = """
import torch
from mnemoscope.memories import OmegaConfig, build_memory

torch.set_num_threads(1)
for config in (
    OmegaConfig(n_heads=2, chunk_tokens=4, window=3, features="monomial", degree=2),
    OmegaConfig(n_heads=2, chunk_tokens=8, window=2, orthogonalise=2, update_every=4),
    OmegaConfig(n_heads=2, chunk_tokens=8, window=1, granularity="chunk"),
):
    memory, x = build_memory(config, 16), torch.randn(2, 21, 16)
    compiled = torch.compile(memory, backend="aot_eager", fullgraph=True)
    (y, state), (fast, fast_state) = memory(x), compiled(x)
    torch.testing.assert_close(fast, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast_state.store.memory, state.store.memory, rtol=1e-4, atol=1e-5)
    assert fast_state.position == state.position == 21 % config.chunk_tokens
    fast.sum().backward()
"""


@pytest.mark.long
def test_forward_from_an_empty_memory_is_one_graph():
    environment = os.environ | {"JAXTYPING_DISABLE": "1"}
    subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True, timeout=600)
