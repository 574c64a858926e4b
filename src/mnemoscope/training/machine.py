"""Where and in which precision a training computes.

    32-true      as torch does in float32
    bf16-mixed   matrix products in bfloat16, weights and their updates in float32
    16-mixed     the same in float16, with a loss that is scaled up so that small gradients survive; CUDA only
    bf16-true    weights and all else in bfloat16

In 32-true on one device nothing stands between the loop and torch. The rest is done by Lightning Fabric, which is
imported only then: its import takes seconds. The model that hooks sit on, that checkpoints hold and that the caller has
is never a wrapper.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnemoscope.training.config import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SCALER = "machine/scaler"
SCALER_FIGURES = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


class Machine(ABC):
    """What of a step depends on the precision and the device."""

    @abstractmethod
    def computing(self) -> AbstractContextManager[object]:
        """Around everything that runs the model or takes a loss of it, and nothing else."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """The backward pass, of a scaled loss where the precision needs one."""

    @abstractmethod
    def unscale(self) -> None:
        """After the backward pass, once: gradients are those of the loss from here on."""

    @abstractmethod
    def overflowed(self, loss: Tensor) -> bool:
        """Whether gradients that are not finite come from a scale that was too large, so that `step` leaves one out.

        Args:
            loss: what was minimised, without its graph.
        """

    @abstractmethod
    def step(self) -> None:
        """The optimiser's step."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs, by names of a checkpoint."""
        return {}

    def set_state(self, kept: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave; `kept` may hold more."""
        return


@contextmanager
def machine_of(model: nn.Module, optimiser: Optimizer, precision: Precision, device: torch.device) -> Iterator[Machine]:
    """The machine of one training; the model's weights are converted where the precision says so.

    Args:
        model: on its device.
        optimiser: of its parameters.
        precision: of the training.
        device: the model's.

    Raises:
        ValueError: where the device has no such precision.
    """
    if precision == "32-true":
        yield _Direct(optimiser)
        return
    if precision == "16-mixed" and device.type != "cuda":
        raise ValueError(
            f"train: TrainConfig.precision 16-mixed needs a CUDA device, got {device}; use bf16-mixed, or move the "
            "model"
        )
    fabric = _fabric(precision, device)
    handle = None
    if precision == "bf16-true":  # vectors come in float32
        handle = model.register_forward_pre_hook(lambda _, given: fabric.strategy.precision.convert_input(given))
    try:
        yield _ByFabric(fabric, model, optimiser)
    finally:
        if handle is not None:
            handle.remove()


@final
class _Direct(Machine):
    """Nothing in between."""

    def __init__(self, optimiser: Optimizer) -> None:
        self._optimiser = optimiser

    def computing(self) -> AbstractContextManager[object]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def unscale(self) -> None:
        return

    def overflowed(self, loss: Tensor) -> bool:
        return False

    def step(self) -> None:
        self._optimiser.step()


@final
class _ByFabric(Machine):
    """By Lightning Fabric's strategy and precision; the model stays unwrapped, so its context is entered by hand."""

    def __init__(self, fabric: "Fabric", model: nn.Module, optimiser: Optimizer) -> None:
        self._fabric, self._optimiser = fabric, optimiser
        _, self._stepping = cast(Any, fabric.setup(model, optimiser, move_to_device=False))

    @property
    def _precision(self) -> Any:
        return self._fabric.strategy.precision

    def computing(self) -> AbstractContextManager[object]:
        return self._fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(loss)

    def unscale(self) -> None:
        self._precision.unscale_gradients(self._optimiser)

    def overflowed(self, loss: Tensor) -> bool:
        scaling: dict[str, float] = self._precision.state_dict()
        return bool(torch.isfinite(loss)) and scaling.get("scale", 0.0) > 1

    def step(self) -> None:
        self._stepping.step()

    def state(self) -> dict[str, Tensor]:
        scaling: dict[str, float] = self._precision.state_dict()
        if not scaling:
            return {}
        return {SCALER: torch.tensor([scaling[name] for name in SCALER_FIGURES], dtype=torch.float64)}

    def set_state(self, kept: Mapping[str, Tensor]) -> None:
        if SCALER in kept:
            figures = dict(zip(SCALER_FIGURES, kept[SCALER].tolist(), strict=True))
            whole = {name: int(figures[name]) for name in ("growth_interval", "_growth_tracker")}
            self._precision.load_state_dict(figures | whole)


def _fabric(precision: Precision, device: torch.device) -> "Fabric":
    """A Fabric of one device, which says nothing."""
    from lightning_fabric import Fabric

    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        devices = [device.index or 0] if device.type == "cuda" else 1
        return Fabric(accelerator=device.type, devices=devices, precision=precision)
    finally:
        logger.setLevel(level)
