"""How fast every task generates: beside the training step that it feeds, and beside the way of the task's source."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch.nn.utils import clip_grad_norm_

from benchmarks.rivals import mad_lab, seq_icl, zoology
from benchmarks.rivals.generators import Generator, Sequences
from benchmarks.timing import Spread, print_table, time_interleaved
from mnemoscope.models import StackConfig, build
from mnemoscope.tasks import TASKS, RegBench, RegBenchConfig, Task, build_task, task_rng
from mnemoscope.tasks.options import config_of
from mnemoscope.training.batches import draw
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.objective import objective_of
from mnemoscope.training.optimiser import build_optimiser

WIDTH = 64
SMALLEST = "attention(window=16)"
"""One layer, the cheapest that has a memory at any length: what starves first."""

RECIPE = "attention(window=16), gated_delta"
"""Two layers, those of the smallest recipe."""

REPEATS = 9
BATCHES = 16
"""Batches of one timing of generation: a single one is too short for the clock of a busy machine."""

SHARE_BAR, RATE_BAR = 0.05, 200_000
"""Generation must take less than this share of a step, and give this many tokens per second."""

AUTOMATA, SECONDS_BAR = 1000, 10.0

timed = partial(time_interleaved, repeats=REPEATS, clock=time.process_time)
"""Processor time: all of this is work of one thread."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a task is trained here: parameters that differ from its defaults, and sequences of a batch."""

    options: tuple[str, ...] = ()
    batch_size: int = TrainConfig().batch_size


RECALL = ("vocab_size=64", "length=64", "power_a=1.0")
CASES = {
    "babi_files": Case(options=("folder=tests/unit/tasks/babi",), batch_size=8),
    "compositional_mqar": Case(options=RECALL, batch_size=64),
    "demand_control": Case(options=RECALL, batch_size=64),
    "forgetting_mqar": Case(options=RECALL, batch_size=64),
    "mqar": Case(options=RECALL, batch_size=64),
    "selective_copying": Case(batch_size=8),
    "text": Case(options=("length=128",), batch_size=16),
}
"""Tasks that are not trained at their defaults: those that must be told where their files are, and those of recipes."""


def generation(task: Task, size: int) -> Callable[[], None]:
    """Draws `BATCHES` batches as the training loop does, no two of them the same."""
    steps = itertools.count()

    def work() -> None:
        for step in itertools.islice(steps, BATCHES):
            draw(task, 0, "train", step, size)

    return work


