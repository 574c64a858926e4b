"""The network memory against titans-pytorch 0.5.5, where both compute the same.

The peer's `NeuralMemory` takes one step, one momentum and one decay per chunk of `chunk_size` tokens, from their mean,
and reads a chunk with the network before it, except for its last token. It takes all gradients at the network with
which its `batch_size` of tokens began, or, without one, at the network of the very first token. With chunks of one
token and batches of b it therefore is our rule with chunks of b: per-token gates, gradients at the start of the chunk,
reads after the write. With chunks and batches of c alike it is our rule per chunk, but that the last token of a chunk
is read with the network after it: queries one token later, ours come to the same. Its objective is the mean over
channels, so its step sizes are ours times the width. Its default network puts a layer normalisation with a gain that
is itself memory on the answer, which ours has not: here it is given our residual network, and its own without that
wrapper.
"""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.ops.memory_network import Network, Shape
from mnemoscope.ops.omega_mlp import NetworkMemory, Recent, Rule, Writes, omega_mlp_chunked
from mnemoscope.ops.omega_mlp_per_chunk import ChunkMemory, ChunkWrites, per_chunk_chunked
from tests.tolerances import PEER_FLOAT32, assert_close

# What the peer's dependencies do when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

WIDTH, HIDDEN = 8, 24


class ResidualNetwork(nn.Module):
    """x + gelu(x U) D, for the peer to learn with."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(WIDTH, HIDDEN) * 0.3, torch.randn(HIDDEN, WIDTH) * 0.3])

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(x @ self.weights[0]) @ self.weights[1]


def peer_memory(*, residual: bool, momentum: bool, batch_size: int | None, chunk_size: int = 1) -> Any:
    # Imported here: the peer brings much with it, and the other tests do not need it.
    peer = import_module("titans_pytorch")
    network = ResidualNetwork() if residual else peer.MemoryMLP(WIDTH, depth=2, expansion_factor=HIDDEN / WIDTH)
    return peer.NeuralMemory(
        WIDTH,
        chunk_size=chunk_size,
        batch_size=batch_size,
        model=network,
        momentum=momentum,
        mem_model_norm_add_residual=False,
    )


def with_imported_weights(memory: Any, x: Tensor, chunk_tokens: int, residual: bool) -> Tensor:
    """Reads of our rule, with the peer's projections, gates and first network."""
    stored, asked = memory.store_norm(x), memory.retrieve_norm(x)

    def per_head(gate: Tensor) -> Tensor:
        return gate.reshape(*x.shape[:2], 1)

    ones = torch.ones(*x.shape[:2], 1)
    writes = Writes(
        memory.to_keys(stored).unsqueeze(2),
        memory.to_values(stored).unsqueeze(2),
        per_head(memory.to_adaptive_step(stored)).sigmoid() / WIDTH,
        F.logsigmoid(-per_head(memory.to_decay_factor(stored))),
        None if memory.to_momentum is None else F.logsigmoid(per_head(memory.to_momentum(stored))),
        ones,
    )
    first = Network(*(w.expand(len(x), -1, -1, -1) for w in memory.memory_model_parameters))
    momentum = Network(*(torch.zeros_like(w) for w in first))
    recent = Recent(*(ones.new_zeros(len(x), 0, 1, WIDTH) for _ in range(2)), ones[:, :0])
    rule = Rule(chunk_tokens, Shape(residual=residual))
    reads, _ = omega_mlp_chunked(
        memory.to_queries(asked).unsqueeze(2), writes, NetworkMemory(first, first, momentum, recent), rule
    )
    return reads.squeeze(2)


