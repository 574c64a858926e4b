"""Memory Mosaics: the official code's numbers, one model in parallel and as a stream, at the cost it names."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.memories import ContextualConfig, FeedForwardConfig, PersistentConfig
from mnemoscope.models.mosaic import Mosaic, MosaicConfig, MosaicState, build_mosaic
from mnemoscope.models.mosaic_import import LIBRARY_NAMES, import_library, import_nano
from tests.tolerances import CAUSAL, FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close
from tests.unit.memories.cases import tensors

VOCAB = 13
GOLDEN = Path(__file__).parents[2] / "golden" / "memory_mosaics.npz"
"""Weights, logits and gradients of both official models: facebookresearch/MemoryMosaics, commit 1fff63b, run with
torch 2.13.0 on a CPU. `library` and `nano` are drawn by the official code with seed 0 and run in float32; the others
are perturbed, some scalars beyond the caps, and run in float64."""


def golden(model: str) -> dict[str, Tensor]:
    with np.load(GOLDEN) as arrays:
        return {
            name.removeprefix(f"{model}/"): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(f"{model}/") or "/" not in name
        }


def weights_of(numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("weights/"): value for name, value in numbers.items() if name.startswith("weights/")}


IMPORTS = {"library": import_library, "nano": import_nano}


class TestOfficialNumbers:
    @pytest.mark.parametrize(
        ("kind", "loss", "first", "total"),
        [
            ("library", 3.5640008, (-0.447810, -0.145651, -0.040684, -0.264862), 188.87234),
            ("nano", 3.5995967, (-0.237092, 0.008166, -0.022816, -0.108649), 59.10891),
        ],
    )
    @torch.no_grad()
    def test_logits_and_loss(self, kind: str, loss: float, first: tuple[float, ...], total: float):
        numbers = golden(kind)
        model = IMPORTS[kind](weights_of(numbers))
        assert sum(parameter.numel() for parameter in model.parameters()) == 4540
        logits = model(numbers["tokens"])
        assert_close(logits, numbers["logits"], FLOAT32)
        assert_close(logits[0, 0, :4], torch.tensor(first), FLOAT32)
        assert logits.abs().sum().item() == pytest.approx(total, rel=1e-6)
        assert F.cross_entropy(logits.flatten(0, 1), numbers["targets"].flatten()).item() == pytest.approx(loss, 1e-6)

    def test_gradients_of_every_weight(self):
        numbers = golden("library")
        model = import_library(weights_of(numbers))
        logits = model(numbers["tokens"])
        F.cross_entropy(logits.flatten(0, 1), numbers["targets"].flatten()).backward()
        for i, block in enumerate(model.blocks):
            theirs = {
                name.removeprefix(f"gradients/blocks.{i}."): value
                for name, value in numbers.items()
                if name.startswith(f"gradients/blocks.{i}.")
            }
            ours = dict(block.named_parameters())
            assert len(ours) == len(theirs) == 16
            for name, parameter in ours.items():
                found = (
                    {
                        "persistent.slot_keys": "pmem.pmem.M_k0",
                        "persistent.slot_values": "pmem.pmem.M_v0",
                    }.get(name)
                    or LIBRARY_NAMES.get(name)
                    or f"{LIBRARY_NAMES[name.removesuffix('.weight')]}.weight"
                )
                assert parameter.grad is not None
                assert_close(parameter.grad.flatten(), theirs[found].flatten(), FLOAT32_GRADIENT)
        for name, norm in {
            "keys.leak": 0.1042203,
            "key_scale": 0.2088145,
            "value_scale": 0.3429157,
            "mix": 0.0629153,
            "keys.project.weight": 0.0807196,
            "value.weight": 0.1072968,
            "out.weight": 0.1520584,
        }.items():
            gradient = model.blocks[0].contextual.get_parameter(name).grad
            assert gradient is not None
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-4)
        assert model.embedding.weight.grad is not None
        assert model.embedding.weight.grad.norm().item() == pytest.approx(0.3372266, rel=1e-4)

    @torch.no_grad()
    def test_a_single_token(self):
        numbers = golden("library")
        logits = import_library(weights_of(numbers))(numbers["tokens"][:, :1])
        assert F.cross_entropy(logits[:, 0], numbers["targets"][:, 0]).item() == pytest.approx(3.7623215, rel=1e-6)

    @pytest.mark.parametrize(
        "which",
        [
            "library two banks with biases beyond the cap",
            "library attention only, untied",
            "nano two banks with biases beyond the cap",
        ],
    )
    @torch.no_grad()
    def test_other_sizes_and_parts(self, which: str):
        numbers = golden(which)
        weights = {name: weight.double() for name, weight in weights_of(numbers).items()}
        model = IMPORTS[which.split()[0]](weights)
        assert_close(model(numbers["tokens"] % 11), numbers["logits"], FLOAT64)
        assert model.config.tie_embeddings == ("untied" not in which)
        assert (model.config.persistent is None) == ("attention only" in which)

    @pytest.mark.parametrize("kind", ["library", "nano"])
    @torch.no_grad()
    def test_a_stream_of_them(self, kind: str):
        numbers = golden(kind)
        model, state, outputs = IMPORTS[kind](weights_of(numbers)), None, []
        state = model.init_state(2)
        for token in numbers["tokens"].T:
            logits, state = model.step(token, state)
            outputs.append(logits)
        assert_close(torch.stack(outputs, dim=1), numbers["logits"], FLOAT32)


def library_weights() -> dict[str, Tensor]:
    return weights_of(golden("library"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.1.attn.kernel_beta"), "import must find a weight named 'blocks.1.attn.kernel_beta'"),
        (lambda w: w.pop("emb.weight"), "import must find a weight named 'emb.weight'"),
        (
            lambda w: w.update({"blocks.0.attn.v_featurizer.conv.weight": torch.zeros(1)}),
            "import must account for every weight, got ['blocks.0.attn.v_featurizer.conv.weight'] besides",
        ),
        (
            lambda w: w.update({"blocks.0.attn.k_featurizer.conv.weight": torch.zeros(16, 16, 2)}),
            "import of blocks.0.contextual.keys.project.weight must have shape (16, 16) but for axes of one, "
            "got (16, 16, 2)",
        ),
    ],
)
def test_weights_of_something_else_are_refused(change: Callable[[dict[str, Tensor]], object], message: str):
    weights = library_weights()
    change(weights)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        import_library(weights)


def test_an_import_leaves_its_source_alone():
    weights = library_weights()
    before = {name: weight.clone() for name, weight in weights.items()}
    model = import_library(weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert weights.keys() == before.keys()
    assert all(torch.equal(weights[name], before[name]) for name in before)


CONFIGS = {
    "as published": MosaicConfig(
        vocab_size=VOCAB, d_model=16, contextual=ContextualConfig(n_heads=2), persistent=PersistentConfig(n_heads=2)
    ),
    "contextual only, untied": MosaicConfig(
        vocab_size=VOCAB,
        d_model=16,
        n_layers=3,
        contextual=ContextualConfig(n_heads=2, start="learned", kernel="gaussian", normalise_keys=False),
        persistent=None,
        tie_embeddings=False,
        scale_logits=False,
    ),
    "with a feed-forward net": MosaicConfig(
        vocab_size=VOCAB,
        d_model=16,
        n_layers=1,
        contextual=ContextualConfig(n_heads=2),
        persistent=FeedForwardConfig(form="swiglu"),
        bias=True,
    ),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def mosaic_of(config: MosaicConfig) -> Mosaic:
    return build_mosaic(config, seed=0).double()


def some_tokens(n_tokens: int, batch: int = 2) -> Tensor:
    return torch.randint(VOCAB, (batch, n_tokens), generator=torch.Generator().manual_seed(1))


def bytes_held(state: MosaicState) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors(state.blocks))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MosaicConfig(vocab_size=1), "mosaic.vocab_size must be at least 2, got 1"),
        (lambda: MosaicConfig(vocab_size=9, d_model=0), "mosaic.d_model must be at least 1, got 0"),
        (lambda: MosaicConfig(vocab_size=9, n_layers=0), "mosaic.n_layers must be at least one block, got 0"),
        (lambda: MosaicConfig(vocab_size=9, dropout=1.0), "mosaic.dropout must be in [0, 1), got 1.0"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


@every_config
@torch.no_grad()
def test_forward_is_what_its_parts_say(config: MosaicConfig):
    model, tokens = mosaic_of(config), some_tokens(20)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))

    def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight
        return scaled + (0 if layer.bias is None else layer.bias)

    x = model.embedding.weight[tokens]
    for block in model.blocks:
        x = x + block.contextual(norm(x, block.contextual_norm))[0]
        if config.persistent is not None:
            x = x + block.persistent(norm(x, block.persistent_norm))[0]
    head = (model.embedding if config.tie_embeddings else model.head).weight
    logits = norm(x, model.norm) @ head.T / (4 if config.scale_logits else 1)
    assert_close(model(tokens), logits, FLOAT64)


@every_config
@settings(max_examples=8)
@given(n_tokens=st.integers(1, 50), cuts=st.sets(st.integers(1, 49), max_size=6))
@torch.no_grad()
def test_a_stream_in_any_pieces_is_forward(config: MosaicConfig, n_tokens: int, cuts: set[int]):
    model, tokens = mosaic_of(config), some_tokens(n_tokens)
    outputs, state = [], model.init_state(2)
    bounds = [0, *sorted(cut for cut in cuts if cut < n_tokens), n_tokens]
    for start, stop in pairwise(bounds):
        if stop - start == 1:
            logits, state = model.step(tokens[:, start], state)
            logits = logits.unsqueeze(1)
        else:
            logits, state = model.prefill(tokens[:, start:stop], state)
        outputs.append(logits)
    assert_close(torch.cat(outputs, dim=1), model(tokens), FLOAT64)
    assert state.n_tokens == n_tokens


@every_config
@torch.no_grad()
def test_no_logit_depends_on_a_later_token(config: MosaicConfig):
    model, tokens = mosaic_of(config), some_tokens(20)
    other = tokens.clone()
    other[:, 11] = (other[:, 11] + 1) % VOCAB
    assert_close(model(other)[:, :11], model(tokens)[:, :11], CAUSAL)
    assert not torch.equal(model(other)[:, 11], model(tokens)[:, 11])


@every_config
@torch.no_grad()
def test_a_prefix_reproduces_the_whole(config: MosaicConfig):
    model, tokens = mosaic_of(config), some_tokens(40)
    for n_tokens in (1, 2, 31, 33):
        assert_close(model(tokens[:, :n_tokens]), model(tokens)[:, :n_tokens], FLOAT64)


@every_config
@torch.no_grad()
def test_the_state_is_as_large_as_it_says(config: MosaicConfig):
    model, tokens = mosaic_of(config), some_tokens(30)
    state = model.init_state(2)
    assert bytes_held(state) == model.state_bytes(batch=2, tokens=0)
    _, state = model.prefill(tokens, state)
    assert bytes_held(state) == model.state_bytes(batch=2, tokens=30)
    _, state = model.step(tokens[:, 0], state)
    assert bytes_held(state) == model.state_bytes(batch=2, tokens=31)


@pytest.mark.parametrize("n_tokens", [1, 2, 33, 100])
@every_config
@torch.no_grad()
def test_flops_are_those_of_torchs_counter(config: MosaicConfig, n_tokens: int):
    model, tokens = build_mosaic(config, seed=0), some_tokens(n_tokens, batch=3)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens)
    assert model.flops(batch=3, tokens=n_tokens) == counter.get_total_flops()


@every_config
def test_every_parameter_learns_from_the_last_token(config: MosaicConfig):
    model, tokens = mosaic_of(config), some_tokens(20)
    F.cross_entropy(model(tokens)[:, -1], tokens[:, 0]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert not dict(model.named_buffers())


def test_a_seed_is_a_model_and_leaves_the_global_generator_alone():
    config = CONFIGS["as published"]
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, again, other = build_mosaic(config, seed=7), build_mosaic(config, seed=7), build_mosaic(config, seed=8)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_weights_start_as_published():
    config = MosaicConfig(
        vocab_size=300,
        d_model=256,
        n_layers=3,
        contextual=ContextualConfig(n_heads=4),
        persistent=PersistentConfig(n_heads=4, n_slots=50),
    )
    model = build_mosaic(config, seed=0)
    block = model.blocks[1]
    assert isinstance(block.persistent, torch.nn.Module)
    for weight, deviation in [
        (model.embedding.weight, 256**-0.5),
        (block.contextual.keys.project.weight, 256**-0.5),
        (block.contextual.value.weight, 256**-0.5),
        (block.contextual.out.weight, (256 * 3) ** -0.5),
        (block.persistent.query.project.weight, 256**-0.5),
        (block.persistent.out.weight, (256 * 3) ** -0.5),
        (block.persistent.slot_keys, 64**-0.5),
        (block.persistent.slot_values, 64**-0.5),
    ]:
        assert weight.std().item() == pytest.approx(deviation, rel=0.03)
        assert weight.mean().abs() < 0.03 * deviation
    logits = model(torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(0)))
    assert F.cross_entropy(logits.flatten(0, 1), torch.zeros(80, dtype=torch.int64)).item() < math.log(300) + 0.2


def test_the_model_of_the_paper_has_its_size():
    """12 blocks of width 768, counted from the equations; the published code has 123,588,336 and a context of 512."""
    c, h, n_slots, vocab, n_layers = 768, 12, 2688, 50_304, 12
    block = 3 * c * c + 2 * c * c + 2 * n_slots * c + 2 * c + 7 * h
    assert n_layers * block + vocab * c + c == 123_588_336
    config = MosaicConfig(
        vocab_size=VOCAB, d_model=32, n_layers=2, contextual=ContextualConfig(), persistent=PersistentConfig()
    )
    c, h, n_slots = 32, 4, 112
    block = 3 * c * c + 2 * c * c + 2 * n_slots * c + 2 * c + 7 * h
    assert sum(p.numel() for p in build_mosaic(config, seed=0).parameters()) == 2 * block + VOCAB * c + c


@torch.no_grad()
def test_dropout_is_for_training_alone():
    model, tokens = build_mosaic(MosaicConfig(vocab_size=VOCAB, d_model=16, dropout=0.5), seed=0), some_tokens(9)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
