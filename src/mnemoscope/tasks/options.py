"""A task's config from words: its kind, and parameters as name=value."""

import ast
import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from mnemoscope.tasks import TASKS, TaskConfig

_LOADER: TypeAdapter[TaskConfig] = TypeAdapter(TaskConfig)


def config_of(kind: str, options: Sequence[str]) -> TaskConfig:
    """The config of a kind of task with some parameters changed.

    Args:
        kind: one of `TASKS`.
        options: for instance ("n_pairs=4", "corpus=code").

    Raises:
        ValueError: an unknown kind or parameter, with the nearest valid one, or a value out of its range.
    """
    if kind not in TASKS:
        raise ValueError(f"unknown task {kind!r}{_nearest(kind, list(TASKS))}")
    known = [field.name for field in dataclasses.fields(type(_LOADER.validate_python({"kind": kind})))]
    stored: dict[str, Any] = {"kind": kind}
    for option in options:
        name, separator, value = option.partition("=")
        if not separator:
            raise ValueError(f"{kind}: a parameter must be written name=value, got {option!r}")
        if name not in known or name == "kind":
            raise ValueError(f"{kind} has no parameter {name!r}{_nearest(name, [n for n in known if n != 'kind'])}")
        stored[name] = _value(value)
    try:
        return _LOADER.validate_python(stored)
    except ValidationError as error:
        raise ValueError("; ".join(map(_complaint, error.errors()))) from error


def _complaint(detail: ErrorDetails) -> str:
    own_words = detail.get("ctx", {}).get("error")
    return str(own_words or f"{'.'.join(map(str, detail['loc'][1:]))}: {detail['msg']}, got {detail['input']!r}")


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(sorted(known))}"
