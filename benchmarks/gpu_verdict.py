"""One verdict from end to end on a hybrid of half a billion parameters with weights as drawn: time and peak memory.

Weights are random, so the verdicts themselves say nothing but that there is nothing to find; the work is that of a
trained model of the same size.
"""

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.gpu_tables import NONE, peak_memory
from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.models import Stack, StackConfig
from mnemoscope.models.layout import parse_layout


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The model, the data and what the examination may cost.

    Args:
        layout, d_model, vocab_size, mlp_ratio: of the stack.
        n_tokens, batch: of the data.
        budget: of the examination.
    """

    layout: str = f"({3 * 'gated_delta(n_heads=12), '}attention(n_heads=12)) * 4"
    d_model: int = 1536
    vocab_size: int = 32_000
    mlp_ratio: float = 4.0
    n_tokens: int = 1024
    batch: int = 4
    budget: Budget = field(
        default_factory=lambda: Budget(
            n_calibration=16,
            n_test=16,
            looks=1,
            fit_steps=4,
            joint_fit_steps=2,
            windows=(4,),
            contribution=False,
            untrained_copy=False,
            n_resamples=1000,
            max_minutes=4.0,
        )
    )


TINY = Verdict(
    layout="(gated_delta(n_heads=2), attention(n_heads=2)) * 1",
    d_model=16,
    vocab_size=11,
    n_tokens=16,
    budget=Budget(
        n_calibration=8,
        n_test=8,
        looks=1,
        fit_steps=2,
        joint_fit_steps=1,
        windows=(4,),
        contribution=False,
        untrained_copy=False,
        n_resamples=200,
    ),
)

HEADER = (
    "parameters",
    "sequences",
    "forward of a batch",
    "examination",
    "in forwards",
    "peak memory",
    "left unmeasured",
)


def verdict_row(device: torch.device, verdict: Verdict) -> tuple[tuple[str, ...], list[str]]:
    """The row, and a line for each site with its verdict."""
    stack = _stack(verdict).to(device, torch.bfloat16).eval()
    n_batches = (verdict.budget.n_calibration + verdict.budget.n_test) // verdict.batch
    batches = [_batch(verdict, seed) for seed in range(n_batches)]
    forward = _seconds_of_forward(stack, batches[0], device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    found = examine(stack, batches, budget=verdict.budget)
    seconds = time.perf_counter() - start
    n_parameters = sum(weight.numel() for weight in stack.parameters())
    row = (
        f"{n_parameters / 1e9:.2f} x 10^9" if n_parameters > 10**8 else f"{n_parameters:,}",
        f"{n_batches * verdict.batch} of {verdict.n_tokens:,} tokens",
        f"{1e3 * forward:.1f} ms",
        f"{seconds:.0f} s",
        f"{seconds / forward:,.0f}",
        peak_memory(device) if device.type == "cuda" else NONE,
        f"{len(found.missing)}",
    )
    return row, [f"{site.name}: {site.verdict}" for site in found.sites]


def _stack(verdict: Verdict) -> Stack:
    mixers = parse_layout(verdict.layout)
    config = StackConfig(
        vocab_size=verdict.vocab_size, d_model=verdict.d_model, mixers=mixers, mlp_ratio=verdict.mlp_ratio
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Stack(config)


def _batch(verdict: Verdict, seed: int) -> Batch:
    tokens = np.random.default_rng(seed).integers(0, verdict.vocab_size, (verdict.batch, verdict.n_tokens + 1))
    return Batch(inputs=torch.from_numpy(tokens[:, :-1]), targets=torch.from_numpy(tokens[:, 1:]))


@torch.no_grad()
def _seconds_of_forward(stack: Stack, batch: Batch, device: torch.device) -> float:
    """The third of three."""
    tokens, seconds = torch.as_tensor(batch.inputs).to(device), sys.float_info.max
    for _ in range(3):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        stack(tokens)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    return seconds
