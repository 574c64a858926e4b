"""The Omega rule with a matrix, against titans-pytorch's `NeuralMemory` with a network of one layer.

Where both compute the same (chunks of one token and batches of b there, chunks of b here), the rival makes a copy of
the matrix for every token. Otherwise its chunk does less: one step, momentum and decay a chunk, from the mean of its
tokens, and reads that do not know their own chunk. By default all its gradients are taken at the matrix with which the
sequence began; with a batch of one chunk they are taken at the start of every chunk, as ours are.

For keys and values of d channels ours needs 5 d^2 multiply-adds a token for the rule and 4 d^2 for its projections,
the rival 3 d^2 and 3 d^2, and that three times over with the backward pass. Long chunks leave the rival few copies to
make, so that at chunk 64 its defaults are left behind by less than its own batches are.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.memories import Omega, OmegaConfig
from mnemoscope.ops.omega import Rule, Store, Writes, omega_recurrent
from mnemoscope.ops.omega_chunked import omega_chunked

N_TOKENS = 512

SIZES = [(128, 16, 1.5), (128, 64, 1.5), (256, 16, 2.0), (256, 64, 2.0)]
"""Channels, tokens a chunk, and the bar."""

RIVAL = "titans-pytorch 0.5.5"


def rivalries() -> Iterator[Rivalry]:
    """The same work first, then the same sizes."""
    yield same_work(d=64, n_tokens=256, chunk_tokens=16)
    for d, chunk, bar in SIZES:
        for batch, name, difference in (
            (chunk, "a chunk a batch", "rival: gates per chunk, stale reads"),
            (None, "defaults", "rival: gates per chunk, stale reads, gradients at first weights"),
        ):
            yield Rivalry(
                work=f"omega d{d} T{N_TOKENS} chunk {chunk}",
                rival=f"{RIVAL}, {name}",
                bar=bar,
                ours=layer(memory(d, chunk), d),
                theirs=layer(neural_memory(d, chunk, batch), d),
                tolerance=None,
                difference=difference,
            )
    for chunk in (1, 16):
        yield per_token(d=128, chunk_tokens=chunk)


def memory(d: int, chunk_tokens: int) -> Omega:
    """One head with what the rival has: momentum and retention, neither convolution nor gate at the output."""
    torch.manual_seed(0)
    config = OmegaConfig(
        n_heads=1, chunk_tokens=chunk_tokens, window=1, convolution=0, normalise_read=False, output_gate=False
    )
    return Omega(config, d)


def neural_memory(d: int, chunk_tokens: int, batch: int | None, residual: bool = True) -> Any:
    with warnings.catch_warnings():
        # One of its dependencies scripts a function as it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from titans_pytorch import NeuralMemory
        from titans_pytorch.memory_models import MemoryMLP
    torch.manual_seed(0)
    model = MemoryMLP(dim=d, depth=1)
    return NeuralMemory(
        dim=d, chunk_size=chunk_tokens, batch_size=batch, model=model, mem_model_norm_add_residual=residual
    )


def layer(module: nn.Module, d: int) -> Callable[[], list[Tensor]]:
    """Outputs, and gradients to the inputs and every parameter."""
    x = torch.randn(1, N_TOKENS, d, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wanted = [x, *(p for p in module.parameters() if p.numel())]
    # A leaf that is handed to a module cannot be differentiated to under the counter of operations.
    return lambda: differentiated(module(x.clone())[0], wanted)


def differentiated(y: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    grads = torch.autograd.grad(y.square().mean(), wanted, allow_unused=True)
    return [y, *(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True))]


def same_work(d: int, n_tokens: int, chunk_tokens: int) -> Rivalry:
    """The rival per token, and our rule with the rival's projections, gates and first matrix."""
    peer = neural_memory(d, 1, chunk_tokens, residual=False)
    x = torch.randn(1, n_tokens, d, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wanted = [x, *peer.to_queries.parameters(), *peer.to_keys.parameters(), *peer.to_values.parameters()]
    wanted += [*peer.to_adaptive_step.parameters(), *peer.to_momentum.parameters(), *peer.to_decay_factor.parameters()]

    def ours() -> list[Tensor]:
        copy, first = x.clone(), peer.memory_model_parameters[0].unsqueeze(0)
        written = peer.store_norm(copy)
        step_size, momentum, decay = (
            head[0](written).sigmoid() for head in (peer.to_adaptive_step, peer.to_momentum, peer.to_decay_factor)
        )
        k, v = peer.to_keys(written).unsqueeze(2), peer.to_values(written).unsqueeze(2)
        # Its loss is a mean over channels, ours the sum.
        writes = Writes(k, v, torch.ones_like(step_size), step_size / d, (1 - decay).log(), momentum.log())
        q, store = peer.to_queries(peer.retrieve_norm(copy)).unsqueeze(2), Store(first, first, torch.zeros_like(first))
        return differentiated(omega_chunked(q, writes, store, Rule(chunk_tokens))[0].squeeze(2), wanted)

    return Rivalry(
        work=f"omega d{d} T{n_tokens} chunk {chunk_tokens}, same function",
        rival=f"{RIVAL}, chunk_size=1 batch_size={chunk_tokens}",
        bar=2,
        ours=ours,
        theirs=lambda: differentiated(peer(x.clone())[0], wanted),
        repeats=5,
    )


def per_token(d: int, chunk_tokens: int) -> Rivalry:
    """The chunked form against the recurrence it equals."""
    rule, x = Rule(chunk_tokens), torch.randn(1, N_TOKENS, d, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q, writes, state = memory(d, chunk_tokens)._inputs(x, memory(d, chunk_tokens).init_state(1))
    leaves = [part.clone().requires_grad_() for part in (q, *writes) if part is not None]
    q, writes, empty = leaves[0], Writes(*leaves[1:]), state.store
    return Rivalry(
        work=f"omega d{d} T{N_TOKENS} chunk {chunk_tokens}, the rule alone",
        rival="ours, per token",
        bar=5,
        ours=lambda: differentiated(omega_chunked(q, writes, None, rule)[0], leaves),
        theirs=lambda: differentiated(omega_recurrent(q, writes, empty, rule)[0], leaves),
        repeats=5,
    )
