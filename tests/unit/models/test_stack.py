"""Stacks: one model in parallel and as a stream, at the cost it names."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.memories import AttentionConfig, BankConfig, GatedDeltaConfig
from mnemoscope.models import (
    ParallelConfig,
    Stack,
    StackConfig,
    StackState,
    VectorsConfig,
    build,
    load_model,
    save_model,
)
from tests.tolerances import CAUSAL, FLOAT64, assert_close
from tests.unit.memories.cases import tensors

VOCAB = 13
LAYOUTS = [
    "attention(n_heads=2, window=5), gated_delta(n_heads=2)",
    "attention(n_heads=2)",
    "gated_delta(n_heads=2) | attention(n_heads=2, window=16), bank(n_slots=3)",
]
VECTORS = VectorsConfig(n_channels=5, n_outputs=3)
RECURRENT = "gated_delta(n_heads=2), attention(n_heads=2, window=16)"


def stack_of(layout: str, *, tied: bool = True) -> Stack:
    return build(StackConfig.of(layout, vocab_size=VOCAB, d_model=16, tie_embeddings=tied), seed=0).double()


def some_tokens(n_tokens: int, batch: int = 2) -> Tensor:
    return torch.randint(VOCAB, (batch, n_tokens), generator=torch.Generator().manual_seed(1))


def bytes_held(state: StackState) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors(state.blocks))


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_are_drawn_as_small_as_is_said(tied: bool):
    config = StackConfig.of("attention", vocab_size=400, d_model=32, tie_embeddings=tied)
    plain, small = (build(replace(config, embedding_std=std), 0) for std in (None, 0.02))
    for weight in (small.embedding.weight, small.head.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert plain.embedding.weight.std().item() == pytest.approx(32**-0.5, rel=0.03)
    assert (small.head.weight is small.embedding.weight) == tied


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StackConfig(vocab_size=1), "stack.vocab_size must be at least 2, got 1"),
        (lambda: StackConfig(vocab_size=9, vectors=VECTORS), "stack.vocab_size must be 0 with vectors, got 9"),
        (lambda: StackConfig(vocab_size=0, vectors=VECTORS), "stack.tie_embeddings must be False with vectors, got"),
        (lambda: StackConfig.of_vectors("bank", n_channels=0, n_outputs=1), "stack.vectors.n_channels must be at le"),
        (lambda: StackConfig.of_vectors("bank", n_channels=1, n_outputs=0), "stack.vectors.n_outputs must be at lea"),
        (lambda: StackConfig(vocab_size=9, embedding_std=0.0), "stack.embedding_std must be positive and finite"),
        (lambda: StackConfig(vocab_size=9, d_model=0), "stack.d_model must be at least 1, got 0"),
        (lambda: StackConfig(vocab_size=9, mixers=()), "stack.mixers must be at least one block, got 0"),
        (lambda: StackConfig(vocab_size=9, mlp_ratio=-0.5), "stack.mlp_ratio must be 0 or more, got -0.5"),
        (lambda: StackConfig(vocab_size=9, max_tokens=8), "stack.max_tokens must be given with positions='learned'"),
        (lambda: StackConfig(vocab_size=9, positions="learned"), "stack.max_tokens must be given with positions="),
        (lambda: StackConfig.of("bonk", vocab_size=9), "layout names an unknown memory 'bonk'; did you mean 'bank'?"),
        (lambda: build(StackConfig.of("attention(n_heads=3)", vocab_size=9), 0), "attention: d_model must be a multi"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_a_variant_is_validated_again():
    with pytest.raises(ValueError, match=r"stack\.mlp_ratio"):
        replace(StackConfig(vocab_size=9), mlp_ratio=-1.0)


def test_a_stack_of_one_layout_is_that_of_its_parts():
    mixers = (
        ParallelConfig(
            memory=GatedDeltaConfig(n_heads=2),
            beside=AttentionConfig(n_heads=2, window=16),
        ),
        BankConfig(n_slots=3),
    )
    assert StackConfig.of(LAYOUTS[2], vocab_size=VOCAB, d_model=16) == StackConfig(
        vocab_size=VOCAB, d_model=16, mixers=mixers
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_forward_is_what_its_parts_say(layout: str, tied: bool):
    stack, tokens = stack_of(layout, tied=tied), some_tokens(20)

    def rms(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    h = stack.embedding.weight[tokens]
    for block in stack.blocks:
        h = h + block.mixer(rms(h, block.mixer_norm.weight))[0]
        inner = F.linear(rms(h, block.mlp_norm.weight), block.mlp.inner.weight, block.mlp.inner.bias)
        gelu = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        h = h + F.linear(gelu, block.mlp.out.weight, block.mlp.out.bias)
    head = stack.embedding.weight if tied else stack.head.weight
    assert_close(stack(tokens), rms(h, stack.norm.weight) @ head.T, FLOAT64)


def stream(stack: Stack, tokens: Tensor, cuts: list[int]) -> tuple[Tensor, StackState]:
    """`prefill` in pieces, or `step` where a piece is one token."""
    outputs, state = [], stack.init_state(tokens.shape[0])
    for start, stop in zip([0, *cuts], [*cuts, tokens.shape[1]], strict=True):
        if stop - start == 1:
            y, state = stack.step(tokens[:, start], state)
            y = y.unsqueeze(1)
        else:
            y, state = stack.prefill(tokens[:, start:stop], state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=8)
@given(n_tokens=st.integers(1, 50), cuts=st.sets(st.integers(1, 49), max_size=6))
@torch.no_grad()
def test_a_stream_in_any_pieces_is_forward(layout: str, n_tokens: int, cuts: set[int]):
    stack, tokens = stack_of(layout), some_tokens(n_tokens)
    outputs, state = stream(stack, tokens, sorted(cut for cut in cuts if cut < n_tokens))
    assert_close(outputs, stack(tokens), FLOAT64)
    assert state.n_tokens == n_tokens


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_prefill_from_nothing_is_forward(layout: str):
    stack, tokens = stack_of(layout), some_tokens(40)
    assert_close(stack.prefill(tokens)[0], stack(tokens), FLOAT64)


@torch.no_grad()
def test_no_logit_depends_on_a_later_token():
    stack, tokens = stack_of(LAYOUTS[0]), some_tokens(20)
    other = tokens.clone()
    other[:, 11] = (other[:, 11] + 1) % VOCAB
    assert_close(stack(other)[:, :11], stack(tokens)[:, :11], CAUSAL)
    assert not torch.equal(stack(other)[:, 11], stack(tokens)[:, 11])


def test_a_seed_is_a_model_and_leaves_the_global_generator_alone():
    config = StackConfig.of(RECURRENT, vocab_size=VOCAB, d_model=16)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, again, other = build(config, seed=7), build(config, seed=7), build(config, seed=8)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


class TestLearnedPositions:
    config = StackConfig(
        vocab_size=VOCAB, d_model=16, mixers=(AttentionConfig(positions="none"),), positions="learned", max_tokens=10
    )

    @torch.no_grad()
    def test_a_stream_is_forward(self):
        stack, tokens = build(self.config, seed=0).double(), some_tokens(10)
        assert_close(stream(stack, tokens, [3, 4, 5])[0], stack(tokens), FLOAT64)

    @torch.no_grad()
    def test_they_tell_positions_apart(self):
        stack = build(self.config, seed=0)
        same = stack(torch.zeros(1, 10, dtype=torch.int64))
        assert (same[0, 0] - same[0, 1]).abs().max() > 1e-3

    @pytest.mark.parametrize("how", ["forward", "prefill", "step"])
    @torch.no_grad()
    def test_too_long_a_sequence_is_refused(self, how: str):
        stack, tokens = build(self.config, seed=0), some_tokens(11)

        def run() -> Any:
            if how == "forward":
                return stack(tokens)
            _, state = stack.prefill(tokens[:, :9] if how == "prefill" else tokens[:, :10])
            return stack.prefill(tokens[:, 9:], state) if how == "prefill" else stack.step(tokens[:, 10], state)

        with pytest.raises(ValueError, match="learned positions reach 10 tokens, got 11; raise max_tokens or use"):
            run()


class TestWithoutResidual:
    config = StackConfig.of("gated_delta(n_heads=2), attention(n_heads=2)", vocab_size=VOCAB, d_model=16)

    @torch.no_grad()
    def test_each_part_sees_only_what_the_last_one_gave(self):
        stack, tokens = build(replace(self.config, residual=False), seed=0).double(), some_tokens(7)
        x = stack.embedding(tokens)
        for block in stack.blocks:
            assert block.mlp is not None
            assert block.mlp_norm is not None
            x = block.mlp(block.mlp_norm(block.mixer(block.mixer_norm(x))[0]))
        assert_close(stack(tokens), stack.head(stack.norm(x)), FLOAT64)
        assert_close(stream(stack, tokens, [3, 4])[0], stack(tokens), FLOAT64)

    @torch.no_grad()
    def test_weights_are_drawn_alike(self):
        plain, bare = build(self.config, seed=0), build(replace(self.config, residual=False), seed=0)
        for a, b in zip(plain.parameters(), bare.parameters(), strict=True):
            assert torch.equal(a, b)
        tokens = some_tokens(7)
        assert (plain(tokens) - bare(tokens)).abs().max() > 1e-2
        assert torch.equal(plain.head(plain.hidden(tokens)), plain(tokens))


@torch.no_grad()
def test_the_state_of_a_recurrent_stack_does_not_grow():
    stack, tokens = stack_of(RECURRENT), some_tokens(400)
    assert stack.state_bytes(batch=2, tokens=100) == stack.state_bytes(batch=2, tokens=100_000)
    state = stack.init_state(2)
    for t in range(400):
        _, state = stack.step(tokens[:, t], state)
        assert bytes_held(state) == stack.state_bytes(batch=2, tokens=t + 1)
    _, state = stack.prefill(tokens, state)
    assert bytes_held(state) == stack.state_bytes(batch=2, tokens=800) == stack.state_bytes(batch=2)


@torch.no_grad()
def test_the_state_of_full_attention_grows_by_what_it_says():
    stack, tokens = stack_of("attention(n_heads=2)"), some_tokens(50)
    _, state = stack.prefill(tokens)
    assert bytes_held(state) == stack.state_bytes(batch=2, tokens=50)
    assert stack.state_bytes(2, 51) - stack.state_bytes(2, 50) == 2 * 2 * 16 * 8


@pytest.mark.parametrize("n_tokens", [1, 5, 6, 40])
@pytest.mark.parametrize("mlp_ratio", [0.0, 2.5])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_flops_are_those_of_torchs_counter(layout: str, mlp_ratio: float, n_tokens: int):
    config = replace(StackConfig.of(layout, vocab_size=VOCAB, d_model=16), mlp_ratio=mlp_ratio)
    stack, tokens = build(config, seed=0), some_tokens(n_tokens, batch=3)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        stack(tokens)
    assert stack.flops(batch=3, tokens=n_tokens) == counter.get_total_flops()


def test_a_stack_hides_no_buffer():
    assert not dict(stack_of(LAYOUTS[2]).named_buffers())


def test_every_parameter_learns_from_the_last_token():
    stack, tokens = stack_of(LAYOUTS[2], tied=False), some_tokens(20)
    loss = F.cross_entropy(stack(tokens)[:, -1], tokens[:, 0])
    loss.backward()
    for name, parameter in stack.named_parameters():
        if parameter.numel():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


class TestVectors:
    """A stack of vectors is one of tokens whose embedding is a linear layer."""

    config = StackConfig.of_vectors(LAYOUTS[0], n_channels=5, n_outputs=3, d_model=16)

    def vectors(self, n_tokens: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(2, n_tokens, 5, generator=torch.Generator().manual_seed(1), dtype=dtype)

    @torch.no_grad()
    def test_one_hot_vectors_are_tokens(self):
        stack, tokens = build(self.config, seed=0).double(), some_tokens(20) % 5
        weights = stack.state_dict()
        weights["embedding.weight"] = weights["embedding.weight"].T + weights.pop("embedding.bias")
        weights["head.weight"] = F.pad(weights["head.weight"], (0, 0, 0, 2))
        twin = build(replace(self.config, vocab_size=5, vectors=None), seed=1).double()
        twin.load_state_dict(weights)
        assert_close(stack(F.one_hot(tokens, 5).double()), twin(tokens)[..., :3], FLOAT64)

    @settings(max_examples=8)
    @given(n_tokens=st.integers(1, 50), cuts=st.sets(st.integers(1, 49), max_size=6))
    @torch.no_grad()
    def test_a_stream_in_any_pieces_is_forward(self, n_tokens: int, cuts: set[int]):
        stack, x = build(self.config, seed=0).double(), self.vectors(n_tokens)
        outputs, state = stream(stack, x, sorted(cut for cut in cuts if cut < n_tokens))
        assert outputs.shape == (2, n_tokens, 3)
        assert_close(outputs, stack(x), FLOAT64)
        assert state.n_tokens == n_tokens

    @pytest.mark.parametrize("n_tokens", [1, 5, 40])
    @torch.no_grad()
    def test_flops_are_those_of_torchs_counter(self, n_tokens: int):
        stack = build(self.config, seed=0).double()
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            stack(self.vectors(n_tokens))
        assert stack.flops(batch=2, tokens=n_tokens) == counter.get_total_flops()

    def test_every_parameter_learns(self):
        stack = build(self.config, seed=0)
        stack(self.vectors(20, torch.float32))[:, -1].square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in stack.parameters() if p.numel())

    @torch.no_grad()
    def test_it_is_saved_and_loaded(self, tmp_path: Path):
        stack, x = build(self.config, seed=3), self.vectors(9, torch.float32)
        save_model(stack, tmp_path)
        loaded = load_model(tmp_path)
        assert loaded.config == self.config
        assert torch.equal(loaded(x), stack(x))
