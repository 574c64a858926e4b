"""What a terminal shows of a training: a bar where there is a screen, plain lines where there is none."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mnemoscope.tasks import Task

SECONDS_BETWEEN_LINES = 10.0
"""Without a screen, a line comes at most this often. Every evaluation leaves a line, above the bar if there is one."""


@final
class Display:
    """Shows steps, loss, accuracy or bits per byte, tokens per second and time left, on stderr.

    Args:
        steps: of the whole run.
        shown: False shows nothing.
    """

    def __init__(self, steps: int, shown: bool) -> None:
        self._steps = steps
        self._console = Console(stderr=True, quiet=not shown)
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task("train", total=steps, figures="")
        self._last_line = time.monotonic()

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start_at(self, step: int) -> None:
        """Count from a step that an earlier process finished."""
        self._bar.reset(self._task, completed=step, total=self._steps, figures="")

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, step: int, figures: Mapping[str, float], tokens_per_second: float, seconds_left: float) -> None:
        """Show the figures of a step: `loss` and what is measured beside it, and those of an evaluation if any.

        Args:
            step: finished optimiser steps.
            figures: a row of metrics.
            tokens_per_second: of training alone.
            seconds_left: until the last step, evaluations not counted.
        """
        shown = {name: value for name, value in figures.items() if is_headline(name)}
        trained = {name: value for name, value in shown.items() if not name.startswith("validation")}
        self._bar.update(self._task, completed=step, figures=_line(trained, tokens_per_second))
        late = self._bar.disable and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        if late or "validation_loss" in figures:
            self._last_line = time.monotonic()
            counted = f"{step:>{len(str(self._steps))}}/{self._steps}"
            self.say(f"{counted}   {_line(shown, tokens_per_second)}   {_clock(seconds_left)} left")


def bounds(task: Task) -> str:
    """What a loss is to be held against: chance, the best without history, and the floor; "" where nobody knows any."""
    known = {"chance": task.chance_loss, "without history": task.memoryless_loss, "floor": task.floor_loss}
    named = [f"{name} {loss:.4f}" for name, loss in known.items() if loss is not None]
    return f"nats per scored {'token' if task.vocab_size else 'number'}: {', '.join(named)}" if named else ""


def is_headline(name: str) -> bool:
    """Whether a figure is shown: those of metrics, remedies and controls are many, and stand in the run directory."""
    controls = ("train_", "validation_accuracy_", "validation_utility", "validation_specificity")
    minor = name.startswith(controls) or name.endswith("_weighted") or name in ("learning_rate", "grad_norm")
    return "." not in name and not minor


def _line(figures: Mapping[str, float], tokens_per_second: float) -> str:
    named = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items()]
    return "   ".join([*named, f"{tokens_per_second:,.0f} tokens/s"])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


@final
class Stopwatch:
    """Wall-clock figures of a training.

    Args:
        earlier_seconds: what earlier processes of the run took.
    """

    def __init__(self, earlier_seconds: float) -> None:
        self._earlier, self._began = earlier_seconds, time.perf_counter()
        self._tokens, self._busy = 0, 0.0

    @property
    def seconds(self) -> float:
        """Since this process began to train."""
        return time.perf_counter() - self._began

    def count(self, tokens: int, seconds: float) -> None:
        """Add a training step."""
        self._tokens += tokens
        self._busy += seconds

    def read(self) -> dict[str, float]:
        """`seconds` of the whole run, and `tokens_per_second` of the training steps since the last reading."""
        rate = self._tokens / max(self._busy, 1e-9)
        self._tokens, self._busy = 0, 0.0
        return {"seconds": self._earlier + self.seconds, "tokens_per_second": rate}
