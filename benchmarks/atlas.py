"""The ATLAS memory at the guide's width, forward and backward: ours, and a twin written as the guide's public code is.

Width 256, windows (chunks) of 16, 512 tokens, elementwise features of degree 2, gradients through everything to inputs
and every parameter. Both are the same function of the same parameters, which is checked before anything is timed; see
`benchmarks.rivals.atlas` for what the twin does as that code does, and what it does not.
"""

import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.atlas import looped
from benchmarks.timing import Spread, bootstrap_ratio, max_difference, print_table, time_interleaved
from mnemoscope.memories import Omega, OmegaConfig

WIDTH, WINDOW, N_TOKENS = 256, 16, 512
BATCHES = (1, 4)
BAR = 2.0
TOLERANCE = 1e-4
"""Largest difference of outputs and gradients, each against the largest value of its tensor."""

REPEATS = 11


def memory() -> Omega:
    """One head, with what the public code has; gates that depend on the token, as trained ones do."""
    torch.manual_seed(0)
    config = OmegaConfig(
        n_heads=1,
        chunk_tokens=WINDOW,
        granularity="chunk",
        window=1,
        features="elementwise",
        degree=2,
        learned_coefficients=True,
        convolution=0,
        normalise_read=False,
        output_gate=False,
    )
    made = Omega(config, WIDTH)
    with torch.no_grad():
        for name, parameter in made.gates.named_parameters():
            if name.endswith("weight"):
                parameter.normal_(std=0.02)
    return made


def measure(batch: int) -> tuple[str, ...]:
    """One row."""
    ours, x = memory(), torch.randn(batch, N_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
    wanted = [x, *(parameter for parameter in ours.parameters() if parameter.numel())]

    def learnt(y: Tensor) -> list[Tensor]:
        return [y, *torch.autograd.grad(y.square().mean(), wanted)]

    work = {"ours": lambda: learnt(ours(x)[0]), "theirs": lambda: learnt(looped(ours, x))}
    scales = [part.detach().abs().max() for part in work["ours"]()]
    difference = max_difference(
        *([part / scale for part, scale in zip(work[who](), scales, strict=True)] for who in work)
    )
    if not difference <= TOLERANCE:
        raise ValueError(f"atlas: ours and the twin differ by {difference:.1e}: not the same work")
    seconds = time_interleaved(work, REPEATS, clock=time.process_time)
    low, high = bootstrap_ratio(seconds["theirs"], seconds["ours"])
    ratio = Spread.of(seconds["theirs"] / seconds["ours"])
    return (
        f"B{batch} T{N_TOKENS} d{WIDTH} window {WINDOW}",
        f"{difference:.1e}",
        *(_rate(seconds[who], batch) for who in ("ours", "theirs")),
        str(ratio),
        f"[{low:.2f}, {high:.2f}]",
        f"{BAR:g}",
        "reached" if ratio.median >= BAR else "MISSED",
    )


def _rate(seconds: np.ndarray, batch: int) -> str:
    return f"{batch * N_TOKENS / Spread.of(seconds).median:,.0f}"


def run() -> None:
    """Print one row for each batch size; tokens per second of the processor's time."""
    header = (
        "layer",
        "max difference",
        "ours tokens/s",
        "twin tokens/s",
        "ours / twin (10-90 %)",
        "95 % interval",
        "bar",
        "",
    )
    print_table(header, [measure(batch) for batch in BATCHES])
