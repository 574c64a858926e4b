"""From values of the guide's keys to a recipe: an ATLAS memory beside attention, as we build it or as its code does.

    normal     omega, written with gradients, read causally, with a short convolution; floors act (affine) on the raw
               gate in the phases and in both modes; copies are shuffled; what a file leaves out is as the guide has it
    compat     atlas_compat: written under no gradient, read after the whole call, half the step; the memory cut off
               between storage and retrieval; floors of .8 and .3, clamped, whatever is said; copies in the order of
               storage; what a file leaves out is as the public code has it, StableMax and PerpGrad among it; and the
               metrics as they are computed there beside ours

Source: r3d91ll/Todd_Atlas, from the atlas specification (1.2 to 1.6). Differs, in both: RMS norms, rotary positions in
place of learned ones, no dropout, as tokens words of the text or, with tokenizer "bpe", an encoding that is learned
from it; a step has all batches of its episode, whose texts are read as one sequence; floors act in training alone. In
the compat mode an evaluation begins with an empty memory.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from mnemoscope.experiments.atlas.keys import KEYS, PUBLIC_DEFAULTS, Value, require_value
from mnemoscope.memories import AttentionConfig, OmegaConfig
from mnemoscope.memories.atlas_compat import AtlasCompatConfig
from mnemoscope.models import ParallelConfig, StackConfig
from mnemoscope.tasks.masked_words import MaskedWordsConfig
from mnemoscope.training import Recipe, TrainConfig
from mnemoscope.training.config import Precision
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.metrics import METRIC_NAMES, MetricsConfig
from mnemoscope.training.metrics.config import AS_PUBLISHED
from mnemoscope.training.remedies import GateFloor

DEFAULT_TEXT = "code"
"""The longest of the embedded texts; an evaluation of the guide's own sizes has 16 episodes, and "prose" holds two."""

BPE = "bpe"
"""The tokenizer that is not words."""

HARD_CODED = (0.8, 0.3)
"""Floors of the public code in storage and in retrieval."""

OF_STATES = ("state_magnitude", "memory_rank")
MOST_NUMBERS_OF_STATES = 2**27
"""In one layer, 512 MB."""

PRECISIONS: Mapping[str, Precision] = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def guide_values(given: Mapping[str, Value], *, compat: bool = False) -> dict[str, Value]:
    """A value for every key that has one: what is given, or the guide's; in compat the public code's where they differ.

    The strength of PerpGrad is the public code's wherever the switch is given as true.

    Raises:
        ValueError: an unknown key, a value out of its range, or values that do not fit together.
    """
    for key, value in given.items():
        if key not in KEYS:
            raise ValueError(f"atlas: unknown key {key!r}")
        require_value(f"atlas: {key}", key, value)
    values = {key: entry.guide for key, entry in KEYS.items() if entry.guide is not None}
    # Keys and values are as wide as the model where a file changes the model's width alone.
    width = given.get("d_model", values["d_model"])
    values |= {"d_key": width, "d_value": given.get("d_key", width)} | (dict(PUBLIC_DEFAULTS) if compat else {})
    if given.get("use_orthogonal_grad"):
        # The guide's value, 0, would make nothing of the switch.
        values["orthogonal_grad_strength"] = PUBLIC_DEFAULTS["orthogonal_grad_strength"]
    values |= given
    _require_fit(values, compat)
    return values


def guide_recipe(given: Mapping[str, Value], *, name: str, compat: bool = False) -> Recipe:
    """The recipe of some values; what is not given is as `guide_values` says.

    Raises:
        ValueError: see `guide_values`.
    """
    values = guide_values(given, compat=compat)
    return Recipe(
        name=name,
        model=_model(values, compat),
        task=_task(values, compat),
        train=_train(values, compat),
        remedies=(_floor(values, compat),),
        lesson=_lesson(values, compat),
    )


def _require_fit(values: Mapping[str, Value], compat: bool) -> None:
    wanted = values["d_model"] if compat else values["d_key"]
    for key in ("d_key", "d_value"):
        if values[key] != wanted:
            rule = "d_model, as the public code asserts," if compat else "d_key"
            raise ValueError(f"atlas: {key}: must be {rule} = {wanted}, got {values[key]}; give both the same width")
    if values["dtype"] not in PRECISIONS:
        raise ValueError(f"atlas: dtype: must be {' or '.join(PRECISIONS)}, got {values['dtype']!r}; use float32")
    if _count(values, "warmup_steps") > _count(values, "max_steps"):
        raise ValueError(
            f"atlas: warmup_steps: must be at most max_steps = {values['max_steps']}, got {values['warmup_steps']}; "
            "change either"
        )


