"""Which class of a Hugging Face model is a memory or a route, and where its read can be seen. Data only.

The read is seen as close to the memory as a module boundary lies: the input of the gated norm, where there is one, so
that the gate stays live; else the input of the output projection, which the gate has already multiplied. The skip D*x
of state-space models is part of the read everywhere, since their scans add it.

Source: modelling files of transformers 5.23.
"""

from dataclasses import dataclass
from typing import Literal

from mnemoscope.contracts import Role


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """A class of modules that mix tokens, (b, t, d) to (b, t, d).

    Args:
        classes: names of classes; subclasses count as well.
        role: memory or route.
        read: submodules at which the read can be seen, the first that is there and does something.
        seen_at: whether the read is what goes into that submodule, or what comes out of it.
        flattened: the read is seen as (b*t*h, d), and is to be given its axes (b, t, h, d) back.
        gate: submodule that puts out a gate between 0 and 1.
        reach: attribute that says how many tokens it looks back to, the present one included.
        is_map: the last two axes of its state are a map from what is asked to what is read; heads stand before them.
        log_scale: which of the tensors of its state holds the logarithm of what the first is to be multiplied by.
    """

    classes: tuple[str, ...]
    role: Role
    read: tuple[str, ...]
    seen_at: Literal["input", "module"] = "input"
    flattened: bool = False
    gate: str | None = None
    reach: str | None = None
    is_map: bool = False
    log_scale: int | None = None


MIXERS = (
    # Mamba: the scan multiplies by the gate, so what can be seen is gated.
    Mixer(
        classes=("MambaMixer", "FalconMambaMixer", "JambaMambaMixer", "ZambaMambaMixer"),
        role="memory",
        read=("out_proj",),
        is_map=True,
    ),
    # Mamba-2. Falcon-H1 without its norm (nn.Identity) gates before the output projection.
    Mixer(
        classes=(
            "Mamba2Mixer",
            "BambaMixer",
            "FalconH1Mixer",
            "GraniteMoeHybridMambaLayer",
            "NemotronHMamba2Mixer",
            "Zamba2MambaMixer",
        ),
        role="memory",
        read=("norm", "out_proj"),
        is_map=True,
    ),
    # Gated DeltaNet.
    Mixer(
        classes=(
            "Qwen3NextGatedDeltaNet",
            "Qwen3_5GatedDeltaNet",
            "Qwen3_5MoeGatedDeltaNet",
            "Qwen4ExpTextGatedDeltaNet",
        ),
        role="memory",
        read=("norm",),
        flattened=True,
        is_map=True,
    ),
    Mixer(classes=("OlmoHybridGatedDeltaNet",), role="memory", read=("o_norm",), flattened=True, is_map=True),
    # Kimi delta attention.
    Mixer(
        classes=("KimiLinearDeltaAttention", "BailingHybridDeltaAttention", "Glm5NextTextLinearAttention"),
        role="memory",
        read=("o_norm",),
        is_map=True,
    ),
    # RG-LRU; the gate beside it is a GELU and has no upper bound.
    Mixer(classes=("RecurrentGemmaRecurrentBlock",), role="memory", read=("rg_lru",), seen_at="module"),
    # mLSTM, under its output gate; the state is kept over the exponential of a running maximum.
    Mixer(
        classes=("xLSTMLayer",),
        role="memory",
        read=("multihead_norm",),
        gate="ogate_act_fn",
        is_map=True,
        log_scale=2,
    ),
    # RWKV-4: the receptance has multiplied already. The numerator is kept over the exponential of a running maximum.
    Mixer(classes=("RwkvSelfAttention",), role="memory", read=("output",), log_scale=2),
    # Lightning attention, before its sigmoid gate.
    Mixer(classes=("MiniMaxLightningAttention",), role="memory", read=("norm",), is_map=True),
    # Gated short convolutions.
    Mixer(
        classes=("Lfm2ShortConv", "Lfm2MoeShortConv", "Lfm3ShortConv"),
        role="memory",
        read=("out_proj",),
        reach="conv_kernel_size",
    ),
)

ATTENTION = Mixer(classes=(), role="route", read=("o_proj", "out_proj", "c_proj", "dense", "wo", "proj"))
"""Causal softmax attention: any class named so that says it is causal and projects its output."""

WINDOWED_THROUGHOUT = (
    "MiniMaxAttention",
    "Ministral3Attention",
    "MistralAttention",
    "MixtralAttention",
    "Phi3Attention",
    "Starcoder2Attention",
)
"""Attention whose every layer has the window that the model's config gives, and no attribute of its own for it."""

MIXES_TOKENS = r"Attention$|Mixer$|MambaLayer$|DeltaNet$|ShortConv|RecurrentBlock$|Rglru$|xLSTMLayer$|SSM"
"""Names of classes that mix tokens; if one of them is in no row here, the routes of its model are not known."""

KEYS_OF_SEVERAL_TOKENS = r"Indexer|Conv[123]d$|ShortConv|CCA|Compress|Pool"
"""Names of submodules by which keys depend on more than their own token, or which keys are seen on the mask."""
