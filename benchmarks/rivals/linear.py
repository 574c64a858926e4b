"""Linear recurrences with diagonal decay and RWKV-7: chunks against our own recurrence, token by token."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.ops import diagonal_decay, rwkv7

B, T, H, K = 4, 512, 4, 64
BAR = 10


def draws() -> Callable[[], Tensor]:
    """Normal draws, to be trained."""
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(B, T, H, K, generator=generator).requires_grad_()


def gla() -> list[Tensor]:
    draw = draws()
    return [draw() * K**-0.5, draw(), draw(), F.logsigmoid(draw()) / 16]


def retention() -> list[Tensor]:
    draw = draws()
    rates = torch.log1p(-(2.0 ** (-5 - torch.arange(H)))).view(H, 1).repeat(B, T, 1, 1)
    return [draw() * K**-0.5, draw(), draw(), rates]


def finch() -> list[Tensor]:
    draw = draws()
    return [draw() * K**-0.5, draw(), draw(), -(draw() - 3).exp()]


def goose() -> list[Tensor]:
    draw = draws()
    removal_key, rate = F.normalize(draw(), dim=-1), draw().sigmoid()
    decay = -math.exp(-0.5) * (draw() - 2).sigmoid()
    return [draw() * K**-0.5, draw() * K**-0.5, draw(), removal_key, rate, decay]


def forward_and_backward(form: Callable[..., tuple[Tensor, Tensor]], writes: Any, inputs: list[Tensor]) -> list[Tensor]:
    """Reads of a form from an empty memory, and the gradients of their sum to the inputs that are trained."""
    q, *written = inputs
    reads, _ = form(q, writes(*written), q.new_zeros(B, H, K, K))
    return [reads, *torch.autograd.grad(reads.sum(), [tensor for tensor in inputs if tensor.requires_grad])]


def before_write(form: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda *arguments: form(*arguments, before_write=True)


def rivalry(name: str, chunked: Any, recurrent: Any, writes: Any, inputs: list[Tensor]) -> Rivalry:
    return Rivalry(
        work=f"{name}, B{B} T{T} H{H} K{K} V{K}",
        rival="our recurrence",
        bar=BAR,
        ours=lambda: forward_and_backward(chunked, writes, inputs),
        theirs=lambda: forward_and_backward(recurrent, writes, inputs),
        # Sums of gradients over 512 tokens, both in float32.
        tolerance=1e-3,
    )


def rivalries() -> Iterator[Rivalry]:
    """One row per op and use."""
    diagonal = diagonal_decay.diagonal_decay_chunked, diagonal_decay.diagonal_decay_recurrent
    yield rivalry("RetNet", *diagonal, diagonal_decay.Writes, retention())
    yield rivalry("GLA", *diagonal, diagonal_decay.Writes, gla())
    yield rivalry("RWKV-6", *map(before_write, diagonal), diagonal_decay.Writes, finch())
    yield rivalry("RWKV-7", rwkv7.rwkv7_chunked, rwkv7.rwkv7_recurrent, rwkv7.Writes, goose())
