"""Scans of state-space memories and exponential gates against the torch code that transformers and mambapy ship."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.ops import mlstm, selective_scan, ssd
from mnemoscope.ops.diagonal_scan import diagonal_scan

B, T = 4, 256
"""Sequences and tokens of every row."""

D, N = 256, 16
"""Channels, and entries of a channel's state."""

H, W = 4, 64
"""Heads, and channels of a head's keys and values."""

LARGE_READS = 5e-4
"""Reads of an mLSTM reach 45 where the normaliser is small: either form is about 2e-4 from float64."""

PEER_CHUNK = 32
"""Fastest of 32, 64, 128 and 256 for transformers' chunked scan at these sizes; its default is 256."""


def draws(*shapes: tuple[int, ...]) -> list[Tensor]:
    """One normal tensor per shape."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def work(form: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Forward and backward: the read, and the gradients of a weighted sum to all inputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    weigh: list[Tensor] = []

    def once() -> list[Tensor]:
        read = form(*leaves)
        if not weigh:
            weigh.append(torch.randn(read.shape, generator=torch.Generator().manual_seed(1)) / T)
        return [read, *torch.autograd.grad(read, leaves, weigh[0])]

    return once


def selective_scans() -> Iterator[Rivalry]:
    """Mamba: value, step, rate, key and query as a trained layer hands them over."""
    v, step, k, q = draws((B, T, D), (B, T, D), (B, T, N), (B, T, N))
    inputs = [v, F.softplus(step - 3), -torch.arange(1, N + 1.0).repeat(D, 1), k, q]
    fallback = import_module("transformers.models.mamba.modeling_mamba").mamba_selective_scan
    block = import_module("mambapy.mamba").MambaBlock
    no_skip = torch.zeros(D)

    def ours(v: Tensor, step: Tensor, rate: Tensor, k: Tensor, q: Tensor) -> Tensor:
        writes = selective_scan.Writes(k, v, step, rate)
        return selective_scan.selective_scan_chunked(q, writes, v.new_zeros(B, D, N))[0]

    def transformers(v: Tensor, step: Tensor, rate: Tensor, k: Tensor, q: Tensor) -> Tensor:
        return fallback(v.mT, step.mT, rate, k.mT, q.mT).mT

    def mambapy(v: Tensor, step: Tensor, rate: Tensor, k: Tensor, q: Tensor) -> Tensor:
        return block.selective_scan(None, v, step, rate, k, q, no_skip)

    # Forward: three tensors of channels and two of keys; backward: five and four.
    moved = 4 * B * T * (8 * D + 6 * N)
    for rival, theirs, bar in (
        ("transformers 5.23, torch fallback", transformers, 30),
        ("mambapy 1.2.0, parallel scan", mambapy, 1.3),
    ):
        yield Rivalry(
            work=f"Mamba selective scan B{B} T{T} d{D} n{N}",
            rival=rival,
            bar=bar,
            ours=work(ours, inputs),
            theirs=work(theirs, inputs),
            bytes_moved=moved,
        )


def chunk_scans() -> Rivalry:
    """Mamba-2: one group of heads."""
    v, step, rate, k, q = draws((B, T, H, W), (B, T, H), (H,), (B, T, 1, W), (B, T, 1, W))
    inputs = [v, F.softplus(step - 3), -rate.exp(), k, q]
    fallback = import_module("transformers.models.mamba2.modeling_mamba2").mamba2_chunk_scan

    def ours(v: Tensor, step: Tensor, rate: Tensor, k: Tensor, q: Tensor) -> Tensor:
        return ssd.ssd_chunked(q, ssd.Writes(k, v, step, step * rate), v.new_zeros(B, H, W, W))[0]

    def theirs(v: Tensor, step: Tensor, rate: Tensor, k: Tensor, q: Tensor) -> Tensor:
        return fallback(v, step, rate, k, q, PEER_CHUNK)

    return Rivalry(
        work=f"Mamba-2 chunk scan B{B} T{T} H{H} D{W} N{W}",
        rival=f"transformers 5.23, torch fallback, chunks of {PEER_CHUNK}",
        bar=1.5,
        ours=work(ours, inputs),
        theirs=work(theirs, inputs),
        repeats=25,
    )


def real_gated_scans() -> Rivalry:
    """RG-LRU: the recurrence alone."""
    a, b = draws((B, T, D), (B, T, D))
    block = import_module("transformers.models.recurrent_gemma.modeling_recurrent_gemma").RecurrentGemmaRglru
    no_reset = torch.zeros(B, T, 1, dtype=torch.bool)

    def ours(a: Tensor, b: Tensor) -> Tensor:
        return diagonal_scan(a, b, b.new_zeros(B, D))

    def theirs(a: Tensor, b: Tensor) -> Tensor:
        return block._rnn_scan(None, b, a, no_reset, None)[0]

    return Rivalry(
        work=f"RG-LRU scan B{B} T{T} d{D}",
        rival="transformers 5.23, torch loop",
        bar=5,
        ours=work(ours, [(a + 3).sigmoid(), b]),
        theirs=work(theirs, [(a + 3).sigmoid(), b]),
        bytes_moved=4 * 8 * B * T * D,
    )


def matrix_memories() -> Rivalry:
    """mLSTM: the logit of the retention is what both are given."""
    q, k, v, strength, retention = draws((B, T, H, W), (B, T, H, W), (B, T, H, W), (B, T, H), (B, T, H))
    inputs = [q, k, v, strength, retention + 3]
    peer = import_module("transformers.models.xlstm.modeling_xlstm").mlstm_chunkwise_native_autograd

    def ours(q: Tensor, k: Tensor, v: Tensor, strength: Tensor, retention: Tensor) -> Tensor:
        empty = mlstm.ScaledState(v.new_zeros(B, H, W, W), v.new_zeros(B, H, W), v.new_zeros(B, H))
        writes = mlstm.Writes(k, v, strength, F.logsigmoid(retention))
        return mlstm.mlstm_chunked(q * W**-0.5, writes, empty)[0]

    def theirs(q: Tensor, k: Tensor, v: Tensor, strength: Tensor, retention: Tensor) -> Tensor:
        heads_first = (tensor.transpose(1, 2).contiguous() for tensor in (q, k, v, strength, retention))
        return peer(*heads_first, eps=0.0).transpose(1, 2)

    return Rivalry(
        work=f"mLSTM B{B} T{T} H{H} D{W}",
        rival="transformers 5.23, torch chunks of 64",
        bar=1.2,
        tolerance=LARGE_READS,
        ours=work(ours, inputs),
        theirs=work(theirs, inputs),
        repeats=25,
    )


def rivalries() -> Iterator[Rivalry]:
    """One row after the other."""
    # The peer warns that it is its own reference implementation; that is what is wanted here.
    import_module("transformers.utils").logging.set_verbosity_error()
    yield from selective_scans()
    yield chunk_scans()
    yield real_gated_scans()
    yield matrix_memories()
