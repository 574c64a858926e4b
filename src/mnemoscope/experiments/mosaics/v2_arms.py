"""Memory Mosaics v2 and what it is held against: networks of as many parameters, each a stack of the same blocks.

    h <- h + W_o [short(rms h); long(rms h)]          h <- h + swiglu(rms h)

The persistent level is the feed-forward part, as in the source. The others have attention with rotary positions, or one
level, in place of the two; their feed-forward parts are wider by what that saves.

Source: Zhang, Bottou 2025, "Memory Mosaics at scale" (arXiv 2507.03285).
Differs: of equal parameters, where the published transformer has 8.8 thousand million and v2 9.9; normalisation is RMS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.memories import AttentionConfig, FeedForwardConfig, MosaicV2Config
from mnemoscope.memories.mosaic_v2 import Level, MosaicV2
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.models.mixers import MixerConfig

V2Arm = Literal["v2", "v2_fixed", "v2_short", "rotary_convolved", "rotary"]

V2_TITLES: Mapping[V2Arm, str] = {
    "v2": "Memory Mosaics v2",
    "v2_fixed": "v2, delay not drawn",
    "v2_short": "v2 without a long level",
    "rotary_convolved": "Transformer (RoPE, short convolution)",
    "rotary": "Transformer (RoPE)",
}

CONVOLUTION = 4
"""Taps over queries, keys and values of the transformer that has them."""


@dataclass(frozen=True, kw_only=True)
class V2Shape:
    """What all arms share.

    Args:
        vocab_size: tokens of the vocabulary.
        d_model: width.
        n_layers: blocks of two parts.
        n_heads: of attention, and of each level.
        short_window: pairs that the short level reads, h.
        long_delay: tokens back that the newest pair of the long level stands, m, out of training.
        longest_delay: largest m that is drawn in training.
        persistent: channels of the feed-forward part of v2.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    short_window: int
    long_delay: int
    longest_delay: int
    persistent: int


def v2_config(arm: V2Arm, shape: V2Shape) -> StackConfig:
    """The settings of an arm, with the parameters of v2 as nearly as a feed-forward part can give them.

    Raises:
        ValueError: a shape that a mechanism does not take.
    """
    whole = _stack("v2", shape, shape.persistent)
    if arm in ("v2", "v2_fixed"):
        return _stack(arm, shape, shape.persistent)
    missing = count(build(whole, 0)) - count(build(_stack(arm, shape, shape.persistent), 0))
    wider = round(missing / (3 * shape.d_model * shape.n_layers))
    return _stack(arm, shape, shape.persistent + wider)


def without_long_level(model: Stack) -> Stack:
    """A copy of a trained v2, beside it, whose long levels are gone, as where the source removes them; no more differs.

    Raises:
        ValueError: a model without both levels in a block.
    """
    mixers = model.config.mixers
    if not any(isinstance(mixer, MosaicV2Config) and mixer.levels == "both" for mixer in mixers):
        raise ValueError(
            "without_long_level: needs a stack with a block of mosaic_v2(levels='both'), got "
            f"{', '.join(mixer.kind for mixer in mixers)}"
        )
    kept = build(replace(model.config, mixers=tuple(map(_short_only, mixers))), 0)
    weights = model.state_dict()
    kept.load_state_dict({name: weights[name] for name in kept.state_dict()})
    return kept.to(input_device(model)).train(model.training)


def levels_of(model: Stack) -> dict[str, Level]:
    """The levels of every block of v2, by name: "block 1 short", "block 1 long", "block 2 short", ..."""
    memories = [block.mixer for block in model.blocks if isinstance(block.mixer, MosaicV2)]
    return {
        f"block {i + 1} {name}": level
        for i, memory in enumerate(memories)
        for name, level in (("short", memory.short), ("long", memory.long))
        if level is not None
    }


def _stack(arm: V2Arm, shape: V2Shape, persistent: int) -> StackConfig:
    feed_forward = FeedForwardConfig(form="swiglu", width=persistent)
    blocks = [(_mixer(arm, shape, i), feed_forward) for i in range(shape.n_layers)]
    mixers = tuple(part for block in blocks for part in block)
    return StackConfig(vocab_size=shape.vocab_size, d_model=shape.d_model, mixers=mixers, mlp_ratio=0.0)


def _mixer(arm: V2Arm, shape: V2Shape, block_index: int) -> MixerConfig:
    if arm in ("rotary", "rotary_convolved"):
        return AttentionConfig(n_heads=shape.n_heads, convolution=CONVOLUTION if arm == "rotary_convolved" else 0)
    return MosaicV2Config(
        n_heads=shape.n_heads,
        levels="short" if arm == "v2_short" else "both",
        short_window=shape.short_window,
        long_delay=shape.long_delay,
        longest_delay=None if arm == "v2_fixed" else shape.longest_delay,
        block_index=block_index,
    )


def _short_only(mixer: MixerConfig) -> MixerConfig:
    return replace(mixer, levels="short") if isinstance(mixer, MosaicV2Config) else mixer
