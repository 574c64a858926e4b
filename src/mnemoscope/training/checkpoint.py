"""Checkpoints: complete or absent, checked before they are believed, and never unpickled.

checkpoints/step-00000100/model.safetensors       state_dict of the model; a tied tensor stands under each name
                          optimizer.safetensors   "<parameter>/<name>", "#rng/<device>", and "#beside/<name>": the
                                                  states of remedies, lessons, metrics, callbacks, loss scale
                          state.json              step, checksums of all files, scalars of the optimiser

One that FSDP wrote has, until it is consolidated, folders of shards in place of the two files (see
`mnemoscope.training.sharded`), and is read in the same way:
                          model/, optimizer/      a file of each process
                          beside.safetensors      "#rng/<device>" and "#beside/<name>"
"""

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from mnemoscope.runs import SCHEMA_VERSION, Record, read_record, sha256_of, sync_file, sync_folder, write_record
from mnemoscope.runs.migrations import renamed_tensors
from mnemoscope.runs.reading import schema_of
from mnemoscope.training.randomness import rng_state, set_rng_state
from mnemoscope.training.shards import read_shards
from mnemoscope.training.tensor_files import read_tensors

MODEL, OPTIMISER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
MODEL_SHARDS, OPTIMISER_SHARDS, BESIDE = "model", "optimizer", "beside.safetensors"
KEPT = 2
"""Checkpoints that stay: the newest, and one to fall back on."""

_RNG, _BESIDE = "#rng/", "#beside/"
_SAME = "use the configuration that wrote the checkpoint"

Scalar = bool | int | float | str | None


