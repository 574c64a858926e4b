"""An examination in one process and in two, each on one thread: seconds, and whether the records are the same.

On a machine with other work the wall clock says little; the CPU seconds of the busier process say what two idle cores
would take.
"""

import multiprocessing
import tempfile
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from benchmarks.examination_effects import Size, batch
from benchmarks.timing import print_table
from mnemoscope.examination import Budget, examine
from mnemoscope.models import StackConfig, build

COUNT = 2
SIZE = Size(layout="(attention, gated_delta) * 2", d_model=64, n_tokens=64, n_sequences=224, batch=16)
BUDGET = Budget(
    n_calibration=96, n_test=128, looks=1, fit_steps=24, joint_fit_steps=8, windows=(4,), untrained_copy=False
)


@dataclass(frozen=True)
class Taken:
    """Seconds of one process, and what its examination found."""

    wall: float
    cpu: float
    fit: float
    test: float
    record: str


def work(rank: int, count: int, folder: str, results: "multiprocessing.Queue[Taken]") -> None:
    """Examine, and say how long it took."""
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=count)
    model = build(StackConfig.of(SIZE.layout, vocab_size=SIZE.vocab_size, d_model=SIZE.d_model), seed=0).eval()
    batches = [batch(SIZE, seed) for seed in range(SIZE.n_sequences // SIZE.batch)]
    wall, cpu = time.perf_counter(), time.process_time()
    found = examine(model, batches, budget=BUDGET)
    taken = time.perf_counter() - wall, time.process_time() - cpu
    seconds = found.seconds
    results.put(Taken(*taken, seconds["fit"], seconds["test"], found.model_dump_json(exclude={"seconds"})))
    if count > 1:
        dist.destroy_process_group()


def examined(count: int) -> list[Taken]:
    """What the processes took."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = context.Queue()
        processes = [context.Process(target=work, args=(rank, count, folder, results)) for rank in range(count)]
        for process in processes:
            process.start()
        found = [results.get(timeout=3600) for _ in processes]
        for process in processes:
            process.join()
    return found


def run() -> None:
    (one,), several = examined(1), examined(COUNT)
    busiest = Taken(*(max(getattr(each, name) for each in several) for name in ("wall", "cpu", "fit", "test")), "")
    rows = [
        [what, f"{before:.1f} s", f"{after:.1f} s", f"{before / after:.2f}"]
        for what, before, after in (
            ("wall", one.wall, busiest.wall),
            ("CPU of the busier process", one.cpu, busiest.cpu),
            ("fits, wall", one.fit, busiest.fit),
            ("test, wall", one.test, busiest.test),
        )
    ]
    print_table(["", "one process", f"{COUNT} processes", "ratio"], rows)
    print(f"records the same to the bit: {all(each.record == one.record for each in several)}")
