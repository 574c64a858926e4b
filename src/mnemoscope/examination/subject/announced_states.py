"""The states that a memory announces, formed for a few sequences on the memory alone.

A fused scan never forms the state after every token; a `state` read point does, while someone listens, and these
tensors are the largest of all. So the memory is called again on as many rows of its own input as fit.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.examination.subject.calls import Call, called_again, sequence_of

MAX_STATE_VALUES = 2**24


@torch.no_grad()
def announced_states(
    call: Call, point: nn.Module, max_values: int = MAX_STATE_VALUES
) -> Float[Tensor, "b t *s"] | None:
    """The state after every token, for the first rows of the call.

    Args:
        call: of the memory.
        point: its `state` read point.
        max_values: numbers that the states may hold together.

    Returns:
        None where a single sequence needs more, the input cannot be cut to rows, or the point is not reached.
    """
    try:
        x = sequence_of(call).detach()
        first = _formed(call, point, x[:1, :1])
        n_rows = 0 if first is None else max_values // (first.numel() * x.shape[1])
        return _formed(call, point, x[:n_rows]) if n_rows else None
    except ValueError:
        return None


def _formed(call: Call, point: nn.Module, x: Float[Tensor, "b t d"]) -> Tensor | None:
    seen: list[Tensor] = []

    def see(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(output.detach())

    handle = point.register_forward_hook(see)
    try:
        called_again(call, x)
    finally:
        handle.remove()
    fits = len(seen) == 1 and seen[0].shape[:2] == x.shape[:2]
    return seen[0] if fits else None
