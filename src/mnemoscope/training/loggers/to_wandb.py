"""Weights & Biases: by default offline, into the folder `wandb` of the run; `wandb sync` sends that later.

Known limits: offline, every process of a run leaves a folder of its own under the same id, and `wandb sync` joins them.
Online, rows are sent by a process of wandb's, which ends later than ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from pydantic import ConfigDict

from mnemoscope.training.loggers.protocol import Opened, Place, require

if TYPE_CHECKING:
    from wandb import Run


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Settings of a logger that writes for Weights & Biases.

    A run that goes on has the same id. Online, the server says which row is its last; offline, what was sent is noted
    beside the run.

    Args:
        project: that the run is shown in.
        entity: user or team; None for the account's own.
        mode: "offline" writes files and needs no network; "online" needs an account that is logged in.
        kind: of logger.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    project: str = "mnemoscope"
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    kind: Literal["wandb"] = "wandb"

    def check(self) -> None:
        """See `LoggerConfig`; an account that is not logged in is refused, and nobody is asked for a key."""
        require("wandb", self.kind)
        if self.mode == "offline":
            return
        import wandb

        if not wandb.login(prompt=False):
            raise ValueError(
                "logger wandb: mode='online' needs an account, and none is logged in: run `wandb login`, set "
                "WANDB_API_KEY, or leave mode='offline' and send the run later with `wandb sync`"
            )

    def open(self, place: Place) -> Opened:
        """See `LoggerConfig`."""
        import wandb

        run = wandb.init(
            entity=self.entity,
            project=self.project,
            dir=place.run,
            id=place.id,
            name=place.name,
            mode=self.mode,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False),
        )
        if self.mode == "online":
            return Opened(Stream(run), run.starting_step - 1 if run.resumed else 0)
        earlier = list((place.run / "wandb").glob(f"offline-run-*-{place.id}"))
        return Opened(Stream(run), place.after_step if len(earlier) > 1 else 0)

    def shown(self, run: Path) -> str:
        """See `LoggerConfig`."""
        return f"wandb sync {run / 'wandb'}{'/offline-run-*' if self.mode == 'offline' else ''}"


@final
class Stream:
    """Hands rows to wandb's own process.

    Args:
        run: that has begun.
    """

    def __init__(self, run: "Run") -> None:
        self._run = run

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """The run's config."""
        self._run.config.update(params, allow_val_change=True)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """A row of the run's history, complete as it is."""
        self._run.log(metrics, step=step, commit=True)

    def log_summary(self, figures: Mapping[str, float | str], step: int) -> None:
        """The run's summary."""
        self._run.summary.update(dict(figures))

    def save(self) -> None:
        """Nothing: what was handed over is written by another process, which outlives this one."""

    def finalize(self, status: str) -> None:
        """End the run."""
        self._run.finish(exit_code=0 if status == "finished" else 1)
