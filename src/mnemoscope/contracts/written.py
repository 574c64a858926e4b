"""Settings written as calls: `name(option=value)`. The grammar is Python's, and nothing is evaluated."""

import ast
import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

Config = TypeVar("Config")


def parse_calls(what: str, text: str, known: Mapping[str, type[Config]]) -> tuple[Config, ...]:
    """Settings of several things, `a, b(option=value)`, in order.

    Args:
        what: is written, for messages: "remedies".
        text: of it; empty for none.
        known: a class of settings that need no argument, by name.

    Raises:
        ValueError: text that is not of this form, an unknown name or option, or an unsuitable value.
    """
    try:
        tree = ast.parse(f"[{text.strip()}]", mode="eval").body
    except SyntaxError:
        raise ValueError(f"{what} {text!r} cannot be read; write for instance {_example(known)!r}") from None
    assert isinstance(tree, ast.List)
    return tuple(_call(what, node, known) for node in tree.elts)


def write_calls(configs: Iterable[Any]) -> str:
    """What `parse_calls` reads as these settings, each under its `kind`; options that have their defaults are left out.

    Args:
        configs: dataclasses with a `kind`, whose other fields all have defaults.
    """
    return ", ".join(_written(config) for config in configs)


def with_options(
    what: str, name: str, start: Config, keywords: Sequence[ast.keyword], skip: tuple[str, ...] = ("kind",)
) -> Config:
    """A dataclass of settings with the options of a call.

    Args:
        what: is written, for messages.
        name: under which it is written.
        start: what holds where nothing is said.
        keywords: of the call.
        skip: fields that are no options.

    Raises:
        ValueError: an unknown option, one given twice, or an unsuitable value.
    """
    assert dataclasses.is_dataclass(start)
    assert not isinstance(start, type)
    known = [field.name for field in dataclasses.fields(start) if field.name not in skip]
    options: dict[str, object] = {}
    for keyword in keywords:
        option = keyword.arg or ast.unparse(keyword)
        if option not in known:
            raise ValueError(f"{what} gives {name} an unknown option {option!r}{nearest(option, known)}")
        if option in options:
            raise ValueError(f"{what} gives {name} the option {option!r} twice; keep one")
        options[option] = _value(what, f"{name}.{option}", keyword.value)
    try:
        # The way a saved configuration takes: what can be written in a line can be written to a file.
        written = json.dumps(dataclasses.asdict(start) | options)
        return TypeAdapter(type(start)).validate_json(written, strict=True)
    except ValidationError as error:
        raise ValueError("; ".join(_complaint(what, name, detail) for detail in error.errors())) from error


def nearest(name: str, known: Iterable[object]) -> str:
    """The end of a refusal: the nearest valid name, and all of them."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(names)}"


def _written(config: Any) -> str:
    start = type(config)()
    names = [field.name for field in dataclasses.fields(config) if field.name != "kind"]
    changed = [name for name in names if getattr(config, name) != getattr(start, name)]
    options = ", ".join(f"{name}={getattr(config, name)!r}" for name in changed)
    return f"{config.kind}({options})" if options else str(config.kind)


def _call(what: str, node: ast.expr, known: Mapping[str, type[Config]]) -> Config:
    match node:
        case ast.Name(id=name):
            keywords: list[ast.keyword] = []
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            pass
        case _:
            raise ValueError(f"{what}: {ast.unparse(node)!r} is neither a name nor name(option=value)")
    if name not in known:
        raise ValueError(f"{what}: unknown {name!r}{nearest(name, known)}")
    return with_options(what, name, known[name](), keywords)


def _value(what: str, option: str, node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        value = node
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(held, int | float | str | None) for held in values):
        raise ValueError(
            f"{what}: {option} must be a number, True, False, None, a string or a tuple of them, got "
            f"{ast.unparse(node)!r}"
        )
    return value


def _complaint(what: str, name: str, detail: ErrorDetails) -> str:
    where, own_words = ".".join(map(str, (name, *detail["loc"]))), detail.get("ctx", {}).get("error")
    return str(own_words or f"{what}: {where}: {detail['msg']}, got {detail['input']!r}")


def _example(known: Mapping[str, Any]) -> str:
    return ", ".join([*known][:2])
