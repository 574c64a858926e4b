"""Tracing one sequence: of a run, with its own tokeniser and its own held-out data, or of any module."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.contracts.devices import find_device
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.subject.losses import Loss
from mnemoscope.examination.tracing import TRACE_BUDGET, Told, Traced, trace_model
from mnemoscope.experiments.held_out import Data, as_trained, of_task
from mnemoscope.experiments.subjects import run_of_checkpoint
from mnemoscope.reporting.trace import write_trace
from mnemoscope.runs import write_record
from mnemoscope.runs.trace import TRACE, Replacement, Trace
from mnemoscope.tasks import Task
from mnemoscope.tasks.text import Text
from mnemoscope.tasks.tokenisers import whole_size
from mnemoscope.training import TrainedRun, load_run
from mnemoscope.training.threads import cpu_threads

PAGE = "trace.html"
N_SEQUENCES = 16
"""Of the test split that are drawn, one of which is traced."""


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    """What is traced, in numbers and in words."""

    batch: Batch
    source: str
    inputs: list[str]
    targets: list[str | None]
    is_text: bool
    warnings: tuple[str, ...] = ()

    @property
    def next_token(self) -> bool:
        """Whether every scored target is the input that follows, and most positions are scored."""
        inputs, targets = (torch.as_tensor(values)[0] for values in (self.batch.inputs, self.batch.targets))
        scored = targets[:-1] != IGNORE
        mostly = 2 * int(scored.sum()) > len(scored)
        return mostly and bool((targets[:-1] == inputs[1:])[scored].all())


def trace(
    model_or_run: nn.Module | str | PathLike[str],
    tokens: str | Sequence[int] | Tensor | None = None,
    *,
    calibration: Sequence[Any] | None = None,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
    replaced_by: Replacement = "optimal_constant",
    budget: Budget = TRACE_BUDGET,
    length: int | None = None,
    index: int = 0,
    device: str = "cpu",
    told: Told = lambda what: None,
) -> Trace:
    """Losses of one sequence token by token, with and without each memory; what each token wrote and read.

    Args:
        model_or_run: a module; or the folder of a run, or of one of its checkpoints.
        tokens: of a module, the sequence (t,). Of a run also a text, for those that were trained on one; None for a
            sequence of its test split.
        calibration: batches of other sequences, at least two: on them the replacements are fitted. Required for a
            module, whose batches are whatever the loss understands; a run has its own.
        loss: of a module, one that knows positions; None for next-token cross-entropy. A run has its own.
        sites: path patterns of memories; None for every announced one (see `examine`).
        replaced_by: what stands in place of a read.
        budget: `n_calibration`, `fit_steps`, `joint_fit_steps` and `seed` count.
        length: most tokens that are traced; None for the length that a run was trained on, and all of a module's.
        index: which of the first sequences of a run's test split, where no tokens are given.
        device: where a run's model is put.
        told: hears what is being done.

    Returns:
        The record; `mnemoscope.reporting.trace.write_trace` draws it.

    Raises:
        ValueError: where nothing can be traced; the message says how to mend it.
    """
    if length is not None and length < 2:
        raise ValueError(f"trace: length must be at least 2 tokens, got {length}")
    began = perf_counter()
    if isinstance(model_or_run, nn.Module):
        subject = type(model_or_run).__name__
        sequence = _of_numbers(_numbers_of(tokens, calibration), length)
        found = trace_model(
            model_or_run,
            sequence.batch,
            calibration or (),
            loss=loss,
            sites=sites,
            replaced_by=replaced_by,
            budget=budget,
            told=told,
        )
        return _record(subject, sequence, found, replaced_by, began)
    if calibration is not None or loss is not None:
        raise ValueError("trace: a run has its own calibration sequences and its own loss; leave out calibration, loss")
    folder = Path(model_or_run)
    run = run_of_checkpoint(folder)
    trained = load_run(folder if run is None else run, None if run is None else folder)
    trained.model.to(find_device(device))
    _refuse_vectors(trained.task, folder)
    seed = trained.recipe.train.seed
    held_out = as_trained(
        of_task(trained.task, Data(seed=seed), replace(budget, n_test=N_SEQUENCES)), trained.recipe.train.loss
    )
    sequence = _sequence(trained, folder, tokens, length, index, held_out.test)
    with cpu_threads(trained.recipe.train.threads):
        found = trace_model(
            trained.model,
            sequence.batch,
            held_out.calibration,
            loss=held_out.loss,
            sites=sites,
            replaced_by=replaced_by,
            budget=budget,
            told=told,
        )
    return _record(f"{folder.resolve().name}, step {trained.step}", sequence, found, replaced_by, began)


def keep_trace(record: Trace, folder: str | Path) -> Path:
    """Write `trace.json` and `trace.html` into a folder, which is made if absent.

    Returns:
        The page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / TRACE, record)
    return write_trace(record, folder / PAGE)


