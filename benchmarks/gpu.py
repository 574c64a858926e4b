"""One GPU: scans beside flash-linear-attention, every mechanism, and one verdict on half a billion parameters.

`python -m benchmarks.gpu --out results/DATE-gpu.md` writes what `python -m benchmarks gpu` prints: tables in Markdown,
made in less than ten minutes. Shares of peak are of the published dense bfloat16 rate (mnemoscope.experiments.devices)
and count the matrix products of our forms. `--tiny --device cpu` runs the same on a processor, to see that it runs; its
times mean nothing.
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks import gpu_tables, gpu_verdict
from benchmarks.gpu_tables import Place, Sizes
from benchmarks.gpu_verdict import Verdict
from mnemoscope.runs.atomic import write_text


def lines(device: torch.device, sizes: Sizes, verdict: Verdict, *, tiny: bool) -> Iterator[str]:
    """The page, as it comes."""
    start = time.perf_counter()
    yield "# On one GPU" if not tiny else "# A tiny run, which shows that the benchmark runs and measures nothing"
    yield f"\n{_machine(device)}\n"
    yield f"\n## Scans, forward and backward, bfloat16\n\n{_scan_sizes(sizes)}\n"
    yield from table(gpu_tables.SCAN_HEADER, gpu_tables.scan_rows(Place.of(device), sizes))
    yield f"\n## Mechanisms, forward and backward, bfloat16\n\n{_mechanism_sizes(sizes)}\n"
    yield from table(gpu_tables.MECHANISM_HEADER, gpu_tables.mechanism_rows(Place.of(device), sizes))
    yield "\n## A verdict from end to end, weights as drawn\n"
    yield f"`{verdict.layout}`, width {verdict.d_model:,}, bfloat16.\n"
    row, verdicts = gpu_verdict.verdict_row(device, verdict)
    yield from table(gpu_verdict.HEADER, [row])
    yield ""
    yield from (f"- {line}" for line in verdicts)
    yield f"\nAll of it took {time.perf_counter() - start:.0f} s."


def table(header: Sequence[str], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> Iterator[str]:
    """A table in Markdown, row by row."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def run() -> None:
    """Print the page of the first CUDA device."""
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to time here; python -m benchmarks.gpu --tiny --device cpu shows that it runs")
        return
    for line in lines(torch.device("cuda"), Sizes(), Verdict(), tiny=False):
        print(line, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Print the page, and write it if a file is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Time one GPU.")
    parser.add_argument("--out", type=Path, help="also write the page to this file")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    given = parser.parse_args(words)
    try:
        device = torch.device(given.device)
    except RuntimeError:
        parser.error(f"--device must be cuda, cuda:N or cpu, got {given.device}")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; use --tiny --device cpu to see that it runs")
    if device.type != "cuda" and not given.tiny:
        parser.error(f"{device} takes hours at full size; add --tiny, or use --device cuda")
    if given.out is not None and not given.out.parent.is_dir():
        parser.error(f"--out: there is no folder {given.out.parent}; make it first")
    chosen = (gpu_tables.TINY, gpu_verdict.TINY) if given.tiny else (Sizes(), Verdict())
    page = []
    for line in lines(device, *chosen, tiny=given.tiny):
        print(line, flush=True)
        page.append(line)
    if given.out is not None:
        write_text(given.out, "\n".join(page) + "\n")
    return 0


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} processor"
    parts = [name, f"torch {torch.__version__}"]
    for package in ("flash-linear-attention", "triton"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} not installed")
    return ", ".join([*parts, f"Python {platform.python_version()}"])


def _scan_sizes(sizes: Sizes) -> str:
    return f"{sizes.tokens:,} tokens in sequences of the given length, {sizes.n_heads} heads of {sizes.n_channels}."


def _mechanism_sizes(sizes: Sizes) -> str:
    return f"{sizes.batch} sequences of {sizes.n_tokens:,} tokens, width {sizes.d_model:,}."


if __name__ == "__main__":
    sys.exit(main())
