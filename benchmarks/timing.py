"""What every benchmark shares: interleaved timing, ratios with their spread, the machine's peak, and tables."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Spread:
    """A median and the range that holds the middle 80 %."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """The spread of a sample."""
        low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def time_interleaved(
    work: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Seconds of each piece of work, one after the other in every repeat, so that all meet the same machine.

    Args:
        work: what to time, by name; the order is reversed in every other repeat.
        repeats: at least 7 for a median worth printing.
        warm_up: repeats that are thrown away.
        clock: seconds; `time.process_time` leaves out the time that a busy machine gives to others, and is right for
            work on one thread alone.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(warm_up + repeats):
        for name in sorted(work, reverse=bool(repeat % 2)):
            start = clock()
            work[name]()
            seconds[name].append(clock() - start)
    return {name: np.array(taken[warm_up:]) for name, taken in seconds.items()}


def bootstrap_ratio(numerator: np.ndarray, denominator: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % interval of the ratio of medians of paired times."""
    pick = np.random.default_rng(0).integers(len(numerator), size=(resamples, len(numerator)))
    ratios = np.median(numerator[pick], axis=1) / np.median(denominator[pick], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def matmul_peak(n: int = 1024, repeats: int = 9) -> float:
    """Floating-point operations per second of a square float32 product, the best of a few."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / time_interleaved({"product": lambda: a @ b}, repeats)["product"].min()


def copy_peak(n_values: int = 4_000_000, repeats: int = 9) -> float:
    """Bytes read and written per second by a plain copy of a float32 tensor that no cache holds, the best of a few."""
    source, target = torch.randn(n_values), torch.empty(n_values)
    return 8 * n_values / time_interleaved({"copy": lambda: target.copy_(source)}, repeats)["copy"].min()


def max_difference(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    """Largest absolute difference over pairs of tensors; infinite where either holds something that is not a number."""
    differences = [(a - b).detach().abs().max() for a, b in zip(ours, theirs, strict=True)]
    return float(torch.stack(differences).nan_to_num(torch.inf).max())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    for line in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells[1:]]).rstrip())
