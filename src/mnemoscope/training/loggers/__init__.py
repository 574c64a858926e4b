"""Loggers: a run, as it is written into its directory, shown in TensorBoard, trackio or Weights & Biases too.

The directory is the truth: a logger is fed from its files, so what is shown can always be sent again. May live here:
one file per logger, `to_<name>`, which imports its package when it is opened; what feeds them. May import: what
`training` may.
"""

from collections.abc import Mapping
from typing import TypeAlias

from mnemoscope.contracts.written import nearest, parse_calls, write_calls
from mnemoscope.training.loggers.mirror import Mirror, send_run
from mnemoscope.training.loggers.protocol import Logger, LoggerConfig, Opened, Place, Summarising
from mnemoscope.training.loggers.to_tensorboard import TensorBoard
from mnemoscope.training.loggers.to_trackio import Trackio
from mnemoscope.training.loggers.to_wandb import Wandb

AnyLogger: TypeAlias = TensorBoard | Trackio | Wandb

LOGGERS: Mapping[str, type[AnyLogger]] = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb}
"""By the name under which each is written."""

__all__ = [
    "LOGGERS",
    "AnyLogger",
    "Logger",
    "LoggerConfig",
    "Mirror",
    "Opened",
    "Place",
    "Summarising",
    "TensorBoard",
    "Trackio",
    "Wandb",
    "nearest",
    "parse_loggers",
    "send_run",
    "write_calls",
]


def parse_loggers(text: str) -> tuple[AnyLogger, ...]:
    """Loggers as the command line has them: `tensorboard, wandb(mode='offline')`; none for an empty text.

    Raises:
        ValueError: an unknown name or option, or an unsuitable value.
    """
    return parse_calls("loggers", text, LOGGERS)
