"""Memory Mosaic: a language model whose blocks are two memories, without attention over values of the present token.

x = E[tokens]     x <- x + contextual(LN x)     x <- x + persistent(LN x)     logits = E LN(x) / sqrt(C)

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), figure 8; sizes of the start as in its code.
Differs: the persistent level may be a feed-forward net or absent, and the contextual memory has the options of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from mnemoscope.memories.contextual import Contextual, ContextualConfig, ContextualState
from mnemoscope.memories.feed_forward import FeedForward, FeedForwardConfig
from mnemoscope.memories.parts import require
from mnemoscope.memories.persistent import Persistent, PersistentConfig

LAYER_NORM_EPSILON = 1e-5

PersistentLevel = Annotated[PersistentConfig | FeedForwardConfig, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class MosaicConfig:
    """A Memory Mosaic.

    Args:
        vocab_size: tokens of the vocabulary.
        d_model: width C of the residual stream.
        n_layers: blocks.
        contextual: the memory of the sequence.
        persistent: the memory of the training data; None for blocks of the contextual memory alone.
        scale_logits: divide logits by sqrt(d_model).
        tie_embeddings: use the embedding as the head.
        bias: give the layer norms a bias.
        dropout: share of what either memory contributes that is dropped in training.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["mosaic"] = "mosaic"
    vocab_size: int
    d_model: int = 64
    n_layers: int = 2
    contextual: ContextualConfig = field(default_factory=ContextualConfig)
    persistent: PersistentLevel | None = field(default_factory=PersistentConfig)
    scale_logits: bool = True
    tie_embeddings: bool = True
    bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        where = "mosaic"
        require(
            self.vocab_size >= 2, f"{where}.vocab_size", "at least 2", self.vocab_size, "count the tokens of the task"
        )
        require(self.d_model >= 1, f"{where}.d_model", "at least 1", self.d_model, "use 64")
        require(self.n_layers >= 1, f"{where}.n_layers", "at least one block", self.n_layers, "use 1 or more")
        require(0 <= self.dropout < 1, f"{where}.dropout", "in [0, 1)", self.dropout, "use 0 for none")


class MosaicBlockState(NamedTuple):
    """The states of both memories; that of the second is empty where there is none."""

    contextual: ContextualState
    persistent: Any


class MosaicState(NamedTuple):
    """The state of every block, and how many tokens were seen."""

    blocks: tuple[MosaicBlockState, ...]
    n_tokens: int


class MosaicBlock(nn.Module):
    """Two memories, each behind a norm and beside the residual stream."""

    def __init__(self, config: MosaicConfig) -> None:
        super().__init__()
        self.contextual_norm = _norm(config)
        self.contextual = Contextual(config.contextual, config.d_model)
        self.persistent_norm = _norm(config) if config.persistent else None
        self.persistent = _build_persistent(config.persistent, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        with torch.no_grad():
            for memory in (self.contextual, self.persistent):
                if memory is not None:
                    memory.out.weight *= config.n_layers**-0.5

    def init_state(self, batch: int) -> MosaicBlockState:
        """Nothing seen."""
        persistent = () if self.persistent is None else self.persistent.init_state(batch)
        return MosaicBlockState(self.contextual.init_state(batch), persistent)

    def forward(
        self, x: Float[Tensor, "b t d"], state: MosaicBlockState | None = None
    ) -> tuple[Float[Tensor, "b t d"], MosaicBlockState]:
        """Parallel form."""
        y, contextual = self.contextual(self.contextual_norm(x), state and state.contextual)
        x, persistent = x + self.dropout(y), ()
        if self.persistent is not None and self.persistent_norm is not None:
            y, persistent = self.persistent(self.persistent_norm(x), state and state.persistent)
            x = x + self.dropout(y)
        return x, MosaicBlockState(contextual, persistent)

    def step(self, x: Float[Tensor, "b d"], state: MosaicBlockState) -> tuple[Float[Tensor, "b d"], MosaicBlockState]:
        """One token."""
        y, contextual = self.contextual.step(self.contextual_norm(x), state.contextual)
        x, persistent = x + self.dropout(y), ()
        if self.persistent is not None and self.persistent_norm is not None:
            y, persistent = self.persistent.step(self.persistent_norm(x), state.persistent)
            x = x + self.dropout(y)
        return x, MosaicBlockState(contextual, persistent)

    def memories(self) -> list[Contextual | Persistent | FeedForward]:
        """Those there are."""
        return [self.contextual] if self.persistent is None else [self.contextual, self.persistent]


class MosaicBlocks(nn.ModuleList):
    """The blocks of a mosaic; a module list that says what it holds."""

    def __iter__(self) -> Iterator[MosaicBlock]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__iter__()  # pyright: ignore[reportReturnType]


class Mosaic(nn.Module):
    """Tokens in, logits out; or a stream: `prefill`, then `step` as often as one likes."""

    def __init__(self, config: MosaicConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.blocks = MosaicBlocks(MosaicBlock(config) for _ in range(config.n_layers))
        self.norm = _norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        else:
            nn.init.normal_(self.head.weight, std=config.d_model**-0.5)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t vocab"]:
        """Logits of the next token at every position."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x, _ = block(x)
        return self._logits(x)

    def init_state(self, batch: int) -> MosaicState:
        """Nothing seen."""
        return MosaicState(tuple(block.init_state(batch) for block in self.blocks), 0)

    def prefill(
        self, tokens: Int[Tensor, "b t"], state: MosaicState | None = None
    ) -> tuple[Float[Tensor, "b t vocab"], MosaicState]:
        """Read a piece of any length at once; continues from `state`."""
        state = state or self.init_state(tokens.shape[0])
        x, states = self.embedding(tokens), []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block(x, block_state)
            states.append(block_state)
        return self._logits(x), MosaicState(tuple(states), state.n_tokens + tokens.shape[1])

    def step(self, token: Int[Tensor, "b"], state: MosaicState) -> tuple[Float[Tensor, "b vocab"], MosaicState]:
        """Read one token; only the reads of the contextual memories grow with what was seen."""
        x, states = self.embedding(token), []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block.step(x, block_state)
            states.append(block_state)
        return self._logits(x), MosaicState(tuple(states), state.n_tokens + 1)

    def _logits(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b vocab"]:
        x = self.norm(x)
        return self.head(x * self.config.d_model**-0.5 if self.config.scale_logits else x)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Exact size of the state after `tokens` tokens."""
        return sum(memory.state_bytes(batch, tokens) for block in self.blocks for memory in block.memories())

    def flops(self, batch: int, tokens: int) -> int:
        """Floating-point operations of the matrix products of `forward`."""
        memories = sum(memory.flops(batch, tokens) for block in self.blocks for memory in block.memories())
        return memories + 2 * batch * tokens * self.config.d_model * self.config.vocab_size


def build_mosaic(config: MosaicConfig, seed: int) -> Mosaic:
    """A mosaic on the CPU with weights drawn from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Mosaic(config)


def _norm(config: MosaicConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPSILON, bias=config.bias)


def _build_persistent(
    config: PersistentConfig | FeedForwardConfig | None, d_model: int
) -> Persistent | FeedForward | None:
    match config:
        case PersistentConfig():
            return Persistent(config, d_model)
        case FeedForwardConfig():
            return FeedForward(config, d_model)
        case None:
            return None
