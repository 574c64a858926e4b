"""ATLAS recipes by name: an ATLAS memory beside attention, as its context or before it, and the guide's three sizes.

    atlas-tiny           memory beside attention under a gate per channel (MAG, the guide's convex mix)
    atlas-tiny-mac       memory as the context of attention within segments
    atlas-tiny-mal       attention over what the memory gives, in the same block
    atlas-tiny-compat    the first, with everything as the guide's public code has it (`guide`)
    atlas-10m ...        the guide's sizes, for a GPU; -compat has the public code's parameters

All learn masked words in episodes. The tiny ones are those of the specification's E8: 2 layers of width 64, windows of
16, five texts of 64 words, six masks in a copy; memory, floors and weights are the guide's. Without a convex gate there
is nothing for a floor to act on, and mac and mal have none. The guide's sizes are what its project calls 10M, 40M and
389M; their vocabulary is of 32,000 words, more than the embedded text has: give them a text of your own in a YAML file
(`mnemoscope import-config`).

Source: r3d91ll/Todd_Atlas, configs/ and the factories of its model. Differs: shorter texts in the largest (1024 for
4096 tokens), since an episode of ten is to fit the embedded text; weight decay 0, as the guide found it to matter.
"""

from collections.abc import Mapping
from dataclasses import replace

from mnemoscope.experiments.atlas.guide import guide_recipe
from mnemoscope.experiments.atlas.keys import Value
from mnemoscope.models import ContextConfig, ParallelConfig, SerialConfig, StackConfig
from mnemoscope.models.mixers import MixerConfig
from mnemoscope.training import Recipe

TINY: Mapping[str, Value] = {
    "d_model": 64,
    "n_layers": 2,
    "d_ff": 128,
    "vocab_size": 2000,
    "max_seq_len": 64,
    "window_size": 16,
    "max_steps": 300,
    "learning_rate": 1e-3,
    "warmup_steps": 30,
    "batch_size": 8,
    "log_interval": 25,
    "checkpoint_interval": 150,
    "metrics_interval": 25,
    "num_masks": 6,
    "phase1_steps": 90,
    "phase2_steps": 120,
    "reset_memory_between_episodes": True,
    "dataset_path": "prose",
}
"""Phases are the same parts of the run as the guide's 3,000 and 4,000 steps are of 10,000; twelve evaluations, since
the phase of a training needs ten and a trend six."""

COMPAT_OFF: Mapping[str, Value] = {"use_stablemax": False, "use_orthogonal_grad": False}
"""What the guide's own good runs say of them; left out, the public code has both on."""

SIZES: Mapping[str, Mapping[str, Value]] = {
    "10m": {"dtype": "bfloat16"},
    "40m": {
        "d_model": 384,
        "n_layers": 8,
        "n_heads": 6,
        "d_ff": 1536,
        "max_seq_len": 1024,
        "window_size": 256,
        "max_steps": 5000,
        "batch_size": 24,
        "phase1_steps": 1500,
        "phase2_steps": 2000,
        "dtype": "bfloat16",
    },
    "389m": {
        "d_model": 1024,
        "n_layers": 16,
        "n_heads": 8,
        "d_ff": 4096,
        "vocab_size": 32_100,
        "max_seq_len": 1024,
        "window_size": 512,
        "max_steps": 57_000,
        "warmup_steps": 2000,
        "batch_size": 64,
        "storage_samples": 10,
        "retrieval_samples": 10,
        "phase1_steps": 15_000,
        "phase2_steps": 25_000,
        "dtype": "bfloat16",
    },
}
"""What differs from the guide's own values."""
EVALUATED: Mapping[str, int] = {"10m": 16, "40m": 8, "389m": 4}
"""Sequences of an evaluation."""


def _with_mixers(recipe: Recipe, form: str) -> Recipe:
    """The same memory and attention, put together another way; no gate, and so no floor."""
    assert isinstance(recipe.model, StackConfig)
    mixers = tuple(_composed(mixer, form) for mixer in recipe.model.mixers)
    name = f"{recipe.name}, {form}"
    return replace(recipe, name=name, model=replace(recipe.model, mixers=mixers), remedies=())


def _composed(mixer: MixerConfig, form: str) -> MixerConfig:
    assert isinstance(mixer, ParallelConfig)
    memory, attention = mixer.memory, mixer.beside
    assert memory.kind == "omega"
    assert attention.kind == "attention"
    if form == "memory before attention":
        return SerialConfig(first=memory, second=attention)
    return ContextConfig(memory=memory, segment_tokens=attention.window or 1, n_heads=attention.n_heads)


_TINY = guide_recipe(TINY, name="ATLAS, tiny")

TINY_RECIPES: Mapping[str, Recipe] = {
    "atlas-tiny": _TINY,
    "atlas-tiny-mac": _with_mixers(_TINY, "memory as context"),
    "atlas-tiny-mal": _with_mixers(_TINY, "memory before attention"),
    "atlas-tiny-compat": guide_recipe({**TINY, **COMPAT_OFF}, name="ATLAS, tiny, as published", compat=True),
}
"""For two CPU cores."""


def _sized(size: str, values: Mapping[str, Value], compat: bool) -> Recipe:
    """Evaluated on as many episodes as the embedded text holds of them."""
    name = f"ATLAS, {size.upper()}{', as published' * compat}"
    recipe = guide_recipe({"num_masks": 13, **values, **COMPAT_OFF}, name=name, compat=compat)
    return replace(recipe, train=replace(recipe.train, eval_sequences=EVALUATED[size]))


SIZED_RECIPES: Mapping[str, Recipe] = {
    f"atlas-{size}{'-compat' * compat}": _sized(size, values, compat)
    for size, values in SIZES.items()
    for compat in (False, True)
}
"""For a GPU."""
