"""trackio: a local database of runs with a dashboard, or a Hugging Face Space.

Known limits: trackio has no place for a summary, so what is said of the whole run is a row at its last step. It looks
runs up by name, hence each is called by its folder and the beginning of its id. Failures to write are trackio's own
warnings: it drops the rows and goes on.
"""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, final

from pydantic import ConfigDict

from mnemoscope.training.loggers.protocol import Opened, Place, require

if TYPE_CHECKING:
    from trackio import Run


@dataclass(frozen=True, kw_only=True)
class Trackio:
    """Settings of a logger that writes into trackio's database.

    A run that goes on asks the database for its last row, and sends what follows.

    Args:
        project: that the run is shown in.
        space: Hugging Face Space to send to; None for this machine (`TRACKIO_DIR`, or trackio's own folder).
        kind: of logger.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    project: str = "mnemoscope"
    space: str | None = None
    kind: Literal["trackio"] = "trackio"

    def check(self) -> None:
        """See `LoggerConfig`."""
        require("trackio", self.kind)

    def open(self, place: Place) -> Opened:
        """See `LoggerConfig`."""
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        name = f"{place.name}-{place.id[:6]}"
        with redirect_stdout(io.StringIO()):
            run = trackio.init(
                self.project,
                name,
                space_id=self.space,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        if self.space is not None:
            return Opened(Database(run), place.after_step)
        return Opened(Database(run), SQLiteStorage.get_max_step_for_run(self.project, name, run_id=run.id) or 0)

    def shown(self, run: Path) -> str:
        """See `LoggerConfig`."""
        return f"trackio show --project {self.project}"


@final
class Database:
    """Hands rows to a run of trackio, which writes them twice a second.

    Args:
        run: that has begun.
    """

    def __init__(self, run: "Run") -> None:
        self._run = run

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Settings, which go out with the first row."""
        cast(dict[str, Any], self._run.config).update(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """A row."""
        self._run.log(metrics, step=step)

    def log_summary(self, figures: Mapping[str, float | str], step: int) -> None:
        """A row at the last step."""
        self._run.log(dict(figures), step=step)

    def save(self) -> None:
        """Nothing: a run that goes on asks for what arrived."""

    def finalize(self, status: str) -> None:
        """Write what is left."""
        import trackio

        with redirect_stdout(io.StringIO()):
            trackio.finish()
