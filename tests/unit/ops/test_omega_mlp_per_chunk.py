"""Networks written once per chunk: against the slow twin and a loop from the equations, and at extremes."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.memory_network import Gains, Network, Shape, normalise_weights
from mnemoscope.ops.omega_mlp import Rule
from mnemoscope.ops.omega_mlp_per_chunk import (
    ChunkMemory,
    ChunkWrites,
    per_chunk_chunked,
    per_chunk_recurrent,
)
from tests.oracle import omega_mlp as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, E, C = 2, 2, 5, 6, 4


class Kind(NamedTuple):
    """Which rule, on networks of which sizes."""

    gated: bool = False
    momentum: bool = True
    retains: bool = True
    dot: bool = False
    values: int = K
    normalise: bool = False

    @property
    def rule(self) -> Rule:
        return Rule(C, Shape(self.gated, self.values == K, "dot" if self.dot else "delta"))


KINDS = {
    "plain": Kind(),
    "without momentum": Kind(momentum=False),
    "without retention": Kind(retains=False),
    "gradient descent alone": Kind(momentum=False, retains=False),
    "dot product": Kind(dot=True, gated=True),
    "everything": Kind(gated=True, values=3, normalise=True),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def leaves_of(kind: Kind, n_tokens: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """q, k, v, step size, both logits, the network, its momentum, gains."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    gates = [0.1 * draw(B, n_tokens, H).sigmoid(), 2 + draw(B, n_tokens, H), draw(B, n_tokens, H)]
    shapes = (K, E * (1 + kind.gated)), (E, kind.values)
    networks = [scale * draw(B, H, *shape) for scale in (0.4, 0.05) for shape in shapes]
    gains = [draw(H, shape[1]).sigmoid() for shape in shapes]
    tokens = [draw(B, n_tokens, H, K), F.normalize(draw(B, n_tokens, H, K), dim=-1), draw(B, n_tokens, H, kind.values)]
    return [x.to(dtype).requires_grad_() for x in (*tokens, *gates, *networks, *gains)]


def given_to(kind: Kind, leaves: list[Tensor]) -> tuple[Tensor, ChunkWrites, ChunkMemory, Gains | None]:
    q, k, v, step_size, retention, momentum, up, down, s_up, s_down, *gains = leaves
    writes = ChunkWrites(k, v, step_size, retention if kind.retains else None, momentum if kind.momentum else None)
    network = Network(up, down)
    carried = Network(s_up, s_down) if kind.momentum else Network(*(w.new_zeros(B, H, 0, 0) for w in network))
    logits = (q.new_zeros(B, H, present) for present in (kind.retains, kind.momentum))
    memory = ChunkMemory(network, Network(*(torch.zeros_like(w) for w in network)), carried, *logits)
    return q, writes, memory, Gains(*gains) if kind.normalise else None


def flat(part: Any) -> list[Tensor]:
    return [part] if isinstance(part, Tensor) else [tensor for inner in part for tensor in flat(inner)]


def results(form: Any, kind: Kind, leaves: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Reads and the memory, and gradients of both."""
    q, writes, memory, gains = given_to(kind, leaves)
    read, after = form(q, writes, memory, kind.rule, 0, gains)
    outputs, generator = [read, *flat(after)], torch.Generator().manual_seed(9)
    loss = torch.zeros((), dtype=torch.float64)
    for x in outputs:
        loss = loss + (x * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum()
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return outputs, [torch.zeros_like(x) if g is None else g for g, x in zip(grads, leaves, strict=True)]


def assert_all_close(actual: list[Tensor], expected: list[Tensor], tolerance: Any) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, tolerance)


@pytest.mark.parametrize("length", [1, 4, 5, 8, 19])
@every_kind
def test_the_chunked_form_is_its_slow_twin(kind: Kind, length: int):
    ours, theirs = (results(form, kind, leaves_of(kind, length)) for form in (per_chunk_chunked, per_chunk_recurrent))
    assert_all_close(ours[0], theirs[0], FLOAT64)
    assert_all_close(ours[1], theirs[1], FLOAT64)


@every_kind
def test_the_chunked_form_is_the_equations(kind: Kind):
    leaves, reads = leaves_of(kind, 19), []
    leaves[8:10] = [torch.zeros_like(w) for w in leaves[8:10]]
    q, writes, memory, gains = given_to(kind, leaves)
    options = oracle.Options(C, kind.gated, kind.values == K, dot=kind.dot, per_chunk=True)
    for i in range(B):
        for h in range(H):
            tokens = oracle.ChunkTokens(*(None if x is None else x[i, :, h] for x in (q, *writes)))
            head = None if gains is None else (gains.up[h], gains.down[h])
            reads.append(oracle.rule_per_chunk(tokens, leaves[6][i, h], leaves[7][i, h], options, head)[0])
    # The equations normalise as their first chunk begins; of a memory, whoever makes it does.
    network = memory.running if gains is None else normalise_weights(memory.running, gains)
    first = memory._replace(running=network)
    read, _ = per_chunk_chunked(q, writes, first, kind.rule, 0, gains)
    assert_close(read, torch.stack(reads).unflatten(0, (B, H)).transpose(1, 2), FLOAT64)


@settings(max_examples=20)
@given(length=st.integers(2, 30), cut=st.integers(1, 29), kind=st.sampled_from(list(KINDS.values())))
def test_any_split_gives_the_same(length: int, cut: int, kind: Kind):
    q, writes, memory, gains = given_to(kind, leaves_of(kind, length))
    cut = min(cut, length - 1)
    reads, last = per_chunk_chunked(q, writes, memory, kind.rule, 0, gains)
    first, between = per_chunk_chunked(q[:, :cut], writes.at(slice(cut)), memory, kind.rule, 0, gains)
    later = (q[:, cut:], writes.at(slice(cut, None)))
    second, resumed = per_chunk_chunked(*later, between, kind.rule, (cut - 1) % C + 1, gains)
    assert_close(torch.cat([first, second], dim=1), reads, FLOAT64)
    assert_all_close(flat(resumed), flat(last), FLOAT64)


@every_kind
def test_float32_agrees_with_float64(kind: Kind):
    ours, exact = (
        results(per_chunk_chunked, kind, leaves_of(kind, 33, dtype)) for dtype in (torch.float32, torch.float64)
    )
    assert_all_close(ours[0], exact[0], FLOAT32)
    assert_all_close(ours[1], exact[1], FLOAT32_GRADIENT)


@pytest.mark.parametrize("momentum", [-1e4, 1e4])
@pytest.mark.parametrize("retention", [-1e4, 1e4])
def test_extremes_stay_finite(retention: float, momentum: float):
    leaves = leaves_of(Kind(), 19)
    leaves[4], leaves[5] = (torch.full_like(x, logit) for x, logit in ((leaves[4], retention), (leaves[5], momentum)))
    outputs, grads = results(per_chunk_chunked, Kind(), [x.detach().requires_grad_() for x in leaves])
    assert all(x.isfinite().all() for x in (*outputs, *grads))
