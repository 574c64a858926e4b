"""Weights of the two official Memory Mosaics, as a `Mosaic` with the same outputs.

Both are told by their names and shapes alone. What they compute differently is a matter of configuration: the second
one caps the log of a key's length at that of the largest half-precision number, after squaring where it squares, and
does not scale logits. A leaky average may lack the factor 1 - retention, since lengths are set after it.

Source: facebookresearch/MemoryMosaics, commit 1fff63b, `Library` (plain model) and `nanoMosaics`.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mnemoscope.memories.contextual import ContextualConfig
from mnemoscope.memories.persistent import PersistentConfig
from mnemoscope.models.mosaic import Mosaic, MosaicConfig, build_mosaic

LIBRARY_CAP = 5.0
NANO_CAP = math.log(2**16 - 1)

LIBRARY_NAMES = {
    "contextual_norm": "ln1",
    "contextual.keys.leak": "attn.leaky_key_beta",
    "contextual.keys.project": "attn.k_featurizer.conv",
    "contextual.key_scale": "attn.kernel_beta",
    "contextual.value": "attn.v_featurizer.linear",
    "contextual.mix": "attn.v_featurizer.coef",
    "contextual.value_scale": "attn.value_beta",
    "contextual.out": "attn.c_proj",
    "persistent_norm": "ln2",
    "persistent.query.leak": "pmem.leaky_key_beta",
    "persistent.query.project": "pmem.k_featurizer.conv",
    "persistent.key_scale": "pmem.kernel_beta",
    "persistent.value_scale": "pmem.value_beta",
    "persistent.out": "pmem.c_proj",
}
"""Ours and theirs within a block; weights and biases of a map share a line."""

NANO_NAMES = {
    "contextual_norm": "ln_1",
    "contextual.keys.leak": "attn.k_featurizer.leaky_avg.leaky_key_beta",
    "contextual.keys.project": "attn.k_featurizer.W_k",
    "contextual.key_scale": "attn.k_featurizer.key_scale",
    "contextual.value": "attn.v_featurizer.W_v",
    "contextual.mix": "attn.v_featurizer.coef",
    "contextual.value_scale": "attn.v_featurizer.val_scale",
    "contextual.out": "attn.c_proj",
    "persistent_norm": "ln_2",
    "persistent.query.leak": "mlp.k_featurizer.leaky_avg.leaky_key_beta",
    "persistent.query.project": "mlp.k_featurizer.W_k",
    "persistent.key_scale": "mlp.k_featurizer.key_scale",
    "persistent.slot_keys": "mlp.P_k",
    "persistent.slot_values": "mlp.P_v",
    "persistent.value_scale": "mlp.out_scale",
    "persistent.out": "mlp.c_proj",
}


def import_library(weights: Mapping[str, Tensor]) -> Mosaic:
    """A mosaic with the weights of a `StackAssoMem` of the Library, plain or attention only, with pre-norm.

    Args:
        weights: its state dict.

    Raises:
        ValueError: where a weight is missing, is of another shape, or belongs to a part that has no counterpart here,
            as do the extractors that are not the default.
    """
    theirs = dict(weights)
    for i in range(_count(theirs, r"blocks\.(\d+)\.")):
        bank = f"blocks.{i}.pmem.pmem"
        n_banks = _count(theirs, rf"blocks\.{i}\.pmem\.pmem\.M_k(\d+)")
        for part in ("M_k", "M_v") if n_banks else ():
            banks = [_take(theirs, f"{bank}.{part}{g}").squeeze(0) for g in range(n_banks)]
            theirs[f"{bank}.{part}"] = torch.stack(banks)
    names = LIBRARY_NAMES | {"persistent.slot_keys": "pmem.pmem.M_k", "persistent.slot_values": "pmem.pmem.M_v"}
    outer = {"embedding": "emb", "norm": "ln_out", "head": "head"}
    return _import(theirs, outer, "blocks", names, caps=(LIBRARY_CAP, LIBRARY_CAP), scale_logits=True)


def import_nano(weights: Mapping[str, Tensor]) -> Mosaic:
    """A mosaic with the weights of a `MemoryMosaic` of nanoMosaics, with or without biases.

    Args:
        weights: its state dict; the masks among its buffers are left out.

    Raises:
        ValueError: where a weight is missing, is of another shape, or has no counterpart here.
    """
    masks = re.compile(r"mosaic\.h\.\d+\.(attn\.bias|(attn|mlp)\.k_featurizer\.leaky_avg\.coef)")
    theirs = {name: weight for name, weight in weights.items() if not masks.fullmatch(name)}
    outer = {"embedding": "mosaic.wte", "norm": "mosaic.ln_f", "head": "lm_head"}
    # The stored keys have no length of their own: there the log that is capped is twice that of the contextual memory.
    return _import(theirs, outer, "mosaic.h", NANO_NAMES, caps=(NANO_CAP, NANO_CAP / 2), scale_logits=False)


def _import(
    theirs: dict[str, Tensor],
    outer: Mapping[str, str],
    blocks: str,
    names: Mapping[str, str],
    *,
    caps: tuple[float, float],
    scale_logits: bool,
) -> Mosaic:
    first = {ours: f"{blocks}.0.{name}" for ours, name in names.items()}
    embedding = _look(theirs, f"{outer['embedding']}.weight")
    n_heads = _look(theirs, first["contextual.mix"]).numel()
    bias = f"{first['contextual.out']}.bias" in theirs
    slots = theirs.get(first["persistent.slot_keys"])
    persistent = None
    if slots is not None:
        n_slots, n_banks = slots.shape[-2], slots.shape[0]
        persistent = PersistentConfig(n_heads=n_heads, n_slots=n_slots, n_banks=n_banks, scale_cap=caps[1], bias=bias)
    config = MosaicConfig(
        vocab_size=embedding.shape[0],
        d_model=embedding.shape[1],
        n_layers=_count(theirs, rf"{re.escape(blocks)}\.(\d+)\."),
        contextual=ContextualConfig(n_heads=n_heads, scale_cap=caps[0], bias=bias),
        persistent=persistent,
        scale_logits=scale_logits,
        tie_embeddings=torch.equal(embedding, theirs.get(f"{outer['head']}.weight", embedding)),
        bias=bias,
    )
    model = build_mosaic(config, seed=0).to(embedding.dtype)
    if config.tie_embeddings:
        theirs.pop(f"{outer['head']}.weight", None)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            weight = _take(theirs, _official(name, outer, blocks, names))
            if weight.numel() != parameter.numel():
                raise ValueError(
                    f"import of {name} must have shape {tuple(parameter.shape)} but for axes of one, "
                    f"got {tuple(weight.shape)}; import a model of the default extractors"
                )
            parameter.copy_(weight.reshape(parameter.shape))
    if theirs:
        raise ValueError(
            f"import must account for every weight, got {sorted(theirs)} besides; import a model of the default parts"
        )
    return model


def _official(name: str, outer: Mapping[str, str], blocks: str, names: Mapping[str, str]) -> str:
    """Their name of one of our parameters."""
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    table, inner = (names, block[2]) if block else (outer, name)
    prefix = f"{blocks}.{block[1]}." if block else ""
    if inner in table:
        return prefix + table[inner]
    part, _, kind = inner.rpartition(".")
    return f"{prefix}{table[part]}.{kind}"


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers the pattern's group finds at the start of names."""
    return len({found[1] for name in weights if (found := re.match(pattern, name))})


def _look(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ValueError(f"import must find a weight named {name!r}, got none; pass the state dict of the whole model")
    return weights[name]


def _take(weights: dict[str, Tensor], name: str) -> Tensor:
    _look(weights, name)
    return weights.pop(name)
