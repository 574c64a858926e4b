"""Feeding loggers from a run directory: while it is written, or afterwards."""

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import final

from pydantic import Field
from torch import Tensor

from mnemoscope.contracts.processes import launched
from mnemoscope.contracts.written import write_calls
from mnemoscope.runs import SCHEMA_VERSION, Record, RunDirectory, read_record
from mnemoscope.training.callbacks import Moment
from mnemoscope.training.loggers.contents import Figures, hyperparameters, summary
from mnemoscope.training.loggers.protocol import Logger, LoggerConfig, Place, Summarising

LOGGED = "loggers.json"

Say = Callable[[str], None]


class Sent(Record):
    """What one logger has.

    Args:
        written: its settings, as the command line has them.
        step: of the last row.
        summary: SHA-256 of what was said of the whole run; empty if nothing was.
    """

    written: str
    step: int = 0
    summary: str = ""


class Logged(Record):
    """`loggers.json`: where a run is logged. Nothing but loggers reads it; it may be deleted.

    Args:
        id: under which loggers know the run.
        sent: by kind of logger.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    sent: dict[str, Sent] = Field(default_factory=dict)


@final
class Mirror:
    """Shows a run in loggers, row by row, while it is trained; a callback of the training.

        with Mirror(folder, (TensorBoard(), Wandb())) as mirror:
            train_recipe(recipe, folder, callbacks=[mirror])

    A logger that fails is warned of once, in words, and left out from then on; the training goes on. Of several
    processes only the first logs.

    Args:
        run: the run's directory, which may not exist yet.
        loggers: at most one of a kind.
        say: receives warnings while no training shows them; None for stderr.

    Raises:
        ValueError: two of a kind, a package that is missing, or an account that is not logged in.
    """

    name = "loggers"

    def __init__(self, run: str | Path, loggers: Sequence[LoggerConfig], say: Say | None = None) -> None:
        kinds = [config.kind for config in loggers]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"loggers: each may stand once, got {', '.join(kinds)}; leave one out")
        self._configs = list(loggers) if launched().is_first else []
        for config in self._configs:
            config.check()
        self.warnings: list[str] = []
        """What failed, in words."""
        self._said = 0
        self._run, self._say = RunDirectory(run), say or _to_stderr
        self._feeds: list[_Feed] | None = None
        self._figures = Figures(self._run)

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._feeds is not None:
            self._try(self.catch_up, self._say)
            self._try(self._close, self._say)

    def after_step(self, moment: Moment) -> dict[str, float]:
        """Sends the rows that were written up to the step before."""
        if self._configs:
            self._try(self.catch_up, moment.say)
        return {}

    def state(self) -> dict[str, Tensor]:
        """Nothing: what was sent is noted as it is sent, not when a checkpoint is written."""
        return {}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to restore."""

    def catch_up(self) -> int:
        """Send all rows that are written and not sent yet; the number of steps among them."""
        if self._feeds is None:
            self._feeds = self._open()
            self._note()
        rows = list(self._figures.coming())
        if rows:
            for feed in self._feeds:
                feed.rows(rows)
            self._note()
        return len(rows)

    def _try(self, work: Callable[[], object], say: Say) -> None:
        """What the files of the run do not allow is a warning, and the end of all loggers."""
        try:
            work()
        except (OSError, ValueError) as error:
            self.warnings.append(f"warning: loggers are off: {error}")
            self._configs, self._feeds = [], None
        for line in self.warnings[self._said :]:
            say(line)
        self._said = len(self.warnings)

    def _open(self) -> "list[_Feed]":
        logged = read_logged(self._run.path) or Logged(id=uuid.uuid4().hex[:12])
        self._id, self._others = logged.id, logged.sent
        settings = hyperparameters(self._run)
        feeds: list[_Feed] = []
        for config in self._configs:
            sent = self._others.get(config.kind, Sent(written=""))
            sent = sent.model_copy(update={"written": write_calls([config])})
            place = Place(run=self._run.path, id=logged.id, after_step=sent.step)
            feeds.append(_Feed(config, place, sent, self.warnings))
            feeds[-1].open(settings)
        return feeds

    def _close(self) -> None:
        exit_state = self._run.read_manifest().exit_state
        for feed in self._feeds or []:
            feed.close(summary(self._run, exit_state), exit_state)
        self._note()

    def _note(self) -> None:
        """What was sent survives a kill of this process; after a loss of power, rows may be sent twice."""
        sent = self._others | {feed.config.kind: feed.sent for feed in self._feeds or [] if feed.was_open}
        path = self._run.path / LOGGED
        temporary = path.with_name(f".{LOGGED}.{os.getpid()}.partial")
        temporary.write_bytes(Logged(id=self._id, sent=sent).model_dump_json(indent=2).encode() + b"\n")
        os.replace(temporary, path)


