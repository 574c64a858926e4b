"""The bars of the examination: hooks, fixed-constant effects beside nnsight, horizon, bootstrap, fit, memory.

Times are CPU seconds of the process, with wall seconds beside them where both are given; pairs are interleaved.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from benchmarks import examination_memory
from benchmarks.examination_effects import Hybrid, Size, batch, points_of
from benchmarks.timing import Spread, bootstrap_ratio, max_difference, print_table
from mnemoscope.contracts import Batch
from mnemoscope.examination import NextTokenLoss
from mnemoscope.examination.interventions.reads import Call
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.protocol.conditions import profile, window_edit
from mnemoscope.examination.protocol.fit import Removal, fit_removals, mean_loss
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape

HOOK_PAIRS = 31
REPEATS = 7
WINDOWS = (1, 4, 16, 64)
FIT_STEPS = 40
RANDOM_STARTS = 3


@dataclass(frozen=True)
class Times:
    """Seconds of one piece of work in every repeat."""

    cpu: np.ndarray
    wall: np.ndarray


class Identity:
    """Passes the value on."""

    def apply(self, call: Call) -> Tensor:
        """The value."""
        return call.value


def interleaved(work: Mapping[str, Callable[[int], object]], repeats: int, warm_up: int = 1) -> dict[str, Times]:
    """Time each piece of work once in every repeat, in an order that is reversed every other time.

    Args:
        work: by name, told which repeat it is.
        repeats: that count.
        warm_up: that do not.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for repeat in range(warm_up + repeats):
        for name in sorted(work, reverse=bool(repeat % 2)):
            cpu, wall = time.process_time(), time.perf_counter()
            work[name](repeat)
            taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: Times(*np.array(of[warm_up:]).T) for name, of in taken.items()}


def hooks(hybrid: Hybrid) -> None:
    """Bar: upper end of the interval under 1.05."""
    sites, loss, modules = hybrid.sites, NextTokenLoss(), hybrid.replayer.modules
    points = [
        *points_of(sites),
        *points_of(sites, "contribution"),
        *(site.whole for site in (*sites.memories, *sites.routes) if site.whole is not None),
    ]
    data = batch(Size(batch=8), 0)

    @torch.no_grad()
    def plain(_: int) -> Tensor:
        return loss(hybrid.model, data)

    @torch.no_grad()
    def hooked(_: int) -> Tensor:
        with edited(modules, [Edit(point, Identity()) for point in points]):
            return loss(hybrid.model, data)

    assert torch.equal(plain(0), hooked(0))
    times = interleaved({"plain": plain, "hooked": hooked}, HOOK_PAIRS)
    low, high = bootstrap_ratio(times["hooked"].cpu, times["plain"].cpu)
    spread = Spread.of(times["hooked"].cpu / times["plain"].cpu)
    header = ("identity hooks", "pairs", "hooked / plain (10-90 %)", "95 % interval", "bar: upper end < 1.05")
    print_table(
        header,
        [
            (
                f"{len(points)} points, 8 x 256 tokens",
                str(HOOK_PAIRS),
                str(spread),
                f"[{low:.3f}, {high:.3f}]",
                _met(high < 1.05),
            )
        ],
    )


def effects(hybrid: Hybrid) -> None:
    """Bar: equal to 1e-5, at most a quarter of the time."""
    data = hybrid.batches
    found: dict[str, list[list[Tensor]]] = {"ours": [], "nnsight": []}
    first = time.process_time()
    hybrid.examined(data[0])
    first = time.process_time() - first

    def kept(name: str, work: Callable[[Batch], list[Tensor]]) -> Callable[[int], None]:
        return lambda repeat: found[name].append(work(data[repeat % len(data)]))

    times = interleaved({"ours": kept("ours", hybrid.examined), "nnsight": kept("nnsight", hybrid.plainly)}, REPEATS, 0)
    difference = max(max_difference(a, b) for a, b in zip(found["ours"], found["nnsight"], strict=True))
    our, their = times["ours"], times["nnsight"]
    low, high = bootstrap_ratio(our.cpu, their.cpu)
    pieces = len(data)
    header = (
        "fixed-constant effects",
        "max difference",
        "ours",
        "nnsight",
        "ours / nnsight (10-90 %)",
        "95 % interval",
        "wall",
        "bar: <= 0.25",
    )
    row = (
        f"{len(hybrid.conditions)} conditions of {len(hybrid.points)} sites, {hybrid.size.n_sequences} sequences",
        f"{difference:.1e}",
        f"{pieces * np.median(our.cpu):.1f} s",
        f"{pieces * np.median(their.cpu):.1f} s",
        str(Spread.of(our.cpu / their.cpu)),
        f"[{low:.2f}, {high:.2f}]",
        str(Spread.of(our.wall / their.wall)),
        _met(high <= 0.25),
    )
    print_table(header, [row])
    print(
        f"nnsight {version('nnsight')} under torch.no_grad(); both on batches of {hybrid.size.batch}, {REPEATS} "
        f"repeats of one batch each, shown for all sequences; the first batch of ours, with every check to the bit, "
        f"took {first:.1f} s; {hybrid.replayer.path}"
    )


