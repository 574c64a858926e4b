"""The training loop.

Step s sees the batch of `task_rng(seed, "train", s)`, so where a run was stopped and resumed does not show in it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW

from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Task
from mnemoscope.training.auxiliary import auxiliary_losses
from mnemoscope.training.batches import draw, evaluate, figures, in_mode, logits_of
from mnemoscope.training.checkpoint import load_checkpoint, restore
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.journal import Journal, check_start, continue_manifest, describe_process
from mnemoscope.training.loss import is_scored
from mnemoscope.training.nonfinite import NonFiniteLossError, find_origin
from mnemoscope.training.objective import objective_of
from mnemoscope.training.optimiser import build_optimiser, learning_rate, set_learning_rate
from mnemoscope.training.progress import Display, Stopwatch, bounds
from mnemoscope.training.randomness import forked_rng, rng_state, set_rng_state
from mnemoscope.training.stopping import StopSignals


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a training ended.

    Args:
        step: finished optimiser steps.
        exit_state: `interrupted` if a signal stopped it; it can be resumed.
        validation: figures of the last evaluation in this process; empty if there was none.
        checkpoint: the last one; None without a run directory.
        seconds: wall-clock time of this process, evaluations and checkpoints included.
    """

    step: int
    exit_state: Literal["finished", "interrupted"]
    validation: dict[str, float]
    checkpoint: Path | None
    seconds: float


def train(
    model: nn.Module,
    task: Task,
    config: TrainConfig,
    run: RunDirectory | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a model on a task, in place.

    With a run directory, everything that happens is written there, and a run that was interrupted or killed goes
    on to the bit with `resume=True`: weights and metrics are those of a run that was never stopped, on the same
    machine with the same versions and, on a GPU, as far as its kernels are deterministic. SIGINT and SIGTERM end
    the run after the current step, with a checkpoint; a second Ctrl-C raises KeyboardInterrupt at once. The
    caller's random generators, thread count, signal handlers and module modes are found as they were left.

    Args:
        model: int64 tokens (b, t) -> logits (b, t, vocab), or for a task of vectors float32 (b, t, c) -> (b, t,
            outputs); on a CPU or a CUDA device. To resume a run that has no checkpoint yet, it must have its initial
            weights.
        task: what to learn; `mnemoscope.tasks.build_task` makes one.
        config: how.
        run: where to write; None writes nothing.
        resume: go on from the last checkpoint of `run`, or from the beginning if it has none.
        progress: show progress on stderr.

    Raises:
        NonFiniteLossError: a loss or gradient became infinite or NaN; the step was not taken.
        ValueError: a model, task or run directory that does not fit.
    """
    check_start(run, config, resume)
    optimiser = build_optimiser(model, config)
    device = next(model.parameters()).device
    with (
        _threads(config.threads),
        forked_rng(device, config.seed),
        in_mode(model, training=True),
        StopSignals() as stop,
        Display(config.steps, progress) as display,
    ):
        manifest = describe_process(task, config, device)
        checkpoint = None
        if run is not None and resume:
            checkpoint = load_checkpoint(run.checkpoints_path)
            manifest = continue_manifest(run, manifest, display.say)
        if checkpoint is not None:
            restore(checkpoint, model, optimiser, device)
        if run is not None and not run.config_path.exists():
            run.write_config({"train": asdict(config)}, {"train": asdict(config)})
        with Journal(run, manifest, checkpoint, device) as journal:
            if bounds(task):
                display.say(bounds(task))
            return _Loop(model, task, config, optimiser, journal, display).run(stop)


@final
class _Loop:
    """Everything that a step needs."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainConfig,
        optimiser: AdamW,
        journal: Journal,
        display: Display,
    ) -> None:
        self.model, self.task, self.config = model, task, config
        self.optimiser, self.journal, self.display = optimiser, journal, display
        self.objective = objective_of(task)
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.watch = Stopwatch(journal.earlier_seconds)

    def run(self, stop: StopSignals) -> TrainResult:
        """All steps that are left."""
        config, step, validation = self.config, self.journal.after_step, dict[str, float]()
        stopped_by = stop.requested
        self.display.start_at(step)
        while step < config.steps and not stopped_by:
            step += 1
            row = self.take_step(step)
            if self._due(step, config.eval_every):
                validation = evaluate(self.model, self.task, config, self.device)
                row |= validation
            if row:
                self._log(step, row)
            stopped_by = stop.requested  # asked once, so that no stop comes between the question and the checkpoint
            if self._due(step, config.checkpoint_every) or stopped_by:
                self.journal.save(step, self.model, self.optimiser)
        self.journal.stopped_by = stopped_by if step < config.steps else None
        return TrainResult(
            step=step,
            exit_state="interrupted" if self.journal.stopped_by else "finished",
            validation=validation,
            checkpoint=self.journal.checkpoint,
            seconds=self.watch.seconds,
        )

    def take_step(self, step: int) -> dict[str, float]:
        """One optimiser step; returns its figures if they are due."""
        began, config = time.perf_counter(), self.config
        drawn = draw(self.task, config.seed, "train", step, config.batch_size)
        inputs, targets = (part.to(self.device) for part in drawn)
        rng = rng_state(self.device)
        with auxiliary_losses(self.model) as auxiliary:
            logits = logits_of(self.model, inputs)
        loss = self.objective.loss(logits, targets)
        objective = sum(auxiliary, start=loss)
        self.optimiser.zero_grad()
        objective.backward()
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if not torch.isfinite(objective.detach() + norm):
            set_rng_state(self.device, rng)
            origin = find_origin(self.model, inputs)
            raise NonFiniteLossError(step, loss.item(), origin, self.journal.checkpoint)
        if config.grad_clip is not None:
            clip_grads_with_norm_(self.parameters, config.grad_clip, norm)
        rate = learning_rate(step, config)
        set_learning_rate(self.optimiser, rate)
        self.optimiser.step()
        self.watch.count(inputs.shape[:2].numel(), time.perf_counter() - began)
        if not self._due(step, config.log_every):
            return {}
        beside, n_scored = self.objective.beside(logits, targets).item(), int(is_scored(targets).sum())
        measured = figures(loss.item(), beside, n_scored / config.batch_size, self.task, "train")
        if auxiliary:
            measured["auxiliary"] = sum(part.item() for part in auxiliary)
        return measured | {"learning_rate": rate, "grad_norm": norm.item()}

    def _log(self, step: int, row: dict[str, float]) -> None:
        timings = self.watch.read()
        self.journal.write(step, row, timings)
        seconds_per_step = self.watch.seconds / (step - self.journal.after_step)
        seconds_left = seconds_per_step * (self.config.steps - step)
        self.display.update(step, row, timings["tokens_per_second"], seconds_left)

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.config.steps


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
