"""What one forward pass announces: hooks that live only as long as the pass that is looked at."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mnemoscope.contracts import ReadPoint
from mnemoscope.training.metrics.sampling import evenly

SAMPLED_SEQUENCES = 16
SAMPLED_VALUES = 2**22
"""What is kept of one call of a read point: at most so many sequences of the batch, evenly spaced, of together at most
so many values, but at least one sequence."""


class Seen(NamedTuple):
    """One call of a read point, the same sequences of both.

    Args:
        raw: what reached it, before anything that is hooked to it.
        used: what left it; of gates alone, None for other points.
    """

    raw: Tensor
    used: Tensor | None


class Weights(NamedTuple):
    """A layer that the pass called: its path and weights, and what it was given."""

    path: str
    weight: Tensor
    input: Tensor


@dataclass
class Observation:
    """What one forward pass announced.

    Args:
        points: calls by the name of the point and the path of the module that holds it.
        embedding: the first embedding that was called; None where there is none.
        linear: the last linear layer that was called, by its number of outputs.
    """

    points: dict[str, dict[str, list[Seen]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    embedding: Weights | None = None
    linear: dict[int, Weights] = field(default_factory=dict)

    def head(self, n_outputs: int) -> Weights | None:
        """The layer that gave the logits: the last linear one with as many outputs; None where there is none."""
        return self.linear.get(n_outputs)


@contextmanager
def observing(model: nn.Module, points: Set[str], layers: bool) -> Iterator[Observation]:
    """Collects what the model announces within the block; afterwards it has the hooks that it had.

    Observed points hand on what they were given, so that outputs change by no more than the rounding between a fused
    form and the one that forms what is observed.

    Args:
        model: any; points that it does not have are not found.
        points: names of read points.
        layers: whether to look for the embedding and the head.
    """
    observation = Observation()
    handles: list[RemovableHandle] = []
    for path, module in model.named_modules():
        holder, _, name = path.rpartition(".")
        if isinstance(module, ReadPoint) and name in points:
            handles += _watch_point(module, name, observation.points[name][holder])
        elif layers and isinstance(module, nn.Embedding | nn.Linear):
            handles.append(module.register_forward_pre_hook(_note_layer(path, observation), with_kwargs=True))
    try:
        yield observation
    finally:
        for handle in handles:
            handle.remove()


def _watch_point(point: ReadPoint, name: str, calls: list[Seen]) -> list[RemovableHandle]:
    """Hooks before and, for a gate, after all others."""
    if name != "gate":

        def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            calls.append(Seen(_sample(arguments[0]), None))

        return [point.register_forward_pre_hook(note, prepend=True)]
    arrived: list[Tensor] = []

    def arrive(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        arrived.append(_sample(arguments[0]))

    def leave(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        calls.append(Seen(arrived.pop(), _sample(output)))

    return [point.register_forward_pre_hook(arrive, prepend=True), point.register_forward_hook(leave)]


def _note_layer(path: str, observation: Observation) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = (*arguments, *named.values())[0].detach()
        if isinstance(module, nn.Embedding):
            observation.embedding = observation.embedding or Weights(path, module.weight, given)
        elif isinstance(module, nn.Linear):
            observation.linear[module.out_features] = Weights(path, module.weight, given)

    return note


def _sample(announced: Tensor) -> Tensor:
    """A copy of some sequences, so that nothing else of the batch is kept alive."""
    n = announced.shape[0]
    most = max(1, min(SAMPLED_SEQUENCES, SAMPLED_VALUES * n // max(announced.numel(), 1)))
    return announced.detach()[evenly(n, most, announced.device)]
