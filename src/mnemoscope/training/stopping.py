"""Stopping on request: Ctrl-C, and the signal that a scheduler sends before it kills.

On Windows nobody sends SIGTERM to a process (to terminate is to kill there); Ctrl-Break arrives as SIGBREAK.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import final

REQUESTS = ("SIGINT", "SIGTERM", "SIGBREAK")


def requests() -> list[signal.Signals]:
    """The signals that ask for a stop, of those that this system has."""
    return [signal.Signals[name] for name in REQUESTS if name in signal.Signals.__members__]


@final
class StopSignals:
    """While it is entered, the first of `requests` is a request, and a Ctrl-C after it raises KeyboardInterrupt.

    Outside the main thread signals cannot be handled, and nothing is changed.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        """Name of the signal that asked for a stop; None as long as none did."""
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in requests():
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # pyright: ignore[reportArgumentType]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
