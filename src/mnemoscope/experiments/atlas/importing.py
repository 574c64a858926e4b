"""A YAML file of the Atlas guide's project, or one in its style, as a recipe, with what each of its keys does here.

    model:                          sections as in the project's files and in the guide's snippets,
      init_eta: 0.2                 or the keys alone, without sections
    episodic:
      retrieval_gate_floor: 0.5

Every key is known or refused: a parameter that nothing reads is what the guide's users could not see.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter
from pydantic_core import to_json

from mnemoscope.contracts.written import nearest
from mnemoscope.experiments.atlas.guide import guide_recipe
from mnemoscope.experiments.atlas.keys import KEYS, PUBLIC_DEFAULTS, SURROUNDINGS, Value, require_value, shown
from mnemoscope.runs.atomic import write_text
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import GateFloor

SECTIONS = ("model", "training", "episodic", "monitoring", "data")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A file as it was taken.

    Args:
        recipe: that it makes.
        notes: key, value and what it does here: those of the file in its order.
        defaults: the same of keys that the file leaves out, and whose value is not what it seems.
        warnings: what does nothing only because of the values beside it.
    """

    recipe: Recipe
    notes: tuple[tuple[str, str, str], ...]
    defaults: tuple[tuple[str, str, str], ...]
    warnings: tuple[str, ...] = ()


def import_guide(file: Path, *, compat: bool = False, corpus: str | None = None) -> Imported:
    """Read a YAML file of the guide.

    Args:
        file: UTF-8.
        compat: as the public code computes, in place of as we do.
        corpus: in place of the file's dataset_path.

    Raises:
        ValueError: no YAML, an unknown key, one twice or in a section of another, or an unsuitable value.
        FileNotFoundError: no such file.
    """
    content = _read(file)
    given, notes = dict[str, Value](), list[tuple[str, str, str]]()
    for path, value in _leaves(content):
        key = path.rpartition(".")[2]
        surrounding = _surrounding(path)
        if surrounding is not None:
            notes.append((path, _short(value), f"nothing: {surrounding}"))
            continue
        _require_known(file, path)
        if key in given:
            raise ValueError(f"{file}: {key} must be given once, got it twice; keep one")
        given[key] = require_value(f"{file}: {path}", key, value)
        notes.append((path, shown(given[key]), _does(key, compat)))
    given |= {} if corpus is None else {"dataset_path": corpus}
    try:
        recipe = guide_recipe(given, name=f"{file.stem}{', as published' * compat}", compat=compat)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    left_out = {key: value for key, value in PUBLIC_DEFAULTS.items() if compat and key not in given}
    defaults = tuple(
        (f"{KEYS[key].section}.{key}", shown(value), "left out: the public code's own")
        for key, value in left_out.items()
    )
    return Imported(recipe=recipe, notes=tuple(notes), defaults=defaults, warnings=() if compat else _warnings(recipe))


def _warnings(recipe: Recipe) -> tuple[str, ...]:
    """Of floors that stand in the recipe and never act."""
    idle = (each for each in recipe.remedies if isinstance(each, GateFloor) and each.phases_are_idle)
    return tuple(
        f"floors of the phases ({', '.join(f'{floor:g}' for floor in each.floors)}) change nothing, with their steps: "
        f"a step stores (storage_gate_target {each.storage_floor:g}) and retrieves (retrieval_gate_floor "
        f"{each.retrieval_floor:g}), and the higher floor acts; lower either of these to have phases"
        for each in idle
    )


def write_recipe(recipe: Recipe, file: Path) -> None:
    """A file that `mnemoscope train` takes.

    Raises:
        FileNotFoundError: no such folder.
    """
    write_text(file, to_json(TypeAdapter(Recipe).dump_python(recipe, mode="json"), indent=2).decode() + "\n")


class _Once(yaml.SafeLoader):
    """Plain values only; a key that stands twice in a mapping is an error, where YAML's readers keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Once)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: must be YAML, and cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file}: must hold sections such as model and episodic, got {_short(content)}")
    return content


def _leaves(content: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Values by their dotted path; what belongs to the surroundings whole."""
    for key, value in content.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and _surrounding(here) is None:
            yield from _leaves(value, here)
        else:
            yield here, value


def _surrounding(path: str) -> str | None:
    return next((why for name, why in SURROUNDINGS.items() if path == name or path.startswith(f"{name}.")), None)


def _require_known(file: Path, path: str) -> None:
    section, _, key = path.rpartition(".")
    if key not in KEYS:
        known = {*KEYS, *(name.rpartition(".")[2] for name in SURROUNDINGS)}
        raise ValueError(f"{file}: unknown key {path!r}{nearest(key, known)}")
    wanted = KEYS[key].section
    if section not in ("", wanted):
        raise ValueError(f"{file}: {key} must stand in {wanted}, got {path}; move it there")


def _does(key: str, compat: bool) -> str:
    entry = KEYS[key]
    return (entry.compat or entry.here) if compat else entry.here


def _short(value: object) -> str:
    text = shown(value) if isinstance(value, bool) else " ".join(str(value).split())
    return text if len(text) <= 24 else f"{text[:21]}..."
