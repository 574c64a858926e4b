"""A causal cortex, and one thing beside it: a bank, an accumulator, a workspace, a constant, or nothing.

    h = cortex(tokens)              n_layers blocks of attention and feed-forward part
    h'_t = h_t + beside(rms(h))_t   a bank answers here behind its fusion gate
    logits = W rms(h')

Everything is a `StackConfig`, so that it is trained, examined, folded and resumed as any stack is: the thing beside is
its last block, without a feed-forward part, so that nothing but the head comes after the fusion.

Source: a reconstruction of the Parallax notes, whose equations are not public. `BankedCortexConfig()` is "v2" (a bank
of 128 slots that an energy alone trains); with `LogAccumulatorConfig` beside it is "M29c", with `ExpertWorkspaceConfig`
"v3".
"""

from dataclasses import dataclass, field

from pydantic import ConfigDict

from mnemoscope.memories import AttentionConfig, EnergyBankConfig
from mnemoscope.memories.parts import require
from mnemoscope.models.mixers import MixerConfig
from mnemoscope.models.stack import Stack, StackConfig


@dataclass(frozen=True, kw_only=True)
class BankedCortexConfig:
    """A cortex and what stands beside it.

    Args:
        vocab_size: tokens of the vocabulary.
        d_model: width.
        n_layers: blocks of the cortex.
        n_heads: of its attention.
        window: tokens that its attention may look at; None for all.
        mlp_ratio: width of the feed-forward parts over d_model.
        beside: what answers it; None for the cortex alone.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    vocab_size: int
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    window: int | None = None
    mlp_ratio: float = 4.0
    beside: MixerConfig | None = field(default_factory=EnergyBankConfig)

    def __post_init__(self) -> None:
        advice = "use 2; a bank alone sees one token"
        require(self.n_layers >= 1, "banked_cortex.n_layers", "at least 1", self.n_layers, advice)

    @property
    def stack(self) -> StackConfig:
        """The whole as a stack."""
        cortex = AttentionConfig(n_heads=self.n_heads, window=self.window)
        beside = () if self.beside is None else (self.beside,)
        return StackConfig(
            vocab_size=self.vocab_size,
            d_model=self.d_model,
            mixers=(cortex,) * self.n_layers + beside,
            mlp_ratio=self.mlp_ratio,
            bare_blocks=len(beside),
        )


def beside_of(stack: Stack) -> str:
    """The path of what stands beside the cortex.

    Raises:
        ValueError: a stack whose last block has a feed-forward part, or no other block: nothing stands beside it.
    """
    if stack.config.bare_blocks != 1 or len(stack.blocks) < 2:
        raise ValueError(
            f"banked cortex: the last block alone must be without a feed-forward part, got {stack.config.bare_blocks} "
            f"such blocks of {len(stack.blocks)}; build it from BankedCortexConfig"
        )
    return f"blocks.{len(stack.blocks) - 1}.mixer"