class CheckpointState(Record):
    """What of a checkpoint is not a tensor.

    Args:
        step: finished optimiser steps.
        sha256: checksum of each tensor file, by its path within the folder.
        scalars: state of the optimiser that is no tensor, as "<parameter>/<name>".
    """

    schema_version: int = SCHEMA_VERSION
    step: int
    sha256: dict[str, str]
    scalars: dict[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose checksums hold, read into memory (CPU)."""

    path: Path
    state: CheckpointState
    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]

    @property
    def step(self) -> int:
        """Finished optimiser steps."""
        return self.state.step

    @property
    def is_sharded(self) -> bool:
        """Whether it lies in shards."""
        return BESIDE in self.state.sha256

    @property
    def rng(self) -> dict[str, Tensor]:
        """States of the generators of the first process, by kind of device."""
        return {key.removeprefix(_RNG): value for key, value in self.optimiser.items() if key.startswith(_RNG)}

    @property
    def beside(self) -> dict[str, Tensor]:
        """What was saved beside model and optimiser, by name."""
        return {key.removeprefix(_BESIDE): value for key, value in self.optimiser.items() if key.startswith(_BESIDE)}


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimiser: Optimizer,
    device: torch.device,
    beside: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint and, once it is complete, remove all but the last two.

    Everything is written to a hidden folder, reaches the disk, and then takes its name: a folder of that name is
    always complete.

    Args:
        folder: `checkpoints/` of the run; made if absent.
        step: finished optimiser steps.
        model: its whole state_dict is saved.
        optimiser: built from named parameters.
        device: whose random generator the model draws from.
        beside: further tensors by name: states of what takes part in the training and is no part of the model.

    Returns:
        the checkpoint's folder.

    Raises:
        ValueError: if the model's state_dict holds something that is not a tensor.
    """
    partial = begin_checkpoint(folder, step)
    tensors, scalars = optimiser_state(optimiser)
    save_file(_apart(model_state(model)), partial / MODEL)
    save_file(_apart(tensors | state_beside(device, beside or {})), partial / OPTIMISER)
    return end_checkpoint(folder, step, (MODEL, OPTIMISER), scalars)


def path_of(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"step-{step:08d}"


def begin_checkpoint(folder: Path, step: int) -> Path:
    """An empty hidden folder for the files of a checkpoint."""
    partial = _partial(folder, step)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def end_checkpoint(folder: Path, step: int, names: Sequence[str], scalars: dict[str, Scalar]) -> Path:
    """Let the files of the hidden folder reach the disk, name it, and remove all but the last two checkpoints."""
    partial, path = _partial(folder, step), path_of(folder, step)
    write_state(partial, step, names, scalars)
    _take_name(partial, path)
    _prune(folder, step)
    return path


def write_state(path: Path, step: int, names: Sequence[str], scalars: dict[str, Scalar]) -> None:
    """Write `state.json`, after the tensor files that it names have reached the disk."""
    for name in names:
        sync_file(path / name)
    sha256 = {name: sha256_of(path / name) for name in names}
    write_record(path / STATE, CheckpointState(step=step, sha256=sha256, scalars=scalars))


def state_beside(device: torch.device, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What stands in a checkpoint beside model and optimiser, by the names that it has there."""
    generators = {_RNG + kind: state for kind, state in rng_state(device).items()}
    return generators | {_BESIDE + name: tensor for name, tensor in beside.items()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint, in whichever form.

    Raises:
        ValueError: if it is damaged.
    """
    return _read(path)


def read_head(path: Path) -> Checkpoint:
    """Read and check one checkpoint, and keep only what stands in it beside model and optimiser.

    Raises:
        ValueError: if it is damaged.
    """
    return _read(path, _nothing)


def load_checkpoint(folder: Path, read: Callable[[Path], Checkpoint] = read_checkpoint) -> Checkpoint | None:
    """Read the newest checkpoint whose checksums hold; say on stderr which ones were passed over, and why.

    Args:
        folder: `checkpoints/` of the run.
        read: reads one of them.

    Returns:
        None if there has never been one.

    Raises:
        ValueError: if there are checkpoints and none holds.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = read(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            print(f"warning: {problem}; falling back to {path.name}", file=sys.stderr)
        return checkpoint
    if problems:
        raise ValueError(
            f"{folder}: no checkpoint can be read: {'; '.join(problems)}; restore one from a copy, "
            "or start the run anew in another folder"
        )
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders of all checkpoints, oldest first; their checksums are not looked at."""
    return sorted((path for path in folder.glob("step-*") if _step_of(path) is not None), key=_order)


def restore(checkpoint: Checkpoint, model: nn.Module, optimiser: Optimizer, device: torch.device) -> None:
    """Put model, optimiser and random generators where they were when the checkpoint was written.

    Raises:
        ValueError: if the checkpoint is of another model or optimiser.
    """
    restore_model(checkpoint, model)
    restore_optimiser(checkpoint, optimiser, {name: value.clone() for name, value in checkpoint.optimiser.items()})
    set_rng_state(device, checkpoint.rng)


def restore_optimiser(checkpoint: Checkpoint, optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser its state: tensors by "<parameter>/<name>", and the scalars of the checkpoint.

    Raises:
        ValueError: if the checkpoint is of another optimiser.
    """
    names = _parameter_names(optimiser)
    state: dict[int, dict[str, Tensor | Scalar]] = {}
    of_parameters = {key: value for key, value in tensors.items() if not key.startswith((_RNG, _BESIDE))}
    for key, value in (of_parameters | checkpoint.state.scalars).items():
        owner, _, name = key.rpartition("/")
        state.setdefault(_index(names, owner, checkpoint), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def restore_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load the weights and buffers of a checkpoint.

    Raises:
        ValueError: if the checkpoint is of another model.
    """
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        problem = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{checkpoint.path}: does not fit the model: {problem}; {_SAME}") from None


def _whole(path: Path, sharded: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    if not sharded:
        return read_tensors(path / MODEL), read_tensors(path / OPTIMISER)
    return read_shards(path / MODEL_SHARDS), read_shards(path / OPTIMISER_SHARDS) | read_tensors(path / BESIDE)


def _nothing(path: Path, sharded: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Only what stands beside model and optimiser."""
    with safe_open(path / (BESIDE if sharded else OPTIMISER), "pt") as file:
        names = [name for name in file.keys() if name.startswith((_RNG, _BESIDE))]  # noqa: SIM118  # no mapping
        return {}, {name: file.get_tensor(name) for name in names}


def _read(
    path: Path, tensors: Callable[[Path, bool], tuple[dict[str, Tensor], dict[str, Tensor]]] = _whole
) -> Checkpoint:
    state = read_record(path / STATE, CheckpointState)
    if state.step != _step_of(path):
        raise ValueError(f"{path / STATE}: says step {state.step}, the folder says otherwise")
    sharded = BESIDE in state.sha256
    for name in state.sha256 if sharded else (MODEL, OPTIMISER):
        if not (path / name).is_file():
            raise ValueError(f"{path / name}: the file is missing")
        if sha256_of(path / name) != state.sha256.get(name):
            raise ValueError(f"{path / name}: the checksum differs from the one in {STATE}, the file is damaged")
    try:
        model, optimiser = _renamed(schema_of(path / STATE), *tensors(path, sharded))
        return Checkpoint(path=path, state=state, model=model, optimiser=optimiser)
    except SafetensorError as error:
        raise ValueError(f"{path}: not safetensors: {error}") from None


def _renamed(
    version: int, model: dict[str, Tensor], optimiser: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both under the names that parameters have today."""
    names = renamed_tensors(model, version)
    owners = {key: key.rpartition("/") for key in optimiser}
    return (
        {names[name]: tensor for name, tensor in model.items()},
        {f"{names.get(owner, owner)}{slash}{name}": optimiser[key] for key, (owner, slash, name) in owners.items()},
    )


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state_dict.

    Raises:
        ValueError: if it holds something that is not a tensor.
    """
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"train: the model's state_dict holds {name}, a {type(value).__name__}; a checkpoint holds tensors "
                "only, so register it as a buffer or drop it from get_extra_state"
            )
    return state


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory. Each name gets a copy, so that the file reads without us.
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.detach().clone().contiguous() if place in seen else tensor.detach().contiguous()
        seen.add(place)
    return apart


def _parameter_names(optimiser: Optimizer) -> list[str]:
    return [name for group in optimiser.state_dict()["param_groups"] for name in group["param_names"]]


def _index(names: list[str], owner: str, checkpoint: Checkpoint) -> int:
    if owner not in names:
        raise ValueError(f"{checkpoint.path}: the optimiser has no parameter {owner}; {_SAME}")
    return names.index(owner)


def optimiser_state(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    """What an optimiser keeps, by "<parameter>/<name>": tensors, and what is none."""
    names = _parameter_names(optimiser)
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Scalar] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{names[index]}/{name}"] = value
            else:
                scalars[f"{names[index]}/{name}"] = value
    return tensors, scalars


def _partial(folder: Path, step: int) -> Path:
    return folder / f".{path_of(folder, step).name}.partial"


def _take_name(partial: Path, path: Path) -> None:
    sync_folder(partial)
    if path.exists():  # a damaged checkpoint that was passed over, and whose step has been reached again
        shutil.rmtree(path)
    partial.rename(path)
    sync_folder(path.parent)


def _prune(folder: Path, step: int) -> None:
    """Keep the last checkpoints up to `step`; later ones are damaged, or the run would have resumed from them."""
    kept = [path for path in list_checkpoints(folder) if _order(path) <= step][-KEPT:]
    for path in [*list_checkpoints(folder), *folder.glob(".step-*.partial")]:
        if path not in kept:
            shutil.rmtree(path)


def _step_of(path: Path) -> int | None:
    match = re.fullmatch(r"step-(\d{8,})", path.name)
    return int(match[1]) if match else None


def _order(path: Path) -> int:
    return _step_of(path) or 0
