"""Memory Mosaics against the plain form that their official library trains with, and against recomputing the window.

The rival is that form on the same weights: leaky averages as one matrix per head over all pairs of tokens, built anew
in every forward pass and twice per block, logits and weights of all pairs, a mask where a pair is not yet known. Its
numbers are those of the official code (`tests/unit/models/test_mosaic.py` has them for ours).
"""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.memories import ContextualConfig, PersistentConfig
from mnemoscope.memories.contextual import Contextual
from mnemoscope.memories.persistent import Persistent
from mnemoscope.models.mosaic import Mosaic, MosaicConfig, MosaicState, build_mosaic
from mnemoscope.ops.leaky import leaky_average

VOCAB, D_MODEL, HEADS, LAYERS, SLOTS = 512, 256, 4, 4, 896
TRAINED_TOKENS = ((1024, 2.0), (2048, 5.0))
"""Lengths of a training step, and the bar of each."""

DECODED = 2048
STREAMED = 2
"""Tokens of one timing of the stream; the rival takes seconds for each."""

RIVAL = "plain form, dense"


def mosaic() -> Mosaic:
    contextual = ContextualConfig(n_heads=HEADS)
    persistent = PersistentConfig(n_heads=HEADS, n_slots=SLOTS)
    config = MosaicConfig(
        vocab_size=VOCAB, d_model=D_MODEL, n_layers=LAYERS, contextual=contextual, persistent=persistent
    )
    return build_mosaic(config, seed=0)


def some_tokens(n_tokens: int) -> Tensor:
    return torch.randint(VOCAB, (1, n_tokens), generator=torch.Generator().manual_seed(0))


def dense_keys(x: Tensor, weight: Tensor, leak: Tensor, length: Tensor) -> Tensor:
    """Keys (b h t k) by one matrix per head over all pairs of tokens."""
    k = rearrange(F.linear(x, weight), "b t (h k) -> b h t k", h=HEADS)
    rate, token = (10 * leak.abs()).view(-1, 1, 1), torch.arange(x.shape[1])
    age = (token.unsqueeze(1) - token).to(x.dtype)
    averaging = (-rate * age.clamp(min=0)).exp() * (1 - (-rate).exp())
    k = averaging.masked_fill(age < 0, 0) @ k
    return k / k.norm(dim=-1, keepdim=True) * length.view(-1, 1, 1)


def dense_contextual(memory: Contextual, x: Tensor) -> Tensor:
    length = (10 * memory.key_scale).clamp(max=5).exp()
    k = dense_keys(x, memory.keys.project.weight, memory.keys.leak, length)
    projected = rearrange(memory.value(x), "b t (h v) -> b h t v", h=HEADS)
    ahead = F.pad(projected, (0, 0, -1, 1))
    c = memory.mix.view(-1, 1, 1)
    v = (1 - c) * ahead + c * projected
    v = v / v.norm(dim=-1, keepdim=True) * (10 * memory.value_scale).exp().view(-1, 1, 1)
    unknown = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu()
    logits = (k @ k.mT).masked_fill(unknown, -torch.inf)
    weights = F.pad(logits[:, :, 1:].softmax(-1), (0, 0, 1, 0))
    return memory.out(rearrange(weights @ v, "b h t v -> b t (h v)"))


def dense_persistent(memory: Persistent, x: Tensor) -> Tensor:
    length = (10 * memory.key_scale).clamp(max=5).exp().square()
    q = dense_keys(x, memory.query.project.weight, memory.query.leak, length)
    read = F.scaled_dot_product_attention(q, memory.slot_keys, memory.slot_values, scale=1.0)
    read = read * (10 * memory.value_scale).exp().view(-1, 1, 1)
    return memory.out(rearrange(read, "b h t v -> b t (h v)"))


def dense_mosaic(model: Mosaic, tokens: Tensor) -> Tensor:
    """Logits of all tokens."""
    x = model.embedding(tokens)
    for block in model.blocks:
        assert isinstance(block.persistent, Persistent)
        assert block.persistent_norm is not None
        x = x + dense_contextual(block.contextual, block.contextual_norm(x))
        x = x + dense_persistent(block.persistent, block.persistent_norm(x))
    return model.head(model.norm(x)) * D_MODEL**-0.5


def learnt(logits: Tensor, tokens: Tensor, model: Mosaic) -> list[Tensor]:
    """The logits, and the gradients of a training step."""
    loss = F.cross_entropy(logits[0, :-1], tokens[0, 1:])
    return [logits, *torch.autograd.grad(loss, list(model.parameters()))]


def training(n_tokens: int, bar: float) -> Rivalry:
    model, tokens = mosaic(), some_tokens(n_tokens)
    return Rivalry(
        work=f"mosaic 4 layers, width 256, forward and backward, T{n_tokens}",
        rival=RIVAL,
        bar=bar,
        ours=lambda: learnt(model(tokens), tokens, model),
        theirs=lambda: learnt(dense_mosaic(model, tokens), tokens, model),
    )


def decoding(context: int) -> Rivalry:
    """Streamed tokens after a context, against reading the whole window anew for each of them."""
    model, tokens = mosaic(), some_tokens(context + STREAMED)
    with torch.no_grad():
        _, state = model.prefill(tokens[:, :context])

    @torch.no_grad()
    def stream() -> Sequence[Tensor]:
        logits, now = [], MosaicState(state.blocks, state.n_tokens)
        for token in tokens[:, context:].mT:
            y, now = model.step(token, now)
            logits.append(y)
        return logits

    @torch.no_grad()
    def recompute() -> Sequence[Tensor]:
        return [dense_mosaic(model, tokens[:, : context + i + 1])[:, -1] for i in range(STREAMED)]

    return Rivalry(
        work=f"mosaic 4 layers, width 256, {STREAMED} tokens after {context}",
        rival=f"window anew, {RIVAL}",
        bar=50.0,
        ours=stream,
        theirs=recompute,
    )


def averaging(n_tokens: int = 2048, h: int = 4, d: int = 64) -> Rivalry:
    """The leaky average alone, with gradients to inputs and retentions."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, n_tokens, h, d, generator=generator, requires_grad=True)
    rate, empty = torch.linspace(0.5, 5, h).requires_grad_(), torch.zeros(1, h, d)
    weigh = torch.randn(1, n_tokens, h, d, generator=generator)

    def ours() -> Sequence[Tensor]:
        y, _ = leaky_average(x, -rate, empty)
        return [y, *torch.autograd.grad(y, [x, rate], weigh)]

    def dense() -> Sequence[Tensor]:
        token = torch.arange(n_tokens)
        age = (token.unsqueeze(1) - token).to(x.dtype)
        kept = (-rate.view(-1, 1, 1) * age.clamp(min=0)).exp().masked_fill(age < 0, 0)
        averages = kept @ x.transpose(1, 2)
        y = averages.transpose(1, 2)
        return [y, *torch.autograd.grad(y, [x, rate], weigh)]

    return Rivalry(
        work=f"leaky average H{h} D{d} T{n_tokens}",
        rival="dense matrix",
        bar=25.0,
        ours=ours,
        theirs=dense,
        # The gradient of a retention is a sum over all tokens and channels.
        tolerance=2e-3,
    )


def rivalries() -> Iterator[Rivalry]:
    """Training steps, the stream, and the scan alone."""
    for n_tokens, bar in TRAINED_TOKENS:
        yield training(n_tokens, bar)
    yield decoding(DECODED)
    yield averaging()
