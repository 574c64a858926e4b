"""What is examined, by the words of a command line.

- the folder of a run, or of one of its checkpoints: runs/text, runs/text/checkpoints/step-00000600
- a Hugging Face model, as a folder or as owner/name on the hub (hub:owner/name, where a folder could be meant)
- what a function in a Python file returns, a model, (model, batches) or (model, batches, loss): model.py:build
"""

import difflib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from mnemoscope.contracts.devices import find_device
from mnemoscope.examination import Budget
from mnemoscope.examination.running.ranks import alike, all_ranks
from mnemoscope.examination.subject.losses import Loss
from mnemoscope.experiments.factories import called, functions_in
from mnemoscope.experiments.held_out import BYTES, TASK, Data, HeldOut, as_trained, of_task, read, task_of
from mnemoscope.experiments.huggingface import encoder_of, load_model
from mnemoscope.runs import RunDirectory
from mnemoscope.training import load_run

EXAMINATIONS = Path("examinations")
"""Where examinations of anything but runs are kept, a folder for each."""

HUB = "hub:"

STABLEMAX = "losses are StableMax cross-entropy, as the model was trained; state patching compares plain logits"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, its data, and where its examination belongs.

    Args:
        name: what to call it.
        model: any module.
        batches: those that calibrate first.
        sizes: sequences that calibrate and that test; None where the budget says how many of the batches do.
        loss: None for next-token cross-entropy.
        folder: for the results.
        run: the run it comes from, if any.
        threads: of torch while it is examined; None for as many as there are.
        remarks: what the user should know.
    """

    name: str
    model: nn.Module
    batches: list[Any]
    sizes: tuple[int, int] | None = None
    loss: Loss | None = None
    folder: Path
    run: RunDirectory | None = None
    threads: int | None = None
    remarks: tuple[str, ...] = ()


def subject_of(target: str, data: Data, budget: Budget, *, device: str = "cpu", allow_pickle: bool = False) -> Subject:
    """What a user names.

    Args:
        target: see the top of this file.
        data: what it is examined on; a run has data of its own, and a function may return some.
        budget: how many sequences are wanted.
        device: where the model is put.
        allow_pickle: also load weights that are not safetensors; unpickling runs code that the file holds.

    Raises:
        ValueError: where there is nothing of that name, or it cannot be examined; the message says how to mend it.
    """
    place = find_device(device)
    file, colon, function = target.rpartition(":")
    if colon and file.endswith(".py"):
        subject = _of_factory(Path(file), function, data, budget)
    elif target.endswith(".py") and Path(target).is_file():
        raise ValueError(
            f"examine: {target} is a file; name the function in it that returns the model: "
            f"{', '.join(f'{target}:{name}' for name in functions_in(Path(target))) or 'it has none'}"
        )
    elif not target.startswith(HUB) and Path(target).is_dir():
        subject = _of_folder(Path(target), data, budget, allow_pickle)
    else:
        subject = _of_hub(target, data, budget, allow_pickle)
    subject.model.to(place)
    return subject


def prepared(target: str, data: Data, budget: Budget, *, device: str = "cpu", allow_pickle: bool = False) -> Subject:
    """See `subject_of`; where there are several processes, in all of them or, with the same error, in none."""
    with all_ranks(together=True, device=find_device(device)) as ranks:
        return alike(ranks, lambda: subject_of(target, data, budget, device=device, allow_pickle=allow_pickle))


def of_run(directory: str | Path, data: Data, budget: Budget, checkpoint: Path | None = None) -> Subject:
    """A run, on held-out sequences of its own task unless other data are named.

    Args:
        directory: of the run.
        data: None of a source for the run's own.
        budget: how many sequences are wanted.
        checkpoint: which of its checkpoints, where the results belong then; None for the newest.
    """
    trained = load_run(directory, checkpoint)
    seed = trained.recipe.train.seed if data.seed is None else data.seed
    data = Data(source=data.source, length=data.length, batch=data.batch, seed=seed)
    if data.source is None:
        held_out = of_task(trained.task, data, budget)
    else:
        held_out = _checked(read(data.source, BYTES, data, budget), trained.model, data)
    subject = _with(
        as_trained(held_out, trained.recipe.train.loss),
        name=" ".join(path.resolve().name for path in (Path(directory), checkpoint) if path is not None),
        model=trained.model,
        folder=Path(directory) if checkpoint is None else checkpoint,
        run=RunDirectory.open(directory),
        threads=trained.recipe.train.threads,
    )
    is_stablemax = trained.recipe.train.loss == "stablemax"
    return replace(subject, remarks=(*subject.remarks, STABLEMAX)) if is_stablemax else subject


def run_of_checkpoint(path: Path) -> Path | None:
    """The run that a folder is a checkpoint of; None for any other path."""
    is_checkpoint = re.fullmatch(r"step-\d{8,}", path.name) and path.parent.name == "checkpoints" and path.is_dir()
    return path.parents[1] if is_checkpoint else None


def _of_folder(folder: Path, data: Data, budget: Budget, allow_pickle: bool) -> Subject:
    run = run_of_checkpoint(folder)
    if run is not None:
        return of_run(run, data, budget, folder)
    if (folder / "manifest.json").exists() or not _is_model(folder):
        _refuse_empty(folder)
        return of_run(folder, data, budget)
    return _of_model(str(folder), folder.resolve().name, data, budget, allow_pickle)


def _of_hub(target: str, data: Data, budget: Budget, allow_pickle: bool) -> Subject:
    name = target.removeprefix(HUB)
    forced, parent = name != target, Path(target).parent
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None
    if Path(target).is_file():
        raise ValueError(f"examine: {target} is a file, and nothing that can be examined; {_WHAT}")
    if not is_id or (not forced and parent != Path() and parent.is_dir()):
        raise ValueError(f"examine: there is no {target}{_nearest(target)}; {_WHAT}")
    return _of_model(name, name.replace("/", "--"), data, budget, allow_pickle)


def _of_model(source: str, name: str, data: Data, budget: Budget, allow_pickle: bool) -> Subject:
    wanted = _required(data, source)
    if wanted.startswith(TASK):
        task_of(wanted)
    model = load_model(source, allow_pickle)
    encoder = BYTES if wanted.startswith(TASK) else encoder_of(source, model)
    held_out = _checked(read(wanted, encoder, data, budget), model, data)
    return _with(held_out, name=name, model=model, folder=EXAMINATIONS / name)


def _of_factory(file: Path, function: str, data: Data, budget: Budget) -> Subject:
    made = called(file, function)
    name = f"{file.stem}-{function}"
    if made.batches is not None:
        if data.source is not None:
            raise ValueError(f"examine: {file}:{function} returns batches of its own; leave out --data {data.source}")
        return Subject(name=name, model=made.model, batches=made.batches, loss=made.loss, folder=EXAMINATIONS / name)
    held_out = read(_required(data, f"{file}:{function}"), BYTES, data, budget)
    return _with(_checked(held_out, made.model, data), name=name, model=made.model, folder=EXAMINATIONS / name)


def _with(
    held_out: HeldOut,
    *,
    name: str,
    model: nn.Module,
    folder: Path,
    run: RunDirectory | None = None,
    threads: int | None = None,
) -> Subject:
    n_calibration, n_test = (sum(batch.size for batch in part) for part in held_out[:2])
    unit: float = getattr(held_out.loss, "unit", 1.0)
    scaled = f"losses are squared errors in units of the targets' variance, {unit:.3g}; read them for nats"
    return Subject(
        name=name,
        model=model,
        batches=held_out.calibration + held_out.test,
        sizes=(n_calibration, n_test),
        loss=held_out.loss,
        folder=folder,
        run=run,
        threads=threads,
        remarks=() if getattr(held_out.loss, "kind", "bits") == "bits" else (scaled,),
    )


_WHAT = (
    "give the folder of a run, a Hugging Face model (a folder, or owner/name on the hub), or a function that returns "
    "a model (file.py:function)"
)


def _required(data: Data, subject: str) -> str:
    if data.source is None:
        raise ValueError(
            f"examine: {subject} brings no data; give --data, a text (file, folder, prose) or a task "
            "(task:mqar,n_pairs=4)"
        )
    return data.source


def _checked(held_out: HeldOut, model: nn.Module, data: Data) -> HeldOut:
    """Tokens that the model does not know would end in an error from deep inside it."""
    config: Any = getattr(model, "config", None)
    n_tokens, most = getattr(config, "vocab_size", None), getattr(config, "max_position_embeddings", None)
    tokens = [batch.inputs for batch in held_out.calibration + held_out.test]
    if held_out.loss is not None:
        return held_out
    largest, length = max(int(some.max()) for some in tokens), tokens[0].shape[1]
    if isinstance(n_tokens, int) and largest >= n_tokens:
        raise ValueError(
            f"examine: the model knows {n_tokens} tokens, and {data.source} has token {largest}; use data of fewer "
            "tokens (task:mqar,vocab_size=...), or a text with the model's own tokeniser"
        )
    if isinstance(most, int) and length > most:
        raise ValueError(f"examine: the model takes at most {most} tokens, got {length}; use a shorter --length")
    return held_out


def _is_model(folder: Path) -> bool:
    """Whether a folder's config.json is that of a Hugging Face model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and ("model_type" in config or "architectures" in config)


def _refuse_empty(folder: Path) -> None:
    if not (folder / "config.json").exists():
        raise ValueError(
            f"examine: {folder} holds neither a run (config.json and manifest.json) nor a Hugging Face model "
            f"(config.json with model_type); {_WHAT}"
        )


def _nearest(target: str) -> str:
    parent = Path(target).parent
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    close = difflib.get_close_matches(Path(target).name, beside, n=1)
    return f"; did you mean {str(parent / close[0])!r}?" if close else ""
