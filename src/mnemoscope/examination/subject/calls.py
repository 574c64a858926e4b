"""Calling a module again, on other inputs: which of its arguments is the sequence, and what has to be cut with it.

Foreign modules are called with more than their sequence: masks of padding (b, t), attention masks (b, h, t, t),
position numbers (b, t) and rotary embeddings (b, t, d). These say something about each token, so they go where their
tokens go. Anything else that holds a tensor is refused, since how to cut it is unknown.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

ABOUT_TOKENS = ("mask", "position")
"""Parts of the names of arguments that say something about each token."""

HISTORY = ("past_key_values", "past_key_value", "cache_params", "layer_past", "state", "cache")
"""Arguments through which a module is given history that no cut of its input can remove."""


class Call(NamedTuple):
    """One call of a module (None for a tap): what went in, and the tensor that came out.

    `part` says which tensor, where a module returns several (see `outputs.first_tensor`).
    """

    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    value: Tensor
    part: str | None = None


class Seen(NamedTuple):
    """Which tokens each row of another input holds: its row of the batch, and the positions there."""

    rows: Int[Tensor, "m"]
    positions: Int[Tensor, "m w"]


def sequence_of(call: Call) -> Float[Tensor, "b t d"]:
    """The sequence a module was called with.

    Raises:
        ValueError: where other tensors were passed that are not known to belong to its tokens, or history was.
    """
    found: list[Tensor] = []
    strange: list[str] = []
    for name, value in named_arguments(call):
        if name in HISTORY and value is not None:
            raise ValueError(
                f"a window needs a module without history of its own, got {type(value).__name__} as {name}; call the "
                "model with use_cache=False"
            )
        if isinstance(value, Tensor) and not _about_tokens(name):
            found.append(value)
        elif isinstance(value, (tuple, list, dict)) and value and not _about_tokens(name):
            strange.append(f"{type(value).__name__} as {name}")
    if len(found) != 1 or found[0].ndim != 3 or strange:
        got = [tuple(tensor.shape) for tensor in found] + strange
        raise ValueError(f"a window needs a module called with one tensor (b, t, d), got {got}")
    return found[0]


def called_again(call: Call, x: Float[Tensor, "m w d"], seen: Seen | None = None) -> Any:
    """The module on another input, called as it was called; its hooks stay out of it.

    Args:
        call: the call to repeat.
        x: in place of the sequence.
        seen: which tokens x holds; None for the first tokens of the same rows, as many as x has.

    Raises:
        ValueError: where an argument about tokens cannot be cut with them.
    """
    assert call.module is not None
    original = sequence_of(call)
    if seen is None and (x.shape[0] != original.shape[0] or x.shape[1] > original.shape[1]):
        _require_nothing_to_cut(call, x)

    def other(name: str, value: Any) -> Any:
        if value is original:
            return x.contiguous()
        return _cut(name, value, original, x, seen) if _about_tokens(name) else value

    args, kwargs = mapped_arguments(call, other)
    return call.module.forward(*args, **kwargs)


def named_arguments(call: Call) -> list[tuple[str, Any]]:
    """Every argument of a call by its name in the module's signature."""
    return [*zip(_positional_names(call), call.args, strict=True), *call.kwargs.items()]


def mapped_arguments(call: Call, change: Callable[[str, Any], Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, each changed by its name and value."""
    args = [change(name, value) for name, value in zip(_positional_names(call), call.args, strict=True)]
    return args, {name: change(name, value) for name, value in call.kwargs.items()}


def _positional_names(call: Call) -> list[str]:
    """From the class, since a replay may have put another `forward` on the module itself."""
    assert call.module is not None
    names: list[str] = []
    for parameter in list(inspect.signature(type(call.module).forward).parameters.values())[1:]:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind == parameter.VAR_POSITIONAL:
            names += [parameter.name] * len(call.args)
    return (names + ["an argument"] * len(call.args))[: len(call.args)]


def _about_tokens(name: str) -> bool:
    return any(part in name for part in ABOUT_TOKENS)


def _require_nothing_to_cut(call: Call, x: Tensor) -> None:
    for name, value in named_arguments(call):
        if _about_tokens(name) and _tensors_in(value):
            raise ValueError(
                f"an input of shape {tuple(x.shape)} needs to be told which tokens it holds, since {name} belongs to "
                "tokens; pass `seen`"
            )


def _tensors_in(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_tensors_in(item) for item in value)
    return isinstance(value, Tensor) and value.ndim > 0


def _cut(name: str, value: Any, original: Tensor, x: Tensor, seen: Seen | None) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_cut(name, item, original, x, seen) for item in value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    n_rows, n_tokens = original.shape[:2]
    square = value.ndim == 4 and tuple(value.shape[-2:]) == (n_tokens, n_tokens)
    by_token = value.ndim >= 2 and value.shape[1] == n_tokens and not ("mask" in name and value.ndim == 3)
    if value.shape[0] not in (1, n_rows) or not (square or by_token):
        raise ValueError(
            f"a window needs {name} of shape (b, t), (b, t, d) or (b, h, t, t) to cut it with its tokens, got "
            f"{tuple(value.shape)} for a sequence of shape {tuple(original.shape)}"
        )
    if seen is None:
        n = x.shape[1]
        return value[..., :n, :n] if square else value[:, :n]
    rows = torch.zeros_like(seen.rows) if value.shape[0] == 1 else seen.rows
    if square:
        chosen = value[rows[:, None, None], :, seen.positions[:, :, None], seen.positions[:, None, :]]
        return chosen.movedim(-1, 1)
    return value[rows[:, None], seen.positions]
