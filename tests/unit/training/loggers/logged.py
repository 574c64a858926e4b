"""A logger that keeps what it is told, runs that are on disk, and what the files of backends hold."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnemoscope.runs import Manifest, RunDirectory
from mnemoscope.training.loggers import Opened, Place
from tests.unit.reporting.samples import examination


@dataclass
class Kept:
    """As Lightning has a logger; fails at step `fails_at`."""

    fails_at: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[int | None, dict[str, float]]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.params = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step == self.fails_at:
            raise OSError(28, "No space left on device")
        self.rows.append((step, metrics))

    def save(self) -> None: ...

    def finalize(self, status: str) -> None:
        self.ends.append(status)

    @property
    def steps(self) -> list[int | None]:
        return [step for step, _ in self.rows]


@dataclass
class Summarised(Kept):
    """One that has a place for a summary."""

    summary: dict[str, float | str] = field(default_factory=dict)

    def log_summary(self, figures: Mapping[str, float | str], step: int) -> None:
        self.summary |= figures


@dataclass(frozen=True)
class Keeping:
    """Settings that open a logger of the test."""

    logger: Kept = field(default_factory=Kept)
    kind: str = "keeping"

    def check(self) -> None: ...

    def open(self, place: Place) -> Opened:
        return Opened(self.logger, place.after_step)

    def shown(self, run: Path) -> str:
        return str(run)


def written_run(path: Path, steps: int = 3) -> RunDirectory:
    run = RunDirectory.create(path)
    settings = {"name": "Written", "model": {"blocks": [{"kind": "delta", "heads": 2}], "tied": True, "rest": []}}
    run.write_config({}, settings)
    run.write_manifest(manifest())
    append(run, 0, range(1, steps + 1))
    return run


def manifest() -> Manifest:
    return Manifest(
        kind="training",
        command=[],
        revision=None,
        versions={"torch": "2"},
        device="cpu",
        threads=1,
        seeds={"train": 3},
        data={},
        started=datetime.now(UTC),
    ).ending("finished")


def append(run: RunDirectory, after_step: int, steps: range) -> None:
    metrics, timings = run.append_metrics(after_step), run.append_timings(after_step)
    for step in steps:
        metrics.write(step, {"loss": 1 / step, "validation_loss": 2 / step})
        timings.write(step, {"seconds": float(step)})
    metrics.close()
    timings.close()


def examine(run: RunDirectory) -> None:
    run.write_examination(examination())


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return found.Reload()


def wandb_records(file: Path) -> list[Any]:
    """The records of a run that was logged offline: a LevelDB log of protocol buffers, 7 bytes of header first."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, part, records = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            records.append(Record.FromString(part))
            part = b""
    return records
