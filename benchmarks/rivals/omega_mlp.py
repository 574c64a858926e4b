"""Networks that learn at test time, against titans-pytorch's `NeuralMemory` with a two-layer network.

Where both compute the same (chunks of one token and batches of b there, chunks of b here), the rival makes a copy of
all weights for every token. Its defaults save that by doing less: one step, momentum and decay a chunk, from the mean
of its tokens, reads that do not know their own chunk, and all gradients at the weights with which the sequence began.
Ours does all this per token, for 33 multiply-adds a weight and token, forward and backward, where the rival's defaults
need 21: the longer the chunk, the less its copies weigh, and the nearer both come to the speed of their products.
With `granularity="chunk"` ours does the rival's work: equal to it with batches of one chunk, but that the rival reads
the last token of a chunk with the network after it, which is queries one token later. Those rows take the rival's
projections and gates too.
`memory_table` prints what both need at their peak.
"""

import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rivals.rivalry import Rivalry
from benchmarks.timing import print_table
from mnemoscope.memories import OmegaMlp, OmegaMlpConfig
from mnemoscope.ops.memory_network import Network
from mnemoscope.ops.omega_mlp import NetworkMemory, Recent, Rule, Writes, omega_mlp_chunked
from mnemoscope.ops.omega_mlp_per_chunk import ChunkMemory, ChunkWrites, per_chunk_chunked

N_TOKENS, EXPANSION = 512, 4

SIZES = [(128, 16), (128, 64), (256, 16), (256, 64)]
"""Channels and tokens a chunk."""

RIVAL = "titans-pytorch 0.5.5"

DIFFERENCE = "rival: gates per chunk, stale reads, gradients at first weights"


def rivalries() -> Iterator[Rivalry]:
    """The same work once, then the rival's defaults, then the same work per chunk."""
    yield same_work(d=64, n_tokens=256, chunk_tokens=16)
    for d, chunk_tokens in SIZES:
        yield Rivalry(
            work=f"omega_mlp d{d} T{N_TOKENS} chunk {chunk_tokens}",
            rival=f"{RIVAL}, defaults",
            bar=3,
            ours=ours(d, chunk_tokens),
            theirs=theirs(d, chunk_tokens),
            tolerance=None,
            difference=DIFFERENCE,
        )
    for d, chunk_tokens in SIZES:
        yield Rivalry(
            work=f"omega_mlp granularity=chunk d{d} T{N_TOKENS} chunk {chunk_tokens}",
            rival=f"{RIVAL}, the same per chunk",
            bar=3,
            ours=ours_per_chunk(d, chunk_tokens),
            theirs=theirs_per_chunk(d, chunk_tokens),
        )


def ours(d: int, chunk_tokens: int) -> Callable[[], list[Tensor]]:
    """One head with what the rival has: momentum and retention, neither convolution nor gate at the output."""
    torch.manual_seed(0)
    config = OmegaMlpConfig(
        n_heads=1,
        chunk_tokens=chunk_tokens,
        expansion=EXPANSION,
        window=1,
        convolution=0,
        normalise_read=False,
        output_gate=False,
    )
    return forward_and_backward(OmegaMlp(config, d), torch.randn(1, N_TOKENS, d))


def theirs(d: int, chunk_tokens: int) -> Callable[[], list[Tensor]]:
    """The rival as a user builds it: depth 2, expansion 4."""
    torch.manual_seed(0)
    return forward_and_backward(neural_memory(d, chunk_size=chunk_tokens), torch.randn(1, N_TOKENS, d))


def neural_memory(d: int, **options: Any) -> Any:
    """The rival's module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from titans_pytorch import NeuralMemory

    return NeuralMemory(d, **options)


def forward_and_backward(memory: nn.Module, x: Tensor) -> Callable[[], list[Tensor]]:
    """Mean square of the output, down to the input and every parameter."""
    x = x.requires_grad_()
    wanted = [x, *(p for p in memory.parameters() if p.numel())]

    def work() -> list[Tensor]:
        # A leaf that is handed to a module cannot be differentiated to under the counter of operations.
        y = memory(x.clone())[0]
        return [y, *(g for g in torch.autograd.grad(y.square().mean(), wanted, allow_unused=True) if g is not None)]

    return work


class ResidualNetwork(nn.Module):
    """x + gelu(x U) D, for the rival to learn with."""

    def __init__(self, d: int) -> None:
        super().__init__()
        std = (2 / (d + EXPANSION * d)) ** 0.5
        self.up = nn.Parameter(std * torch.randn(d, EXPANSION * d))
        self.down = nn.Parameter(std * torch.randn(EXPANSION * d, d))

    def forward(self, x: Tensor) -> Tensor:
        """M(x)."""
        return x + F.gelu(x @ self.up) @ self.down


def same_work(d: int, n_tokens: int, chunk_tokens: int) -> Rivalry:
    """Both with the rival's projections, gates and first network, and with per-token gates and reads."""
    torch.manual_seed(0)
    network, x = ResidualNetwork(d), torch.randn(1, n_tokens, d, requires_grad=True)
    memory = neural_memory(d, chunk_size=1, batch_size=chunk_tokens, model=network, mem_model_norm_add_residual=False)
    wanted = [x, *memory.memory_model_parameters]

    def work(read: Callable[[], Tensor]) -> Callable[[], list[Tensor]]:
        def both_ways() -> list[Tensor]:
            reads = read()
            return [reads, *torch.autograd.grad(reads.square().mean(), wanted)]

        return both_ways

    return Rivalry(
        work=f"omega_mlp rule d{d} T{n_tokens} chunk {chunk_tokens}",
        rival=f"{RIVAL}, the same per token",
        bar=3,
        ours=work(lambda: imported(memory, x.clone(), chunk_tokens)),
        theirs=work(lambda: memory(x.clone())[0]),
    )


