"""Which of several processes this one is, as torchrun and other launchers say it in the environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

RANK, WORLD_SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The place of this process among those that were launched together.

    Args:
        rank: of this process, from 0.
        count: of all processes.
        local_rank: of this process on its machine, which chooses its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0


def launched() -> Processes:
    """This process as its launcher named it; one of one where there was no launcher.

    Raises:
        ValueError: a launcher that named only a part, or numbers that do not fit.
    """
    given = {name: value for name in (RANK, WORLD_SIZE) if (value := os.environ.get(name)) is not None}
    if not given:
        return Processes()
    try:
        rank, count = int(given[RANK]), int(given[WORLD_SIZE])
        local_rank = int(os.environ.get(LOCAL_RANK, str(rank)))
    except (KeyError, ValueError) as error:
        raise ValueError(_refused(given)) from error
    if not 0 <= rank < count or local_rank < 0:
        raise ValueError(_refused(given))
    return Processes(rank=rank, count=count, local_rank=local_rank)


@contextmanager
def process_group(device: torch.device) -> Iterator[Processes]:
    """Be able to talk to the other processes: NCCL between GPUs, gloo otherwise; nothing where there are none.

    A group that exists already is used and left as it is.

    Args:
        device: what this process computes on.
    """
    here = launched()
    if here.count == 1 or dist.is_initialized():
        yield here
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield here
    finally:
        dist.destroy_process_group()


def _refused(given: dict[str, str]) -> str:
    return (
        f"the environment must give {RANK} and {WORLD_SIZE} as numbers, 0 <= {RANK} < {WORLD_SIZE}, got {given}; "
        "start with torchrun, or unset them"
    )
