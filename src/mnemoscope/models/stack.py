"""A pre-norm stack: embedding, blocks of mixer and feed-forward, head; of tokens, or of vectors.

h <- h + mixer(rms(h))          h <- h + W_2 gelu(W_1 rms(h))          logits = W (rms(h))
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.memories.parts import NORM_EPSILON, Scan, require
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mixers import MixerConfig, build_mixer

Inputs: TypeAlias = Int[Tensor, "b t"] | Float[Tensor, "b t c"]
"""Tokens, or vectors where the stack has no tokens."""


@dataclass(frozen=True, kw_only=True)
class VectorsConfig:
    """Vectors in place of tokens: a linear layer reads them, and the head gives as many numbers as are wanted.

    Args:
        n_channels: numbers of an input, c.
        n_outputs: numbers of an output.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    n_channels: int
    n_outputs: int

    def __post_init__(self) -> None:
        for name in ("n_channels", "n_outputs"):
            number = getattr(self, name)
            require(number >= 1, f"stack.vectors.{name}", "at least 1", number, "count the numbers of the task")


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A stack of blocks.

    Args:
        vocab_size: tokens of the vocabulary; 0 for vectors.
        d_model: width of the residual stream.
        mixers: one per block, first block first; see `StackConfig.of` for layouts.
        mlp_ratio: width of the feed-forward part over d_model; 0 for none.
        bare_blocks: how many of the last blocks are a mixer alone, without a feed-forward part.
        tie_embeddings: use the embedding as the head.
        embedding_std: standard deviation that embedding and head are drawn with; None for 1 / sqrt(d_model) of the
            embedding, and of an untied head what linear layers begin with.
        positions: "none" (the mixers see to order), or "learned" up to `max_tokens`.
        max_tokens: longest sequence of learned positions.
        residual: add what a mixer and a feed-forward part give to what they read; without, as some published Mamba
            stacks are, the next part sees it alone: h <- mixer(rms(h)), h <- W_2 gelu(W_1 rms(h)).
        vectors: what is read and predicted in place of tokens; None for tokens. Vectors have no embedding to tie.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["stack"] = "stack"
    vocab_size: int
    d_model: int = 64
    mixers: tuple[MixerConfig, ...] = field(default_factory=lambda: parse_layout("attention(window=16), gated_delta"))
    mlp_ratio: float = 2.0
    bare_blocks: int = 0
    tie_embeddings: bool = True
    embedding_std: float | None = None
    positions: Literal["none", "learned"] = "none"
    max_tokens: int | None = None
    residual: bool = True
    vectors: VectorsConfig | None = None

    def __post_init__(self) -> None:
        if self.vectors is None:
            advice = "count the tokens of the task"
            require(self.vocab_size >= 2, "stack.vocab_size", "at least 2", self.vocab_size, advice)
        else:
            require(self.vocab_size == 0, "stack.vocab_size", "0 with vectors", self.vocab_size, "use 0")
            require(not self.tie_embeddings, "stack.tie_embeddings", "False with vectors", True, "use False")
        std = self.embedding_std
        drawn = std is None or (self.vectors is None and 0 < std < float("inf"))
        require(drawn, "stack.embedding_std", "positive and finite, and None with vectors", std, "use None")
        require(self.d_model >= 1, "stack.d_model", "at least 1", self.d_model, "use 64")
        require(len(self.mixers) >= 1, "stack.mixers", "at least one block", len(self.mixers), "give a layout")
        require(self.mlp_ratio >= 0, "stack.mlp_ratio", "0 or more", self.mlp_ratio, "use 0 for no feed-forward part")
        n, bare = len(self.mixers), self.bare_blocks
        require(0 <= bare <= n, "stack.bare_blocks", f"from 0 to the {n} blocks there are", bare, "use 0")
        require(
            (self.positions == "learned") == (self.max_tokens is not None),
            "stack.max_tokens",
            "given with positions='learned' and only then",
            self.max_tokens,
            "set both or neither",
        )

    @property
    def mlp_widths(self) -> tuple[int, ...]:
        """Channels of every block's feed-forward part; 0 where it has none."""
        n, width = len(self.mixers), round(self.d_model * self.mlp_ratio)
        return (width,) * (n - self.bare_blocks) + (0,) * self.bare_blocks

    @classmethod
    def of(cls, layout: str, *, vocab_size: int, d_model: int = 64, tie_embeddings: bool = True) -> "StackConfig":
        """A stack from a layout such as "attention(window=16), gated_delta"."""
        return cls(vocab_size=vocab_size, d_model=d_model, mixers=parse_layout(layout), tie_embeddings=tie_embeddings)

    @classmethod
    def of_vectors(cls, layout: str, *, n_channels: int, n_outputs: int, d_model: int = 64) -> "StackConfig":
        """A stack of vectors from a layout."""
        vectors = VectorsConfig(n_channels=n_channels, n_outputs=n_outputs)
        return cls(vocab_size=0, d_model=d_model, mixers=parse_layout(layout), tie_embeddings=False, vectors=vectors)


class StackState(NamedTuple):
    """The state of every block, and how many tokens were seen."""

    blocks: tuple[Any, ...]
    n_tokens: int


class Mlp(nn.Module):
    """Feed-forward part of a block."""

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(d_model, width)
        self.out = nn.Linear(width, d_model)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """W_2 gelu(W_1 x)."""
        return self.out(F.gelu(self.inner(x)))


