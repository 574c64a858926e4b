"""A short fingerprint of models, batches and arguments: do two processes examine the same?"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def digest(value: Any) -> str:
    """A fingerprint of numbers, texts, tensors, arrays and what holds them; of anything else, its class alone."""
    found = hashlib.blake2b(digest_size=16)
    for part in _parts(value):
        found.update(part)
    return found.hexdigest()


def digest_of_model(model: nn.Module) -> str:
    """A fingerprint of parameters and buffers, but those that are kept elsewhere (the meta device)."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return digest({name: tensor for name, tensor in held.items() if not tensor.is_meta})


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    match value:
        case Tensor():
            dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
            yield f"{dense.dtype} {tuple(dense.shape)} ".encode()
            yield dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        case np.ndarray() if value.dtype.kind != "O":
            yield f"{value.dtype} {value.shape} ".encode()
            yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        case str() | bytes() | int() | float() | complex() | None:
            yield f"{value!r} ".encode()
        case Mapping():
            for name, held in value.items():
                yield from _parts(name)
                yield from _parts(held)
        case list() | tuple():
            yield f"{len(value)} ".encode()
            for held in value:
                yield from _parts(held)
        case _ if is_dataclass(value):
            for field in fields(value):
                yield from _parts(getattr(value, field.name))
        case _:
            yield f"{type(value).__module__}.{type(value).__qualname__} ".encode()
