"""`mnemoscope bench`: how fast what is here is, beside what users have today."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Time the library against its peers, in a checkout (benchmarks are not installed with the package)."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Benchmarks to run; `memories.FAMILY` for a part of the table of memories. All of them if none is named."""

    memories: bool = False
    """The whole table of memories and nothing else."""

    tasks: bool = False
    """How fast every task generates, and nothing else."""

    examination: bool = False
    """What the examination may cost: its bars, beside plain nnsight calls, and nothing else."""

    def run(self) -> int:
        """Run them in one process, on one thread."""
        chosen = (("memories", self.memories), ("tasks", self.tasks), ("examination", self.examination))
        tables = [name for name, wanted in chosen if wanted]
        if len(tables) + bool(self.names) > 1:
            given = " ".join([*(f"--{table}" for table in tables), *self.names])
            raise ValueError(
                f"bench must be given --memories, --tasks, --examination or names, got more of them ({given}); drop one"
            )
        if not Path("benchmarks/rivals").is_dir():
            raise ValueError(
                f"bench must be run in a checkout of mnemoscope, got {Path.cwd()}, which has no benchmarks/rivals; "
                "clone the repository, run make there, and try again in its folder"
            )
        names = tables or self.names
        return subprocess.run([sys.executable, "-m", "benchmarks", *names], check=False).returncode
