"""What is planned: a recipe with other sizes, a run, or a Hugging Face model; its batch, context and training."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from mnemoscope.experiments.huggingface import MISSING
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.models import Stack, StackConfig, only_stack, parse_layout
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import build_task, task_rng
from mnemoscope.training import Recipe, TrainConfig, load_recipe
from mnemoscope.training.config import Precision

PRECISIONS: tuple[Precision, ...] = ("32-true", "bf16-mixed")
"""Those that are counted."""

HUB_CONTEXT = 1024
"""Tokens of a Hugging Face model where the user does not say, or as many as it takes if fewer."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Sizes that a user changes; None for what the subject has.

    Args:
        layout: mixers of one or more blocks.
        width: of the residual stream.
        depth: blocks; the layout is repeated, or cut, to so many.
        vocab: tokens of the vocabulary.
        context: tokens of a sequence.
        batch: sequences of a training batch on one device.
        steps: of the training.
        precision: of the training.
    """

    layout: str | None = None
    width: int | None = None
    depth: int | None = None
    vocab: int | None = None
    context: int | None = None
    batch: int | None = None
    steps: int | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 1), ("vocab", 2), ("context", 2), ("batch", 1), ("steps", 1)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise ValueError(f"plan: --{name} must be at least {least}, got {given}")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model at a batch and a context, and its training.

    Args:
        name: what to call it.
        build: makes the model; under fake tensors too.
        stack: its settings; None for a model that is no stack of ours.
        batch: sequences of a training batch on one device.
        tokens: of a sequence.
        train: settings of the training.
        remarks: what is not counted.
    """

    name: str
    build: Callable[[], nn.Module]
    stack: StackConfig | None
    batch: int
    tokens: int
    train: TrainConfig
    remarks: tuple[str, ...] = ()


def target_of(words: str, changes: Changes) -> Target:
    """What a user names, with other sizes.

    Raises:
        ValueError: nothing of that name, or sizes that it cannot have.
    """
    folder = Path(words)
    if folder.is_dir() and (folder / "manifest.json").exists():
        return _of_recipe(load_recipe(RunDirectory.open(folder).path), changes)
    if folder.is_dir() or (re.fullmatch(r"[\w.-]+/[\w.-]+", words) and not folder.exists()):
        return _of_hub(words, changes)
    return _of_recipe(find_recipe(words), changes)


def resized(stack: StackConfig, changes: Changes) -> StackConfig:
    """The stack with another layout, width, depth and vocabulary."""
    mixers = stack.mixers if changes.layout is None else parse_layout(changes.layout)
    if changes.depth is not None:
        mixers = tuple(mixers[i % len(mixers)] for i in range(changes.depth))
    if changes.vocab is not None and stack.vectors is not None:
        raise ValueError("plan: --vocab is for tokens, and this recipe has vectors; leave it out")
    return replace(
        stack,
        mixers=mixers,
        d_model=changes.width or stack.d_model,
        vocab_size=changes.vocab or stack.vocab_size,
    )


def _of_recipe(recipe: Recipe, changes: Changes) -> Target:
    stack = resized(only_stack(recipe.model, "plan"), changes)
    tokens = changes.context or _context_of(recipe)
    if stack.max_tokens is not None:
        stack = replace(stack, max_tokens=max(stack.max_tokens, tokens))
    extras = [*(f"remedy {remedy.kind}" for remedy in recipe.remedies)]
    extras += [f"lesson {recipe.lesson.kind}"] if recipe.lesson.kind != "plain" else []
    return Target(
        name=recipe.name,
        build=lambda: Stack(stack),
        stack=stack,
        batch=changes.batch or recipe.train.batch_size,
        tokens=tokens,
        train=_training(recipe.train, changes),
        remarks=tuple(f"not counted: {extra}" for extra in extras),
    )


def _context_of(recipe: Recipe) -> int:
    """Tokens of a sequence of the recipe's task."""
    batch = build_task(recipe.task).batch(task_rng(recipe.train.seed, "train", 0), 1, "train")
    return int(batch.inputs.shape[1])


def _training(train: TrainConfig, changes: Changes) -> TrainConfig:
    precision = changes.precision or train.precision
    if precision not in PRECISIONS:
        raise ValueError(f"plan: precision must be one of {', '.join(PRECISIONS)}, got {precision}; give --precision")
    steps = changes.steps or train.steps
    return replace(train, steps=steps, warmup_steps=min(train.warmup_steps, steps), precision=precision)


def _of_hub(source: str, changes: Changes) -> Target:
    for name in ("layout", "width", "depth", "vocab"):
        if getattr(changes, name) is not None:
            raise ValueError(f"plan: --{name} changes a recipe; the sizes of {source} are those of its config.json")
    try:
        from transformers import AutoConfig, AutoModelForCausalLM

        import mnemoscope.models.huggingface  # noqa: F401  # registers what `mnemoscope export` writes
    except ImportError as error:
        raise ValueError(MISSING.replace("examine", "plan")) from error
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        line = " ".join(str(error).split())[:240]
        raise ValueError(
            f"plan: {source} is neither a recipe, nor a run, nor a Hugging Face model (config.json): {line}"
        ) from error
    config.use_cache = False
    most = getattr(config, "max_position_embeddings", None) or HUB_CONTEXT
    return Target(
        name=source,
        build=lambda: AutoModelForCausalLM.from_config(config),
        stack=None,
        batch=changes.batch or 1,
        tokens=changes.context or min(HUB_CONTEXT, most),
        train=_training(TrainConfig(), changes),
    )
