"""Scans on a CUDA device: our own form, as it is and compiled, beside flash-linear-attention's kernel, in bfloat16.

Forward and backward. Where a kernel is taken the ratio is that of the dispatch itself; it is to be at least 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import max_difference, print_table
from mnemoscope.ops import diagonal_decay, gated_delta, kernels, rwkv7, ssd

LENGTHS = (1024, 4096, 16384, 32768)
TOKENS, HEADS, CHANNELS = 32768, 16, 64
WARM_UP, REPEATS = 10, 50


def problem(name: str, t: int) -> tuple[kernels.Kernel, Tensor, type, list[Tensor]]:
    """Queries and writes of TOKENS tokens in sequences of t, from one seed."""
    b, h, k = max(1, TOKENS // t), HEADS, CHANNELS
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cuda", dtype=torch.bfloat16)

    q, key, v = (draw(b, t, h, k) for _ in range(3))
    key = F.normalize(key, dim=-1)
    head, channel = draw(b, t, h).sigmoid(), draw(b, t, h, k).sigmoid()
    match name:
        case "gated delta rule":
            return kernels.GATED_DELTA, q, gated_delta.Writes, [key, v, head, -0.1 * head]
        case "retention, Mamba-2":
            return kernels.SSD, q, ssd.Writes, [key, v, head, -0.1 * head]
        case "GLA":
            return kernels.DIAGONAL, q, diagonal_decay.Writes, [key, v, -0.1 * channel]
        case "RWKV-6":
            return kernels.DIAGONAL_BEFORE_WRITE, q, diagonal_decay.Writes, [key, v, -0.1 * channel]
        case _:
            return kernels.RWKV7, q, rwkv7.Writes, [key, v, key, channel, -0.5 * channel]


def milliseconds(work: Callable[[], object]) -> float:
    """Median of CUDA-event times."""
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[REPEATS // 2]


def row(name: str, t: int) -> tuple[str, ...]:
    """One scan at one length; a form that runs out of memory is said to."""
    kernel, q, make, parts = problem(name, t)
    leaves = [part.requires_grad_() for part in (q, *parts)]
    state = q.new_zeros(q.shape[0], HEADS, CHANNELS, CHANNELS)

    def forward_and_backward(form: Callable[..., tuple[Tensor, Tensor]]) -> list[Tensor]:
        read, _ = form(leaves[0], make(*leaves[1:]), state)
        return [read, *torch.autograd.grad(read, leaves, torch.ones_like(read))]

    forms = {"ours": kernel.ours, "compiled": torch.compile(kernel.ours), "dispatched": kernel}
    taken: dict[str, float | None] = {}
    for which, form in forms.items():
        try:
            taken[which] = milliseconds(lambda form=form: forward_and_backward(form))
        except torch.OutOfMemoryError:
            taken[which] = None
    difference = max_difference(forward_and_backward(kernel)[:1], forward_and_backward(kernel.ours)[:1])
    own = [time for time in (taken["ours"], taken["compiled"]) if time is not None]
    dispatched = taken["dispatched"]
    ratio = f"{min(own) / dispatched:.2f}" if own and dispatched else "-"
    cells = ["out of memory" if time is None else f"{time:.2f} ms" for time in taken.values()]
    return (name, f"{t:,}", f"{difference:.1e}", *cells, kernel.path(q), ratio)


def run() -> None:
    """Print one row per scan and length."""
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to time here")
        return
    names = ("gated delta rule", "retention, Mamba-2", "GLA", "RWKV-6", "RWKV-7")
    header = (
        "scan",
        "tokens",
        "max difference",
        "ours",
        "compiled",
        "dispatched",
        "taken",
        "best of ours / dispatched",
    )
    print(torch.cuda.get_device_name())
    print_table(header, [row(name, t) for name in names for t in LENGTHS])
