"""Processes that train together, started as torchrun starts them; run as a script, it is one of them.

Usage: launching.py DIRECTORY STRATEGY
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnemoscope.models import StackConfig
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import TextConfig
from mnemoscope.training import Recipe, TrainConfig, train_recipe

SECONDS = 120
RECIPE = Recipe(
    name="several processes",
    model=replace(StackConfig.of("attention(window=4), gated_delta", vocab_size=256, d_model=16), mlp_ratio=0.0),
    task=TextConfig(corpus="prose", length=16),
    train=TrainConfig(
        steps=10,
        batch_size=7,
        warmup_steps=2,
        eval_every=5,
        eval_sequences=9,
        log_every=1,
        checkpoint_every=4,
        threads=1,
    ),
)
"""Batches and validation sequences that two and four processes can only divide unevenly."""


def start(count: int, words: Sequence[str], restarts: int = 0) -> list[subprocess.Popen[str]]:
    """One process for each rank, with the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    given |= {"TORCHELASTIC_RESTART_COUNT": restarts, "GLOO_SOCKET_IFNAME": "lo"}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | {name: str(value) for name, value in (given | {"RANK": rank, "LOCAL_RANK": rank}).items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of every process, none of which outlives the call."""
    try:
        said = [process.communicate(timeout=SECONDS) for process in processes]
        return [(process.returncode, *each) for process, each in zip(processes, said, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def trained(path: Path, strategy: str, count: int = 2, restarts: int = 0) -> RunDirectory:
    """A run of the recipe, or the rest of one that was restarted."""
    for code, _, errors in finish(start(count, [__file__, str(path), strategy], restarts)):
        assert code == 0, errors
    return RunDirectory.open(path)


def furthest(run: RunDirectory, reference: RunDirectory) -> float:
    """The largest difference of any figure of two runs, as part of it if above 1; they must have the same steps."""
    ours, theirs = run.read_metrics(), reference.read_metrics()
    assert [sorted(row) for row in ours] == [sorted(row) for row in theirs]
    assert [row["step"] for row in ours] == list(range(1, RECIPE.train.steps + 1))
    pairs = [(row[name], other[name]) for row, other in zip(ours, theirs, strict=True) for name in row]
    return max(abs(own - other) / max(1.0, abs(other)) for own, other in pairs)


if __name__ == "__main__":
    train_recipe(RECIPE, sys.argv[1], progress=False, strategy=sys.argv[2])  # pyright: ignore[reportArgumentType]