def training_step(task: Task, size: int, layout: str) -> Callable[[], None]:
    """Forward, loss, backward, clipping and AdamW on one batch of the task, as the training loop does them."""
    inputs, targets = draw(task, 0, "train", 0, size)
    if task.vocab_size:
        config = StackConfig.of(layout, vocab_size=task.vocab_size, d_model=WIDTH)
    else:
        config = StackConfig.of_vectors(layout, n_channels=inputs.shape[2], n_outputs=targets.shape[2], d_model=WIDTH)
    model, loss_of = build(config, seed=0), objective_of(task).loss
    optimiser = build_optimiser(model, TrainConfig())

    def work() -> None:
        loss = loss_of(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return work


def task_row(kind: str) -> tuple[str, ...]:
    """Time generation and two training steps, interleaved, and put the figures in words."""
    case = CASES.get(kind, Case())
    task, size = build_task(config_of(kind, case.options)), case.batch_size
    seconds = timed(
        {
            "generation": generation(task, size),
            "one": training_step(task, size, SMALLEST),
            "two": training_step(task, size, RECIPE),
        }
    )
    batch = seconds["generation"] / BATCHES
    rate, share = Spread.of(size * task.length / batch), Spread.of(batch / seconds["one"])
    reached = share.median < SHARE_BAR and rate.median >= RATE_BAR
    return (
        kind,
        f"{size} x {task.length}",
        f"{1e3 * Spread.of(batch).median:.2f} ms",
        f"{rate.median / 1e6:.2f} ({rate.low / 1e6:.2f} to {rate.high / 1e6:.2f})",
        f"{1e3 * Spread.of(seconds['one']).median:.1f} ms",
        f"{1e2 * share.median:.2f} % ({1e2 * share.low:.2f} to {1e2 * share.high:.2f})",
        f"{1e3 * Spread.of(seconds['two']).median:.1f} ms",
        f"{1e2 * Spread.of(batch / seconds['two']).median:.2f} %",
        "reached" if reached else "MISSED",
    )


def drawn(task: Task, size: int, split: str) -> Sequences:
    """Sequences of ours, as a rival gives them."""
    batch = task.batch(task_rng(1, split, 0), size, split)  # pyright: ignore[reportArgumentType]
    return batch.inputs, batch.targets


def rival_row(way: Generator, rows: int = 256) -> tuple[str, ...]:
    """Check that both give the same kind of sequences, then time them side by side."""
    config = config_of(way.kind, way.options)
    task = build_task(config)
    for inputs, targets in (drawn(task, rows, way.split), way.generate(config, rows, 0)):
        way.check(config, inputs, targets)
    seeds = itertools.count(1)
    seconds = timed(
        {"ours": partial(drawn, task, rows, way.split), "theirs": lambda: way.generate(config, rows, next(seeds))}
    )
    return compared(" ".join((way.kind, *way.options)), way.source, seconds, rows, task.length)


def compared(work: str, source: str, seconds: dict[str, np.ndarray], rows: int, length: float) -> tuple[str, ...]:
    """Tokens per second of both, and how many times as long theirs takes."""
    ours, theirs = (Spread.of(rows * length / seconds[name] / 1e6).median for name in ("ours", "theirs"))
    return work, source, f"{ours:.2f}", f"{theirs:.4f}", str(Spread.of(seconds["theirs"] / seconds["ours"]))


def regbench_row(rows: int = 100) -> tuple[str, ...]:
    """RegBench with episodes of 20 strings; ours draws the held-out splits too, and checks that none recurs."""
    config = RegBenchConfig(n_environments=rows, n_held_out=1, min_strings=20, max_strings=20)
    task = RegBench(config)
    batch, truth = task.draw(task_rng(0, "train", 0), rows, "train")
    seq_icl.check_ours(truth, batch.inputs, batch.targets)
    theirs = seq_icl.regbench(config, rows, 0)
    seq_icl.check_supports(*theirs)
    seeds = itertools.count(1)
    seconds = timed(
        {"ours": lambda: RegBench(config), "theirs": lambda: seq_icl.regbench(config, rows, next(seeds))}, warm_up=1
    )
    length = float((theirs[0][0] > 0).sum() / rows)
    return compared(f"regbench, {rows} automata, 20 strings each", "seq_icl's way", seconds, rows, length)


def thousand_automata() -> str:
    """The bar of RegBench, in words."""
    config = RegBenchConfig(n_environments=AUTOMATA, n_held_out=1, min_strings=20, max_strings=20)
    taken = Spread.of(timed({"ours": lambda: RegBench(config)})["ours"])
    verdict = "reached" if taken.median < SECONDS_BAR else "MISSED"
    return f"RegBench, {AUTOMATA:,} automata with 20 strings each: {taken} s (bar: under {SECONDS_BAR:g} s, {verdict})"


def run() -> None:
    """Print every task, then the sources' ways, then RegBench's bar."""
    print(
        f"A step: forward, backward and AdamW, d_model {WIDTH}; one layer {SMALLEST}; two layers {RECIPE}.\n"
        f"Bars: below {SHARE_BAR:.0%} of the step of one layer, and at least {RATE_BAR:,} tokens/s. Spreads: 10-90 %.\n"
        "Times are processor time, of one thread.\n"
    )
    header = ("task", "batch", "generation", "million tokens/s", "one layer", "share", "two layers", "share", "")
    print_table(header, [task_row(kind) for kind in TASKS])
    print(flush=True)
    ways = [*zoology.generators(), *mad_lab.generators()]
    header = ("generation", "source", "ours, million tokens/s", "theirs", "theirs / ours (10-90 %)")
    print_table(header, [*map(rival_row, ways), regbench_row()])
    print(f"\n{thousand_automata()}", flush=True)
