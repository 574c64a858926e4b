"""A YAML file of the Atlas guide's project, or one in its style, as a recipe, with what each of its keys does here.

    model:                          sections as in the project's files and in the guide's snippets,
      init_eta: 0.2                 or the keys alone, without sections
    episodic:
      retrieval_gate_floor: 0.5

Every key is known or refused: a parameter that nothing reads is what the guide's users could not see. What is taken is
built once, without memory for weights, so that a file whose values do not fit is refused here and not by `train`.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import TypeAdapter
from pydantic_core import to_json

from mnemoscope.contracts.written import nearest
from mnemoscope.experiments.atlas.guide import DEFAULT_TEXT, guide_recipe
from mnemoscope.experiments.atlas.keys import (
    ANOTHER,
    KEYS,
    OTHER_NAMES,
    PUBLIC_DEFAULTS,
    SURROUNDINGS,
    TWO_STAGES,
    Value,
    require_value,
    shown,
)
from mnemoscope.models import build_model
from mnemoscope.runs.atomic import write_text
from mnemoscope.tasks import MaskedWordsConfig, build_task
from mnemoscope.tasks.corpus import EMBEDDED
from mnemoscope.tasks.streams import Split
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import GateFloor

GENERATED_TEXT = "stories"

PERPGRAD, STRENGTH = "use_orthogonal_grad", "orthogonal_grad_strength"

_KEY_AT: Mapping[str, str] = {f"{entry.section}.{key}": key for key, entry in KEYS.items()} | dict(OTHER_NAMES)
_KNOWN: tuple[str, ...] = (*_KEY_AT, *SURROUNDINGS, *ANOTHER)
"""Every name with its section; where two end alike, that of a key comes first."""
_SECTIONS = frozenset(
    section
    for path in _KNOWN
    for section in (path.rpartition(".")[0], path.partition(".")[0])
    if section and section not in _KNOWN
)
_MAPPINGS: tuple[str, ...] = (*sorted(_SECTIONS), *(path for path in SURROUNDINGS if "." not in path))
"""Sections, and names that cover all that is below them."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A file as it was taken.

    Args:
        recipe: that it makes.
        notes: key, value and what it does here: those of the file in its order.
        defaults: the same of keys that the file leaves out, and whose value is not what it seems.
        text: what it trains on, in words.
        warnings: what does nothing only because of the values beside it, and what a training needs that is not there.
    """

    recipe: Recipe
    notes: tuple[tuple[str, str, str], ...]
    defaults: tuple[tuple[str, str, str], ...]
    text: str
    warnings: tuple[str, ...] = ()


def import_guide(file: Path, *, compat: bool = False, corpus: str | None = None) -> Imported:
    """Read a YAML file of the guide.

    Args:
        file: UTF-8.
        compat: as the public code computes, in place of as we do.
        corpus: in place of the file's dataset_path.

    Raises:
        ValueError: no YAML, an unknown key or section, a key twice or in a section of another, a file of another
            experiment, an unsuitable value, or values of which no model or no batch can be made.
        FileNotFoundError: no such file.
    """
    given, notes = _taken(file, compat)
    named = given.get("dataset_path") if corpus is None else corpus
    text = DEFAULT_TEXT if named is None else str(named)
    try:
        recipe = guide_recipe(
            {**given, "dataset_path": text}, name=f"{file.stem}{', as published' * compat}", compat=compat
        )
        _require_built(recipe)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return Imported(
        recipe=recipe,
        notes=tuple(notes),
        defaults=tuple(
            (f"{KEYS[key].section}.{key}", shown(PUBLIC_DEFAULTS[key]), "left out: the public code's own")
            for key in _left_out(given, compat)
        ),
        text=f"{text}{', which needs no file' * _needs_no_file(text)}",
        warnings=(
            *_warnings_of_stages(recipe, notes),
            *_warnings_of_perpgrad(given, compat),
            # Of compat the line of every such key says it.
            *(() if compat else _warnings_of_floors(recipe)),
            *_warnings_of_text(text, named is None),
        ),
    )


def _taken(file: Path, compat: bool) -> tuple[dict[str, Value], list[tuple[str, str, str]]]:
    """Values of keys, and a line for everything that the file has."""
    given, notes, read = dict[str, Value](), list[tuple[str, str, str]](), dict[str, str]()
    for path, value in _leaves(file, _read(file)):
        known = _require_known(file, path)
        if known in SURROUNDINGS:
            notes.append((path, _short(value), f"nothing: {SURROUNDINGS[known]}"))
            continue
        key = _KEY_AT[known]
        if key in given:
            raise ValueError(f"{file}: {key} must be given once, got it twice ({read[key]}, {path}); keep one")
        given[key], read[key] = require_value(f"{file}: {path}", key, value), path
        notes.append((path, shown(given[key]), _does(key, compat)))
    return given, notes


def _left_out(given: Mapping[str, Value], compat: bool) -> Iterator[str]:
    """Keys that have the public code's value, which nobody gave."""
    for key in PUBLIC_DEFAULTS:
        if key not in given and (compat or (key == STRENGTH and given.get(PERPGRAD))):
            yield key


