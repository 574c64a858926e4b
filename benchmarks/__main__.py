"""`python -m benchmarks [NAME ...]`: every benchmark, or those named, in one process on one thread."""

import importlib
import platform
import sys
import time

import torch

BENCHMARKS = ("gated_delta", "streaming", "interventions", "memories")
THREADS = 1


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(THREADS)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, threads: {THREADS}")
    for name in names or BENCHMARKS:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        print(f"\n{name}: {(benchmark.__doc__ or '').strip()}\n")
        start = time.perf_counter()
        benchmark.run()
        print(f"({time.perf_counter() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
