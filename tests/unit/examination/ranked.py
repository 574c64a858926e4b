"""What the processes of `test_ranks` run; in a file of its own, so that a new process can import it."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Batch, ReadPoint
from mnemoscope.examination import Budget, NextTokenLoss, examine
from mnemoscope.examination.subject.losses import Scores
from mnemoscope.experiments.planted import KINDS, World
from mnemoscope.runs import Examination

VOCAB, LENGTH, LAG = 8, 12, 6
BUDGET = Budget(n_calibration=48, n_test=256, fit_steps=20, joint_fit_steps=10, windows=(1,), n_resamples=300)


class Delay(nn.Module):
    """What stood some tokens ago."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadPoint()

    def forward(self, x: Tensor) -> Tensor:
        return self.read(F.pad(x, (0, 0, LAG, 0))[:, : x.shape[1]])


class Echo(nn.Module):
    """Memories beside each other, each as loud as told; `brittle` ones have no finite loss where one reads zeros."""

    def __init__(self, *strength: float, brittle: bool = False) -> None:
        super().__init__()
        self.memories = nn.ModuleList(Delay() for _ in strength)
        self.strength = nn.Parameter(torch.tensor(strength))
        self.brittle = brittle

    def forward(self, tokens: Tensor) -> Tensor:
        reads = [memory(F.one_hot(tokens, VOCAB).float()) for memory in self.memories]
        logits = sum(s * read for s, read in zip(self.strength, reads, strict=True))
        if self.brittle and int(tokens[0, 0]) == 3 and not reads[0].any():
            return logits * torch.inf
        return logits


def echoes(sizes: tuple[int, ...] = (16,), n_batches: int = 19, seed: int = 0, noise: float = 0.9) -> list[Batch]:
    """The target is the token LAG positions before, mostly."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(n_batches):
        tokens = torch.randint(VOCAB, (sizes[index % len(sizes)], LENGTH), generator=generator)
        targets = F.pad(tokens, (LAG, 0), value=-100)[:, :LENGTH]
        wrong = (torch.rand(targets.shape, generator=generator) < noise) & (targets >= 0)
        targets[wrong] = torch.randint(VOCAB, (int(wrong.sum()),), generator=generator)
        about = {"distance": torch.where(targets >= 0, LAG, -1), "load": torch.full_like(tokens, 1 + index % 2)}
        found.append(Batch(inputs=tokens, targets=targets, about=about))
    return found


class Failing(NextTokenLoss):
    """Fails on one rank once it has been asked often enough; by an exception, a signal or the end of the process."""

    def __init__(self, fail: Callable[[], None], rank: int, after: int) -> None:
        super().__init__()
        self.fail, self.left = fail, after if rank == 1 else -1

    def scores(self, model: nn.Module, batch: Batch, accuracy: bool = False) -> Scores:
        """The scores, or a failure."""
        self.left -= 1
        if self.left == 0:
            self.fail()
        return super().scores(model, batch, accuracy)


def two_memories(rank: int) -> Examination:
    """One that is needed, and one that says nothing."""
    return examine(Echo(1.5, 0.0), echoes(noise=0.3), routes=[], budget=BUDGET)


def two_memories_alone(rank: int) -> Examination | None:
    """The same in one process of several, without the others."""
    data = echoes(noise=0.3)
    return examine(Echo(1.5, 0.0), data, routes=[], budget=BUDGET, together=False) if rank == 0 else None


def ragged(rank: int) -> Examination:
    """Batches of several sizes, of which new stacks are made in the middle of the test."""
    return examine(Echo(1.0), echoes((16, 16, 16, 10), 22), routes=[], budget=BUDGET)


def brittle(rank: int) -> Examination:
    """A condition that has to be left out in the middle of the test."""
    return examine(Echo(1.0, brittle=True), echoes(), routes=[], budget=BUDGET)


def other_batches(rank: int) -> Examination:
    return examine(Echo(1.0), iter(echoes(seed=rank)), routes=[], budget=BUDGET)


def other_weights(rank: int) -> Examination:
    return examine(Echo(1.0 + rank), echoes(), routes=[], budget=BUDGET)


def failing(rank: int) -> Examination:
    def fail() -> None:
        raise ZeroDivisionError("a loss that fails")

    return examine(Echo(1.0, 0.3), echoes(), routes=[], loss=Failing(fail, rank, 25), budget=BUDGET)


def said_to_stop(rank: int) -> Examination:
    """Whoever is told of the progress asks for the end."""
    told = iter(range(6))

    def progress(phase: str, done: float) -> None:
        if phase == "test" and next(told, None) is None:
            raise KeyboardInterrupt

    return examine(Echo(1.0), echoes(), routes=[], progress=progress, budget=BUDGET)


def interrupted(rank: int) -> Examination:
    """Ctrl-C on one rank, before anything is tested."""
    loss = Failing(lambda: os.kill(os.getpid(), signal.SIGINT), rank, 25)
    return examine(Echo(1.0, 0.3), echoes(), routes=[], loss=loss, budget=BUDGET)


def killed(rank: int) -> Examination:
    """One rank is gone."""
    loss = Failing(lambda: os.kill(os.getpid(), signal.SIGKILL), rank, 25)
    return examine(Echo(1.0, 0.3), echoes(), routes=[], loss=loss, budget=BUDGET)


def planted(name: str) -> Examination:
    kind, world = KINDS[name], KINDS[name].adapt(World.draw(0))
    budget = Budget(n_calibration=96, n_test=256, fit_steps=30, joint_fit_steps=15, windows=(1, 4), n_resamples=300)
    return examine(kind.build(world), world.batches(kind.draw, 11, 32), budget=budget)


CASES: dict[str, Callable[[int], Examination | None]] = {
    case.__name__: case
    for case in (
        two_memories,
        two_memories_alone,
        ragged,
        brittle,
        other_batches,
        other_weights,
        failing,
        said_to_stop,
        interrupted,
        killed,
    )
} | {name: lambda rank, name=name: planted(name) for name in KINDS}


def run(rank: int, count: int, folder: Path, cases: tuple[str, ...]) -> None:
    """Do the cases one after the other; leaves a record, or what went wrong, of each as `case-rank.json`."""
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group(
            "gloo", f"file://{folder}/meeting", rank=rank, world_size=count, timeout=timedelta(seconds=60)
        )
    for case in cases:
        try:
            found = CASES[case](rank)
            said = None if found is None else found.model_dump(mode="json")
        except BaseException as error:
            said = {"error": type(error).__name__, "message": str(error), "where": traceback.format_exc()}
        (folder / f"{case}-{rank if count > 1 else 'one'}.json").write_text(json.dumps(said), encoding="utf-8")
    if count > 1:
        dist.destroy_process_group()
