"""The public code's memory: the equations by hand, what of it is never trained, and what it breaks on purpose."""

import math
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.memories import MEMORIES, Omega, OmegaConfig
from mnemoscope.memories.atlas_compat import AtlasCompat, AtlasCompatConfig
from mnemoscope.models import StackConfig, build, parse_layout
from mnemoscope.models.written import write_layout
from tests.tolerances import CAUSAL, FLOAT64, assert_close

D, T = 6, 11
CAUSAL_ONE = AtlasCompatConfig(chunk_tokens=4, reads_ahead=False, detach_write=False)


def drawn(config: AtlasCompatConfig) -> AtlasCompat:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        memory = AtlasCompat(config, D).double()
        with torch.no_grad():
            for parameter in memory.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return memory


def inputs(seed: int = 1) -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(memory: AtlasCompat, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One row at a time, in plain loops: reads of the last memory, M and S."""
    c, config, reads, states = memory.config.chunk_tokens, memory.config, [], []
    sigmoid = lambda z: 1 / (1 + math.exp(-float(z)))  # noqa: E731
    phi = lambda z: torch.cat([a * z**n for n, a in enumerate(memory.coefficients)])  # noqa: E731
    weights = memory.window_weights
    for row in x:
        matrix = surprise = torch.zeros(3 * D, D, dtype=torch.float64)
        for start in range(0, T, c):
            chunk = row[start : start + c]
            last, gradient = chunk[-1], torch.zeros_like(matrix)
            alpha, theta, eta = (
                sigmoid(head.weight[0] @ last + head.bias[0])
                for head in (memory.retention, memory.momentum, memory.step_size)
            )
            for token in chunk:
                score = (weights.last.weight @ last) @ (weights.each.weight @ token)
                gamma = sigmoid(score / (math.sqrt(D) * max(float(weights.temperature), 0.1)))
                k = phi(memory.key.weight @ token)
                gradient += gamma * torch.outer(k, k @ matrix - memory.value.weight @ token)
            surprise = theta * surprise - config.step_scale * eta * 2 / len(chunk) * gradient
            matrix = alpha * matrix + surprise
            matrix = matrix * min(1.0, config.largest_norm / (float(matrix.norm()) + 1e-6))
        asked = memory.query_to_key.weight @ memory.query.weight
        reads.append(torch.stack([memory.out.weight @ (phi(asked @ token) @ matrix) for token in row]))
        states.append((matrix, surprise))
    matrices, surprises = zip(*states, strict=True)
    return torch.stack(reads), torch.stack(matrices), torch.stack(surprises)


@pytest.mark.parametrize(
    "config",
    [
        AtlasCompatConfig(chunk_tokens=4),
        AtlasCompatConfig(chunk_tokens=16),
        AtlasCompatConfig(chunk_tokens=1, initial_step_size=0.9),
        AtlasCompatConfig(chunk_tokens=3, largest_norm=0.2),
        AtlasCompatConfig(chunk_tokens=3, step_scale=1.0),
    ],
)
@torch.no_grad()
def test_the_equations(config: AtlasCompatConfig):
    memory = drawn(config)
    y, state = memory(inputs())
    for found, wanted in zip((y, *state), by_hand(memory, inputs()), strict=True):
        assert_close(found, wanted, FLOAT64)


def test_gates_start_where_they_are_told_and_the_step_at_half():
    memory = AtlasCompat(AtlasCompatConfig(initial_retention=0.97, initial_momentum=0.8, initial_step_size=0.2), D)
    starts = [gate.bias.sigmoid().item() for gate in (memory.retention, memory.momentum, memory.step_size)]
    assert starts == pytest.approx([0.97, 0.8, 0.2], abs=1e-6)
    assert AtlasCompatConfig().step_scale == 0.5
    assert memory.coefficients.tolist() == [1.0, 1.0, 0.5]


UNTRAINED = (
    "key.weight",
    "value.weight",
    "window_weights.temperature",
    "window_weights.last.weight",
    "window_weights.each.weight",
    "retention.weight",
    "retention.bias",
    "momentum.weight",
    "momentum.bias",
    "step_size.weight",
    "step_size.bias",
)


def after_an_episode(memory: Any) -> set[str]:
    """Parameters that answers after a storage teach something."""
    _, state = memory(inputs(1))
    y, _ = memory(inputs(2), state)
    y.square().sum().backward()
    named = {name: parameter for name, parameter in memory.named_parameters() if parameter.numel()}
    return {name for name, parameter in named.items() if parameter.grad is not None and parameter.grad.any()}


def test_what_the_public_code_never_trains():
    """E7 and D1."""
    compat = drawn(AtlasCompatConfig(chunk_tokens=4))
    everything = {name for name, _ in compat.named_parameters()}
    assert everything - after_an_episode(compat) == set(UNTRAINED)
    assert after_an_episode(drawn(replace(compat.config, detach_write=False))) == everything


def test_of_ours_everything_is_trained():
    """E7 and D1, of the memory that the guide's keys make."""
    config = OmegaConfig(
        n_heads=1,
        chunk_tokens=4,
        granularity="chunk",
        window=1,
        features="elementwise",
        degree=2,
        learned_coefficients=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = Omega(config, D).double()
    assert after_an_episode(ours) == {name for name, parameter in ours.named_parameters() if parameter.numel()}
    assert ours.convolution.taps >= 2  # D10: a key of the token before can be bound to a value


def test_it_reads_tokens_that_come_later():
    """D2: the reason why it is not among the memories."""
    changed = inputs()
    changed[:, 7] += 1
    for config, is_causal in ((AtlasCompatConfig(chunk_tokens=4), False), (CAUSAL_ONE, True)):
        memory = drawn(config)
        difference = (memory(changed)[0] - memory(inputs())[0])[:, :7].abs().max().item()
        assert (difference <= CAUSAL.absolute) == is_causal
    assert "atlas_compat" not in MEMORIES


@torch.no_grad()
def test_without_reading_ahead_pieces_at_chunks_give_the_whole():
    memory = drawn(CAUSAL_ONE)
    whole, after = memory(inputs())
    first, state = memory(inputs()[:, :8])
    rest, state = memory(inputs()[:, 8:], state)
    assert_close(torch.cat([first, rest], dim=1), whole, FLOAT64)
    for found, wanted in zip(state, after, strict=True):
        assert_close(found, wanted, FLOAT64)
    ahead = drawn(AtlasCompatConfig(chunk_tokens=4))
    assert not torch.allclose(ahead(inputs()[:, :8])[0], ahead(inputs())[0][:, :8])


@pytest.mark.parametrize("config", [AtlasCompatConfig(chunk_tokens=4), CAUSAL_ONE])
@torch.no_grad()
def test_observed_states_change_nothing_and_can_be_replaced(config: AtlasCompatConfig):
    memory = drawn(config)
    plain, after = memory(inputs())
    seen: list[Tensor] = []
    handle = memory.state.register_forward_hook(lambda module, given, output: seen.append(output))
    y, state = memory(inputs())
    handle.remove()
    assert_close(y, plain, FLOAT64)
    assert_close(state.memory, after.memory, FLOAT64)
    assert seen[0].shape == (2, T, 1, 3 * D, D)
    assert not seen[0][:, :3].any()
    assert_close(seen[0][:, -1, 0], after.memory, FLOAT64)
    memory.state.register_forward_hook(lambda module, given, output: torch.zeros_like(output))
    assert not memory(inputs())[0].any()


@torch.no_grad()
def test_a_step_is_a_call_of_one_token_and_costs_are_counted():
    memory = drawn(AtlasCompatConfig(chunk_tokens=4))
    state = memory(inputs())[1]
    y, after = memory.step(inputs(2)[:, 0], state)
    whole, same = memory(inputs(2)[:, :1], state)
    assert_close(y, whole[:, 0], FLOAT64)
    assert_close(after.memory, same.memory, FLOAT64)
    assert memory.state_bytes(2) == sum(part.nbytes for part in memory.init_state(2))
    with FlopCounterMode(display=False) as counter:
        memory(inputs())
    # The window's scores are a sum over products that the counter takes for none or one, as torch chooses.
    assert counter.get_total_flops() == pytest.approx(memory.flops(2, T), rel=0.02)


REFUSED = {
    "chunk_tokens": (0, "at least 1"),
    "degree": (0, "at least 1"),
    "initial_retention": (1.0, "between 0 and 1"),
    "initial_momentum": (0.0, "between 0 and 1"),
    "initial_step_size": (2.0, "between 0 and 1"),
    "step_scale": (0.0, "positive and finite"),
    "largest_norm": (float("inf"), "positive and finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused(name: str):
    value, rule = REFUSED[name]
    with pytest.raises(ValueError, match=rf"^atlas_compat\.{name} must be {re.escape(rule)}"):
        replace(AtlasCompatConfig(), **{name: value})


CHANGED: dict[str, Any] = {
    "chunk_tokens": 3,
    "degree": 3,
    "initial_retention": 0.5,
    "initial_momentum": 0.5,
    "initial_step_size": 0.5,
    "step_scale": 1.0,
    "largest_norm": 0.1,
    "detach_write": False,
    "reads_ahead": False,
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_option_reaches_the_function(name: str):
    assert set(CHANGED) == {field.name for field in fields(AtlasCompatConfig)} - {"kind"}
    base = AtlasCompatConfig(chunk_tokens=4)
    results = []
    for config in (base, replace(base, **{name: CHANGED[name]})):
        memory = drawn(config)
        y, state = memory(inputs())
        results.append((y.detach(), state.memory.requires_grad, sum(p.numel() for p in memory.parameters())))
    (before, *rest), (after, *others) = results
    assert rest != others or not torch.allclose(before, after)


def test_a_layout_names_it_and_a_stack_carries_it():
    layout = "atlas_compat(chunk_tokens=4) | attention(window=8)"
    mixers = parse_layout(layout)
    assert write_layout(mixers) == layout
    stack = build(StackConfig(vocab_size=9, d_model=8, mixers=mixers), seed=0)
    tokens = torch.randint(9, (2, 12), generator=torch.Generator().manual_seed(0))
    _, state = stack.prefill(tokens)
    logits, _ = stack.prefill(tokens, state)
    assert not torch.allclose(logits, stack(tokens))
    with pytest.raises(ValueError, match="unknown option 'chunk_token'; did you mean 'chunk_tokens'"):
        parse_layout("atlas_compat(chunk_token=4)")


MAPS: dict[str, tuple[Callable[[], OmegaConfig | None], int]] = {
    "identity": (lambda: OmegaConfig(n_heads=1, head_width=16), 16),
    "powers side by side, the guide's": (
        lambda: OmegaConfig(n_heads=1, head_width=16, features="elementwise", degree=2),
        33,
    ),
    "the guide's with its repeated constant": (lambda: None, 33),
    "sketch back to d": (
        lambda: OmegaConfig(n_heads=1, head_width=16, features="sketch", degree=2, sketch_width=16),
        16,
    ),
    "monomials": (lambda: OmegaConfig(n_heads=1, head_width=16, features="monomial", degree=2), 153),
}


@pytest.mark.parametrize("name", MAPS)
@torch.no_grad()
def test_ranks_of_the_feature_maps(name: str):
    """E10: of 400 random keys of 16 channels; the sum of powers, also 16, is in the tests of the maps."""
    make, rank = MAPS[name]
    keys = torch.randn(400, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = make()
    memory = AtlasCompat(AtlasCompatConfig(), 16) if config is None else Omega(config, 16)
    features = (
        memory.double()._powers(keys[None])[0] if isinstance(memory, AtlasCompat) else memory.double().features(keys)
    )
    assert torch.linalg.matrix_rank(features) == rank


@pytest.mark.parametrize("chunk_tokens", [1, 4, 16])
@torch.no_grad()
def test_the_memory_of_the_guides_keys_is_causal_and_the_same_in_pieces(chunk_tokens: int):
    """E10: chunk parity and causality."""
    config = OmegaConfig(
        n_heads=1,
        chunk_tokens=chunk_tokens,
        granularity="chunk",
        window=1,
        features="elementwise",
        degree=2,
        learned_coefficients=True,
        initial_step_size=0.1 / chunk_tokens,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        memory = Omega(config, 16).double()
    x = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole, _ = memory(x)
    stepped, state = [], memory.init_state(2)
    for t in range(40):
        y, state = memory.step(x[:, t], state)
        stepped.append(y)
    assert_close(torch.stack(stepped, dim=1), whole, FLOAT64)
    changed = x.clone()
    changed[:, 20] += 1
    assert_close(memory(changed)[0][:, :20], whole[:, :20], CAUSAL)
    assert not torch.allclose(memory(changed)[0][:, 20:], whole[:, 20:])
