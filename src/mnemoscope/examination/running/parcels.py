"""Nested values as one block of bytes for the tensors and a small rest, to be sent from process to process."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class _Held:
    """Where a tensor stood: its kind, and whether it was on the CPU."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    on_cpu: bool

    @property
    def n_bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Parcel:
    """What is sent beside the bytes: the value, in which every tensor has given way to what it is."""

    value: Any

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        return [leaf.n_bytes for leaf in pytree.tree_leaves(self.value) if isinstance(leaf, _Held)]

    @property
    def n_bytes(self) -> int:
        """Of all tensors."""
        return sum(self.sizes)


def packed(value: Any) -> tuple[Parcel, list[UInt8[Tensor, "..."]]]:
    """A value of nested tuples, lists and dictionaries, and the bytes of its tensors."""
    tensors = [leaf.detach() for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]

    def said(leaf: Any) -> Any:
        is_tensor = isinstance(leaf, Tensor)
        return _Held(leaf.dtype, tuple(leaf.shape), leaf.device.type == "cpu") if is_tensor else leaf

    contents = [tensor.cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in tensors]
    return Parcel(pytree.tree_map(said, value)), contents


def unpacked(parcel: Parcel, content: UInt8[Tensor, "n"], device: torch.device) -> Any:
    """The value; tensors that were not on the CPU are put on the device."""
    parts = iter(content.split(parcel.sizes))

    def restored(leaf: Any) -> Any:
        if not isinstance(leaf, _Held):
            return leaf
        # A copy, since a part of the block need not begin where its kind of number may.
        tensor = next(parts).clone().view(leaf.dtype).reshape(leaf.shape)
        return tensor if leaf.on_cpu else tensor.to(device)

    return pytree.tree_map(restored, parcel.value)
