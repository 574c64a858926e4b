"""`python -m benchmarks [NAME ...]`: every benchmark, or those named, in one process on one thread."""

import importlib
import os
import platform
import sys
import time

import torch

from benchmarks import memories

BENCHMARKS = (
    "gated_delta",
    "streaming",
    "decoding",
    "interventions",
    "memories",
    "tasks",
    "browser",
    "three_moons",
    "atlas",
    "training_metrics",
    "remedies",
    "examination",
    "node2vec",
    "ranks",
    "gpu",
)
THREADS = 1


def main(names: list[str]) -> int:
    families = [f"memories.{family}" for family in memories.FAMILIES]
    unknown = sorted(set(names) - {*BENCHMARKS, *families})
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)}; known: {', '.join([*BENCHMARKS, *families])}", file=sys.stderr)
        return 2
    torch.set_num_threads(THREADS)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    machine = f"{platform.machine()}, threads: {THREADS}, {load}"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {machine}")
    for name in names or BENCHMARKS:
        benchmark, _, family = name.partition(".")
        module = importlib.import_module(f"benchmarks.{benchmark}")
        print(f"\n{name}: {(module.__doc__ or '').strip()}\n")
        start = time.perf_counter()
        if family:
            memories.run((family,))
        else:
            module.run()
        print(f"({time.perf_counter() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
