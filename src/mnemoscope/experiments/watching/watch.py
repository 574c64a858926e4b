"""The watch itself: when it probes, what it keeps, and how it warns."""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, final

import torch
from torch import Tensor, nn

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.subject.losses import Loss
from mnemoscope.experiments.held_out import Data, as_trained, of_task
from mnemoscope.experiments.watching.alarms import Alarm, Alarms, lines
from mnemoscope.experiments.watching.config import WatchConfig
from mnemoscope.experiments.watching.probe import Probe, Reading
from mnemoscope.tasks import Task
from mnemoscope.training.callbacks import Moment
from mnemoscope.training.config import Loss as TrainedOn


@final
class MemoryWatch:
    """Watches the memories of a model while it is trained, and warns in words where one stops to work.

        watch = MemoryWatch(batches)
        train(model, task, config, callbacks=[watch])     # our loop
        figures = watch.look(model, step, steps)          # any other, after every step

    The model, its gradients, its modes and all randomness are after every probe exactly as before, so what is trained
    is the same to the bit with and without a watch.

    Args:
        batches: the probe: a few batches that the loss understands, at best held-out ones.
        loss: `loss(model, batch)` to one value per sequence; None for next-token cross-entropy of logits.
        sites: path patterns of memories; None for every announced one (see `examine`).
        routes: path patterns of what could replace them; None for every announced one.
        config: how closely to look.
        say: receives every warning as one line; None for what the training loop shows lines with, else stderr.

    Raises:
        ValueError: without batches.
    """

    name = "watch"

    def __init__(
        self,
        batches: Sequence[Any],
        *,
        loss: Loss | None = None,
        sites: Sequence[str] | None = None,
        routes: Sequence[str] | None = None,
        config: WatchConfig | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config or WatchConfig()
        self.warnings: list[Alarm] = []
        """All of them, in order."""
        self.history: deque[Reading] = deque(maxlen=self.config.kept)
        """The last readings, in order."""
        self._probe, self._say = Probe(batches, loss, sites, routes), say
        self._alarms = Alarms(self.config)
        self._began: float | None = None
        self._spent = 0.0

    @property
    def share_of_time(self) -> float:
        """Of the time since the first step, what probes have taken."""
        return self._spent / self._elapsed if self._spent else 0.0

    def look(
        self, model: nn.Module, step: int, steps: int, say: Callable[[str], None] | None = None
    ) -> dict[str, float]:
        """Probe a model after a step, if that is due.

        Args:
            model: in any mode.
            step: finished optimiser steps, from 1.
            steps: of the whole training.
            say: receives warnings, unless the watch has its own way.

        Returns:
            figures for a row of metrics; empty if no probe was due.

        Raises:
            ValueError: where the model has no memory, or batches and loss do not fit.
        """
        self._began = time.perf_counter() if self._began is None else self._began
        if not self._due(step):
            return {}
        began = time.perf_counter()
        reading = self._probe.read(model, step, self.config.margin)
        alarms = self._alarms.judge(reading, steps)
        self.history.append(reading)
        self.warnings += alarms
        for alarm in alarms:
            (self._say or say or _to_stderr)(f"warning: {alarm}")
        self._spent += time.perf_counter() - began
        return reading.figures() | lines(alarms)

    def after_step(self, moment: Moment) -> dict[str, float]:
        """As a callback of `mnemoscope.training.train`."""
        return self.look(moment.model, moment.step, moment.steps, moment.say)

    def state(self) -> dict[str, Tensor]:
        """What a resumed training goes on from: readings, warnings, and who was well."""
        kept = {
            "readings": [asdict(reading) for reading in self.history],
            "warnings": [asdict(alarm) for alarm in self.warnings],
            "alarms": self._alarms.state(),
        }
        return {"json": torch.frombuffer(bytearray(json.dumps(kept).encode()), dtype=torch.uint8)}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`; from the beginning where it is empty.

        Raises:
            ValueError: for the state of something else.
        """
        if not state:
            return
        if set(state) != {"json"}:
            raise ValueError(f"MemoryWatch.set_state: must hold json, got {sorted(state)}; pass what state() gave")
        kept = json.loads(state["json"].cpu().numpy().tobytes())
        self.history.clear()
        self.history.extend(Reading(**reading) for reading in kept["readings"])
        self.warnings = [Alarm(**alarm) for alarm in kept["warnings"]]
        self._alarms.set_state(kept["alarms"])

    def _due(self, step: int) -> bool:
        allowed = self.config.max_share_of_time
        return step % self.config.every == 0 and (allowed is None or self._spent <= allowed * self._elapsed)

    @property
    def _elapsed(self) -> float:
        return 0.0 if self._began is None else time.perf_counter() - self._began


def watch_task(
    task: Task,
    *,
    n_sequences: int = 32,
    config: WatchConfig | None = None,
    say: Callable[[str], None] | None = None,
    trained_on: TrainedOn = "cross_entropy",
) -> MemoryWatch:
    """A watch that probes with validation sequences of a task.

    Args:
        task: that the model is trained on.
        n_sequences: of the probe, at least 8.
        config: how closely to look.
        say: see `MemoryWatch`.
        trained_on: the loss of the training, which the probe then takes too; of tasks of tokens.

    Raises:
        ValueError: a split with fewer than 8 sequences, or a task of vectors whose unit says nothing of its loss.
    """
    held_out = as_trained(of_task(task, Data(), Budget(n_calibration=n_sequences, n_test=n_sequences)), trained_on)
    return MemoryWatch(held_out.calibration, loss=held_out.loss, config=config, say=say)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