def _model(values: Mapping[str, Value], compat: bool) -> StackConfig:
    d_model, chunk = _count(values, "d_model"), _count(values, "context_window")
    retention, momentum, step_size = (_number(values, f"init_{name}") for name in ("alpha", "theta", "eta"))
    if compat:
        memory = AtlasCompatConfig(
            chunk_tokens=chunk,
            degree=_count(values, "poly_degree"),
            initial_retention=retention,
            initial_momentum=momentum,
            initial_step_size=step_size,
        )
    else:
        memory = OmegaConfig(
            n_heads=1,
            head_width=_count(values, "d_key"),
            chunk_tokens=chunk,
            granularity="chunk",
            window=1,
            features="elementwise",
            degree=_count(values, "poly_degree"),
            learned_coefficients=True,
            initial_retention=retention,
            initial_momentum=momentum,
            initial_step_size=step_size / chunk,
        )
    attention = AttentionConfig(n_heads=_count(values, "n_heads"), window=_count(values, "window_size"))
    return StackConfig(
        vocab_size=_count(values, "vocab_size"),
        d_model=d_model,
        mixers=(ParallelConfig(memory=memory, beside=attention),) * _count(values, "n_layers"),
        mlp_ratio=_count(values, "d_ff") / d_model,
    )


def _task(values: Mapping[str, Value], compat: bool) -> MaskedWordsConfig:
    return MaskedWordsConfig(
        corpus=str(values.get("dataset_path", DEFAULT_TEXT)),
        text_unit="bpe" if values.get("tokenizer") == BPE else "word",
        vocab_size=_count(values, "vocab_size"),
        text_length=_count(values, "max_seq_len"),
        n_storage=_count(values, "storage_samples"),
        n_retrieval=_count(values, "retrieval_samples"),
        n_masks=_count(values, "num_masks"),
        order="stored" if compat else "shuffled",
    )


def _train(values: Mapping[str, Value], compat: bool) -> TrainConfig:
    every = _count(values, "metrics_interval")
    config = TrainConfig(
        steps=_count(values, "max_steps"),
        batch_size=_count(values, "batch_size"),
        learning_rate=_number(values, "learning_rate"),
        warmup_steps=_count(values, "warmup_steps"),
        weight_decay=_number(values, "weight_decay"),
        grad_clip=_number(values, "grad_clip"),
        loss="stablemax" if values["use_stablemax"] else "cross_entropy",
        eval_every=every,
        eval_sequences=16,
        log_every=_count(values, "log_interval"),
        checkpoint_every=_count(values, "checkpoint_interval"),
        metrics=MetricsConfig(every=every, names=_metrics(values, compat)),
        precision=PRECISIONS[str(values["dtype"])],
    )
    strength = _number(values, "orthogonal_grad_strength") if values["use_orthogonal_grad"] else 0.0
    if strength == 0:
        return config
    return replace(config, orthogonal_gradient=strength, orthogonal_gradient_of="all" if compat else "matrices")


def _metrics(values: Mapping[str, Value], compat: bool) -> tuple[str, ...]:
    """All, but for those that form the memory after every token, where that would fill the machine."""
    tokens = _count(values, "batch_size") * _count(values, "storage_samples") * _count(values, "max_seq_len")
    numbers = tokens * (_count(values, "poly_degree") + 1) * _count(values, "d_key") * _count(values, "d_value")
    fits = numbers <= MOST_NUMBERS_OF_STATES
    names = METRIC_NAMES if fits else tuple(name for name in METRIC_NAMES if name not in OF_STATES)
    return (*names, AS_PUBLISHED) if compat else names


def _floor(values: Mapping[str, Value], compat: bool) -> GateFloor:
    if compat:
        storage, retrieval = HARD_CODED
        return GateFloor(
            floors=(0.0,), switches=(), storage_floor=storage, retrieval_floor=retrieval, floor_mode="clamp"
        )
    first, second = _count(values, "phase1_steps"), _count(values, "phase2_steps")
    return GateFloor(
        floors=tuple(_number(values, f"phase{n}_gate_floor") for n in (1, 2, 3)),
        switches=(first, first + second),
        unit="steps",
        storage_floor=_number(values, "storage_gate_target"),
        retrieval_floor=_number(values, "retrieval_gate_floor"),
    )


def _lesson(values: Mapping[str, Value], compat: bool) -> Episodic:
    return Episodic(
        storage_weight=_number(values, "storage_loss_weight"),
        retrieval_weight=_number(values, "retrieval_loss_weight"),
        between="reset" if values["reset_memory_between_episodes"] else "carry",
        detach_write=compat,
    )


def _count(values: Mapping[str, Value], key: str) -> int:
    return int(cast("int", values[key]))


def _number(values: Mapping[str, Value], key: str) -> float:
    return float(cast("float", values[key]))
