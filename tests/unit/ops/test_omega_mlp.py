"""Networks written while they read: against a loop from the equations, torch's optimiser, closed forms and a peer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.ops.memory_network import Gains, Network, Shape, read_network, slopes, through_slopes
from mnemoscope.ops.network_chunk import coefficients
from mnemoscope.ops.omega_mlp import (
    NetworkMemory,
    Recent,
    Rule,
    Writes,
    begin_chunk,
    chunk_sizes,
    omega_mlp_chunked,
    omega_mlp_recurrent,
)
from tests.oracle import omega_mlp as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, E = 2, 2, 5, 6
LENGTHS = (1, 2, 63, 64, 65, 100)


class Kind(NamedTuple):
    """Which rule, on networks of which sizes."""

    chunk_tokens: int = 8
    gated: bool = False
    momentum: bool = True
    window: int = 1
    dot: bool = False
    values: int = K
    normalise: bool = False

    @property
    def rule(self) -> Rule:
        return Rule(self.chunk_tokens, Shape(self.gated, self.values == K, "dot" if self.dot else "delta"))


class Problem(NamedTuple):
    """What both forms are given."""

    q: Tensor
    writes: Writes
    memory: NetworkMemory
    gains: Gains | None


KINDS = {
    "plain": Kind(),
    "without momentum": Kind(momentum=False),
    "gated": Kind(gated=True),
    "window": Kind(window=4),
    "window over several chunks": Kind(chunk_tokens=3, window=9, momentum=False),
    "dot product": Kind(dot=True, gated=True),
    "without residual": Kind(values=3, gated=True),
    "normalised": Kind(normalise=True, window=2),
    "everything": Kind(gated=True, window=3, values=3, normalise=True, dot=True),
    "exact": Kind(chunk_tokens=1, window=3),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def problem(kind: Kind, n_tokens: int, *, seed: int = 0, begun: bool = True) -> Problem:
    """A memory that has begun has seen tokens, of its chunk and of its window; another is at its first token."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def network(scale: float) -> Network:
        return Network(scale * draw(B, H, K, E * (1 + kind.gated)), scale * draw(B, H, E, kind.values))

    writes = Writes(
        F.normalize(draw(B, n_tokens, H, K), dim=-1),
        draw(B, n_tokens, H, kind.values),
        0.1 * draw(B, n_tokens, H).sigmoid(),
        -0.2 * draw(B, n_tokens, H).abs(),
        (0.5 * draw(B, n_tokens, H).sigmoid()).log() if kind.momentum else None,
        draw(B, n_tokens, H).sigmoid(),
    )
    gains = Gains(draw(H, E * (1 + kind.gated)).sigmoid(), draw(H, kind.values).sigmoid()) if kind.normalise else None
    start, running, momentum, r = network(0.4), network(0.4), network(0.05), kind.window - 1
    recent = Recent(draw(B, r, H, K), draw(B, r, H, kind.values), begun * draw(B, r, H).sigmoid())
    if not kind.momentum:
        momentum = Network(*(w.new_zeros(B, H, 0, 0) for w in start))
    if not begun:
        running, momentum = start, Network(*(0 * w for w in momentum))
    return Problem(draw(B, n_tokens, H, K), writes, NetworkMemory(start, running, momentum, recent), gains)


def tensors(part: Any) -> list[Tensor]:
    if part is None or isinstance(part, Tensor):
        return [] if part is None else [part]
    return [tensor for inner in part for tensor in tensors(inner)]