def _sequence(
    trained: TrainedRun,
    folder: Path,
    tokens: str | Sequence[int] | Tensor | None,
    length: int | None,
    index: int,
    test: Sequence[Batch],
) -> _Sequence:
    task, most = trained.task, length or trained.task.length
    if tokens is None:
        return _of_test(task, test, index, length)
    if isinstance(tokens, str):
        return _worded(task, _of_next(_encoded(task, folder, tokens), most), "a text", is_text=True)
    given = _of_next(torch.as_tensor(tokens).tolist(), most)
    read = {*given.batch.inputs[0].tolist(), *given.batch.targets[0].tolist()}
    strange = [token for token in sorted(read) if not 0 <= token < task.vocab_size]
    if strange:
        raise ValueError(f"trace: tokens of this run lie in 0 ... {task.vocab_size - 1}, got {strange[-1]}")
    return _worded(task, given, "given tokens", is_text=isinstance(task, Text))


def _encoded(task: Task, folder: Path, text: str) -> list[int]:
    if not isinstance(task, Text):
        raise ValueError(
            f"trace: {folder} was trained on {type(task).__name__}, whose tokens are no text; leave out the text to "
            "trace a sequence of its test split"
        )
    written = np.frombuffer(text.encode(), np.uint8)
    return [int(token) for token in task.tokeniser.encode(written[: whole_size(written)]).tokens]


def _of_test(task: Task, test: Sequence[Batch], index: int, length: int | None) -> _Sequence:
    rows = [(batch, i) for batch in test for i in range(batch.size)]
    if not 0 <= index < len(rows):
        raise ValueError(f"trace: index must be one of 0 ... {len(rows) - 1}, got {index}")
    batch, i = rows[index]
    one = Batch(inputs=batch.inputs[i : i + 1, :length], targets=batch.targets[i : i + 1, :length])
    if not bool((torch.as_tensor(one.targets) != IGNORE).any()):
        raise ValueError(f"trace: none of the first {length} tokens is scored; use a greater length")
    found = _Sequence(batch=one, source="", inputs=[], targets=[], is_text=False)
    return _worded(task, found, f"sequence {index} of the test split", is_text=isinstance(task, Text))


def _of_numbers(tokens: list[int], length: int | None) -> _Sequence:
    found = _of_next(tokens, length or len(tokens))
    words = [str(int(token)) for token in found.batch.inputs[0]]
    targets: list[str | None] = [str(int(token)) for token in found.batch.targets[0]]
    return replace(found, source="given tokens", inputs=words, targets=targets)


def _of_next(tokens: Sequence[int], length: int) -> _Sequence:
    """Every token but the first is a target."""
    if len(tokens) < 3:
        raise ValueError(f"trace: a sequence must have at least 3 tokens, got {len(tokens)}; give a longer text")
    row = torch.tensor([list(tokens[: length + 1])], dtype=torch.int64)
    left = len(tokens) - row.shape[1]
    cut = (f"the first {row.shape[1]:,} of {len(tokens):,} tokens are traced; --length takes more",) if left else ()
    batch = Batch(inputs=row[:, :-1], targets=row[:, 1:])
    return _Sequence(batch=batch, source="", inputs=[], targets=[], is_text=False, warnings=cut)


def _worded(task: Task, found: _Sequence, source: str, *, is_text: bool) -> _Sequence:
    inputs, targets = found.batch.inputs[0].tolist(), found.batch.targets[0].tolist()
    scored = iter(task.words([token for token in targets if token != IGNORE]))
    words = [None if token == IGNORE else next(scored) for token in targets]
    return replace(found, source=source, inputs=task.words(inputs), targets=words, is_text=is_text)


def _numbers_of(tokens: object, calibration: Sequence[Any] | None) -> list[int]:
    if not calibration:
        raise ValueError(
            "trace: a module needs calibration=, batches of other sequences on which the replacements are fitted"
        )
    if tokens is None or isinstance(tokens, str):
        raise ValueError("trace: a module needs tokens=, a sequence of token numbers; its text is not known here")
    given = torch.as_tensor(tokens)
    given = given[0] if given.ndim == 2 and len(given) == 1 else given
    if given.ndim != 1 or given.is_floating_point():
        raise ValueError(f"trace: tokens must be integers of shape (t,), got {given.dtype} of {tuple(given.shape)}")
    return given.tolist()


def _refuse_vectors(task: Task, folder: Path) -> None:
    if task.vocab_size == 0:
        raise ValueError(f"trace: {folder} was trained on {type(task).__name__}, a task of vectors; only tokens can be")


def _record(subject: str, sequence: _Sequence, found: Traced, replaced_by: Replacement, began: float) -> Trace:
    return Trace(
        subject=subject,
        source=sequence.source,
        replaced_by=replaced_by,
        n_calibration=found.n_calibration,
        length_trained=found.lengths[0] if len(found.lengths) == 1 else None,
        is_text=sequence.is_text,
        next_token=sequence.next_token,
        inputs=sequence.inputs,
        targets=sequence.targets,
        losses=found.losses,
        sites=found.sites,
        warnings=[*sequence.warnings, *found.warnings],
        seconds=perf_counter() - began,
        versions={"python": platform.python_version(), "torch": torch.__version__},
    )
