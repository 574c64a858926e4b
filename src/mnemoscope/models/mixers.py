"""What mixes tokens in a block: one memory, two side by side under a gate, or one after the other.

    parallel, "convex"           g = sigmoid(W_g [m; a] + bias)     y = g * m + (1 - g) * a
    parallel, "multiplicative"   y = sigmoid(norm(m)) * norm(a)
    serial                       y = second(first(x))

with m = memory(x) and a = beside(x). Each side may be such a mixer itself.

Source of the convex gate: the per-channel gate of the Atlas tuning guide's blocks. Memory as a gate (MAG, both fusions)
and memory as a layer (MAL, serial): Behrouz, Zhong, Mirrokni 2024, "Titans" (arXiv 2501.00663), section 4; memory as a
context (MAC) is in `mnemoscope.models.context`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.memories import AnyMemoryConfig, AttentionConfig, GatedDeltaConfig, Memory, build_memory
from mnemoscope.memories.atlas_compat import AtlasCompat, AtlasCompatConfig
from mnemoscope.memories.parts import RmsNorm, require
from mnemoscope.models.context import Context, ContextConfig
from mnemoscope.models.expert_workspace import ExpertWorkspace, ExpertWorkspaceConfig
from mnemoscope.models.folded import Folded, FoldedConfig


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """A memory and another (usually attention) side by side.

    Args:
        memory: what the gate favours when it is open; under "multiplicative", what the gate is made of.
        beside: what the gate favours when it is shut; under "multiplicative", what is gated.
        fusion: "convex" blends both under a learned gate per channel; "multiplicative" lets the memory gate the other.
        gate_bias: start of the convex gate's bias; 0 gives both sides one half.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["parallel"] = "parallel"
    memory: "MixerConfig" = field(default_factory=GatedDeltaConfig)
    beside: "MixerConfig" = field(default_factory=AttentionConfig)
    fusion: Literal["convex", "multiplicative"] = "convex"
    gate_bias: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.fusion == "convex" or self.gate_bias == 0,
            "parallel.gate_bias",
            "0 where fusion='multiplicative', which has no learned gate",
            self.gate_bias,
            "leave it out, or use fusion='convex'",
        )


@dataclass(frozen=True, kw_only=True)
class SerialConfig:
    """One mixer after another within one block.

    Args:
        first: sees the block's input.
        second: sees what the first contributes.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["serial"] = "serial"
    first: "MixerConfig" = field(default_factory=GatedDeltaConfig)
    second: "MixerConfig" = field(default_factory=AttentionConfig)


MixerConfig = Annotated[
    AnyMemoryConfig
    | AtlasCompatConfig
    | ContextConfig
    | ExpertWorkspaceConfig
    | FoldedConfig
    | ParallelConfig
    | SerialConfig,
    Field(discriminator="kind"),
]
"""A memory, what is left of one, one that breaks the contract on purpose, or a composition of them."""


class ParallelState(NamedTuple):
    """The states of both sides."""

    memory: Any
    beside: Any


class Branch(nn.Module):
    """One side of a parallel block: its mixer, its share of a convex gate, and what reaches the fusion."""

    def __init__(self, inner: "Mixer", gated: bool) -> None:
        super().__init__()
        self.inner = inner
        if gated:
            self.gate = ReadPoint()
        self.contribution = ReadPoint()


class ConvexFusion(nn.Module):
    """g * m + (1 - g) * a, with a learned gate per channel."""

    def __init__(self, d_model: int, gate_bias: float) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * d_model, d_model)
        nn.init.constant_(self.mix.bias, gate_bias)

    def forward(
        self, memory: Float[Tensor, "b t d"], beside: Float[Tensor, "b t d"], branches: tuple[Branch, Branch]
    ) -> Float[Tensor, "b t d"]:
        """Blend what both sides gave; their gates and contributions are announced at their branches."""
        ours, theirs = branches
        gate = ours.gate(self.mix(torch.cat([memory, beside], dim=-1)).sigmoid())
        return ours.contribution(gate * memory) + theirs.contribution(theirs.gate(1 - gate) * beside)

    def flops(self, batch: int, tokens: int) -> int:
        """The gate's projection."""
        return 4 * batch * tokens * self.mix.out_features**2


