"""Parts of the data that get verdicts of their own: positions that demand memory, the lowest load, the user's choice.

A memory that is used at one position in twenty costs little on average and everything there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

Subset = Callable[[Any], Tensor]
"""`subset(batch)` marks the positions (b, t), or the sequences (b,), that belong."""

ALL = "all"
DEMANDING = "demanding"
LOWEST_LOAD = "lowest load"


def demanding(local_window: int) -> Subset:
    """Positions whose answer stood beyond the local window, for batches that say so (`about["distance"]`)."""
    return lambda batch: torch.as_tensor(batch.about["distance"]) >= local_window


def at_load(load: int) -> Subset:
    """Sequences with so many items to remember (`about["load"]`)."""
    return lambda batch: torch.as_tensor(loads(batch) == load)


def loads(batch: Any) -> Tensor:
    """The load of every sequence, shape (b,): the largest that any of its positions has; -1 where none has one."""
    return torch.as_tensor(batch.about["load"]).amax(1)


def told(batches: Sequence[Any], name: str) -> bool:
    """Whether every batch says this about its positions."""
    return all(name in getattr(batch, "about", {}) for batch in batches)


def known_subsets(batches: Sequence[Any], local_window: int) -> dict[str, Subset]:
    """The subsets that the data themselves name: demanding positions and, of several loads, the lowest."""
    found: dict[str, Subset] = {}
    if told(batches, "distance"):
        found[DEMANDING] = demanding(local_window)
    if told(batches, "load"):
        seen = torch.cat([loads(batch) for batch in batches])
        different = seen[seen >= 0].unique()
        if len(different) > 1:
            found[LOWEST_LOAD] = at_load(int(different[0]))
    return found


def marked(subset: Subset, name: str, batch: Any, n_sequences: int, n_positions: int | None) -> Bool[Tensor, "b t"]:
    """The positions of a batch that belong; one column where the loss knows no positions.

    Raises:
        ValueError: where the subset gives something other than booleans of shape (b, t) or (b,).
    """
    mask = torch.as_tensor(subset(batch)).cpu()
    fits = [(n_sequences,)] if n_positions is None else [(n_sequences,), (n_sequences, n_positions)]
    if mask.dtype != torch.bool or tuple(mask.shape) not in fits:
        wanted = " or ".join(str(shape) for shape in fits)
        raise ValueError(
            f"examine: subset {name!r} must give booleans of shape {wanted} for a batch, got {mask.dtype} of shape "
            f"{tuple(mask.shape)}"
        )
    return mask.unsqueeze(1) if mask.ndim == 1 else mask


def checked(subsets: Mapping[str, Subset] | None) -> dict[str, Subset]:
    """The user's subsets.

    Raises:
        ValueError: a name that is taken.
    """
    for name in subsets or {}:
        if name in (ALL, DEMANDING, LOWEST_LOAD):
            raise ValueError(f"examine: subsets must not be called {name!r}, which the examination names itself")
    return dict(subsets or {})
