"""Devices by the names that users give them."""

from typing import Literal, TypeAlias, get_args

import torch

KINDS = ("cpu", "cuda", "mps")

Device: TypeAlias = Literal["cpu", "cuda", "auto"]
"""Where an experiment computes; "auto" is CUDA where there is a device, and else the CPU."""


def chosen_device(name: str) -> torch.device:
    """The device that the settings of an experiment name.

    Args:
        name: one of `Device`.

    Raises:
        ValueError: another name, or a device that this machine lacks.
    """
    if name not in get_args(Device):
        raise ValueError(f"device must be one of {', '.join(get_args(Device))}, got {name!r}")
    return find_device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def find_device(name: str) -> torch.device:
    """A device that is here and that models can be put on.

    Args:
        name: "cpu", "cuda", "cuda:1" or "mps" (the GPU of a Mac).

    Raises:
        ValueError: another name, or a device that this machine lacks.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in KINDS:
        raise ValueError(f"device must be one of {', '.join(KINDS)}, or a GPU by its number (cuda:1), got {name!r}")
    if device.type == "cuda":
        _check_cuda(name, device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        built = "macOS 14 or a GPU is missing" if torch.backends.mps.is_built() else "this torch was built without it"
        raise ValueError(f"device {name}: there is no Apple GPU here ({built}); use cpu{_or_cuda()}")
    return device


def _check_cuda(name: str, device: torch.device) -> None:
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n_devices == 0:
        why = "no GPU or no driver" if torch.backends.cuda.is_built() else "this torch was built without it"
        raise ValueError(f"device {name}: there is no CUDA device here ({why}); use cpu, or install torch with CUDA")
    if device.index is not None and device.index >= n_devices:
        raise ValueError(f"device {name}: this machine has {n_devices} CUDA devices, cuda:0 to cuda:{n_devices - 1}")


def _or_cuda() -> str:
    return " or cuda" if torch.cuda.is_available() else ""
