"""A watch as a callback of Lightning, as `lightning` or as `pytorch_lightning`.

    trainer = Trainer(callbacks=[lightning_callback(watch)])

Figures of every probe are logged by the module's `log_dict`. Checkpoints of Lightning keep the watch's state.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import torch
from torch import nn

from mnemoscope.experiments.watching.watch import MemoryWatch

Package = Literal["lightning.pytorch", "pytorch_lightning"]

PACKAGES: tuple[Package, ...] = ("lightning.pytorch", "pytorch_lightning")


def lightning_callback(
    watch: MemoryWatch,
    *,
    subject: Callable[[Any], nn.Module] | None = None,
    package: Package | None = None,
) -> Any:
    """A `Callback` that looks at the model after every optimiser step, on the main process alone.

    Args:
        watch: says what is looked at, and keeps what is found.
        subject: from the LightningModule to the model that the watch's loss is called with, for instance
            `lambda module: module.model`; None for the LightningModule itself.
        package: whose Trainer runs it; None for the one that is imported already, else the one that is there.

    Raises:
        ImportError: where neither package is installed.
    """
    library = _library(package)

    class WatchCallback(library.Callback):
        """See `lightning_callback`."""

        def __init__(self) -> None:
            super().__init__()
            self.watch, self._looked_at = watch, 0

        @property
        def state_key(self) -> str:
            """Under which a checkpoint keeps the state."""
            return "mnemoscope.watch"

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            """Called by the Trainer."""
            step = trainer.global_step
            if step == self._looked_at or not trainer.is_global_zero:
                return
            self._looked_at = step
            model = pl_module if subject is None else subject(pl_module)
            figures = watch.look(model, step, int(min(trainer.estimated_stepping_batches, sys.maxsize)))
            if figures:
                pl_module.log_dict(figures, on_step=True, on_epoch=False, rank_zero_only=True)

        def state_dict(self) -> dict[str, Any]:
            """Kept in checkpoints."""
            return {name: tensor.tolist() for name, tensor in watch.state().items()}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Go on from a checkpoint."""
            watch.set_state({name: torch.tensor(values, dtype=torch.uint8) for name, values in state_dict.items()})

    return WatchCallback()


def _library(package: Package | None) -> Any:
    """The package that is asked for, or imported, or installed."""
    wanted = [package] if package is not None else sorted(PACKAGES, key=lambda name: name not in sys.modules)
    for name in wanted:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ImportError(
        f"lightning_callback: needs one of the packages {', '.join(wanted)}, none of which can be imported; install "
        "one with pip install lightning"
    )
