"""A network as memory, written by gradient descent while it reads: as a recurrence and in chunks.

    G_t = sum_{t-w < i <= t} g_i grad l_i(M_0)
    S_t = m_t S_{t-1} - e_t G_t          M_t = a_t M_{t-1} + S_t          r_t = M_t(q_t)

for each layer of M, with step size e_t, momentum m_t, retention a_t and window weights g_i. M_0 is the network at the
start of the token's chunk: within a chunk gradients are stale, which is what lets a chunk be computed at once and makes
its length a part of the model. With chunks of one token the rule is exact.

Gradients are outer products, so a layer of M_t acts on an activation x as

    x M_t = c_t x M_0' + c'_t x S_0' - sum_i w_ti <x, a_i> d_i

with the network and momentum at hand when the chunk is entered, activations a_i and errors d_i of the written tokens,
and numbers c, c', w of the gates alone: no token's weights are formed.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), Omega rule, momentum and retention, with gradients at the start
of a chunk; the products within a chunk are the dual form of Sun et al. 2024, "Learning to (Learn at Test Time)" (arXiv
2407.04620).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mnemoscope.ops.memory_network import (
    Gains,
    Network,
    Shape,
    gradients_by_autograd,
    gradients_written_out,
    normalise_weights,
    read_network,
)
from mnemoscope.ops.network_chunk import Chunk, ChunkInputs, Layers, by_order, coefficients
from mnemoscope.ops.precision import exact, exact_read


class Rule(NamedTuple):
    """What of the rule is not a tensor.

    Args:
        chunk_tokens: tokens that share the network at which their gradients are taken.
        shape: of the network and its objective.
    """

    chunk_tokens: int
    shape: Shape = Shape()


class Writes(NamedTuple):
    """What is written, token by token; `log_momentum` is None where S_t does not carry S_{t-1}."""

    k: Float[Tensor, "b t h k"]
    v: Float[Tensor, "b t h v"]
    step_size: Float[Tensor, "b t h"]
    log_retention: Float[Tensor, "b t h"]
    log_momentum: Float[Tensor, "b t h"] | None
    window_weight: Float[Tensor, "b t h"]

    def at(self, tokens: slice) -> "Writes":
        """The writes of a stretch of time."""
        momentum = None if self.log_momentum is None else self.log_momentum[:, tokens]
        return Writes(
            self.k[:, tokens],
            self.v[:, tokens],
            self.step_size[:, tokens],
            self.log_retention[:, tokens],
            momentum,
            self.window_weight[:, tokens],
        )

    def detached(self) -> "Writes":
        """The same as constants."""
        momentum = None if self.log_momentum is None else self.log_momentum.detach()
        gates = self.step_size.detach(), self.log_retention.detach(), momentum, self.window_weight.detach()
        return Writes(self.k.detach(), self.v.detach(), *gates)


class Recent(NamedTuple):
    """The last w - 1 tokens, whose gradients every later token of the window takes anew."""

    k: Float[Tensor, "b r h k"]
    v: Float[Tensor, "b r h v"]
    window_weight: Float[Tensor, "b r h"]

    def extended(self, writes: Writes) -> "Recent":
        """These tokens and those of the writes."""
        later = (writes.k, writes.v, writes.window_weight)
        return Recent(*(torch.cat([old, new], dim=1) for old, new in zip(self, later, strict=True)))

    def at(self, tokens: slice) -> "Recent":
        """A stretch of these tokens."""
        return Recent(*(tensor[:, tokens] for tensor in self))

    def last(self, n_tokens: int) -> "Recent":
        """The last of these tokens."""
        return Recent(*(tensor[:, tensor.shape[1] - n_tokens :].clone() for tensor in self))


class NetworkMemory(NamedTuple):
    """A memory somewhere in a chunk.

    Args:
        start: M_0, at which gradients are taken.
        running: M_t.
        momentum: S_t; not used where the rule has none.
        recent: tokens of the window before the next one.
    """

    start: Network
    running: Network
    momentum: Network
    recent: Recent


Gradients = Callable[[Network, Tensor, Tensor, Tensor, Shape], Network]


@exact_read
def omega_mlp_recurrent(
    q: Float[Tensor, "b t h k"],
    writes: Writes,
    memory: NetworkMemory,
    rule: Rule,
    position: int = 0,
    gains: Gains | None = None,
) -> tuple[Float[Tensor, "b t h v"], NetworkMemory]:
    """Read after each write, one token at a time, with gradients by autograd: the slow twin."""
    reads = []
    for t in range(q.shape[1]):
        if position == rule.chunk_tokens:
            memory, position = begin_chunk(memory, gains), 0
        memory = omega_mlp_step(memory, writes.at(slice(t, t + 1)), rule, gradients_by_autograd)
        reads.append(read_network(memory.running, q[:, t : t + 1], rule.shape))
        position += 1
    return torch.cat(reads, dim=1), memory


@exact
def omega_mlp_step(
    memory: NetworkMemory, write: Writes, rule: Rule, gradients: Gradients = gradients_written_out
) -> NetworkMemory:
    """The memory after one more token of its chunk; `write` has a time axis of length 1."""
    dtype = memory.running.up.dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    memory, write = in_dtype(compute, memory), in_dtype(compute, write)
    window = memory.recent.extended(write)
    weight = write.step_size * window.window_weight
    downhill = gradients(memory.start, window.k, window.v, weight, rule.shape)
    retention = write.log_retention[:, 0, :, None, None].exp()
    running, momentum = [], []
    for m, s, gradient in zip(memory.running, memory.momentum, downhill, strict=True):
        surprise = -gradient
        if write.log_momentum is not None:
            surprise = write.log_momentum[:, 0, :, None, None].exp() * s + surprise
        running.append(retention * m + surprise)
        momentum.append(s if write.log_momentum is None else surprise)
    recent = window.last(window.k.shape[1] - 1)
    return in_dtype(dtype, NetworkMemory(memory.start, Network(*running), Network(*momentum), recent))


@exact
def begin_chunk(memory: NetworkMemory, gains: Gains | None = None) -> NetworkMemory:
    """From now on gradients are taken at the running network, which is normalised first if there are gains."""
    network = memory.running if gains is None else normalise_weights(memory.running, gains)
    return memory._replace(start=network, running=network)


@exact_read
def omega_mlp_chunked(
    q: Float[Tensor, "b t h k"],
    writes: Writes,
    memory: NetworkMemory,
    rule: Rule,
    position: int = 0,
    gains: Gains | None = None,
) -> tuple[Float[Tensor, "b t h v"], NetworkMemory]:
    """Read after each write, a chunk at a time; equals `omega_mlp_recurrent`.

    Half-precision inputs are computed in float32; reads are returned in the dtype of `q`, the memory in float32.

    Args:
        q: queries, as wide as keys.
        writes: of the same tokens.
        memory: before the first of these tokens.
        rule: chunk length and network.
        position: tokens of the present chunk that `memory` has seen, up to all of them.
        gains: scales of the units where weights are normalised as chunks begin; None where they are not.

    Cost: a token and head take 11 multiply-adds for every weight of the network (7 without momentum) and 22 (14) more
    for the gradient, for which one network with its momentum is kept per chunk.
    """
    b, c, orders = q.shape[0], rule.chunk_tokens, 1 if writes.log_momentum is None else 2
    kept, compute = memory.running.up.dtype, torch.float64 if q.dtype == torch.float64 else torch.float32
    x, writes, memory = q.to(compute), in_dtype(compute, writes), in_dtype(compute, memory)
    window = memory.recent.extended(writes)
    n_recent = window.k.shape[1] - q.shape[1]
    # In the middle of a chunk gradients are taken at another network than the one that is read.
    start, state = _merged(memory.start) if 0 < position < c else None, _joined(memory, orders)
    began, reads, done = start or state.first(orders), [], 0
    for n_chunks, size in chunk_sizes(q.shape[1], position, c):
        now, seen = (slice(done, done + n_chunks * size + more) for more in (0, n_recent))
        for chunk in _prepared(x[:, now], writes.at(now), window.at(seen), n_chunks, rule.shape):
            if gains is not None and position == c:
                state = _renewed(state, gains, orders)
            began = start or state.first(orders)
            read, *after = cast(list[Tensor], Chunk.apply(rule.shape, *chunk, *(start or (None, None)), *state))
            reads.append(read)
            start, state, position = None, Layers(*after), position % c + size
        done += n_chunks * size
    read = rearrange(torch.cat(reads, dim=1), "(b h) t v -> b t h v", b=b)
    read = x + read if rule.shape.residual else read
    momentum = memory.momentum if orders == 1 else _network(Layers(*(w.chunk(2, dim=1)[1] for w in state)), b)
    memory = NetworkMemory(_network(began, b), _network(state.first(orders), b), momentum, window.last(n_recent))
    return read.to(q.dtype), in_dtype(kept, memory)


def chunk_sizes(n_tokens: int, position: int, chunk_tokens: int) -> list[tuple[int, int]]:
    """Runs of equal chunks, as (chunks, tokens): the rest of the present one, whole ones, the beginning of the last."""
    first = min(n_tokens, chunk_tokens - position) if position else 0
    whole, last = divmod(n_tokens - first, chunk_tokens)
    return [(n_chunks, size) for n_chunks, size in ((1, first), (whole, chunk_tokens), (1, last)) if n_chunks and size]


def _prepared(
    q: Float[Tensor, "b t h k"], writes: Writes, window: Recent, n_chunks: int, shape: Shape
) -> Iterator[ChunkInputs]:
    """What chunks need of tokens and gates, made for all of them at once."""
    size = q.shape[1] // n_chunks
    q, k, v, weight = (_cut(x, size, n_chunks) for x in (q, window.k, window.v, window.window_weight.unsqueeze(-1)))
    step = _cut_gate(writes.step_size, n_chunks) * (2 if shape.objective == "delta" else 1)
    momentum = None if writes.log_momentum is None else _cut_gate(writes.log_momentum, n_chunks)
    shares = coefficients(step, _cut_gate(writes.log_retention, n_chunks), momentum, weight.squeeze(-1))
    target = v - k if shape.residual and shape.objective == "delta" else v
    local = (q @ k.mT) * shares.weight
    inputs = ChunkInputs(k, target, by_order(q, shares.recall), local, by_order(k, shares.impress), *shares)
    return (ChunkInputs(*parts) for parts in zip(*(x.unbind() for x in inputs), strict=True))


def _cut(x: Float[Tensor, "b t h k"], size: int, n_chunks: int) -> Float[Tensor, "n bh x k"]:
    """Chunks of `size` tokens with what is recent before each."""
    n_recent = x.shape[1] - size * n_chunks
    if not n_recent:
        return rearrange(x, "b (n c) h k -> n (b h) c k", n=n_chunks).contiguous()
    return rearrange(x.unfold(1, size + n_recent, size), "b n h k x -> n (b h) x k")


def _cut_gate(gate: Float[Tensor, "b t h"], n_chunks: int) -> Float[Tensor, "n bh c"]:
    return rearrange(gate, "b (n c) h -> n (b h) c", n=n_chunks)


def _joined(memory: NetworkMemory, orders: int) -> Layers:
    """All orders of state, one below the other."""
    running, momentum = _merged(memory.running), _merged(memory.momentum)
    return running if orders == 1 else Layers(*(torch.cat(pair, dim=1) for pair in zip(running, momentum, strict=True)))


def _renewed(state: Layers, gains: Gains, orders: int) -> Layers:
    """The state with its running network normalised."""
    running = _network(state.first(orders), state.up.shape[0] // gains.up.shape[0])
    new = _merged(normalise_weights(running, gains))
    return Layers(*(torch.cat([w, old[:, w.shape[1] :]], dim=1) for w, old in zip(new, state, strict=True)))


def _merged(network: Network) -> Layers:
    return Layers(network.up.flatten(0, 1), network.down.flatten(0, 1))


def _network(layers: Layers, batch: int) -> Network:
    """Layers of their own memory: the state they are cut from would be kept alive by a view."""
    return Network(*(rearrange(layer, "(b h) k u -> b h k u", b=batch).clone() for layer in layers))


def in_dtype(dtype: torch.dtype, tensors: Any) -> Any:
    """Nested tuples of tensors in a dtype."""
    if isinstance(tensors, Tensor):
        return tensors.to(dtype)
    return None if tensors is None else type(tensors)(*(in_dtype(dtype, part) for part in tensors))
