"""Tensors that processes hold in shards, in files of safetensors: every process writes what it holds.

The form is that of torch.distributed.checkpoint with its Hugging Face storage: a file for each process, whose header
says where in the whole each tensor begins. The library's usual storage pickles its metadata; this one does not, and
reads back under any number of processes.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write DTensors and what all processes hold alike; all processes must call it, with the same names.

    Args:
        folder: exists, and is seen by all processes.
        tensors: by name; no two may share memory.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageWriter, save

    save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def fill_from(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill DTensors and others, in place, with what files of safetensors hold, in shards or whole.

    All processes must call it, with the same names.

    Raises:
        ValueError: a tensor that is not there, or has another shape.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load

    there = shapes_in(folder)
    for name, tensor in tensors.items():
        if there.get(name) != tensor.shape:
            got = "none" if name not in there else tuple(there[name])
            raise ValueError(
                f"{folder}: must hold {name} of shape {tuple(tensor.shape)}, got {got}; use the configuration that "
                "wrote the checkpoint"
            )
    load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)))


def read_shards(folder: Path) -> dict[str, Tensor]:
    """Everything that a folder of shards holds, whole, in memory (CPU); one process suffices.

    Raises:
        ValueError: files that are damaged, or do not make a whole.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader, TensorStorageMetadata, load

    check_whole(folder)
    reader = HuggingFaceStorageReader(str(folder))
    whole = {
        name: torch.empty(about.size, dtype=about.properties.dtype)
        for name, about in reader.read_metadata().state_dict_metadata.items()
        if isinstance(about, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        load(dict(whole), storage_reader=reader, no_dist=True)
    return whole


def shapes_in(folder: Path) -> dict[str, torch.Size]:
    """Shapes of the whole tensors of a folder, by name.

    Raises:
        ValueError: a file that is not safetensors.
    """
    return {name: size for name, (size, _) in _read_headers(folder).items()}


def check_whole(folder: Path) -> None:
    """Refuse a folder that lacks the shard of a process.

    Raises:
        ValueError: with the name of a tensor of which a part is missing, or without any file.
    """
    found = _read_headers(folder)
    missing = [name for name, (size, n_held) in found.items() if n_held != size.numel()]
    if missing or not found:
        raise ValueError(
            f"{folder}: must hold the shards of all processes, got {'a part' if missing else 'nothing'} of "
            f"{missing[0] if missing else 'the tensors'}; the folder of the run must be on a file system that all "
            "machines share"
        )


def _read_headers(folder: Path) -> dict[str, tuple[torch.Size, int]]:
    """Shape, and numbers that are there, of each tensor."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader, TensorStorageMetadata

    try:
        about = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{folder}: not a folder of safetensors: {error}") from None
    return {
        name: (each.size, sum(chunk.sizes.numel() for chunk in each.chunks))
        for name, each in about.items()
        if isinstance(each, TensorStorageMetadata)
    }
