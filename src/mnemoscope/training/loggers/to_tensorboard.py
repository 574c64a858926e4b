"""TensorBoard: event files, by default in the folder `tensorboard` of the run.

Known limits: TensorBoard holds figures and texts by step and has no place for a summary, so what is said of the whole
run stands at its last step. The table of hyper-parameters needs a figure to compare runs by, and appears with the
first evaluation.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from pydantic import ConfigDict

from mnemoscope.training.loggers.protocol import Opened, Place, require

COMPARED = "validation_loss"


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """Settings of a logger that writes event files.

    Rows after the last one that surely arrived are purged when a run goes on (TensorBoard's `purge_step`), and sent
    again.

    Args:
        folder: where runs get a folder each; None for `tensorboard` in the run's own folder.
        kind: of logger.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    folder: str | None = None
    kind: Literal["tensorboard"] = "tensorboard"

    def check(self) -> None:
        """See `LoggerConfig`."""
        require("tensorboard", self.kind)

    def open(self, place: Place) -> Opened:
        """See `LoggerConfig`."""
        folder = self._of(place.run)
        holds = folder.is_dir() and any("tfevents" in name for name in os.listdir(folder))
        if holds and self.folder is not None and not place.after_step:
            raise ValueError(f"{folder} holds event files of another run; name another folder, or remove it")
        after_step = place.after_step if holds else 0
        return Opened(EventFiles(folder, purge_step=after_step + 1 if holds else None), after_step)

    def shown(self, run: Path) -> str:
        """See `LoggerConfig`."""
        return f"tensorboard --logdir {self._of(run)}"

    def _of(self, run: Path) -> Path:
        return run / "tensorboard" if self.folder is None else Path(self.folder) / run.resolve().name


@final
class EventFiles:
    """Writes events with torch's SummaryWriter.

    Args:
        folder: of the event files.
        purge_step: what earlier files hold of this step and later ones is no longer shown; None for no earlier files.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=purge_step)
        self._params: dict[str, Any] = {}

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """As a table of text at once, and as hyper-parameters with the first evaluation."""
        rows = [f"| {name} | {value} |" for name, value in params.items()]
        self._writer.add_text("config", "\n".join(["| setting | value |", "| --- | --- |", *rows]))
        self._params = {
            name: value if isinstance(value, str | int | float) else str(value) for name, value in params.items()
        }

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One event for each figure."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        if COMPARED in metrics and self._params:
            self._write_hyperparams({COMPARED: metrics[COMPARED]})

    def log_summary(self, figures: Mapping[str, float | str], step: int) -> None:
        """Texts and figures at the last step."""
        for name, value in figures.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)

    def save(self) -> None:
        """Hand all events to the operating system."""
        self._writer.flush()

    def finalize(self, status: str) -> None:
        """Close the file."""
        self._writer.close()

    def _write_hyperparams(self, compared: dict[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        # The writer's own add_hparams opens a second file, and TensorBoard reads the files of a folder one by one.
        for summary in hparams(self._params, compared):
            assert self._writer.file_writer is not None
            self._writer.file_writer.add_summary(summary)
        self._params = {}