class Block(nn.Module):
    """Mixer and feed-forward part, each behind a norm and, with `residual`, beside the residual stream."""

    def __init__(self, mixer: MixerConfig, d_model: int, mlp_width: int, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.mixer_norm = nn.RMSNorm(d_model, NORM_EPSILON)
        self.mixer = build_mixer(mixer, d_model)
        self.mlp_norm = nn.RMSNorm(d_model, NORM_EPSILON) if mlp_width else None
        self.mlp = Mlp(d_model, mlp_width) if mlp_width else None

    def forward(self, x: Float[Tensor, "b t d"], state: Any = None) -> tuple[Float[Tensor, "b t d"], Any]:
        """Parallel form."""
        mixed, state = self.mixer(self.mixer_norm(x), state)
        return self._feed_forward(self._beside(x, mixed)), state

    def step(self, x: Float[Tensor, "b d"], state: Any) -> tuple[Float[Tensor, "b d"], Any]:
        """One token."""
        mixed, state = self.mixer.step(self.mixer_norm(x), state)
        return self._feed_forward(self._beside(x, mixed)), state

    def _feed_forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return x if self.mlp is None or self.mlp_norm is None else self._beside(x, self.mlp(self.mlp_norm(x)))

    def _beside(self, x: Float[Tensor, "*b d"], given: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return x + given if self.residual else given


class Blocks(nn.ModuleList):
    """The blocks of a stack; a module list that says what it holds."""

    def __iter__(self) -> Iterator[Block]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__iter__()  # pyright: ignore[reportReturnType]


class Stack(nn.Module):
    """Tokens in, logits out; or a stream: `prefill`, then `step` as often as one likes.

    With `config.vectors` it takes float vectors (b, t, c) instead, and `vocab` stands for the numbers of an output.
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        d, vectors = config.d_model, config.vectors
        self.config = config
        self.embedding = nn.Linear(vectors.n_channels, d) if vectors else nn.Embedding(config.vocab_size, d)
        if vectors is None:
            nn.init.normal_(self.embedding.weight, std=config.embedding_std or d**-0.5)
        self.positions = nn.Embedding(config.max_tokens, d) if config.max_tokens is not None else None
        blocks = zip(config.mixers, config.mlp_widths, strict=True)
        self.blocks = Blocks(Block(mixer, d, width, config.residual) for mixer, width in blocks)
        self.norm = nn.RMSNorm(d, NORM_EPSILON)
        self.head = nn.Linear(d, vectors.n_outputs if vectors else config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        elif config.embedding_std is not None:
            nn.init.normal_(self.head.weight, std=config.embedding_std)

    def forward(self, tokens: Inputs) -> Float[Tensor, "b t vocab"]:
        """Logits of the next token at every position."""
        return self.head(self.hidden(tokens))

    def hidden(self, tokens: Inputs) -> Float[Tensor, "b t d"]:
        """What the head reads at every position; for whoever needs logits at few of them."""
        x = self.embed(tokens, 0)
        for block in self.blocks:
            x, _ = block(x)
        return self.norm(x)

    def init_state(self, batch: int) -> StackState:
        """Nothing seen."""
        return StackState(tuple(block.mixer.init_state(batch) for block in self.blocks), 0)

    def prefill(self, tokens: Inputs, state: StackState | None = None) -> tuple[Float[Tensor, "b t vocab"], StackState]:
        """Read a piece of any length at once; continues from `state`."""
        state = state or self.init_state(tokens.shape[0])
        x, states = self.embed(tokens, state.n_tokens), []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block(x, block_state)
            states.append(block_state)
        return self.head(self.norm(x)), StackState(tuple(states), state.n_tokens + tokens.shape[1])

    def step(
        self, token: Int[Tensor, "b"] | Float[Tensor, "b c"], state: StackState
    ) -> tuple[Float[Tensor, "b vocab"], StackState]:
        """Read one token; constant time and memory where every block is recurrent or windowed."""
        x, states = self.embed(token.unsqueeze(1), state.n_tokens).squeeze(1), []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block.step(x, block_state)
            states.append(block_state)
        return self.head(self.norm(x)), StackState(tuple(states), state.n_tokens + 1)

    def embed(self, tokens: Inputs, start: int) -> Float[Tensor, "b t d"]:
        """What the first block reads of tokens that stand behind `start` others.

        Raises:
            ValueError: more tokens than there are learned positions.
        """
        x = self.embedding(tokens)
        if self.positions is None:
            return x
        stop = start + tokens.shape[1]
        if stop > self.positions.num_embeddings:
            raise ValueError(
                f"stack: learned positions reach {self.positions.num_embeddings} tokens, got {stop}; "
                "raise max_tokens or use positions='none'"
            )
        return x + self.positions.weight[start:stop]

    def kernels(self) -> dict[str, str]:
        """What computes each scan on the device and in the dtype of the weights, by the path of its module."""
        scans = {name: module for name, module in self.named_modules() if isinstance(module, Scan)}
        return {name: scan.computed_by(self.embedding.weight) for name, scan in scans.items()}

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Exact size of the state after `tokens` tokens."""
        return sum(block.mixer.state_bytes(batch, tokens) for block in self.blocks)

    def flops(self, batch: int, tokens: int) -> int:
        """Floating-point operations of the matrix products of `forward`."""
        d, config = self.config.d_model, self.config
        mixers = sum(block.mixer.flops(batch, tokens) for block in self.blocks)
        blocks = mixers + 4 * batch * tokens * d * sum(config.mlp_widths)
        vectors = config.vectors
        ends = d * (vectors.n_channels + vectors.n_outputs if vectors else config.vocab_size)
        return blocks + 2 * batch * tokens * ends


def build(config: StackConfig, seed: int) -> Stack:
    """A stack on the CPU with weights drawn from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Stack(config)
