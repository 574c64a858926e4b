"""float64 where a device has it; Apple's GPUs (MPS) have none."""

import torch
from torch import Tensor


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64."""
    return device.type != "mps"


def wide(tensor: Tensor) -> Tensor:
    """The tensor on its device in the widest precision there: float64, or float32 where there is no float64."""
    return tensor.to(wide_dtype(tensor.device))


def wide_dtype(device: torch.device) -> torch.dtype:
    """The widest precision of a device."""
    return torch.float64 if has_float64(device) else torch.float32


def in_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, on its device or, where that has none, on the CPU."""
    return (tensor if has_float64(tensor.device) else tensor.cpu()).double()
