"""Checkpoints of FSDP: every process writes its shards, one of them makes a single file of them.

Complete or absent, and checked, as all checkpoints are: all shards lie in the hidden folder before the first process
sees that nothing is missing, takes every checksum, and gives the folder its name.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from mnemoscope.runs import RunDirectory
from mnemoscope.training.checkpoint import (
    BESIDE,
    MODEL,
    MODEL_SHARDS,
    OPTIMISER,
    OPTIMISER_SHARDS,
    Checkpoint,
    begin_checkpoint,
    end_checkpoint,
    load_checkpoint,
    model_state,
    optimiser_state,
    path_of,
    read_checkpoint,
    read_head,
    restore_optimiser,
    state_beside,
    write_state,
)
from mnemoscope.training.randomness import set_rng_state
from mnemoscope.training.ranks import Ranks
from mnemoscope.training.shards import check_whole, fill_from, shapes_in, write_shards


def save_shards(
    folder: Path,
    step: int,
    model: nn.Module,
    optimiser: Optimizer,
    device: torch.device,
    beside: Mapping[str, Tensor],
    ranks: Ranks,
) -> Path:
    """Write a checkpoint of shards; all processes must call it. See `save_checkpoint`.

    Args:
        folder: `checkpoints/` of the run, on a file system that all machines share; made if absent.
        step: finished optimiser steps.
        model: whose parameters are sharded.
        optimiser: of these.
        device: whose random generator the model draws from.
        beside: further tensors by name, of which the first process's are kept.
        ranks: the processes.

    Returns:
        the checkpoint's folder.

    Raises:
        ValueError: in the first process, where the shards of another are not seen.
        ConnectionError: in the others, where the first failed.
    """
    partial = folder / f".{path_of(folder, step).name}.partial"

    def begin() -> None:
        begin_checkpoint(folder, step)
        for name in (MODEL_SHARDS, OPTIMISER_SHARDS):
            (partial / name).mkdir()

    tensors, scalars = optimiser_state(optimiser)
    ranks.first_says(begin)
    write_shards(partial / MODEL_SHARDS, _apart(model_state(model)))
    write_shards(partial / OPTIMISER_SHARDS, _apart(tensors))

    def end() -> None:
        for name in (MODEL_SHARDS, OPTIMISER_SHARDS):
            check_whole(partial / name)
        save_file(
            {name: tensor.contiguous() for name, tensor in state_beside(device, beside).items()}, partial / BESIDE
        )
        shards = sorted(path.relative_to(partial).as_posix() for path in partial.glob("*/*.safetensors"))
        end_checkpoint(folder, step, (*shards, BESIDE), scalars)

    ranks.first_says(end)
    return path_of(folder, step)


def restore_shards(checkpoint: Checkpoint, model: nn.Module, optimiser: Optimizer, device: torch.device) -> None:
    """Put sharded model, optimiser and random generators where they were; every process reads its part.

    Args:
        checkpoint: its head, of shards (of any number of processes) or of whole files.
        model: whose parameters are sharded.
        optimiser: of these; AdamW.
        device: whose random generator the model draws from.

    Raises:
        ValueError: if the checkpoint is of another model or optimiser.
    """
    path = checkpoint.path
    fill_from(path / MODEL_SHARDS if checkpoint.is_sharded else path, _apart(model_state(model)))
    kept = path / OPTIMISER_SHARDS if checkpoint.is_sharded else path
    shapes, tensors = shapes_in(kept), dict[str, Tensor]()
    for group in optimiser.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            for key in (key for key in shapes if key.rpartition("/")[0] == name):
                same = shapes[key] == parameter.shape
                tensors[key] = torch.zeros_like(parameter) if same else torch.zeros(shapes[key])
    fill_from(kept, _apart(tensors))
    restore_optimiser(checkpoint, optimiser, tensors)
    set_rng_state(device, checkpoint.rng)


def newest_checkpoint(folder: Path, ranks: Ranks) -> Checkpoint | None:
    """The newest that holds, chosen by the first process for all; of sharded weights only the head is read.

    Args:
        folder: `checkpoints/` of the run.
        ranks: the processes, which must all call it.

    Returns:
        None if there has never been one.

    Raises:
        ValueError: in the first process, if there are checkpoints and none holds.
    """
    read = read_head if ranks.is_sharded else read_checkpoint
    found: list[Checkpoint] = []

    def newest() -> int:
        newest = load_checkpoint(folder, read)
        if newest is None:
            return -1
        found.append(newest)
        return newest.step

    step = ranks.first_says(newest)
    if step < 0:
        return None
    return found[0] if found else read(path_of(folder, step))


def consolidate(directory: str | Path) -> Path:
    """Make the two whole files of a run's newest checkpoint out of its shards; a whole one is left as it is.

    The shards are removed when the files are complete: at every moment one of the two forms holds. Needs memory for
    all weights and what the optimiser keeps of them.

    Args:
        directory: of the run.

    Returns:
        the checkpoint's folder.

    Raises:
        ValueError: a run without a checkpoint that holds.
    """
    found = load_checkpoint(RunDirectory(directory).checkpoints_path)
    if found is None:
        raise ValueError(f"{directory}: the run has no checkpoint yet; let it train until checkpoint_every")
    return found.path if not found.is_sharded else _consolidated(found)


def consolidate_checkpoint(path: Path) -> None:
    """The same for one checkpoint of shards, by its folder."""
    _consolidated(read_checkpoint(path))


def _consolidated(found: Checkpoint) -> Path:
    path = found.path
    save_file(found.model, path / MODEL)
    save_file(found.optimiser, path / OPTIMISER)
    write_state(path, found.step, (MODEL, OPTIMISER), found.state.scalars)
    for name in (MODEL_SHARDS, OPTIMISER_SHARDS):
        shutil.rmtree(path / name)
    (path / BESIDE).unlink()
    return path


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As files can hold them: each with memory of its own, and those without numbers whole."""
    from torch.distributed.tensor import DTensor

    owners: dict[int, str] = {}
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            apart[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            continue
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        owner = owners.setdefault(local.untyped_storage().data_ptr(), name) if local.numel() else name
        apart[name] = tensor.detach() if owner == name else tensor.detach().clone()
    return apart
