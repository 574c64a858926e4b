"""Recipes by name: what `mnemoscope train` can be given besides a file."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from mnemoscope.contracts.written import parse_calls
from mnemoscope.experiments.atlas.recipes import SIZED_RECIPES, TINY_RECIPES
from mnemoscope.experiments.atlas.text_arms import recipe_of
from mnemoscope.experiments.atlas.text_recipe import ONE_LAYER_TEXT
from mnemoscope.experiments.atlas.trials import SEPARATOR, with_presets
from mnemoscope.models import StackConfig, parse_layout
from mnemoscope.runs import describe
from mnemoscope.runs.renamed import renamed_settings
from mnemoscope.tasks import MqarConfig, TextConfig
from mnemoscope.training import Recipe, TrainConfig
from mnemoscope.training.config import Precision
from mnemoscope.training.lessons import LESSONS, AnyLesson
from mnemoscope.training.remedies import REMEDIES, Remedy

_RECIPE = TypeAdapter(Recipe)

_WITH_TASKS = ("bandit", "staged")
"""Lessons whose settings hold tasks, and so stand in a recipe's file."""

RECALL = MqarConfig(vocab_size=64, length=64, n_pairs=8, power_a=1.0)
RECALL_TRAINING = TrainConfig(
    steps=600,
    batch_size=64,
    learning_rate=3e-3,
    warmup_steps=40,
    eval_every=150,
    eval_sequences=256,
    log_every=25,
    checkpoint_every=150,
)

_RECALLING = recipe_of(ONE_LAYER_TEXT, "prose", "gentle", 400)
"""Of the arms of `atlas-trials` the one whose memory is used alike in every seed."""

RECIPES: Mapping[str, Recipe] = {
    "text-hybrid": Recipe(
        name="Text, attention window 16",
        model=StackConfig.of("attention(window=16), gated_delta", vocab_size=256, d_model=64),
        task=TextConfig(corpus="prose", length=128),
        train=TrainConfig(
            steps=600,
            batch_size=16,
            learning_rate=3e-3,
            warmup_steps=50,
            eval_every=150,
            eval_sequences=128,
            log_every=25,
            checkpoint_every=150,
        ),
    ),
    "recall-full-attention": Recipe(
        name="Recall, full attention",
        model=StackConfig.of("attention(convolution=4), gated_delta(n_heads=2)", vocab_size=64, d_model=64),
        task=RECALL,
        train=RECALL_TRAINING,
    ),
    "recall-short-window": Recipe(
        name="Recall, attention window 4",
        model=StackConfig.of("attention(window=4, convolution=4), gated_delta(n_heads=2)", vocab_size=64, d_model=64),
        task=RECALL,
        train=replace(RECALL_TRAINING, steps=900),
    ),
    **TINY_RECIPES,
    "atlas-recall": replace(_RECALLING, name="ATLAS, recalling", train=replace(_RECALLING.train, threads=None)),
}
"""Small recipes that train in a minute or so on two CPU cores, those of ATLAS in some minutes."""

ALL_RECIPES: Mapping[str, Recipe] = {**RECIPES, **SIZED_RECIPES}
"""Those too that need a GPU."""


def find_recipe(name_or_file: str) -> Recipe:
    """A recipe by name, or from a JSON file as `config.json` holds one under "resolved".

    Changes of the Atlas guide may follow, each after a +: "atlas-tiny+option-a" (see `experiments.atlas.trials`).

    Raises:
        ValueError: an unknown name (with the nearest one), a file that is not a recipe, or changes that do not fit.
    """
    if name_or_file in ALL_RECIPES:
        return ALL_RECIPES[name_or_file]
    file = Path(name_or_file)
    if file.is_file():
        return _read(file)
    name, *presets = name_or_file.split(SEPARATOR)
    if presets:
        return with_presets(find_recipe(name), presets)
    close = difflib.get_close_matches(name_or_file, ALL_RECIPES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    raise ValueError(f"no recipe and no file is called {name_or_file!r}{hint} recipes: {', '.join(ALL_RECIPES)}")


def _read(file: Path) -> Recipe:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        settings = renamed_settings(content.get("resolved", content))
        return _RECIPE.validate_json(json.dumps(settings), strict=True)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{file} must hold a recipe as JSON, and cannot be read: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{file} is not a recipe: {describe(error)}") from error


def with_changes(
    recipe: Recipe, *, layout: str | None = None, steps: int | None = None, seed: int | None = None
) -> Recipe:
    """The recipe with another layout, number of steps or seed; its name says so."""
    train, model, changes = recipe.train, recipe.model, []
    if layout is not None:
        if not isinstance(model, StackConfig):
            raise ValueError(f"{recipe.name}: a layout is that of a stack, got a {model.kind}; leave it out")
        model = replace(model, mixers=parse_layout(layout))
        changes.append(layout)
    if steps is not None:
        train = replace(train, steps=steps, warmup_steps=min(train.warmup_steps, steps))
        changes.append(f"{steps} steps")
    if seed is not None:
        train = replace(train, seed=seed)
        changes.append(f"seed {seed}")
    name = ", ".join([recipe.name, *changes])
    return replace(recipe, name=name, model=model, train=train)


def treated_with(recipe: Recipe, remedies: str = "", lesson: str = "", precision: Precision | None = None) -> Recipe:
    """The recipe with remedies and a lesson as they are written, or in another precision; its name says so.

    Args:
        recipe: what to change.
        remedies: "branch_dropout(strength=0.5), reconstruction"; empty for those it has.
        lesson: one of those that need no task of their own, "carried(reset=0.5)"; empty for the one it has.
        precision: None for the one it has.

    Raises:
        ValueError: an unknown name or option, an unsuitable value, or more than one lesson.
    """
    lessons = parse_calls("lesson", lesson, {name: kind for name, kind in LESSONS.items() if name not in _WITH_TASKS})
    if len(lessons) > 1:
        raise ValueError(f"lesson {lesson!r}: must be one, got {len(lessons)}; leave out all but one")
    treated = tuple(cast("Remedy", remedy) for remedy in parse_calls("remedies", remedies, REMEDIES))
    name = ", ".join([recipe.name, *(words for words in (remedies, lesson, precision) if words)])
    return replace(
        recipe,
        name=name,
        remedies=treated or recipe.remedies,
        lesson=cast("AnyLesson", lessons[0]) if lessons else recipe.lesson,
        train=recipe.train if precision is None else replace(recipe.train, precision=precision),
    )
