"""Jobs that take a moment and do what their name says; nothing here imports torch."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LightJob:
    name: str
    place: Path
    threads: int | None = 1

    @property
    def is_finished(self) -> bool:
        return self.place.exists()


def jobs(folder: Path, *names: str) -> Sequence[LightJob]:
    return [LightJob(name=name, place=folder / name) for name in names]


def work(job: LightJob) -> None:
    began = job.place.with_suffix(".began")
    begun_before = began.exists()
    began.touch()
    match job.name:
        case "fails":
            raise RuntimeError("no luck\nat all")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "dies once" if not begun_before:
            os.kill(os.getpid(), signal.SIGKILL)
        case "stops":
            raise KeyboardInterrupt
        case "lasts":
            _last(job)
    job.place.touch()


def _last(job: LightJob) -> None:
    try:
        partial = job.place.with_suffix(".partial")
        partial.write_text(str(os.getpid()))
        partial.rename(job.place.with_suffix(".pid"))
        for _ in range(6000):
            time.sleep(0.1)
    except KeyboardInterrupt:
        job.place.with_suffix(".checkpoint").touch()
        raise