class MultiplicativeFusion(nn.Module):
    """sigmoid(norm(m)) * norm(a)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.memory_norm, self.beside_norm = (RmsNorm(d_model) for _ in range(2))

    def forward(
        self, memory: Float[Tensor, "b t d"], beside: Float[Tensor, "b t d"], branches: tuple[Branch, Branch]
    ) -> Float[Tensor, "b t d"]:
        """Gate what one side gave by the other; each factor is the contribution of its branch."""
        ours, theirs = branches
        return ours.contribution(self.memory_norm(memory).sigmoid()) * theirs.contribution(self.beside_norm(beside))

    def flops(self, batch: int, tokens: int) -> int:
        """No matrix product."""
        return 0


class Parallel(nn.Module):
    """Two mixers side by side. Read points of each `Branch`: `contribution`, its mixer's own, and a convex `gate`."""

    def __init__(self, config: ParallelConfig, d_model: int) -> None:
        super().__init__()
        convex = config.fusion == "convex"
        self.memory = Branch(build_mixer(config.memory, d_model), gated=convex)
        self.beside = Branch(build_mixer(config.beside, d_model), gated=convex)
        self.fusion = ConvexFusion(d_model, config.gate_bias) if convex else MultiplicativeFusion(d_model)

    def init_state(self, batch: int) -> ParallelState:
        """Both empty."""
        return ParallelState(self.memory.inner.init_state(batch), self.beside.inner.init_state(batch))

    def forward(
        self, x: Float[Tensor, "b t d"], state: ParallelState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ParallelState]:
        """Run both sides and blend them."""
        memory, memory_state = self.memory.inner(x, state and state.memory)
        beside, beside_state = self.beside.inner(x, state and state.beside)
        return self._blend(memory, beside), ParallelState(memory_state, beside_state)

    def step(self, x: Float[Tensor, "b d"], state: ParallelState) -> tuple[Float[Tensor, "b d"], ParallelState]:
        """One token through both sides."""
        memory, memory_state = self.memory.inner.step(x, state.memory)
        beside, beside_state = self.beside.inner.step(x, state.beside)
        y = self._blend(memory.unsqueeze(1), beside.unsqueeze(1)).squeeze(1)
        return y, ParallelState(memory_state, beside_state)

    def _blend(self, memory: Float[Tensor, "b t d"], beside: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.fusion(memory, beside, (self.memory, self.beside))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Both states."""
        return sum(side.inner.state_bytes(batch, tokens) for side in (self.memory, self.beside))

    def flops(self, batch: int, tokens: int) -> int:
        """Both sides and their fusion."""
        sides = sum(side.inner.flops(batch, tokens) for side in (self.memory, self.beside))
        return sides + self.fusion.flops(batch, tokens)


class SerialState(NamedTuple):
    """The states of both."""

    first: Any
    second: Any


class Serial(nn.Module):
    """One mixer after another; each announces its own read points."""

    def __init__(self, config: SerialConfig, d_model: int) -> None:
        super().__init__()
        self.first = build_mixer(config.first, d_model)
        self.second = build_mixer(config.second, d_model)

    def init_state(self, batch: int) -> SerialState:
        """Both empty."""
        return SerialState(self.first.init_state(batch), self.second.init_state(batch))

    def forward(
        self, x: Float[Tensor, "b t d"], state: SerialState | None = None
    ) -> tuple[Float[Tensor, "b t d"], SerialState]:
        """What the second makes of what the first contributes."""
        x, first = self.first(x, state and state.first)
        x, second = self.second(x, state and state.second)
        return x, SerialState(first, second)

    def step(self, x: Float[Tensor, "b d"], state: SerialState) -> tuple[Float[Tensor, "b d"], SerialState]:
        """One token through both."""
        x, first = self.first.step(x, state.first)
        x, second = self.second.step(x, state.second)
        return x, SerialState(first, second)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Both states."""
        return self.first.state_bytes(batch, tokens) + self.second.state_bytes(batch, tokens)

    def flops(self, batch: int, tokens: int) -> int:
        """Both mixers."""
        return self.first.flops(batch, tokens) + self.second.flops(batch, tokens)


Mixer = AtlasCompat | Context | ExpertWorkspace | Folded | Memory | Parallel | Serial


def build_mixer(config: MixerConfig, d_model: int) -> Mixer:
    """The module of a mixer's configuration, initialised from torch's global generator."""
    match config:
        case ContextConfig():
            return Context(config, d_model)
        case AtlasCompatConfig():
            return AtlasCompat(config, d_model)
        case ExpertWorkspaceConfig():
            return ExpertWorkspace(config, d_model)
        case FoldedConfig():
            return Folded(config, d_model)
        case ParallelConfig():
            return Parallel(config, d_model)
        case SerialConfig():
            return Serial(config, d_model)
        case _:
            return build_memory(config, d_model)