def ours_per_chunk(d: int, chunk_tokens: int) -> Callable[[], list[Tensor]]:
    """Our rule per chunk, with the rival's weights."""
    memory, x = _one_chunk_a_batch(d, chunk_tokens)
    return _down_to_weights(memory, x, lambda: imported_per_chunk(memory, x.clone(), chunk_tokens))


def theirs_per_chunk(d: int, chunk_tokens: int) -> Callable[[], list[Tensor]]:
    """The rival with gradients at the network that the chunk found."""
    memory, x = _one_chunk_a_batch(d, chunk_tokens)
    return _down_to_weights(memory, x, lambda: memory(x.clone())[0])


def _one_chunk_a_batch(d: int, chunk_tokens: int) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    memory = neural_memory(
        d,
        chunk_size=chunk_tokens,
        batch_size=chunk_tokens,
        model=ResidualNetwork(d),
        mem_model_norm_add_residual=False,
    )
    return memory, torch.randn(1, N_TOKENS, d, requires_grad=True)


def _down_to_weights(memory: nn.Module, x: Tensor, read: Callable[[], Tensor]) -> Callable[[], list[Tensor]]:
    """Reads, and gradients of their mean square to the input and every parameter."""
    wanted = [x, *(p for p in memory.parameters() if p.numel())]

    def work() -> list[Tensor]:
        reads = read()
        grads = torch.autograd.grad(reads.square().mean(), wanted, allow_unused=True)
        return [reads, *(g for g in grads if g is not None)]

    return work


def imported_per_chunk(memory: Any, x: Tensor, chunk_tokens: int) -> Tensor:
    """Reads of our rule per chunk with the rival's weights, queried one token later; one token more closes the last."""
    stored, d = memory.store_norm(x), x.shape[-1]
    step, decay, momentum = (
        gate(stored).reshape(1, -1, 1) for gate in (memory.to_adaptive_step, memory.to_decay_factor, memory.to_momentum)
    )
    tokens = (memory.to_keys(stored).unsqueeze(2), memory.to_values(stored).unsqueeze(2), step.sigmoid() / d)
    ended = (torch.cat([w, torch.zeros_like(w[:, :1])], dim=1) for w in (*tokens, -decay, momentum))
    first = Network(*(w.unsqueeze(0) for w in memory.memory_model_parameters))
    empty, logit = Network(*(torch.zeros_like(w) for w in first)), x.new_zeros(1, 1, 1)
    given = ChunkMemory(first, empty, empty, logit, logit)
    later = F.pad(memory.to_queries(memory.retrieve_norm(x)), (0, 0, 1, 0)).unsqueeze(2)
    return per_chunk_chunked(later, ChunkWrites(*ended), given, Rule(chunk_tokens))[0].squeeze(2)[:, 1:]


def imported(memory: Any, x: Tensor, chunk_tokens: int) -> Tensor:
    """Reads of our rule with the rival's weights; its objective is a mean over channels, ours a sum."""
    stored, d = memory.store_norm(x), x.shape[-1]
    step, decay, momentum = (
        gate(stored).reshape(1, -1, 1) for gate in (memory.to_adaptive_step, memory.to_decay_factor, memory.to_momentum)
    )
    writes = Writes(
        memory.to_keys(stored).unsqueeze(2),
        memory.to_values(stored).unsqueeze(2),
        step.sigmoid() / d,
        F.logsigmoid(-decay),
        F.logsigmoid(momentum),
        torch.ones_like(step),
    )
    first = Network(*(w.unsqueeze(0) for w in memory.memory_model_parameters))
    recent = Recent(x.new_zeros(1, 0, 1, d), x.new_zeros(1, 0, 1, d), x.new_zeros(1, 0, 1))
    empty = Network(*(torch.zeros_like(w) for w in first))
    q = memory.to_queries(memory.retrieve_norm(x)).unsqueeze(2)
    return omega_mlp_chunked(q, writes, NetworkMemory(first, first, empty, recent), Rule(chunk_tokens))[0].squeeze(2)


def memory_table() -> None:
    """Peak memory of forward and backward: the growth of the largest resident size, each in a process of its own.

    `ru_maxrss` is read when everything is imported and built, and again after three repeats.
    """
    rows = []
    sides = (("", "ours", "theirs"), (" granularity=chunk", "ours_per_chunk", "theirs_per_chunk"))
    for (granularity, *pair), (d, chunk_tokens) in product(sides, SIZES):
        mine, other = (
            float(
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.rivals.omega_mlp", side, str(d), str(chunk_tokens)],
                    capture_output=True,
                    check=True,
                    text=True,
                ).stdout
            )
            for side in pair
        )
        verdict = "reached" if mine <= other / 2 else "MISSED"
        work = f"omega_mlp{granularity} d{d} T{N_TOKENS} chunk {chunk_tokens}"
        rows.append((work, RIVAL, f"{mine:.0f} MB", f"{other:.0f} MB", f"{other / mine:.1f}", "2", verdict))
    print_table(("work", "rival", "ours", "theirs", "theirs / ours", "bar", ""), rows)


def _print_peak(side: str, d: int, chunk_tokens: int) -> None:
    torch.set_num_threads(1)
    sides = (ours, theirs, ours_per_chunk, theirs_per_chunk)
    work = {make.__name__: make for make in sides}[side](d, chunk_tokens)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        work()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


if __name__ == "__main__":
    _print_peak(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
