"""What a logger is, and what it is told when it is opened."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

Scalar = str | int | float | bool | None


class Logger(Protocol):
    """What of `lightning_fabric.loggers.Logger` is used here, so that each of Lightning's loggers is one."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """The settings of the run, flat; once, before any figure."""
        ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """A row of figures of one step."""
        ...

    def save(self) -> None:
        """From here on, what was logged survives a kill of this process."""
        ...

    def finalize(self, status: str) -> None:
        """Nothing follows.

        Args:
            status: how the run ended: finished, interrupted, failed or running.
        """
        ...


@runtime_checkable
class Summarising(Protocol):
    """A logger that has a place for what is said once of a whole run; others get its numbers as a row."""

    def log_summary(self, figures: Mapping[str, float | str], step: int) -> None:
        """Figures and words, by name.

        Args:
            figures: a later value replaces an earlier one of that name.
            step: the last of the run.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """A run, as a logger that is opened sees it.

    Args:
        run: its directory.
        id: under which every logger knows it, the same for each process of the run.
        after_step: the last row that an earlier process sent; 0 for none.
    """

    run: Path
    id: str
    after_step: int

    @property
    def name(self) -> str:
        """What to call the run."""
        return self.run.resolve().name


class Opened(NamedTuple):
    """A logger at work.

    Args:
        logger: the logger.
        after_step: the last row that it has; those after it are sent.
    """

    logger: Logger
    after_step: int


class LoggerConfig(Protocol):
    """The settings of a logger: a dataclass whose fields all have defaults."""

    @property
    def kind(self) -> str:
        """Under which it is written; one of a kind logs a run."""
        ...

    def check(self) -> None:
        """Refuse before any work is done.

        Raises:
            ValueError: a package, or an account, that is missing.
        """
        ...

    def open(self, place: Place) -> Opened:
        """Begin to log a run, or go on."""
        ...

    def shown(self, run: Path) -> str:
        """The command that shows what was logged."""
        ...


def require(package: str, kind: str) -> None:
    """Refuse a logger whose package is not installed.

    Raises:
        ValueError: with the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"logger {kind}: needs the package {package}, which is not installed: pip install {package}")