def tracing(hybrid: Hybrid) -> None:
    """What plain calls cost in other batches, and without no_grad, as most of nnsight's examples are written."""
    from benchmarks.rivals.nnsight_effects import losses, wrapped

    inputs, targets = (
        torch.cat([torch.as_tensor(getattr(each, name)) for each in hybrid.batches]) for name in ("inputs", "targets")
    )
    middle = {hybrid.points[0].path: "zero"}

    def traced(size: int, grad: bool) -> Callable[[int], object]:
        def run(_: int) -> None:
            with torch.set_grad_enabled(grad):
                for x, y in zip(inputs.split(size), targets.split(size), strict=True):
                    losses(wrapped(hybrid.model), x, y, middle)

        return run

    n, piece = len(inputs), hybrid.size.batch
    kinds = {
        f"{size} at once, {'with' if grad else 'without'} gradients": traced(size, grad)
        for size in (piece, n)
        for grad in (False, True)
    }
    times = interleaved(kinds, 2)
    print_table(
        ("one nnsight trace of all sequences", "CPU"), [(name, str(Spread.of(of.cpu))) for name, of in times.items()]
    )


def horizon(hybrid: Hybrid) -> None:
    """Bar: at most two forwards a point."""
    loss, data = NextTokenLoss(), hybrid.batches[0]
    with torch.no_grad():
        tape = hybrid.replayer.record(data)
        rows = []
        for site in hybrid.sites.memories:
            work: dict[str, Callable[[int], object]] = {"forward": lambda _: loss(hybrid.model, data)}
            for window in WINDOWS:
                work[str(window)] = partial(_cut, hybrid.replayer, tape, window_edit(site, window))
            times = interleaved(work, 3)
            ratios = [float(np.median(times[str(window)].cpu / times["forward"].cpu)) for window in WINDOWS]
            rows.append((site.name, *(f"{ratio:.2f}" for ratio in ratios), _met(max(ratios) <= 2)))
    print_table(("horizon by subtraction, in forwards", *(f"W={window}" for window in WINDOWS), "bar: <= 2"), rows)


def _cut(replayer: Replayer, tape: Tape, edits: list[Edit], _: int) -> None:
    replayer.run(tape, edits)


def bootstrap() -> None:
    """Bar: 10,000 resamples of 1,024 sequences under half a second."""
    values = np.random.default_rng(0).normal(size=1024)
    times = interleaved({"bootstrap": lambda seed: Bootstrap(1024, 10_000, seed).mean(values)}, 7)["bootstrap"]
    cpu, wall = Spread.of(times.cpu), Spread.of(times.wall)
    print_table(
        ("bootstrap", "CPU s (10-90 %)", "wall s (10-90 %)", "bar: < 0.5 s"),
        [("10,000 x 1,024, BCa", str(cpu), str(wall), _met(cpu.high < 0.5))],
    )


def fit(hybrid: Hybrid) -> None:
    """The optimal constant from several starts, timed apart."""
    point = hybrid.points[3]
    tapes = [hybrid.replayer.record(batch(hybrid.size, 2000 + seed), keep=[point]) for seed in range(4)]
    held_out = [hybrid.replayer.record(batch(hybrid.size, 3000 + seed)) for seed in range(2)]
    at = profile(tapes, point)
    starts = {"mean": at.mean, "zero": torch.zeros_like(at.mean)}
    for seed in range(RANDOM_STARTS):
        starts[f"random {seed}"] = at.rms * torch.randn(at.mean.shape, generator=torch.Generator().manual_seed(seed))
    rows, ends = [], []
    for name, start in starts.items():
        removal = Removal(point=point, window=None, start=start, scale=at.rms)
        cpu = time.process_time()
        found = fit_removals(hybrid.replayer, tapes, [removal], FIT_STEPS)
        cpu = time.process_time() - cpu
        before, after = (mean_loss(hybrid.replayer, held_out, [removal], of) for of in ([start], found))
        ends.append(after)
        rows.append((f"from {name}", f"{before:.4f}", f"{after:.4f}", f"{cpu:.1f} s"))
    print_table(
        (f"optimal constant at {point.path}, {FIT_STEPS} steps", "held-out loss at the start", "fitted", "CPU"), rows
    )
    print(f"restart spread of the held-out loss: {max(ends) - min(ends):.4f} nats (sd {np.std(ends, ddof=1):.4f})")


def memory() -> None:
    """Bar: at most 1.2 training steps, and the cache that the budget allows."""
    nothing, step, examination = (examination_memory.measured(what) for what in ("nothing", "step", "examination"))
    allowed = 1.2 * (step - nothing) + examination_memory.BUDGET.tape_bytes
    mib = [
        f"{value / 2**20:.0f} MiB"
        for value in (nothing, step, examination, step - nothing, examination - nothing, allowed)
    ]
    header = (
        "peak memory",
        "imports and model",
        "training step",
        "examination",
        "step adds",
        "examination adds",
        "1.2 steps + tape_bytes",
        "bar",
    )
    print_table(
        header, [(f"micro-batch {examination_memory.SIZE.batch}", *mib, _met(examination - nothing <= allowed))]
    )


def _met(bar: bool) -> str:
    return "met" if bar else "missed"


def run() -> None:
    """Print every table."""
    hybrid = Hybrid(Size())
    for part in (hooks, effects, tracing, horizon, fit):
        part(hybrid)
        print()
    bootstrap()
    print()
    memory()
