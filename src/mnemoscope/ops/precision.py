"""Which precision computes what: half precision where rounding stays as it is, float32 at least where it would grow.

A rounding grows in what is carried from token to token, in sums over many tokens, and in exponentials of such sums.
`exact` marks the functions that compute those: whatever they are given in bfloat16 or float16 is widened to float32,
autocast is off within, and what they return is wide. `exact_read` marks functions whose first result is read from a
memory: it comes back in the dtype of the query, while the state stays wide. In float32 and float64 without autocast
both marks do nothing.

States are therefore float32 at least whatever the weights are: see `at_least_float32`. The page docs/precision.md says
which parts of a state this concerns.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

HALF = (torch.bfloat16, torch.float16)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, else the dtype itself."""
    return torch.promote_types(dtype, torch.float32)


def exact(form: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors, or of tuples of them, computed in float32 at least; so is what it returns."""

    @functools.wraps(form)
    def wide(*arguments: P.args, **options: P.kwargs) -> R:
        given = _tensors(arguments)
        if _is_exact(given):
            return form(*arguments, **options)
        with torch.autocast(given[0].device.type, enabled=False):
            return form(*widened(arguments), **options)

    return wide


def exact_read(form: Callable[P, R]) -> Callable[P, R]:
    """The same, but the result, or of several the first, comes back in the dtype of the first tensor."""

    @functools.wraps(form)
    def wide(*arguments: P.args, **options: P.kwargs) -> R:
        given = _tensors(arguments)
        if _is_exact(given):
            return form(*arguments, **options)
        with torch.autocast(given[0].device.type, enabled=False):
            found: Any = form(*widened(arguments), **options)
        dtype = given[0].dtype
        return found.to(dtype) if isinstance(found, Tensor) else (found[0].to(dtype), *found[1:])  # pyright: ignore[reportReturnType]

    return wide


@exact_read
def read_states(equation: str, q: Float[Tensor, "..."], states: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A query's sum over a state, as `torch.einsum` writes it, in the dtype of the query."""
    return torch.einsum(equation, q, states)


def widened(value: Any) -> Any:
    """A tensor, or a tuple of whatever is nested in it, with half precision made float32."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in HALF else value
    if not isinstance(value, tuple):
        return value
    parts = [widened(part) for part in value]
    return tuple(parts) if type(value) is tuple else type(value)(*parts)


def _is_exact(tensors: list[Tensor]) -> bool:
    if any(tensor.dtype in HALF for tensor in tensors):
        return False
    device = tensors[0].device.type
    return device == "meta" or not torch.is_autocast_enabled(device)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple) else []
