"""Joining the other processes, and what becomes of the others when one of them is lost."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import torch
import torch.distributed as dist

from mnemoscope.contracts.devices import find_device
from mnemoscope.contracts.processes import RANK, launched, process_group
from mnemoscope.training.ranks.ranks import ALONE, Ranks, Strategy
from mnemoscope.training.ranks.several import Replicated, Sharded

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""How often torchrun has started the processes again, in their environment."""


def was_restarted() -> bool:
    """Whether torchrun started this process again after one of them was lost, so that a run goes on unasked."""
    return int(os.environ.get(RESTARTS, "0") or 0) > 0


def device_of(name: str) -> torch.device:
    """The device that a user names; of several processes on one machine, "cuda" is another GPU for each.

    Raises:
        ValueError: no such device here, or more processes than GPUs.
    """
    device, here = find_device(name), launched()
    if device.type != "cuda" or device.index is not None or here.count == 1:
        return device
    if here.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"process {here.rank} of {here.count}: needs GPU {here.local_rank} of its machine, which has "
            f"{torch.cuda.device_count()}; start as many processes as GPUs (torchrun --nproc-per-node)"
        )
    torch.cuda.set_device(here.local_rank)
    return torch.device("cuda", here.local_rank)


@contextmanager
def joined(device: torch.device, strategy: Strategy | None = None) -> Iterator[Ranks]:
    """The processes that were launched together, for the block; one alone where nothing was launched.

    Args:
        device: what this process trains on.
        strategy: None for "ddp" where there are several.

    Raises:
        ValueError: an unknown strategy, or one where nothing was launched.
        ConnectionError: in the block, another process failed or was killed.
    """
    if strategy is not None and strategy not in get_args(Strategy):
        raise ValueError(f"train: strategy must be one of {', '.join(get_args(Strategy))}, got {strategy!r}")
    here = launched()
    if here.count == 1:
        if strategy is not None and RANK not in os.environ:
            raise ValueError(
                f"train: strategy {strategy} needs several processes, and this one was started alone; start with "
                "torchrun --nproc-per-node 2 -m mnemoscope train ..., or leave the strategy out"
            )
        yield ALONE
        return
    with process_group(device):
        messages = device if dist.get_backend() == "nccl" else torch.device("cpu")
        try:
            yield Sharded(here, messages) if strategy == "fsdp" else Replicated(here, messages)
        except RuntimeError as error:
            if _is_loss(error):
                raise ConnectionError(
                    f"process {here.rank} of {here.count}: lost another process, which failed or was killed: it says "
                    "why, if it could; start the same command with --resume to go on"
                ) from error
            raise


def _is_loss(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)
