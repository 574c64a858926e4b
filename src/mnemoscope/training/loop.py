"""The training loop.

What a step sees is a function of its number, the seed and the lesson's state, so where a run was stopped and resumed
does not show in it.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import Task
from mnemoscope.training.auxiliary import auxiliary_losses
from mnemoscope.training.batches import in_mode
from mnemoscope.training.beside import figures_of, restore_beside, states_of
from mnemoscope.training.callbacks import Callback, Moment
from mnemoscope.training.checkpoint import restore
from mnemoscope.training.config import TrainConfig, as_json
from mnemoscope.training.journal import Journal, check_start, continue_manifest, describe_process
from mnemoscope.training.lessons import Course, Lesson, LessonConfig, Plain
from mnemoscope.training.machine import Machine, machine_of
from mnemoscope.training.metrics import Metrics, MetricsConfig
from mnemoscope.training.nonfinite import NonFiniteLossError, find_origin
from mnemoscope.training.optimiser import build_optimiser, learning_rate, set_learning_rate
from mnemoscope.training.progress import Display, Stopwatch, bounds
from mnemoscope.training.projection import project_gradients, projected_parameters
from mnemoscope.training.randomness import forked_rng, rng_state, set_rng_state
from mnemoscope.training.ranks import Strategy, joined, was_restarted
from mnemoscope.training.ranks.refusing import refuse_indivisible, uncallable
from mnemoscope.training.remedies import Computed, RemedyConfig, Treatment, treated
from mnemoscope.training.sharded import consolidate_checkpoint, newest_checkpoint, restore_shards
from mnemoscope.training.stopping import StopSignals
from mnemoscope.training.threads import cpu_threads


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
    *,
    remedies: Sequence[RemedyConfig] = (),
    lesson: LessonConfig | None = None,
    callbacks: Sequence[Callback] = (),
    strategy: Strategy | None = None,
) -> TrainResult:
    """Train a model on a task, in place.

    With a run directory, everything that happens is written there, and a run that was interrupted or killed goes
    on to the bit with `resume=True`: weights and metrics are those of a run that was never stopped, on the same
    machine with the same versions and, on a GPU, as far as its kernels are deterministic. SIGINT and SIGTERM end
    the run after the current step, with a checkpoint; a second Ctrl-C raises KeyboardInterrupt at once. The
    caller's random generators, thread count, signal handlers and module modes are found as they were left.

    Where torchrun started several processes, they train together: each on its rows of a step's batch, which is the one
    that a single process would see. The first writes the run directory. Processes that torchrun started again after one
    was lost resume by themselves.

    Args:
        model: int64 tokens (b, t) -> logits (b, t, vocab), or for a task of vectors float32 (b, t, c) -> (b, t,
            outputs); on a CPU or a CUDA device. To resume a run that has no checkpoint yet, it must have its initial
            weights.
        task: what to learn; `mnemoscope.tasks.build_task` makes one.
        config: how.
        run: where to write; None writes nothing.
        resume: go on from the last checkpoint of `run`, or from the beginning if it has none.
        progress: show progress on stderr.
        remedies: what is put on the model for the training, in this order; afterwards it is off again.
        lesson: what a step sees and how the model is run on it; None for whole batches of the task, `Plain`.
        callbacks: called after every step, in this order, by the first process; what is trained does not depend on
            them.
        strategy: of several processes: "ddp" (as None), or "fsdp", which leaves the model's parameters sharded.

    Raises:
        NonFiniteLossError: a loss or gradient became infinite or NaN; the step was not taken.
        ValueError: a model, task or run directory that does not fit, or what several processes cannot divide.
        ConnectionError: another process failed or was killed.
    """
    device = next(model.parameters()).device
    with joined(device, strategy) as ranks:
        lesson = lesson or Plain()
        refuse_indivisible(ranks, model, config, remedies, lesson)
        resumes = bool(ranks.first_says(lambda: _checked(run, config, resume)))
        with (
            cpu_threads(config.threads),
            forked_rng(device, config.seed),
            in_mode(model, training=True),
            treated(model, remedies) as treatments,
            StopSignals() as stop,
            Display(config.steps, progress and ranks.is_first) as display,
            ExitStack() as stack,
        ):
            ranks.prepare(model, treatments)
            optimiser = build_optimiser(model, config, treatments)
            machine = stack.enter_context(machine_of(model, optimiser, config.precision, device))
            taught = lesson.begin(
                Course(model=model, task=task, config=config, device=device, treatments=treatments, ranks=ranks)
            )
            metrics = Metrics(model, config.metrics or MetricsConfig(every=config.steps + 1, names=()))
            manifest = describe_process(task, config, device, ranks)
            checkpoint = None
            if run is not None and resumes:
                checkpoint = newest_checkpoint(run.checkpoints_path, ranks)
                manifest = continue_manifest(run, manifest, display.say)
            if checkpoint is not None:
                (restore_shards if ranks.is_sharded else restore)(checkpoint, model, optimiser, device)
                restore_beside(checkpoint, treatments, taught, metrics, callbacks)
                machine.set_state(checkpoint.beside)
            ranks.seed(config.seed, 0 if checkpoint is None else checkpoint.step, device)
            ranks.set_rng({} if checkpoint is None else checkpoint.beside, device)
            if run is not None and ranks.is_first and not run.config_path.exists():
                run.write_config({"train": as_json(config)}, {"train": as_json(config)})
            with Journal(run, manifest, checkpoint, device, ranks) as journal:
                if bounds(task):
                    display.say(bounds(task))
                return _Loop(taught, treatments, metrics, optimiser, journal, display, callbacks, machine).run(stop)


@final
class _Loop:
    """Everything that a step needs."""

    def __init__(
        self,
        lesson: Lesson,
        treatments: Sequence[Treatment],
        metrics: Metrics,
        optimiser: Optimizer,
        journal: Journal,
        display: Display,
        callbacks: Sequence[Callback],
        machine: Machine,
    ) -> None:
        self.lesson, self.treatments = lesson, treatments
        self.model, self.config, self.ranks = lesson.course.model, lesson.course.config, lesson.course.ranks
        self.optimiser, self.journal, self.display = optimiser, journal, display
        self.metrics, self.callbacks, self.machine = metrics, callbacks, machine
        self.projected = projected_parameters(self.model, self.config)
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.watch = Stopwatch(journal.earlier_seconds)

    def run(self, stop: StopSignals) -> TrainResult:
        """All steps that are left."""
        config, step, validation = self.config, self.journal.after_step, dict[str, float]()
        stopped_by = self.ranks.agreed(stop.requested)
        self.display.start_at(step)
        while step < config.steps and not stopped_by:
            step += 1
            row = self.take_step(step)
            if self._due(step, config.eval_every):
                with self.machine.computing():
                    validation = self.lesson.evaluate()
                row |= validation | self._phase(step, row, validation)
            noted = self._call_back(step, row)
            if row or noted:
                self._log(step, row, noted)
            stopped_by = self.ranks.agreed(
                stop.requested
            )  # asked once, so that no stop comes between the question and the checkpoint
            if self._due(step, config.checkpoint_every) or stopped_by:
                beside = states_of(self.treatments, self.lesson, self.metrics, self.callbacks)
                beside |= self.machine.state() | self.ranks.rng(self.device)
                self.journal.save(step, self.model, self.optimiser, beside)
        self.journal.stopped_by = stopped_by if step < config.steps else None
        self._consolidate(step)
        return TrainResult(
            step=step,
            exit_state="interrupted" if self.journal.stopped_by else "finished",
            validation=validation,
            checkpoint=self.journal.checkpoint,
            seconds=self.watch.seconds,
        )

    def take_step(self, step: int) -> dict[str, float]:
        """One optimiser step; returns its figures if they are due."""
        began = time.perf_counter()
        for treatment in self.treatments:
            treatment.on_step(step, self.config.steps)
        rng = rng_state(self.device)
        with self.machine.computing():
            with auxiliary_losses(self.model) as beside, self.metrics.observing(step):
                computed = self.lesson.forward(step)
            beside += [extra for each in self.treatments if (extra := each.extra_loss(computed)) is not None]
            rows = computed.row_share
            objective = sum((_part(rows, each) for each in beside), start=_part(computed.share, computed.loss))
        norm = self._descend(step, computed, objective, rng)
        with self.machine.computing():
            for taking_part in (*self.treatments, self.lesson):
                taking_part.after_step(computed)
        self.watch.count(round(computed.inputs.shape[:2].numel() / rows), time.perf_counter() - began)
        softmax = self.config.loss == "cross_entropy"
        observed = self.metrics.figures(computed.logits.detach(), computed.targets, softmax)
        if not self._due(step, self.config.log_every):
            return observed
        measured = self.lesson.figures(computed) | figures_of(self.treatments) | observed
        if beside:
            (measured["auxiliary"],) = self.ranks.totals([rows * sum(part.item() for part in beside)])
        return measured | {"learning_rate": learning_rate(step, self.config), "grad_norm": norm.item()}

    def _descend(self, step: int, computed: Computed, objective: Tensor, rng: dict[str, Tensor]) -> Tensor:
        """Backward pass, clipping, projection, step; returns the norm of the gradient before clipping."""
        config = self.config
        self.optimiser.zero_grad()
        self.machine.backward(objective)
        whole = self.ranks.share_gradients(self.parameters, objective.detach())
        self.machine.unscale()
        norm = self.ranks.norm([p.grad for p in self.parameters if p.grad is not None])
        if not torch.isfinite(whole + norm) and not self.machine.overflowed(whole):
            set_rng_state(self.device, rng)
            raise NonFiniteLossError(step, computed.loss.item(), self._origin(computed), self.journal.checkpoint)
        if config.grad_clip is not None:
            clip_grads_with_norm_(self.parameters, config.grad_clip, norm)
        self.metrics.before_projection()
        if config.orthogonal_gradient:
            project_gradients(self.projected, config.orthogonal_gradient, rescale=config.rescale_gradient)
            self.metrics.after_projection()
        set_learning_rate(self.optimiser, learning_rate(step, config), self.treatments)
        self.machine.step()
        return norm

    def _origin(self, computed: Computed) -> str:
        """What became non-finite first."""
        if self.ranks.is_sharded:
            return "not looked for, since weights are sharded; resume with one process or ddp to learn it"
        with self.machine.computing():
            return find_origin(self.model, computed.inputs)

    def _consolidate(self, step: int) -> None:
        """Of a finished run, one file for all shards."""
        path = self.journal.checkpoint
        if self.ranks.is_sharded and path is not None and step == self.config.steps:
            self.ranks.first_says(lambda: consolidate_checkpoint(path))

    def _phase(self, step: int, row: dict[str, float], validation: dict[str, float]) -> dict[str, float]:
        """The grokking phase, of tasks that have an accuracy; in episodes that of the answers after storage."""
        held_out = validation.get("validation_accuracy_memory", validation.get("validation_accuracy"))
        if held_out is None:
            return {}
        fitted = validation.get("train_accuracy_memory", row.get("accuracy"))
        return self.metrics.evaluated(step, held_out, fitted)

    def _call_back(self, step: int, row: dict[str, float]) -> dict[str, float]:
        """What the callbacks have to write."""
        if not (self.callbacks and self.ranks.is_first):
            return {}
        moment = Moment(step=step, steps=self.config.steps, model=self.model, row=row, say=self.display.say)
        with uncallable(self.model) if self.ranks.is_sharded else nullcontext():
            return {name: value for each in self.callbacks for name, value in each.after_step(moment).items()}

    def _log(self, step: int, row: dict[str, float], noted: dict[str, float]) -> None:
        """Write the figures of a step and what callbacks noted; show the former."""
        timings = self.watch.read()
        self.journal.write(step, row | noted, timings)
        if not row:
            return
        seconds_per_step = self.watch.seconds / (step - self.journal.after_step)
        seconds_left = seconds_per_step * (self.config.steps - step)
        self.display.update(step, row, timings["tokens_per_second"], seconds_left)

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.config.steps


def _checked(run: RunDirectory | None, config: TrainConfig, resume: bool) -> bool:
    """Whether the run goes on, which it also does where torchrun started it again; see `check_start`."""
    resume = resume or (was_restarted() and run is not None and run.config_path.exists())
    check_start(run, config, resume)
    return resume


def _part(share: float, loss: Tensor) -> Tensor:
    """This process's part of a mean over the whole batch; for one process the very same tensor."""
    return loss if share == 1 else share * loss
