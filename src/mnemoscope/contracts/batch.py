"""The batch: what a task hands to training and to the examination."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IGNORE = -100
"""Target of a position that is not scored."""

ABOUT = ("distance", "item", "load", "query")
"""What is known of scored positions, under these public names: how many tokens ago the newest token stood that the
answer needs; which of the items to be remembered is asked for, counted from the first; how many items there are; which
question of its sequence it is."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences with the target of every position: tokens, or vectors where a task has no tokens.

    Tasks make batches of NumPy arrays; training and examination turn them into tensors.

    Args:
        inputs: integers of shape (b, t), or numbers of shape (b, t, channels).
        targets: integers of shape (b, t), `IGNORE` where nothing is scored; or numbers of shape (b, t, outputs), NaN
            where nothing is scored. `targets[i, j]` is what the model must predict at position j, so a
            language-modelling task has shifted already.
        about: integers of shape (b, t) by name, -1 where nothing is scored; see `ABOUT`. A task gives those it knows.
    """

    inputs: Any
    targets: Any
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = tuple(self.inputs.shape), tuple(self.targets.shape)
        if shapes[0][:2] != shapes[1][:2] or [len(shape) for shape in shapes] not in ([2, 2], [3, 3]):
            raise ValueError(
                f"Batch: inputs and targets must have one shape (b, t), or be vectors (b, t, ...) over one (b, t), "
                f"got {shapes[0]} and {shapes[1]}; pad targets with {IGNORE} where nothing is scored"
            )
        for name, values in self.about.items():
            if name not in ABOUT or tuple(values.shape) != shapes[0][:2]:
                raise ValueError(
                    f"Batch.about must hold arrays of shape {shapes[0][:2]} named {', '.join(ABOUT)}, got {name!r} of "
                    f"shape {tuple(values.shape)}; leave out what is not known"
                )

    @property
    def size(self) -> int:
        """Number of sequences."""
        return int(self.inputs.shape[0])
