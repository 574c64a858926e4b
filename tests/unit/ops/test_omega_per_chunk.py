"""The Omega rule per chunk against a loop with inner gradients by autograd, its slow twin, and its special cases."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.omega import Rule, Writes
from mnemoscope.ops.omega_chunked import omega_chunked
from mnemoscope.ops.omega_per_chunk import PerChunkStore, PerChunkWrites, omega_per_chunk, per_chunk_recurrent
from tests.oracle import omega as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, V = 2, 2, 6, 5
LENGTHS = (1, 2, 63, 64, 65, 100)

RULES = {
    "one token": Rule(1),
    "chunks": Rule(16),
    "odd chunks": Rule(7),
    "one long chunk": Rule(200),
    "inner products": Rule(8, 1, "dot"),
    "orthogonalised": Rule(8, 1, "delta", 5, 8),
}
every_rule = pytest.mark.parametrize("name", RULES)
every_gate = pytest.mark.parametrize(("retains", "momentum"), [(True, True), (True, False), (False, True)])

Problem = tuple[Tensor, PerChunkWrites, PerChunkStore]


def problem(n_tokens: int, rule: Rule, retains: bool = True, momentum: bool = True, seed: int = 0) -> Problem:
    """Queries, writes, and a store in the middle of a chunk."""
    generator, n_gates = torch.Generator().manual_seed(seed), retains + momentum

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    writes = PerChunkWrites(
        F.normalize(draw(B, n_tokens, H, K), dim=-1),
        draw(B, n_tokens, H, V),
        draw(B, n_tokens, H).sigmoid() / (4 * min(rule.chunk_tokens, 16) ** 0.5),
        1 + draw(B, n_tokens, n_gates, H),
        retains,
        momentum,
    )
    store = PerChunkStore(draw(B, H, K, V), draw(B, H, K * momentum, V), draw(B, H, K, V), draw(B, n_gates, H))
    return draw(B, n_tokens, H, K), writes, store


def at_the_start_of_a_chunk(store: PerChunkStore) -> PerChunkStore:
    return store._replace(descent=torch.zeros_like(store.descent), logits=torch.zeros_like(store.logits))


def run(form, given: Problem, rule: Rule, position: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Outputs and gradients."""
    q, writes, store = given
    inputs = [x.detach().to(dtype).requires_grad_() for x in (q, *writes[:4], *store)]
    q, store = inputs[0], PerChunkStore(*inputs[5:])
    k, v, step_size, logits = inputs[1:5]
    writes = PerChunkWrites(k, v, step_size, logits, writes.retains, writes.momentum)
    reads, after = form(q, writes, store, rule, position)
    generator = torch.Generator().manual_seed(9)
    parts = [x * torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (reads, *after)]
    wanted = [x for x in inputs if x.numel()]
    grads = torch.autograd.grad(torch.stack([part.sum() for part in parts]).sum(), wanted, allow_unused=True)
    return [reads, *after, *(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True))]


def expected(q: Tensor, writes: PerChunkWrites, rule: Rule) -> tuple[Tensor, Tensor]:
    """The oracle, for every sequence and head on its own, from an empty memory."""
    settings = oracle.Settings(*rule)
    reads, last = torch.zeros(*q.shape[:3], V, dtype=torch.float64), torch.zeros(B, H, K, V, dtype=torch.float64)
    for i in range(B):
        for h in range(H):
            k, v, eta = (x[i, :, h] for x in writes[:3])
            ones, gates = torch.ones_like(eta), writes.logits[i, :, :, h].sigmoid()
            alpha, theta = gates[:, 0] if writes.retains else ones, gates[:, -1] if writes.momentum else None
            tokens = oracle.Tokens(q[i, :, h], k, v, alpha, eta, ones, theta)
            reads[i, :, h], last[i, h] = oracle.rule_per_chunk(tokens, settings)
    return reads, last


@every_rule
@every_gate
def test_both_forms_equal_the_loop_with_gradients_by_autograd(name: str, retains: bool, momentum: bool):
    rule = RULES[name]
    q, writes, store = problem(37, rule, retains, momentum)
    wanted, last = expected(q, writes, rule)
    nothing = PerChunkStore(*(torch.zeros_like(x) for x in store))
    for reads, after in (per_chunk_recurrent(q, writes, nothing, rule), omega_per_chunk(q, writes, None, rule)):
        assert_close(reads, wanted, FLOAT64)
        assert_close(after.memory, last, FLOAT64)


@every_rule
@every_gate
@pytest.mark.parametrize(
    ("length", "position"),
    [(1, 6), (35, 3), *(pytest.param(*sizes, marks=pytest.mark.long) for sizes in ((1, 0), (35, 0), (64, 0)))],
)
def test_gradients_equal_those_of_the_recurrence(name: str, retains: bool, momentum: bool, length: int, position: int):
    rule = RULES[name]
    q, writes, store = problem(length, rule, retains, momentum)
    position %= rule.chunk_tokens
    given = (q, writes, store if position else at_the_start_of_a_chunk(store))
    fast, slow = (run(form, given, rule, position) for form in (omega_per_chunk, per_chunk_recurrent))
    for ours, theirs in zip(fast, slow, strict=True):
        assert_close(ours, theirs, FLOAT64)


