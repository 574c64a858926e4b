"""What the loop asks of the processes that train together; one process alone answers at once."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from mnemoscope.contracts.processes import Processes

Strategy: TypeAlias = Literal["ddp", "fsdp"]
"""ddp: every process has the whole model; fsdp: each has a shard of every parameter and of its optimiser state."""


class Ranks(ABC):
    """The processes of a training, as one of them sees them. Whatever is not said to be local, all must call together.

    Args:
        here: this process among them.
        strategy: None for one process.
    """

    def __init__(self, here: Processes, strategy: Strategy | None) -> None:
        self.here, self.strategy = here, strategy

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run directory, and speaks. Local."""
        return self.here.is_first

    @property
    def is_sharded(self) -> bool:
        """Whether parameters are sharded, so that only all processes together can call the model. Local."""
        return self.strategy == "fsdp"

    def describe(self) -> str:
        """For a manifest, "" for one process. Local."""
        return "" if self.strategy is None else f", {self.here.count} processes ({self.strategy})"

    @abstractmethod
    def own(
        self, inputs: Shaped[Tensor, "b *i"], targets: Shaped[Tensor, "b *o"]
    ) -> tuple[Shaped[Tensor, "own *i"], Shaped[Tensor, "own *o"]]:
        """This process's rows of a batch; where it has none, one row whose targets are not scored. Local."""

    @abstractmethod
    def totals(self, figures: Sequence[float]) -> list[float]:
        """Sums over the processes, in float64."""

    @abstractmethod
    def prepare(self, model: nn.Module, beside: Sequence[nn.Module]) -> None:
        """Before the optimiser is built: the same weights and buffers everywhere, the first process's; then sharded.

        Args:
            model: what is trained; with FSDP its parameters are replaced by shards, in place.
            beside: modules with weights of their own, which are not sharded.
        """

    @abstractmethod
    def share_gradients(self, parameters: Sequence[nn.Parameter], objective: Tensor) -> Tensor:
        """After the backward pass: every gradient becomes the sum over the processes.

        Args:
            parameters: of the optimiser, in its order.
            objective: this process's part of what is minimised, without its graph.

        Returns:
            the sum of all parts.
        """

    @abstractmethod
    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Of all gradients as one vector."""

    @abstractmethod
    def agreed(self, stop: str | None) -> str | None:
        """The name of a signal that any process was sent; None where none was.

        Args:
            stop: the name of the one that this process was sent.
        """

    @abstractmethod
    def first_says(self, ask: Callable[[], int | None]) -> int:
        """What only the first process does, and the number it finds; all others wait, and fail if it fails.

        Raises:
            ConnectionError: in the others, where the first raised.
        """

    @abstractmethod
    def seed(self, seed: int, step: int, device: torch.device) -> None:
        """Give every process but the first random numbers of its own, for the steps after `step`. Local."""

    @abstractmethod
    def rng(self, device: torch.device) -> dict[str, Tensor]:
        """States of the generators of all processes but the first, by names of a checkpoint."""

    @abstractmethod
    def set_rng(self, kept: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore this process's part of what `rng` gave, if it is there; `kept` may hold more. Local."""


@final
class Alone(Ranks):
    """One process: nothing is divided, and nobody is asked."""

    def __init__(self) -> None:
        super().__init__(Processes(), None)

    def own(
        self, inputs: Shaped[Tensor, "b *i"], targets: Shaped[Tensor, "b *o"]
    ) -> tuple[Shaped[Tensor, "own *i"], Shaped[Tensor, "own *o"]]:
        """The whole batch."""
        return inputs, targets

    def totals(self, figures: Sequence[float]) -> list[float]:
        """The figures themselves."""
        return list(figures)

    def prepare(self, model: nn.Module, beside: Sequence[nn.Module]) -> None:
        """Nothing to do."""
        return

    def share_gradients(self, parameters: Sequence[nn.Parameter], objective: Tensor) -> Tensor:
        """Nothing to do."""
        return objective

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Of all gradients as one vector."""
        return get_total_norm(gradients)

    def agreed(self, stop: str | None) -> str | None:
        """What it was sent."""
        return stop

    def first_says(self, ask: Callable[[], int | None]) -> int:
        """What it finds."""
        return ask() or 0

    def seed(self, seed: int, step: int, device: torch.device) -> None:
        """Nothing to do."""
        return

    def rng(self, device: torch.device) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def set_rng(self, kept: Mapping[str, Tensor], device: torch.device) -> None:
        """Nothing to do."""
        return


ALONE = Alone()
"""What a training has that nothing launched beside others."""


def signal_name(number: int) -> str | None:
    """Of a signal's number; None of 0."""
    return signal.Signals(number).name if number else None