@final
class _Feed:
    """One logger, which may fail."""

    def __init__(self, config: LoggerConfig, place: Place, sent: Sent, warnings: list[str]) -> None:
        self.config, self.sent, self.was_open = config, sent, False
        self._place, self._warnings = place, warnings
        self._logger: Logger | None = None

    def open(self, settings: Mapping[str, object]) -> None:
        self._guarded(lambda: self._begin(settings))

    def rows(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        self._guarded(lambda: self._send(rows))

    def close(self, told: Mapping[str, float | str], exit_state: str) -> None:
        self._guarded(lambda: self._summarise(told))
        self._guarded(lambda: self._finalize(exit_state))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._logger = None
            why = " ".join(str(error).split())
            self._warnings.append(
                f"warning: logger {self.config.kind} failed and is off ({type(error).__name__}: {why}); the run is not "
                f"touched, and `mnemoscope log {self._place.run}` sends what is missing"
            )

    def _begin(self, settings: Mapping[str, object]) -> None:
        self._logger, after_step = self.config.open(self._place)
        self.was_open, self.sent = True, self.sent.model_copy(update={"step": after_step})
        self._logger.log_hyperparams(dict(settings))

    def _send(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        if self._logger is None:
            return
        for step, figures in rows:
            if step > self.sent.step:
                self._logger.log_metrics(dict(figures), step)
        self._logger.save()
        self.sent = self.sent.model_copy(update={"step": max(self.sent.step, rows[-1][0])})

    def _summarise(self, told: Mapping[str, float | str]) -> None:
        digest = hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode()).hexdigest()
        if self._logger is None or digest == self.sent.summary:
            return
        if isinstance(self._logger, Summarising):
            self._logger.log_summary(told, self.sent.step)
        elif numbers := {name: float(value) for name, value in told.items() if not isinstance(value, str)}:
            self._logger.log_metrics(numbers, self.sent.step)
        self.sent = self.sent.model_copy(update={"summary": digest})

    def _finalize(self, exit_state: str) -> None:
        if self._logger is not None:
            self._logger.finalize(exit_state)


def read_logged(run: Path) -> Logged | None:
    """Where a run is logged; None if it is not.

    Raises:
        ValueError: a damaged file.
    """
    return read_record(run / LOGGED, Logged) if (run / LOGGED).exists() else None


def logged_to(run: Path) -> list[str]:
    """The loggers of a run, as the command line has them."""
    logged = read_logged(run)
    return [] if logged is None else [sent.written for sent in logged.sent.values()]


def send_run(run: str | Path, loggers: Sequence[LoggerConfig], say: Say | None = None) -> int:
    """Show a run that is on disk in loggers: its settings, rows they do not have, how it ended, and its verdicts.

    Args:
        run: its directory.
        loggers: at most one of a kind.
        say: receives warnings; None for stderr.

    Returns:
        number of loggers that failed, each of which was warned of.

    Raises:
        ValueError: no run, or see `Mirror`.
    """
    with Mirror(RunDirectory.open(run).path, loggers, say) as mirror:
        mirror.catch_up()
    return len(mirror.warnings)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
