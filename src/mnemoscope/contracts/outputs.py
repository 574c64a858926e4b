"""The tensor of what a module returns: a tensor, a tuple, a list, a dictionary, or an object with fields.

Objects with fields are dataclasses and the output classes of Hugging Face models. Where the tensor meant is not the
first part, a site says which with `path::name` or `path::number`.
"""

import copy
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor

PART = "::"
"""Between the path of a module and the part of its output that is meant."""


def first_tensor(output: Any, part: str | None = None) -> Tensor:
    """The tensor of a module's output: itself, or the part named (the first, if None) of a tuple, list or dictionary.

    Raises:
        ValueError: where that part is no tensor; the message lists the parts that are.
    """
    if isinstance(output, Tensor) and part is None:
        return output
    parts = {} if isinstance(output, Tensor) else named_parts(output)
    name = _name(output, parts, part)
    value = None if name is None else parts.get(name)
    if isinstance(value, Tensor):
        return value
    tensors = [f"{PART}{key} {tuple(held.shape)}" for key, held in parts.items() if isinstance(held, Tensor)]
    wanted = "a tensor, or a tuple or dictionary that starts with one" if part is None else f"a tensor as {part!r}"
    way_out = f"name one of its tensors behind its path: {', '.join(tensors)}" if tensors else "choose a submodule"
    raise ValueError(f"a site's module must return {wanted}, got {_described(output, parts)}; {way_out}")


def with_first_tensor(output: Any, value: Tensor, part: str | None = None) -> Any:
    """The output with that tensor replaced; the original stays as it is."""
    if isinstance(output, Tensor):
        return value
    name = _name(output, named_parts(output), part)
    return with_parts(output, lambda key, held: value if key == name else held)


def with_parts(output: Any, change: Callable[[str, Any], Any]) -> Any:
    """A container of the same class with every part changed by its name and value."""
    changed = {name: change(name, value) for name, value in named_parts(output).items()}
    if isinstance(output, tuple):
        values = list(changed.values())
        return type(output)(*values) if hasattr(output, "_fields") else tuple(values)
    if isinstance(output, list):
        return list(changed.values())
    other = copy.copy(output)
    for name, value in changed.items():
        if isinstance(other, MutableMapping):
            other[name] = value
        else:
            object.__setattr__(other, name, value)
    return other


def named_parts(output: Any) -> dict[str, Any]:
    """The parts of a container by name, in order, or by number for tuples and lists; none for anything else."""
    if isinstance(output, (tuple, list)):
        return {str(i): value for i, value in enumerate(output)}
    if isinstance(output, Mapping):
        return {name: value for name, value in output.items() if isinstance(name, str)}
    is_object = (is_dataclass(output) and not isinstance(output, type)) or isinstance(output, SimpleNamespace)
    return dict(vars(output)) if is_object and hasattr(output, "__dict__") else {}


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor of nested containers."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in named_parts(value).values() for tensor in tensors_in(part)]


def _name(output: Any, parts: Mapping[str, Any], part: str | None) -> str | None:
    """The name under which `parts` has the part: fields of named tuples are numbers, which may count from the end."""
    if part is None:
        return next(iter(parts), None)
    if not isinstance(output, (tuple, list)):
        return part
    fields: tuple[str, ...] = getattr(output, "_fields", ())
    if part in fields:
        return str(fields.index(part))
    return str(len(parts) + int(part)) if part.startswith("-") and part[1:].isdigit() else part


def _described(output: Any, parts: Mapping[str, Any]) -> str:
    kinds = ", ".join(type(value).__name__ for value in parts.values())
    return f"{type(output).__name__}({kinds})" if parts else type(output).__name__
