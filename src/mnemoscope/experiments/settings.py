"""Changing single settings of a recipe: `train.loss=stablemax`, `masked_words.n_masks=8`, `*.initial_step_size=0.2`.

The owner is a part of the recipe (train, model, task, lesson), the kind of anything in it (omega, gate_floor), or * for
everything that has such a setting. A value is JSON or Python; what is neither is text.
"""

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mnemoscope.contracts.written import nearest
from mnemoscope.runs import describe
from mnemoscope.training import Recipe

PARTS = ("train", "model", "task", "lesson")

_RECIPE = TypeAdapter(Recipe)


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with other settings; its name says so.

    Args:
        recipe: what to change.
        settings: each `OWNER.NAME=VALUE`, in order; further dots in NAME go into a setting of settings.

    Raises:
        ValueError: text that is no such assignment, an owner or name that the recipe has not, or a value that does not
            fit.
    """
    if not settings:
        return recipe
    written: dict[str, Any] = _RECIPE.dump_python(recipe, mode="json")
    for setting in settings:
        _assign(written, setting)
    try:
        changed = _RECIPE.validate_json(json.dumps(written), strict=True)
    except ValidationError as error:
        raise ValueError(f"--set {' '.join(settings)}: {describe(error)}") from error
    return replace(changed, name=", ".join([recipe.name, *settings]))


def _assign(recipe: dict[str, Any], setting: str) -> None:
    target, is_assignment, value = setting.partition("=")
    owner, is_dotted, name = target.strip().partition(".")
    if not (is_assignment and is_dotted and name):
        raise ValueError(f"--set {setting}: must be OWNER.NAME=VALUE, for instance train.weight_decay=0")
    *path, last = name.split(".")
    owners = _owners(recipe, owner, [*path, last][0], setting)
    for held in owners:
        for step in path:
            held = held.get(step)
            if not isinstance(held, dict):
                raise ValueError(f"--set {setting}: {owner}.{step} holds no settings here; set it as a whole")
        if last not in held:
            raise ValueError(f"--set {setting}: {owner} has no setting {last!r}{nearest(last, held)}")
        held[last] = _value(value.strip())


def _owners(recipe: dict[str, Any], owner: str, name: str, setting: str) -> list[dict[str, Any]]:
    """The parts of a recipe that are meant."""
    if owner in PARTS:
        return [recipe[owner]]
    parts = list(_parts(recipe))
    if owner == "*":
        found = [part for part in parts if name in part]
        if not found:
            names = sorted({key for part in parts for key in part} - {"kind"})
            raise ValueError(f"--set {setting}: nothing in the recipe has a setting {name!r}{nearest(name, names)}")
        return found
    found = [part for part in parts if part.get("kind") == owner]
    if not found:
        kinds = sorted({str(part["kind"]) for part in parts if "kind" in part})
        raise ValueError(f"--set {setting}: the recipe has no {owner!r}{nearest(owner, [*PARTS, *kinds])}")
    return found


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Everything within a recipe that has settings, outermost first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(inner)


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text
