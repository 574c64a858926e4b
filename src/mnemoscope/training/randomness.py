"""Randomness of the model itself (dropout): seeded, saved and restored without touching the caller's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def forked_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Give the block random numbers of its own; the caller's generators are found as they were left.

    Args:
        device: the CPU, or a GPU (CUDA, MPS), whose generator is forked beside the CPU's.
        seed: where the block's numbers start; None goes on from the caller's.

    Raises:
        ValueError: a device of another kind, whose generator could not be restored.
    """
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            f"train: the model must be on a CPU, a CUDA device or MPS, got {device}; move it with .to('cpu')"
        )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _forked_mps(device):
        if seed is not None:
            torch.random.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            elif device.type == "mps":
                torch.mps.manual_seed(seed)
        yield


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """State of the generators that a model on `device` draws from, as uint8 tensors by kind of device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_rng_state(device: torch.device, state: Mapping[str, Tensor]) -> None:
    """Restore what `rng_state` returned; a state of the other kind of device is left out."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def _forked_mps(device: torch.device) -> Iterator[None]:
    """What `torch.random.fork_rng` does for CUDA."""
    if device.type != "mps":
        yield
        return
    before = torch.mps.get_rng_state()
    try:
        yield
    finally:
        torch.mps.set_rng_state(before)
