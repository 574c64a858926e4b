"""What a training writes into its run directory, from the first manifest to the exit state."""

import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import mnemoscope
from mnemoscope.runs import ExitState, Manifest, MetricWriter, RunDirectory, git_revision
from mnemoscope.tasks import Task
from mnemoscope.training.batches import VALIDATION_SEED
from mnemoscope.training.checkpoint import Checkpoint, path_of, save_checkpoint
from mnemoscope.training.config import TrainConfig, as_json
from mnemoscope.training.ranks import ALONE, Ranks
from mnemoscope.training.sharded import save_shards


@final
class Journal:
    """The files of one process of a training; without a run directory, nothing is written.

    While it is entered the manifest says `running`; on leaving, how it ended. Of several processes the first writes,
    and all write shards.

    Args:
        run: where to; None for nowhere.
        manifest: of this process.
        checkpoint: what this process goes on from; None at the beginning of a run.
        device: the model's.
        ranks: the processes of the training.
    """

    def __init__(
        self,
        run: RunDirectory | None,
        manifest: Manifest,
        checkpoint: Checkpoint | None,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self._manifest, self._device, self._ranks = manifest, device, ranks
        self._run = run if ranks.is_first else None
        self._folder = None if run is None else run.checkpoints_path
        self._streams: list[MetricWriter] = []
        self.stopped_by: str | None = None
        """Name of the signal that ended the training early; None if none did."""
        self.after_step: int = 0 if checkpoint is None else checkpoint.step
        """Finished steps of earlier processes."""
        self.checkpoint: Path | None = None if checkpoint is None else checkpoint.path
        """The last checkpoint that was written or resumed from."""
        self.earlier_seconds: float = 0.0
        """What earlier processes took until `after_step`."""

    def __enter__(self) -> "Journal":
        if self._run is not None:
            earlier = [row["seconds"] for row in self._run.read_timings() if row["step"] <= self.after_step]
            self.earlier_seconds = float(max(earlier, default=0.0))
            self._streams.append(self._run.append_metrics(self.after_step))
            self._streams.append(self._run.append_timings(self.after_step))
            self._run.write_manifest(self._manifest)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream.close()
        if self._run is not None:
            self._run.write_manifest(self._manifest.ending(*self._end(error)))

    def write(self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float]) -> None:
        """Append a row to each stream."""
        for stream, row in zip(self._streams, (metrics, timings), strict=False):
            stream.write(step, row)

    def save(self, step: int, model: nn.Module, optimiser: Optimizer, beside: Mapping[str, Tensor]) -> None:
        """Write a checkpoint, after all rows up to it are on disk; see `save_checkpoint`."""
        if self._folder is None:
            return
        for stream in self._streams:
            stream.sync()
        if self._ranks.is_sharded:
            self.checkpoint = save_shards(self._folder, step, model, optimiser, self._device, beside, self._ranks)
        elif self._ranks.is_first:
            self.checkpoint = save_checkpoint(self._folder, step, model, optimiser, self._device, beside)
        else:
            self.checkpoint = path_of(self._folder, step)

    def _end(self, error: BaseException | None) -> tuple[ExitState, str]:
        if isinstance(error, KeyboardInterrupt):
            return "interrupted", "KeyboardInterrupt: stopped before the step was finished"
        if error is not None:
            return "failed", f"{type(error).__name__}: {error}"
        return ("interrupted", self.stopped_by) if self.stopped_by else ("finished", "")


def check_start(run: RunDirectory | None, config: TrainConfig, resume: bool) -> None:
    """Refuse to start over a run, or to resume what is not there or was another training.

    Raises:
        ValueError: with what is in the way.
    """
    if run is None:
        if resume:
            raise ValueError("train: resume=True needs the run directory to resume from, got run=None")
        return
    if not resume:
        if run.manifest_path.exists():
            raise ValueError(f"{run.path}: holds a run already; pass resume=True to go on, or choose another folder")
        return
    if not run.config_path.exists():
        raise ValueError(f"{run.path}: there is no run to resume, config.json is missing; start it with resume=False")
    passed, written = as_json(config), run.read_config().resolved.get("train")
    if not isinstance(written, dict):
        raise ValueError(f"{run.config_path}: has no settings of a training under resolved.train; nothing to resume")
    written = as_json(TrainConfig()) | written  # a setting that is not there is newer than the run
    differing = [name for name in passed if passed[name] != written[name]]
    if differing:
        raise ValueError(
            f"{run.path}: a run resumes with the settings it began with; different: "
            + ", ".join(f"{name} (was {written.get(name)}, got {passed[name]})" for name in differing)
            + "; pass the old values, or start another run"
        )


def describe_process(task: Task, config: TrainConfig, device: torch.device, ranks: Ranks = ALONE) -> Manifest:
    """The manifest of a training that begins now, in this process."""
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return Manifest(
        kind="training",
        command=list(sys.argv),
        revision=git_revision(Path.cwd()),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "mnemoscope": mnemoscope.__version__,
        },
        device=f"{device}{name}{ranks.describe()}",
        threads=torch.get_num_threads(),
        seeds={"train": config.seed, "validation": VALIDATION_SEED},
        data={**task.manifest()},
        started=datetime.now(UTC),
    )


def continue_manifest(run: RunDirectory, manifest: Manifest, say: Callable[[str], None]) -> Manifest:
    """The manifest of a process that resumes a run; says what may change the last bits of its figures.

    Args:
        run: what is resumed.
        manifest: of this process alone.
        say: receives one line for every setting of the machine that differs from the process before.

    Raises:
        ValueError: if the tokens mean something else than they did.
    """
    if not run.manifest_path.exists():  # killed between the first two files
        return manifest
    previous = run.read_manifest()
    check_tokeniser(run, manifest.data)
    for name in ("revision", "versions", "device", "threads", "data"):
        before, now = getattr(previous, name), getattr(manifest, name)
        if before != now:
            say(f"resuming: {name} changed ({before} -> {now}), so figures may differ in their last bits")
    return manifest.resuming(previous)


def check_tokeniser(run: RunDirectory, data: Mapping[str, object]) -> None:
    """Refuse a task whose tokens mean something else than when the run was trained.

    Args:
        run: with or without a manifest.
        data: what the task says of its data now.

    Raises:
        ValueError: if the digest of the tokeniser differs.
    """
    if not run.manifest_path.exists():
        return
    before, now = (about.get("tokeniser_sha256") for about in (run.read_manifest().data, data))
    if before != now:
        raise ValueError(
            f"{run.path}: the model knows the tokens of the tokeniser with SHA-256 {before}, got {now}: the text or "
            "the package tokenizers has changed, or the cache is another; restore them, or train anew"
        )
