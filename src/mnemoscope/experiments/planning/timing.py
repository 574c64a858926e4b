"""Seconds from counts: coefficients of a layout, fitted to small models of it.

    seconds = per_op * operations + per_flop * FLOPs + per_attention_flop * FLOPs of fused attention
              + per_small_byte * bytes of small operations + per_large_byte * bytes of large ones

by least squares of relative errors, bounded below by what the machine can do: no product is faster than a large square
one, no large operation faster than a copy. What is measured is the CPU time of the process where torch has one thread,
which leaves out what a busy machine gives to others, and wall time otherwise.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from mnemoscope.experiments.planning.work import Work

LEAST_SECONDS = 0.02
"""A repeat is made of as many runs as take so long."""

PEAK_REPEATS = 9
"""The fastest counts: a peak is a bound."""

PRODUCT, COPY = 1024, 2**22
"""Rows and columns of the product, and values of the copy, that tell what the machine can do."""


class Peaks(NamedTuple):
    """Seconds per FLOP of a large product, and per byte of a large copy."""

    per_flop: float
    per_byte: float


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Seconds per operation, per FLOP and per byte.

    Args:
        per_op: of every operation that is dispatched.
        per_flop: of products outside fused attention.
        per_attention_flop: of fused attention.
        per_small_byte: of operations that fit a core's cache.
        per_large_byte: of those that do not.
        error: largest relative error on the sizes that were fitted.
    """

    per_op: float
    per_flop: float
    per_attention_flop: float
    per_small_byte: float
    per_large_byte: float
    error: float = 0.0

    def seconds(self, work: Work) -> float:
        """Of some work."""
        per = (self.per_op, self.per_flop, self.per_attention_flop, self.per_small_byte, self.per_large_byte)
        return float(_row(work) @ np.array(per))


def peaks() -> Peaks:
    """What this machine can do on as many threads as torch has."""
    a, b = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    source, target = torch.randn(COPY), torch.empty(COPY)
    product, copied = (
        min(once(piece) for _ in range(PEAK_REPEATS)) for piece in (lambda: a @ b, lambda: target.copy_(source))
    )
    return Peaks(product / (2 * PRODUCT**3), copied / (8 * COPY))


def fit(measured: Sequence[tuple[Work, float]], least: Peaks) -> Coefficients:
    """Coefficients from works and their seconds.

    Args:
        measured: work and seconds, at least three times.
        least: what no coefficient is below.

    Raises:
        ValueError: fewer than three of them.
    """
    if len(measured) < 3:
        raise ValueError(f"plan: a fit needs at least 3 measured sizes, got {len(measured)}; use another layout")
    rows = np.array([_row(work) for work, _ in measured])
    seconds = np.array([seconds for _, seconds in measured])
    found = np.array([0.0, least.per_flop, least.per_flop, 0.0, least.per_byte])
    # A column of zeros, as of fused attention where there is none, says nothing, and its coefficient keeps its bound.
    there = rows.any(axis=0)
    scale = rows[:, there].max(axis=0)
    relative = rows[:, there] / scale / seconds[:, None]
    solved = lsq_linear(relative, np.ones(len(seconds)), bounds=(found[there] * scale, np.inf))
    found[there] = solved.x / scale
    per_op, per_flop, per_attention_flop, per_small_byte, per_large_byte = found.tolist()
    return Coefficients(
        per_op=per_op,
        per_flop=per_flop,
        per_attention_flop=per_attention_flop,
        per_small_byte=per_small_byte,
        per_large_byte=per_large_byte,
        error=float(np.abs(rows @ found / seconds - 1).max()),
    )


def measure(work: Mapping[Any, Callable[[], object]], repeats: int) -> dict[Any, float]:
    """Median seconds of each piece of work, taken in turns, after one run that is thrown away."""
    runs = {name: _runs(piece) for name, piece in work.items()}
    taken: dict[Any, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, piece in work.items():
            taken[name].append(once(lambda piece=piece, n=runs[name]: [piece() for _ in range(n)]) / runs[name])
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def once(piece: Callable[[], object]) -> float:
    """Seconds of one run, by the clock of this file."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    piece()
    return clock() - started


def _runs(piece: Callable[[], object]) -> int:
    piece()
    return max(1, round(LEAST_SECONDS / max(once(piece), 1e-6)))


def _row(work: Work) -> NDArray[np.float64]:
    outside = work.flops - work.attention_flops
    return np.array([work.n_ops, outside, work.attention_flops, work.small_bytes, work.large_bytes], float)
