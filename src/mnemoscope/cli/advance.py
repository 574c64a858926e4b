"""How far an examination is: a bar where there is a screen, plain lines where there is none."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0
"""Without a screen, a line comes at most this often; every phase begins with one."""

PHASES = {
    "calibrate": "what every site produces",
    "fit": "constants that take the sites' place",
    "probe": "what the reads hold",
    "patch": "states exchanged between runs",
    "test": "effects on held-out sequences",
}


class Advance:
    """Told by `examine` how far it is; writes to stderr, since stdout is for results."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("examine", total=None)
        self._phase, self._began, self._last_line = "", 0.0, 0.0

    def __enter__(self) -> "Advance":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, phase: str, done: float) -> None:
        """Show how much of a phase is done, from 0 to 1."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began, self._last_line = phase, now, now
            described = f"{phase}: {PHASES[phase]}" if phase in PHASES else phase
            self._bar.reset(self._task, total=1, description=described)
            self._line(described)
        self._bar.update(self._task, completed=done)
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._line(f"{phase}: {done:.0%}{self._left(now, done)}")

    def _left(self, now: float, done: float) -> str:
        return "" if not done else f", {clock((now - self._began) * (1 - done) / done)} left"

    def _line(self, text: str) -> None:
        if self._bar.disable:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