def mapped(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if part is None or isinstance(part, Tensor):
        return part if part is None else change(part)
    return type(part)(*(mapped(inner, change) for inner in part))


def on_leaves(given_problem: Problem, dtype: torch.dtype = torch.float64) -> tuple[Problem, list[Tensor]]:
    """The same problem on leaves of the graph, in the order in which they stand."""
    changed = mapped(given_problem, lambda x: x.detach().to(dtype).clone().requires_grad_())
    return changed, tensors(changed)


def run(form: Any, kind: Kind, given_problem: Problem, position: int = 0) -> list[Tensor]:
    """Reads, then the memory."""
    q, writes, memory, gains = given_problem
    reads, memory = form(q, writes, memory, kind.rule, position, gains)
    return [reads, *tensors(memory)]


def gradients(results: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    generator, loss = torch.Generator().manual_seed(9), torch.zeros((), dtype=torch.float64)
    for x in results:
        loss = loss + (x * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum()
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for grad, leaf in zip(grads, leaves, strict=True)]


def assert_all_close(actual: list[Tensor], expected: list[Tensor], tolerance: Any) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, tolerance)


def of_the_equations(kind: Kind, given_problem: Problem) -> Tensor:
    """Reads of every sequence and head on its own, from the first token."""
    q, writes, memory, gains = given_problem
    options = oracle.Options(kind.chunk_tokens, kind.gated, kind.values == K, kind.window, kind.dot)
    momentum = torch.zeros_like(writes.step_size) if writes.log_momentum is None else writes.log_momentum.exp()
    gates = (writes.step_size, writes.log_retention.exp(), momentum, writes.window_weight)
    reads = []
    for i in range(B):
        for h in range(H):
            tokens = oracle.Tokens(*(x[i, :, h] for x in (q, writes.k, writes.v, *gates)))
            head = None if gains is None else (gains.up[h], gains.down[h])
            reads.append(oracle.rule(tokens, memory.start.up[i, h], memory.start.down[i, h], options, head)[0])
    return torch.stack(reads).unflatten(0, (B, H)).transpose(1, 2)


@pytest.mark.parametrize("form", [omega_mlp_recurrent, omega_mlp_chunked])
@every_kind
def test_both_forms_are_the_equations(form: Any, kind: Kind):
    (ours, leaves), (theirs, their_leaves) = (on_leaves(problem(kind, 19, begun=False)) for _ in range(2))
    first = begin_chunk(ours.memory._replace(running=ours.memory.start), ours.gains)
    reads, exact = run(form, kind, ours._replace(memory=first))[0], of_the_equations(kind, theirs)
    assert_close(reads, exact, FLOAT64)
    n_given = len(tensors(problem(kind, 1).writes)) + 1
    for place, (our, their) in enumerate(
        zip(gradients([reads], leaves), gradients([exact], their_leaves), strict=True)
    ):
        # What comes after the first network is a memory that has seen something, of which the equations know nothing.
        if place < n_given + 2 or place >= len(leaves) - len(tensors(ours.gains)):
            assert_close(our, their, FLOAT64)


@pytest.mark.parametrize("position", [0, 3, pytest.param(8, marks=pytest.mark.long)])
@pytest.mark.parametrize("length", [1, pytest.param(5, marks=pytest.mark.long), 21])
@every_kind
def test_both_forms_agree_from_the_middle_of_a_chunk(kind: Kind, length: int, position: int):
    position = min(position, kind.chunk_tokens)
    results = []
    for form in (omega_mlp_chunked, omega_mlp_recurrent):
        given_problem, leaves = on_leaves(problem(kind, length, begun=position > 0))
        if not position:
            given_problem = given_problem._replace(memory=begin_chunk(given_problem.memory))
        states = run(form, kind, given_problem, position)
        results.append([*states, *gradients(states, leaves)])
    assert_all_close(*results, FLOAT64)


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(length: int):
    kind = Kind(chunk_tokens=16, window=3)
    given_problem = problem(kind, length, begun=False)
    ours, theirs = (run(form, kind, given_problem) for form in (omega_mlp_chunked, omega_mlp_recurrent))
    assert_all_close(ours, theirs, FLOAT64)


@settings(max_examples=30)
@given(
    length=st.integers(2, 40),
    cut=st.integers(1, 39),
    chunk_tokens=st.integers(1, 12),
    window=st.integers(1, 7),
    normalise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_split_gives_the_same(length: int, cut: int, chunk_tokens: int, window: int, normalise: bool, seed: int):
    kind, cut = Kind(chunk_tokens, window=window, normalise=normalise), min(cut, length - 1)
    q, writes, memory, gains = problem(kind, length, seed=seed, begun=False)
    reads, last = omega_mlp_chunked(q, writes, memory, kind.rule, 0, gains)
    first, between = omega_mlp_chunked(q[:, :cut], writes.at(slice(cut)), memory, kind.rule, 0, gains)
    position = (cut - 1) % chunk_tokens + 1
    later = (q[:, cut:], writes.at(slice(cut, None)))
    second, resumed = omega_mlp_chunked(*later, between, kind.rule, position, gains)
    assert_close(torch.cat([first, second], dim=1), reads, FLOAT64)
    assert_all_close(tensors(resumed), tensors(last), FLOAT64)


@pytest.mark.parametrize("length", [2, 65])
@every_kind
def test_float32_agrees_with_float64(kind: Kind, length: int):
    results = []
    for dtype in (torch.float32, torch.float64):
        given_problem, leaves = on_leaves(problem(kind, length, begun=False), dtype)
        states = run(omega_mlp_chunked, kind, given_problem)
        assert states[0].dtype == dtype
        results.append((states, gradients(states, leaves)))
    (states, grads), (exact_states, exact_grads) = results
    assert_all_close(states, exact_states, FLOAT32)
    assert_all_close(grads, exact_grads, FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    kind = KINDS["window"]
    rough = mapped(problem(kind, 30), Tensor.bfloat16)
    ours, wide = run(omega_mlp_chunked, kind, rough, 3), run(omega_mlp_chunked, kind, mapped(rough, Tensor.float), 3)
    assert {tensor.dtype for tensor in ours} == {torch.bfloat16, torch.float32}
    assert all(torch.equal(x, y.to(x.dtype)) for x, y in zip(ours, wide, strict=True))


@pytest.mark.parametrize("form", [omega_mlp_recurrent, omega_mlp_chunked])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_chunks_of_one_are_steps_of_torchs_optimiser(form: Any, momentum: float):
    """Everything retained, one step size: what torch.optim.SGD makes of the network, token after token."""
    kind = Kind(chunk_tokens=1, momentum=momentum > 0)
    q, writes, memory, _ = problem(kind, 12, begun=False)
    constant = torch.full_like(writes.step_size, 0.05)
    log_momentum = torch.full_like(constant, momentum).log() if momentum else None
    writes = Writes(writes.k, writes.v, constant, torch.zeros_like(constant), log_momentum, torch.ones_like(constant))
    reads, _ = form(q, writes, memory, kind.rule)
    for i in range(B):
        for h in range(H):
            layers = [nn.Parameter(layer[i, h].clone()) for layer in memory.start]
            optimiser = torch.optim.SGD(layers, lr=0.05, momentum=momentum)
            for t in range(12):
                optimiser.zero_grad()
                k = writes.k[i, t, h]
                (k + F.gelu(k @ layers[0]) @ layers[1] - writes.v[i, t, h]).square().sum().backward()
                optimiser.step()
                asked = q[i, t, h]
                assert_close(reads[i, t, h], asked + F.gelu(asked @ layers[0]) @ layers[1], FLOAT64)


@pytest.mark.parametrize("form", [omega_mlp_recurrent, omega_mlp_chunked])
def test_without_steps_the_network_stays(form: Any):
    kind = Kind(momentum=False, gated=True)
    q, writes, memory, _ = problem(kind, 20, begun=False)
    zeros = torch.zeros_like(writes.step_size)
    reads, _ = form(q, writes._replace(step_size=zeros, log_retention=zeros), memory, kind.rule)
    assert_close(reads, read_network(memory.start, q, kind.rule.shape), FLOAT64)


def test_one_chunk_is_a_step_on_the_whole_batch():
    """Without momentum, retention aside, the network after a chunk has gone down the sum of all its objectives."""
    kind = Kind(chunk_tokens=30, momentum=False)
    q, writes, memory, _ = problem(kind, 30, begun=False)
    _, after = omega_mlp_chunked(q, writes._replace(log_retention=0 * writes.step_size), memory, kind.rule)
    start = Network(*(w.clone().requires_grad_() for w in memory.start))
    objectives = (read_network(start, writes.k, kind.rule.shape) - writes.v).square().sum(-1)
    downhill = torch.autograd.grad((writes.step_size * writes.window_weight * objectives).sum(), start)
    for layer, old, gradient in zip(after.running, memory.start, downhill, strict=True):
        assert_close(layer, old - gradient, FLOAT64)


def test_a_chunk_length_is_part_of_the_rule():
    given_problem = problem(Kind(), 20, begun=False)
    reads = [run(omega_mlp_chunked, Kind(chunk_tokens=c), given_problem)[0] for c in (5, 20)]
    assert_close(reads[0][:, :5], reads[1][:, :5], FLOAT64)
    assert (reads[0][:, 5:] - reads[1][:, 5:]).abs().amax((0, 2, 3)).min() > 1e-6


@pytest.mark.parametrize("log_retention", [0.0, -1e4, -torch.inf])
@pytest.mark.parametrize("log_momentum", [0.0, -1e4, -torch.inf])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_extremes_stay_finite(log_retention: float, log_momentum: float, scale: float):
    kind = Kind(gated=True, window=2)
    extreme = problem(kind, 20, begun=False)
    small = 1e-3 / (1 + scale) ** 3
    writes = extreme.writes._replace(
        v=scale * extreme.writes.v,
        step_size=torch.full_like(extreme.writes.step_size, small),
        log_retention=torch.full_like(extreme.writes.step_size, log_retention),
        log_momentum=torch.full_like(extreme.writes.step_size, log_momentum),
    )
    given_problem, leaves = on_leaves(extreme._replace(q=scale * extreme.q, writes=writes))
    states = run(omega_mlp_chunked, kind, given_problem)
    assert all(x.isfinite().all() for x in (*states, *gradients(states, leaves)))


def test_full_forgetting_leaves_the_last_step():
    kind = Kind(momentum=False)
    q, writes, memory, _ = problem(kind, 20, begun=False)
    writes = writes._replace(log_retention=torch.full_like(writes.step_size, -torch.inf))
    _, after = omega_mlp_chunked(q, writes, memory, kind.rule)
    _, before = omega_mlp_chunked(q[:, :-4], writes.at(slice(-4)), memory, kind.rule)
    last = Network(*(w.clone().requires_grad_() for w in before.running))
    objective = (read_network(last, writes.k[:, -1:], kind.rule.shape) - writes.v[:, -1:]).square().sum(-1)
    weight = (writes.step_size * writes.window_weight)[:, -1:]
    # The last chunk began four tokens ago, at the network that was left then.
    downhill = torch.autograd.grad((weight * objective).sum(), last)
    assert_all_close(list(after.running), [-gradient for gradient in downhill], FLOAT64)


@given(c=st.integers(1, 9), n_recent=st.integers(0, 11), carries=st.booleans(), seed=st.integers(0, 99))
def test_coefficients_are_those_of_the_scalar_recurrence(c: int, n_recent: int, carries: bool, seed: int):
    """With numbers for networks and gradients that are given: M_t is linear in all of them."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    step, retention, momentum, window = draw(c), draw(c), draw(c), draw(n_recent + c)
    m_start, s_start, written = draw(()), draw(()) * carries, draw(n_recent + c)
    found = coefficients(step, retention.log(), momentum.log() if carries else None, window)
    state = torch.stack([m_start, s_start])[: 1 + carries]
    reads, m, s = found.recall @ state + found.weight @ written, m_start, s_start
    for t in range(c):
        seen = slice(t, t + n_recent + 1)
        s = momentum[t] * s * carries - step[t] * (window[seen] * written[seen]).sum()
        m = retention[t] * m + s
        assert_close(reads[t], m, FLOAT64)
    assert_close(found.mix @ state + found.impress.T @ written, torch.stack([m, s])[: 1 + carries], FLOAT64)


@pytest.mark.parametrize("gated", [False, True])
def test_the_second_derivative_of_the_hidden_layer(gated: bool):
    """Of the chunk as a whole, against differences, with every input free."""
    kind = Kind(chunk_tokens=4, gated=gated, values=3, window=2)
    given_problem, leaves = on_leaves(problem(kind, 5))
    rebuilt = iter(())

    def reads(*values: Tensor) -> tuple[Tensor, ...]:
        nonlocal rebuilt
        rebuilt = iter(values)
        return tuple(run(omega_mlp_chunked, kind, mapped(given_problem, lambda _: next(rebuilt)), 3))

    assert torch.autograd.gradcheck(reads, leaves, fast_mode=True)
    z = torch.linspace(-4, 4, 12, dtype=torch.float64).view(2, 6).requires_grad_()
    grad = torch.ones(2, 6 // (1 + gated), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g, x: through_slopes(g, slopes(x, gated), gated), (grad, z))


@given(n_tokens=st.integers(1, 60), position=st.integers(0, 12), chunk_tokens=st.integers(1, 12))
def test_chunks_end_where_the_whole_sequence_has_them_end(n_tokens: int, position: int, chunk_tokens: int):
    position = min(position, chunk_tokens)
    ends, at = [], position % chunk_tokens
    for n_chunks, size in chunk_sizes(n_tokens, position, chunk_tokens):
        for _ in range(n_chunks):
            at += size
            ends.append(at)
    first = position % chunk_tokens
    boundaries = [t for t in range(first + 1, first + n_tokens + 1) if t % chunk_tokens == 0]
    assert ends == sorted({*boundaries, first + n_tokens})


def test_a_memory_is_not_written_into():
    kind = Kind(window=3)
    given_problem = problem(kind, 20)
    before = [x.clone() for x in tensors(given_problem)]
    run(omega_mlp_chunked, kind, given_problem, 3)
    assert all(torch.equal(now, then) for now, then in zip(tensors(given_problem), before, strict=True))
