"""The Omega rule with a matrix, against titans-pytorch's `NeuralMemory` with a network of one layer.

The rival's batch is our chunk, at whose start gradients are taken. With chunks of one token in it it computes what our
granularity="token" does, and makes a copy of the matrix for every token; with one chunk a batch it computes what our
granularity="chunk" does: one step, momentum and decay a chunk, and reads that do not know their own chunk. Both are
compared as the same function. By default all its gradients are taken at the matrix with which the sequence began.

For keys and values of d channels ours needs 5 d^2 multiply-adds a token for the rule per token, 3 d^2 per chunk, and
4 d^2 for its projections, the rival 3 d^2 and 3 d^2, and that three times over with the backward pass. Long chunks
leave the rival few copies to make, so that at chunk 64 its defaults are left behind by less than its own batches are.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.memories import Omega, OmegaConfig
from mnemoscope.ops.omega import Rule, Store, Writes, omega_recurrent
from mnemoscope.ops.omega_chunked import omega_chunked
from mnemoscope.ops.omega_per_chunk import PerChunkStore, PerChunkWrites, omega_per_chunk

N_TOKENS = 512

SIZES = [(128, 16, 1.5), (128, 64, 1.5), (256, 16, 2.0), (256, 64, 2.0)]
"""Channels, tokens a chunk, and the bar."""

RIVAL = "titans-pytorch 0.5.5"


def rivalries() -> Iterator[Rivalry]:
    """The same work first, then the same sizes."""
    yield same_work(d=64, n_tokens=256, chunk_tokens=16)
    for d, chunk, bar in SIZES:
        yield same_work(d, N_TOKENS, chunk, bar, granularity="chunk")
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


def same_work(
    d: int, n_tokens: int, chunk_tokens: int, bar: float = 2, granularity: Literal["token", "chunk"] = "token"
) -> Rivalry:
    """The rival, per token or per chunk, and our rule with the rival's projections, gates and first matrix."""
    theirs = chunk_tokens if granularity == "chunk" else 1
    peer = neural_memory(d, theirs, chunk_tokens, residual=False)
    x = torch.randn(1, n_tokens, d, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wanted = [x, *peer.to_queries.parameters(), *peer.to_keys.parameters(), *peer.to_values.parameters()]
    wanted += [*peer.to_adaptive_step.parameters(), *peer.to_momentum.parameters(), *peer.to_decay_factor.parameters()]
    read = read_per_chunk if granularity == "chunk" else read_per_token
    return Rivalry(
        work=f"omega d{d} T{n_tokens} chunk {chunk_tokens} granularity={granularity}, same function",
        rival=f"{RIVAL}, chunk_size={theirs} batch_size={chunk_tokens}",
        bar=bar,
        ours=lambda: differentiated(read(peer, x.clone(), chunk_tokens), wanted),
        theirs=lambda: differentiated(peer(x.clone())[0], wanted),
        repeats=7,
    )


def read_per_token(peer: Any, x: Tensor, chunk_tokens: int) -> Tensor:
    """Our rule per token; the rival's loss is a mean over channels, ours the sum."""
    written, first = peer.store_norm(x), peer.memory_model_parameters[0].unsqueeze(0)
    step_size, momentum, decay = (
        head[0](written).sigmoid() for head in (peer.to_adaptive_step, peer.to_momentum, peer.to_decay_factor)
    )
    k, v = peer.to_keys(written).unsqueeze(2), peer.to_values(written).unsqueeze(2)
    step_size = step_size / x.shape[-1]
    writes = Writes(k, v, torch.ones_like(step_size), step_size, (1 - decay).log(), momentum.log())
    q, store = peer.to_queries(peer.retrieve_norm(x)).unsqueeze(2), Store(first, first, torch.zeros_like(first))
    return omega_chunked(q, writes, store, Rule(chunk_tokens))[0].squeeze(2)


def read_per_chunk(peer: Any, x: Tensor, chunk_tokens: int) -> Tensor:
    """Our rule per chunk; what the rival's decay takes away is what our retention leaves, with the other sign."""
    written, first = peer.store_norm(x), peer.memory_model_parameters[0].unsqueeze(0)
    logits = torch.stack([-peer.to_decay_factor[0](written), peer.to_momentum[0](written)], dim=2)
    writes = PerChunkWrites(
        peer.to_keys(written).unsqueeze(2),
        peer.to_values(written).unsqueeze(2),
        peer.to_adaptive_step[0](written).sigmoid() / x.shape[-1],
        logits,
        retains=True,
        momentum=True,
    )
    q, nothing = peer.to_queries(peer.retrieve_norm(x)).unsqueeze(2), torch.zeros_like(first)
    store = PerChunkStore(first, nothing, nothing, logits.new_zeros(1, 2, 1))
    return omega_per_chunk(q, writes, store, Rule(chunk_tokens))[0].squeeze(2)


def per_token(d: int, chunk_tokens: int) -> Rivalry:
    """The chunked form against the recurrence it equals."""
    rule, x = Rule(chunk_tokens), torch.randn(1, N_TOKENS, d, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q, writes, state = memory(d, chunk_tokens)._inputs(x, memory(d, chunk_tokens).init_state(1))
    assert isinstance(writes, Writes)
    assert isinstance(state.store, Store)
    leaves = [part.clone().requires_grad_() for part in (q, *writes) if part is not None]
    q, writes, empty = leaves[0], Writes(*leaves[1:]), state.store
    return Rivalry(
        work=f"omega d{d} T{N_TOKENS} chunk {chunk_tokens}, the rule alone",
        rival="ours, per token",
        bar=5,
        ours=lambda: differentiated(omega_chunked(q, writes, None, rule)[0], leaves),
        theirs=lambda: differentiated(omega_recurrent(q, writes, empty, rule)[0], leaves),
        repeats=7,
    )