@every_rule
@pytest.mark.parametrize("length", LENGTHS)
def test_the_fast_form_equals_the_recurrence_wherever_it_goes_on(name: str, length: int):
    rule = RULES[name]
    q, writes, store = problem(length, rule)
    for position in {0, 1 % rule.chunk_tokens, rule.chunk_tokens - 1}:
        before = store if position else at_the_start_of_a_chunk(store)
        reads, after = omega_per_chunk(q, writes, before, rule, position)
        slow_reads, slow_after = per_chunk_recurrent(q, writes, before, rule, position)
        assert_close(reads, slow_reads, FLOAT64)
        for ours, theirs in zip(after, slow_after, strict=True):
            assert_close(ours, theirs, FLOAT64)


@given(cuts=st.sets(st.integers(1, 49), max_size=4), name=st.sampled_from(sorted(RULES)), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(cuts: set[int], name: str, seed: int):
    rule, store = RULES[name], None
    q, writes, _ = problem(50, rule, seed=seed)
    whole, last = omega_per_chunk(q, writes, None, rule)
    reads = []
    for start, stop in pairwise([0, *sorted(cuts), 50]):
        position = start % rule.chunk_tokens
        read, store = omega_per_chunk(q[:, start:stop], writes.at(start, stop), store, rule, position)
        reads.append(read)
    assert_close(torch.cat(reads, dim=1), whole, FLOAT64)
    assert store is not None
    for ours, theirs in zip(store, last, strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("name", ["one token", "chunks", "inner products"])
def test_float32_agrees_with_float64(name: str):
    rule = RULES[name]
    q, writes, store = problem(65, rule)
    given = (q, writes, at_the_start_of_a_chunk(store))
    single, exact = (run(omega_per_chunk, given, rule, 0, dtype) for dtype in (torch.float32, torch.float64))
    for i, (ours, theirs) in enumerate(zip(single, exact, strict=True)):
        assert_close(ours, theirs, FLOAT32 if i < 5 else FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    q, writes, _ = problem(40, Rule(8))
    half = PerChunkWrites(*(x.bfloat16() for x in writes[:4]), retains=True, momentum=True)
    wide = PerChunkWrites(*(x.float() for x in half[:4]), retains=True, momentum=True)
    reads, after = omega_per_chunk(q.bfloat16(), half, None, Rule(8))
    wide_reads, wide_after = omega_per_chunk(q.bfloat16().float(), wide, None, Rule(8))
    assert torch.equal(reads, wide_reads.bfloat16())
    assert torch.equal(after.memory, wide_after.memory)


@every_gate
def test_chunks_of_one_token_are_the_rule_per_token(retains: bool, momentum: bool):
    q, writes, _ = problem(40, Rule(1), retains, momentum)
    logs = F.logsigmoid(writes.logits)
    ones = torch.ones_like(writes.step_size)
    log_retention, log_momentum = (logs[:, :, 0] if retains else 0 * ones), (logs[:, :, -1] if momentum else None)
    per_token = Writes(writes.k, writes.v, ones, writes.step_size, log_retention, log_momentum)
    reads, after = omega_per_chunk(q, writes, None, Rule(1))
    token_reads, token_after = omega_chunked(q, per_token, None, Rule(1))
    assert_close(reads, token_reads, FLOAT64)
    assert_close(after.memory, token_after.memory, FLOAT64)


def test_without_momentum_and_forgetting_both_granularities_end_a_chunk_alike():
    q, writes, _ = problem(48, Rule(16), retains=False, momentum=False)
    ones = torch.ones_like(writes.step_size)
    per_token = Writes(writes.k, writes.v, ones, writes.step_size, 0 * ones, None)
    (reads, after), (token_reads, token_after) = (
        omega_per_chunk(q, writes, None, Rule(16)),
        omega_chunked(q, per_token, None, Rule(16)),
    )
    assert_close(after.memory, token_after.memory, FLOAT64)
    assert_close(reads[:, 15::16], token_reads[:, 15::16], FLOAT64)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_values_stay_finite(name: str, dtype: torch.dtype):
    rule = RULES[name]
    q, writes, store = problem(40, rule)
    for changed in (
        writes._replace(logits=torch.full_like(writes.logits, -1e4)),
        writes._replace(step_size=torch.zeros_like(writes.step_size)),
        writes._replace(k=torch.zeros_like(writes.k), v=torch.zeros_like(writes.v)),
    ):
        for tensor in run(omega_per_chunk, (q, changed, at_the_start_of_a_chunk(store)), rule, 0, dtype):
            assert tensor.isfinite().all()