def per_chunk_with_imported_weights(memory: Any, x: Tensor, chunk_tokens: int, residual: bool) -> Tensor:
    """The same per chunk, where a token is read with the network that its successor's chunk found."""
    stored = memory.store_norm(x)

    def per_head(gate: Tensor) -> Tensor:
        return gate.reshape(*x.shape[:2], 1)

    writes = ChunkWrites(
        memory.to_keys(stored).unsqueeze(2),
        memory.to_values(stored).unsqueeze(2),
        per_head(memory.to_adaptive_step(stored)).sigmoid() / WIDTH,
        -per_head(memory.to_decay_factor(stored)),
        None if memory.to_momentum is None else per_head(memory.to_momentum(stored)),
    )
    # The one token more that closes a chunk is not written by anybody.
    writes = ChunkWrites(*(None if w is None else torch.cat([w, torch.zeros_like(w[:, :1])], dim=1) for w in writes))
    first = Network(*(w.expand(len(x), -1, -1, -1) for w in memory.memory_model_parameters))
    empty, logit = Network(*(torch.zeros_like(w) for w in first)), x.new_zeros(len(x), 1, 1)
    given = ChunkMemory(first, empty, empty, logit, logit[..., : 0 if memory.to_momentum is None else 1])
    later = F.pad(memory.to_queries(memory.retrieve_norm(x)), (0, 0, 1, 0)).unsqueeze(2)
    reads, _ = per_chunk_chunked(later, writes, given, Rule(chunk_tokens, Shape(residual=residual)))
    return reads.squeeze(2)[:, 1:]


def assert_same_reads_and_gradients(memory: Any, ours: Tensor, theirs: Tensor) -> None:
    assert_close(ours, theirs, PEER_FLOAT32)
    weigh = torch.randn(theirs.shape)
    parameters = [p for p in memory.parameters() if p.requires_grad]
    grads = [torch.autograd.grad((y * weigh).sum(), parameters, allow_unused=True) for y in (ours, theirs)]
    compared = [(our, their) for our, their in zip(*grads, strict=True) if our is not None and their is not None]
    assert len(compared) >= 9
    for our, their in compared:
        assert_close(our, their, PEER_FLOAT32)


@pytest.mark.parametrize("batch_size", [1, 5, 8, None])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_the_peer_reads_the_same_in_float32(residual: bool, momentum: bool, batch_size: int | None):
    torch.manual_seed(0)
    memory, x = peer_memory(residual=residual, momentum=momentum, batch_size=batch_size), torch.randn(2, 21, WIDTH)
    theirs, _ = memory(x)
    # Without batches, all gradients are taken where the sequence starts: one chunk.
    ours = with_imported_weights(memory, x, batch_size or 21, residual)
    assert_same_reads_and_gradients(memory, ours, theirs)


@pytest.mark.parametrize("chunk_tokens", [2, 5, 8])
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_per_chunk_the_peer_reads_the_same_in_float32(residual: bool, momentum: bool, chunk_tokens: int):
    torch.manual_seed(0)
    memory = peer_memory(residual=residual, momentum=momentum, batch_size=chunk_tokens, chunk_size=chunk_tokens)
    x = torch.randn(2, 24, WIDTH)
    ours, theirs = per_chunk_with_imported_weights(memory, x, chunk_tokens, residual), memory(x)[0]
    assert_same_reads_and_gradients(memory, ours, theirs)


def test_in_chunks_the_peer_reads_with_what_came_before_the_chunk():
    """The documented difference: within a chunk its reads know nothing of the chunk, ours do."""
    torch.manual_seed(0)
    memory, x = peer_memory(residual=True, momentum=True, batch_size=None, chunk_size=8), torch.randn(2, 16, WIDTH)
    theirs, ours = memory(x)[0], with_imported_weights(memory, x, 8, residual=True)
    asked = memory.to_queries(memory.retrieve_norm(x))
    up, down = (w[0] for w in memory.memory_model_parameters)
    untouched = asked + F.gelu(asked @ up) @ down
    assert_close(theirs[:, :7], untouched[:, :7], PEER_FLOAT32)
    assert (ours[:, :7] - untouched[:, :7]).abs().amax(-1).min() > 1e-3
