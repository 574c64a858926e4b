"""A Memory Mosaic and what it is held against: networks of as many parameters, trained alike.

Every arm has the Mosaic's depth, width and heads. Its feed-forward parts are as wide as its parameters need to be to
come nearest to the Mosaic's. A table of positions is not counted, as in the source.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 6 and appendices; the rule that 3.5 C persistent
slots a head give a Mosaic the parameters of a transformer: `mnemoscope.memories.persistent.matched_slots`.
Differs: normalisation is RMS, of positions only "learned" (the transformer's) are kept, and nobody has dropout.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import nn

from mnemoscope.memories.contextual import ContextualConfig
from mnemoscope.memories.persistent import PersistentConfig
from mnemoscope.models import Model, StackConfig, build, build_model
from mnemoscope.models.layout import parse_layout
from mnemoscope.models.mosaic import MosaicConfig, build_mosaic

Arm = Literal[
    "mosaic",
    "transformer",
    "mamba",
    "rwkv6",
    "gla",
    "retention",
    "lstm",
    "linear_attention",
    "s4d",
    "h3",
    "hyena",
]

LAYOUTS: Mapping[Arm, str] = {
    "transformer": "attention(n_heads={heads}, positions='none')",
    "mamba": "mamba",
    "rwkv6": "rwkv6(n_heads={heads})",
    "gla": "gla(n_heads={heads})",
    "retention": "retention(n_heads={heads})",
    "lstm": "lstm",
    "linear_attention": "linear_attention(n_heads={heads})",
    "s4d": "s4d",
    "h3": "h3",
    "hyena": "hyena(max_tokens={tokens})",
}
"""A block of each arm but the Mosaic, with the number of heads and of tokens to be filled in."""

TITLES: Mapping[Arm, str] = {
    "mosaic": "Memory Mosaic",
    "transformer": "Transformer",
    "mamba": "Mamba",
    "rwkv6": "RWKV-6",
    "gla": "GLA",
    "retention": "RetNet",
    "lstm": "LSTM",
    "linear_attention": "Linear transformer",
    "s4d": "S4D",
    "h3": "H3",
    "hyena": "Hyena",
}

OTHERS: tuple[Arm, ...] = tuple(arm for arm in get_args(Arm) if arm not in ("mosaic", "transformer"))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all arms share.

    Args:
        vocab_size: tokens of the vocabulary.
        d_model: width.
        n_layers: blocks.
        n_heads: of whatever has heads.
        max_tokens: longest sequence.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    max_tokens: int


def build_arm(arm: Arm, shape: Shape, seed: int) -> Model:
    """One network on the CPU, weights drawn from `seed`.

    Raises:
        ValueError: a shape that a mechanism does not take.
    """
    return build_model(arm_config(arm, shape), seed)


def arm_config(arm: Arm, shape: Shape) -> StackConfig | MosaicConfig:
    """The settings of an arm."""
    return mosaic_config(shape) if arm == "mosaic" else stack_config(arm, shape)


def mosaic_config(shape: Shape) -> MosaicConfig:
    """The Mosaic of a shape."""
    return MosaicConfig(
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        n_layers=shape.n_layers,
        contextual=ContextualConfig(n_heads=shape.n_heads),
        persistent=PersistentConfig(n_heads=shape.n_heads),
    )


def stack_config(arm: Arm, shape: Shape) -> StackConfig:
    """The network of another arm, with the parameters of the Mosaic as nearly as a feed-forward part can give them."""
    layout = LAYOUTS[arm].format(heads=shape.n_heads, tokens=shape.max_tokens)
    config = StackConfig(
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        mixers=parse_layout(f"({layout}) * {shape.n_layers}"),
        mlp_ratio=0.0,
        positions="learned" if arm == "transformer" else "none",
        max_tokens=shape.max_tokens if arm == "transformer" else None,
    )
    wanted = count(build_mosaic(mosaic_config(shape), 0))
    unplaced = replace(config, positions="none", max_tokens=None)
    bare, wide = (count(build(replace(unplaced, mlp_ratio=ratio), 0)) for ratio in (0.0, 1.0))
    return replace(config, mlp_ratio=_nearest_ratio(wanted, bare, wide, shape))


def _nearest_ratio(wanted: int, bare: int, wide: int, shape: Shape) -> float:
    """Each channel of a feed-forward part costs 2 d_model + 1 parameters a block, and any part its norm and bias."""
    channel = shape.n_layers * (2 * shape.d_model + 1)
    overhead = wide - bare - channel * shape.d_model
    width = round((wanted - bare - overhead) / channel)
    return max(0, width) / shape.d_model


def count(model: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
