"""States that outlive a call: taken on, cut off from their past, divided by rows, and kept in checkpoints.

A state is what `init_state` gives: tuples and NamedTuples, nested, of tensors and integers. A tensor whose first axis
follows the batch belongs to the rows; everything else (a count of tokens) is shared by all rows of a state, so rows
stand in one state only where they agree in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

Leaf: TypeAlias = Tensor | int

MANY_TOKENS = 2**20
"""A state that is still growing in proportion to them grows without end."""


@runtime_checkable
class Carrying(Protocol):
    """A model that is read piece by piece, as `mnemoscope.models.Stack` is."""

    def init_state(self, batch: int) -> Any:
        """The state before the first token, for `batch` sequences."""
        ...

    def prefill(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (b, t, vocab) of a piece that follows what `state` has seen, and the state after it."""
        ...


@runtime_checkable
class Sized(Protocol):
    """A model that says how large its state becomes."""

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Bytes of the state after `tokens` tokens."""
        ...


@final
class States:
    """The states of one model.

    Args:
        model: whose states; it has `init_state` and `prefill`.
        where: what needs them, for messages.

    Raises:
        ValueError: a model without the two, or whose states hold something else.
    """

    def __init__(self, model: nn.Module, where: str) -> None:
        if not isinstance(model, Carrying):
            raise ValueError(
                f"{where}: needs a model with init_state(batch) and prefill(tokens, state), got "
                f"{type(model).__name__}; use a Stack, or give it these two methods"
            )
        self.model, self.where = model, where
        one, two = (list(leaves(model.init_state(batch))) for batch in (1, 2))
        self._of_rows = [_shape(first) != _shape(second) for first, second in zip(one, two, strict=True)]

    def start(self, batch: int) -> Any:
        """Nothing seen."""
        return self.model.init_state(batch)

    def read(self, inputs: Shaped[Tensor, "b t *c"], state: Any) -> tuple[Float[Tensor, "b t vocab"], Any]:
        """Logits of a piece that follows what the state has seen, and the state after it."""
        return self.model.prefill(inputs, state)

    def detached(self, state: Any) -> Any:
        """The same state without its past: no gradient goes back through it."""
        return rebuilt(state, [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves(state)])

    def rows(self, state: Any, chosen: Int[Tensor, "rows"]) -> Any:
        """The state of some rows."""
        found = list(leaves(state))
        return rebuilt(state, [self._pick(leaf, of, chosen) for leaf, of in zip(found, self._of_rows, strict=True)])

    def agree(self, state: Any, other: Any) -> bool:
        """Whether the rows of both can stand in one state."""
        pairs = zip(leaves(state), leaves(other), self._of_rows, strict=True)
        return all(_shape(a)[1:] == _shape(b)[1:] if of_rows else _equal(a, b) for a, b, of_rows in pairs)

    def joined(self, state: Any, other: Any) -> Any:
        """The rows of one state, then those of another that agrees with it."""
        pairs = zip(leaves(state), leaves(other), self._of_rows, strict=True)
        return rebuilt(state, [torch.cat([_tensor(a), _tensor(b)]) if of_rows else a for a, b, of_rows in pairs])

    def packed(self, name: str, state: Any) -> dict[str, Tensor]:
        """A state as tensors by name, for a checkpoint."""
        return {f"{name}.{index:03d}": _tensor(leaf).clone() for index, leaf in enumerate(leaves(state))}

    def unpacked(self, name: str, tensors: Mapping[str, Tensor]) -> Any:
        """The state that was packed under a name.

        Raises:
            ValueError: the state of another model.
        """
        template = self.start(1)
        wanted = list(leaves(template))
        names = [f"{name}.{index:03d}" for index in range(len(wanted))]
        kept = [key for key in tensors if key.startswith(f"{name}.")]
        fits = sorted(kept) == names and all(
            tensors[key].ndim == len(_shape(leaf)) for key, leaf in zip(names, wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{self.where}: the checkpoint's state {name} has {len(kept)} parts, the model's state {len(wanted)}, "
                "or their axes differ; resume with the model of the run"
            )
        return rebuilt(template, [_like(leaf, tensors[key]) for key, leaf in zip(names, wanted, strict=True)])

    def grows(self) -> bool:
        """Whether the state never ends growing, as far as the model tells the size of its state."""
        if not isinstance(self.model, Sized):
            return False
        return self.model.state_bytes(1, 2 * MANY_TOKENS) > 1.5 * self.model.state_bytes(1, MANY_TOKENS)

    def _pick(self, leaf: Leaf, of_rows: bool, chosen: Tensor) -> Leaf:
        return _tensor(leaf).index_select(0, chosen.to(_tensor(leaf).device)) if of_rows else leaf


def leaves(state: Any) -> Iterator[Leaf]:
    """The tensors and integers of a state, in order.

    Raises:
        ValueError: a part that is neither, nor a tuple of them.
    """
    if isinstance(state, Tensor | int):
        yield state
    elif isinstance(state, tuple):
        for part in state:
            yield from leaves(part)
    else:
        raise ValueError(
            f"a state that is carried must be made of tuples, tensors and integers, got a {type(state).__name__}; "
            "make init_state give nothing else"
        )


def rebuilt(template: Any, values: Sequence[Leaf]) -> Any:
    """A state of the structure of `template` with other leaves, as many as it has."""
    remaining = iter(values)

    def build(part: Any) -> Any:
        if not isinstance(part, tuple):
            return next(remaining)
        parts = [build(inner) for inner in part]
        return tuple(parts) if type(part) is tuple else type(part)(*parts)

    return build(template)


def _shape(leaf: Leaf) -> tuple[int, ...]:
    return tuple(leaf.shape) if isinstance(leaf, Tensor) else ()


def _tensor(leaf: Leaf) -> Tensor:
    return leaf if isinstance(leaf, Tensor) else torch.tensor(leaf)


def _equal(a: Leaf, b: Leaf) -> bool:
    return torch.equal(_tensor(a), _tensor(b))


def _like(leaf: Leaf, kept: Tensor) -> Leaf:
    return kept.to(leaf.device, leaf.dtype) if isinstance(leaf, Tensor) else int(kept)