def _require_built(recipe: Recipe) -> None:
    """The model, without its weights, and of text that needs no file a batch's worth.

    Raises:
        ValueError: what does not fit.
    """
    with torch.device("meta"):
        build_model(recipe.model, recipe.train.seed)
    task = recipe.task
    assert isinstance(task, MaskedWordsConfig)
    # An encoding is learned, which takes too long here.
    if task.text_unit == "bpe" or not _needs_no_file(task.corpus):
        return
    longer = f"name a longer text, --corpus FILE{f' or {DEFAULT_TEXT}' * (task.corpus != DEFAULT_TEXT)}, or lower"
    try:
        built = build_task(task)
    except ValueError as error:
        raise ValueError(f"{error}; or {longer} max_seq_len or storage_samples") from error
    size = recipe.train.batch_size
    needed: Mapping[Split, int] = {"train": size, "validation": min(size, recipe.train.eval_sequences)}
    for split, wanted in needed.items():
        most = built.n_sequences(split)
        if most is not None and most < wanted:
            raise ValueError(
                f"text {task.corpus!r}: its {split} split must hold {wanted} episodes of {task.n_storage} texts of "
                f"{task.text_length} tokens (batch_size is {size}), got {most}; {longer} batch_size, max_seq_len or "
                "storage_samples"
            )


def _needs_no_file(text: str) -> bool:
    return text in EMBEDDED or text == GENERATED_TEXT


def _warnings_of_text(text: str, is_default: bool) -> Iterator[str]:
    if is_default:
        yield (
            f"no data.dataset_path: trains on {text!r}, the one text that needs no file and is long enough for the "
            "guide's batches; --corpus FILE names yours"
        )
    elif not _needs_no_file(text) and not Path(text).expanduser().exists():
        yield f"{text}: no such file here; put it there before you train"


def _warnings_of_stages(recipe: Recipe, notes: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    said = [path for path, _, _ in notes if path in TWO_STAGES]
    if said:
        yield (
            f"{', '.join(said)}: its trainer learns next tokens in two stages; the recipe learns masked words in "
            f"episodes, for {recipe.train.steps} steps; training.max_steps changes that"
        )


def _warnings_of_perpgrad(given: Mapping[str, Value], compat: bool) -> Iterator[str]:
    on = given.get(PERPGRAD, compat)
    if given.get(STRENGTH, 0) and not on:
        said = "false" if PERPGRAD in given else "left out, and false"
        yield f"{STRENGTH} {given[STRENGTH]} changes nothing: {PERPGRAD} is {said}; say {PERPGRAD}: true"


def _warnings_of_floors(recipe: Recipe) -> Iterator[str]:
    """Of floors that stand in the recipe and never act."""
    for each in recipe.remedies:
        if isinstance(each, GateFloor) and each.phases_are_idle:
            yield (
                f"floors of the phases ({', '.join(f'{floor:g}' for floor in each.floors)}) change nothing, with their "
                f"steps: a step stores (storage_gate_target {each.storage_floor:g}) and retrieves "
                f"(retrieval_gate_floor {each.retrieval_floor:g}), and the higher floor acts; lower either of these to "
                "have phases"
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
        got = "nothing" if content is None else _short(content)
        raise ValueError(
            f"{file}: must hold sections such as model and episodic, got {got}; write them as the guide's files do"
        )
    return content


def _leaves(file: Path, content: Mapping[Any, Any], section: str = "") -> Iterator[tuple[str, object]]:
    """Values by their dotted path; whole where a name covers all that is below it. An empty section has none."""
    for name, value in content.items():
        path = f"{section}.{name}".lstrip(".")
        if path not in _SECTIONS:
            if isinstance(value, dict) and _known(path) is None:
                raise ValueError(f"{file}: {_refusal('section', path, _MAPPINGS)}")
            yield path, value
        elif isinstance(value, dict):
            yield from _leaves(file, value, path)
        elif value is not None:
            raise ValueError(f"{file}: {path}: must be a section, with keys below it, got {_short(value)}")


def _known(path: str) -> str | None:
    """The name with its section, which a key alone does without; None for an unknown one."""
    if path in _KNOWN or "." in path:
        return path if path in _KNOWN else None
    return next((known for known in _KNOWN if known.endswith(f".{path}")), None)


def _require_known(file: Path, path: str) -> str:
    known = _known(path)
    if known is None:
        raise ValueError(f"{file}: {_refusal('key', path, (*_KEY_AT, *SURROUNDINGS))}")
    if known in ANOTHER:
        raise ValueError(f"{file}: {path}: {ANOTHER[known]}")
    return known


def _refusal(what: str, path: str, known: Iterable[str]) -> str:
    """Where a name must stand that stands elsewhere, or the nearest one, or all where none is near."""
    by_name = {place.rpartition(".")[2]: place for place in reversed([*known])}
    name = path.rpartition(".")[2]
    if name in by_name:
        section = by_name[name].rpartition(".")[0]
        return f"{name} must stand {f'in {section}' if section else 'at the top'}, got {path}; move it there"
    hint = nearest(name, by_name)
    return f"unknown {what} {path!r}{hint.partition(' known:')[0] if 'did you mean' in hint else hint}"


def _does(key: str, compat: bool) -> str:
    entry = KEYS[key]
    return (entry.compat or entry.here) if compat else entry.here


def _short(value: object) -> str:
    text = shown(value) if isinstance(value, bool) else " ".join(str(value).split())
    return text if len(text) <= 24 else f"{text[:21]}..."
