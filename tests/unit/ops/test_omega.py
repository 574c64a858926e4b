"""The Omega rule against a loop with inner gradients by autograd, its special cases, and closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops import gated_delta, omega_blocks
from mnemoscope.ops.features import Monomials, exponential_coefficients, monomial_features
from mnemoscope.ops.omega import Rule, Store, Writes, omega_recurrent
from mnemoscope.ops.omega_chunked import omega_chunked
from tests.oracle import gated_delta as closed_forms
from tests.oracle import omega as oracle
from tests.tolerances import FLOAT32, FLOAT32_GRADIENT, FLOAT64, assert_close

B, H, K, V = 2, 2, 6, 5
LENGTHS = (1, 2, 63, 64, 65, 100)

RULES = {
    "exact, one token": Rule(1),
    "exact, window": Rule(1, 5),
    "chunks": Rule(16),
    "chunks and a window": Rule(16, 4),
    "window longer than the chunk": Rule(4, 11),
    "one long chunk": Rule(200, 3),
    "inner products": Rule(8, 3, "dot"),
    "orthogonalised": Rule(8, 3, "delta", 5, 4),
    "orthogonalised once a chunk": Rule(16, 1, "delta", 5, 16),
    "orthogonalised every token": Rule(4, 2, "dot", 5, 1),
}
every_rule = pytest.mark.parametrize("name", RULES)


def problem(n_tokens: int, rule: Rule, momentum: bool = True, seed: int = 0) -> tuple[Tensor, Writes, Store]:
    """Queries, writes whose window has a past, and a store in the middle of things."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n_rows = n_tokens + rule.window - 1
    k = F.normalize(draw(B, n_rows, H, K), dim=-1)
    # Small enough for many tokens to descend at one memory.
    step_size = draw(B, n_tokens, H).sigmoid() / (4 * rule.window * min(rule.chunk_tokens, 16) ** 0.5)
    log_momentum = F.logsigmoid(draw(B, n_tokens, H)) if momentum else None
    writes = Writes(
        k,
        draw(B, n_rows, H, V),
        draw(B, n_rows, H).sigmoid(),
        step_size,
        F.logsigmoid(3 + draw(B, n_tokens, H)),
        log_momentum,
    )
    store = Store(draw(B, H, K, V), draw(B, H, K, V), draw(B, H, K if momentum else 0, V))
    return draw(B, n_tokens, H, K), writes, store


def leaves(q: Tensor, writes: Writes, store: Store, dtype: torch.dtype) -> tuple[Tensor, Writes, Store, list[Tensor]]:
    def fresh(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.detach().to(dtype).requires_grad_()

    given = [fresh(x) for x in (q, *writes, *store)]
    q, writes, store = given[0], Writes(*given[1:7]), Store(*given[7:])
    return q, writes, store, [x for x in given if x is not None and x.numel()]


def weighted(reads: Tensor, store: Store) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    parts = [x * torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (reads, *store)]
    return torch.stack([part.sum() for part in parts]).sum()


def at_the_start_of_a_chunk(store: Store) -> Store:
    return store._replace(anchor=store.memory.clone())


def run(form, q: Tensor, writes: Writes, store: Store, rule: Rule, position: int) -> list[Tensor]:
    """Outputs and gradients."""
    q, writes, store, inputs = leaves(q, writes, store, q.dtype)
    reads, after = form(q, writes, store, rule, position)
    grads = torch.autograd.grad(weighted(reads, after), inputs, allow_unused=True)
    unused = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]
    return [reads, *after, *unused]


def empty_before(writes: Writes, rule: Rule) -> Writes:
    """No token before the first: the window's past weighs nothing."""
    weight = writes.window_weight.clone()
    weight[:, : rule.window - 1] = 0
    return writes._replace(window_weight=weight)


def expected(q: Tensor, writes: Writes, rule: Rule) -> tuple[Tensor, Tensor]:
    """The oracle, for every sequence and head on its own, from an empty memory."""
    settings = oracle.Settings(*rule)
    reads, last = torch.zeros(*q.shape[:3], V, dtype=torch.float64), torch.zeros(B, H, K, V, dtype=torch.float64)
    for i in range(B):
        for h in range(H):
            k, v, gamma = (x[i, rule.window - 1 :, h] for x in writes[:3])
            eta, log_alpha, log_theta = (None if x is None else x[i, :, h] for x in writes[3:])
            assert eta is not None
            assert log_alpha is not None
            theta = None if log_theta is None else log_theta.exp()
            tokens = oracle.Tokens(q[i, :, h], k, v, log_alpha.exp(), eta, gamma, theta)
            reads[i, :, h], last[i, h] = oracle.rule(tokens, settings)
    return reads, last


@every_rule
@pytest.mark.parametrize("momentum", [True, False])
def test_both_forms_equal_the_loop_with_gradients_by_autograd(name: str, momentum: bool):
    rule = RULES[name] if momentum else RULES[name]._replace(update_every=1)
    q, writes, _ = problem(37, rule, momentum)
    writes = empty_before(writes, rule)
    wanted, last = expected(q, writes, rule)
    nothing = Store(*(torch.zeros(B, H, n, V, dtype=torch.float64) for n in (K, K, K * momentum)))
    for reads, store in (omega_recurrent(q, writes, nothing, rule), omega_chunked(q, writes, None, rule)):
        assert_close(reads, wanted, FLOAT64)
        assert_close(store.memory, last, FLOAT64)


@every_rule
@pytest.mark.parametrize("length", LENGTHS)
def test_the_fast_form_equals_the_recurrence_wherever_it_goes_on(name: str, length: int):
    rule = RULES[name]
    q, writes, store = problem(length, rule)
    for position in {0, 1 % rule.chunk_tokens, rule.chunk_tokens - 1}:
        before = store if position else at_the_start_of_a_chunk(store)
        reads, after = omega_chunked(q, writes, before, rule, position)
        slow_reads, slow_after = omega_recurrent(q, writes, before, rule, position)
        assert_close(reads, slow_reads, FLOAT64)
        for ours, theirs in zip(after, slow_after, strict=True):
            assert_close(ours, theirs, FLOAT64)


@every_rule
@pytest.mark.parametrize(("length", "position"), [(1, 0), (35, 0), (35, 3)])
@pytest.mark.parametrize("momentum", [True, False])
def test_gradients_equal_those_of_the_recurrence(name: str, length: int, position: int, momentum: bool):
    rule = RULES[name] if momentum else RULES[name]._replace(update_every=1)
    position %= rule.chunk_tokens
    q, writes, store = problem(length, rule, momentum)
    store = store if position else at_the_start_of_a_chunk(store)
    fast, slow = (run(form, q, writes, store, rule, position) for form in (omega_chunked, omega_recurrent))
    if not position:
        # Between chunks the anchor is the memory: the two forms may take its gradient from either.
        fast, slow = (
            [*x[: -2 - momentum], x[-2 - momentum] + x[-1 - momentum], *x[len(x) - momentum :]] for x in (fast, slow)
        )
    for ours, theirs in zip(fast, slow, strict=True):
        assert_close(ours, theirs, FLOAT64)


@pytest.mark.parametrize("name", ["exact, one token", "chunks and a window", "window longer than the chunk"])
@pytest.mark.parametrize("length", LENGTHS)
def test_float32_agrees_with_float64(name: str, length: int):
    rule, results = RULES[name], {}
    q, writes, store = problem(length, rule)
    for dtype in (torch.float32, torch.float64):
        single = leaves(q, writes, at_the_start_of_a_chunk(store), dtype)
        results[dtype] = run(omega_chunked, *single[:3], rule, 0)
    for i, (ours, exact) in enumerate(zip(*results.values(), strict=True)):
        assert_close(ours, exact, FLOAT32 if i < 4 else FLOAT32_GRADIENT)


def test_half_precision_is_computed_in_float32():
    rule = Rule(8, 3)
    q, writes, store = (
        x.bfloat16() if isinstance(x, Tensor) else type(x)(*(y.bfloat16() for y in x)) for x in problem(40, rule)
    )
    reads, after = omega_chunked(q, writes, at_the_start_of_a_chunk(store), rule)
    wide = (type(x)(*(y.float() for y in x)) for x in (writes, at_the_start_of_a_chunk(store)))
    wide_reads, wide_after = omega_chunked(q.float(), *wide, rule)
    assert torch.equal(reads, wide_reads.bfloat16())
    assert torch.equal(after.memory, wide_after.memory)


@given(
    length=st.integers(1, 50),
    chunk=st.integers(1, 12),
    window=st.integers(1, 9),
    rows=st.integers(1, 80),
    momentum=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_result_does_not_depend_on_the_block(
    length: int, chunk: int, window: int, rows: int, momentum: bool, seed: int
):
    rule = Rule(chunk, window)
    q, writes, store = problem(length, rule, momentum, seed)
    store = at_the_start_of_a_chunk(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(omega_blocks, "MOST_ROWS", rows)
        patch.setattr(omega_blocks, "FEWEST_ROWS", rows)
        reads, after = omega_chunked(q, writes, store, rule)
    slow_reads, slow_after = omega_recurrent(q, writes, store, rule)
    assert_close(reads, slow_reads, FLOAT64)
    assert_close(after.memory, slow_after.memory, FLOAT64)


@given(cuts=st.sets(st.integers(1, 49), max_size=4), name=st.sampled_from(sorted(RULES)), seed=st.integers(0, 1000))
def test_any_split_gives_the_same(cuts: set[int], name: str, seed: int):
    rule, store = RULES[name], None
    q, writes, _ = problem(50, rule, seed=seed)
    whole, last = omega_chunked(q, writes, None, rule)
    reads = []
    for start, stop in pairwise([0, *sorted(cuts), 50]):
        position = start % rule.chunk_tokens
        read, store = omega_chunked(q[:, start:stop], writes.at(start, stop), store, rule, position)
        reads.append(read)
    assert_close(torch.cat(reads, dim=1), whole, FLOAT64)
    assert store is not None
    for ours, theirs in zip(store, last, strict=True):
        assert_close(ours, theirs, FLOAT64)


def flat_window(writes: Writes, **changes: Tensor | None) -> Writes:
    return writes._replace(window_weight=torch.ones_like(writes.window_weight), **changes)


def test_one_token_with_momentum_is_titans():
    """M_t = alpha M + S_t, S_t = theta S - eta * 2 k (k M - v), with the gradient at the memory of the last token."""
    q, writes, _ = problem(40, Rule(1))
    writes = flat_window(writes)
    k, v, _, eta, log_alpha, log_theta = writes
    assert log_theta is not None
    memory, surprise, reads = torch.zeros(B, H, K, V), torch.zeros(B, H, K, V), []
    for t in range(40):
        error = torch.einsum("bhk,bhkv->bhv", k[:, t], memory.double()) - v[:, t]
        gradient = 2 * torch.einsum("bhk,bhv->bhkv", k[:, t], error)
        surprise = log_theta[:, t, :, None, None].exp() * surprise - eta[:, t, :, None, None] * gradient
        memory = log_alpha[:, t, :, None, None].exp() * memory + surprise
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], memory))
    assert_close(omega_chunked(q, writes, None, Rule(1))[0], torch.stack(reads, dim=1), FLOAT64)


def test_one_token_without_momentum_is_the_gated_delta_rule():
    """alpha I - 2 eta k k^T is a (I - b k k^T) for a = alpha, b = 2 eta / alpha; 2 eta v is b (alpha v)."""
    q, writes, store = problem(70, Rule(1), momentum=False)
    writes = flat_window(writes)
    alpha = writes.log_retention.exp()
    twin = gated_delta.Writes(
        writes.k, alpha.unsqueeze(-1) * writes.v, 2 * writes.step_size / alpha, writes.log_retention
    )
    reads, after = omega_chunked(q, writes, at_the_start_of_a_chunk(store), Rule(1))
    twin_reads, twin_after = gated_delta.gated_delta_chunked(q, twin, store.memory)
    assert_close(reads, twin_reads, FLOAT64)
    assert_close(after.memory, twin_after, FLOAT64)


def test_one_token_without_momentum_and_forgetting_is_the_delta_rule():
    q, writes, _ = problem(70, Rule(1), momentum=False)
    nothing = torch.zeros_like(writes.log_retention)
    writes = flat_window(writes, log_retention=nothing)
    twin = gated_delta.Writes(writes.k, writes.v, 2 * writes.step_size, nothing)
    empty = torch.zeros(B, H, K, V, dtype=torch.float64)
    twin_reads, _ = gated_delta.gated_delta_recurrent(q, twin, empty)
    assert_close(omega_chunked(q, writes, None, Rule(1))[0], twin_reads, FLOAT64)


@pytest.mark.parametrize("chunk", [1, 8, 100])
def test_inner_products_of_one_token_are_gated_linear_attention(chunk: int):
    q, writes, _ = problem(50, Rule(chunk), momentum=False)
    writes = flat_window(writes)
    k, v, _, eta, log_alpha, _ = writes
    wanted = closed_forms.gated_linear_attention(q, k, v, eta, log_alpha.exp())
    assert_close(omega_chunked(q, writes, None, Rule(chunk, 1, "dot"))[0], wanted, FLOAT64)


def test_inner_products_of_a_window_are_sliding_window_linear_attention():
    """Every write of the last c tokens is made again at each step: M_t = sum_n eta_n sum_{n-c < i <= n} k_i v_i^T."""
    rule = Rule(8, 4, "dot")
    q, writes, _ = problem(30, rule, momentum=False)
    writes = empty_before(flat_window(writes, log_retention=torch.zeros_like(writes.log_retention)), rule)
    k, v = writes.k[:, 3:], writes.v[:, 3:]
    outer = torch.einsum("bthk,bthv->bthkv", k, v)
    windows = torch.stack([outer[:, max(0, n - 3) : n + 1].sum(1) for n in range(30)], dim=1)
    states = (writes.step_size[..., None, None] * windows).cumsum(1)
    assert_close(omega_chunked(q, writes, None, rule)[0], torch.einsum("bthk,bthkv->bthv", q, states), FLOAT64)


def test_inner_products_of_monomials_tend_to_softmax_attention_without_its_normaliser():
    """Dot with a matrix: sum_i exp(q . k_i) v_i, to the last digits once the series of exp has converged."""
    q, writes, _ = problem(20, Rule(4), momentum=False)
    q, k, v = (F.normalize(x[..., :3], dim=-1) for x in (q, writes.k, writes.v))
    ones, zeros = torch.ones_like(writes.step_size), torch.zeros_like(writes.step_size)
    scores = torch.einsum("bthk,bshk->bhts", q, k).exp().tril()
    wanted, worst = torch.einsum("bhts,bshv->bthv", scores, v), []
    for degree in range(1, 11):
        scales = torch.tensor(exponential_coefficients(degree), dtype=torch.float64).sqrt()
        phi_q, phi_k = (monomial_features(x, scales, Monomials.of(3, degree)) for x in (q, k))
        reads, _ = omega_chunked(phi_q, Writes(phi_k, v, ones, ones, zeros, None), None, Rule(4, 1, "dot"))
        worst.append(float((reads - wanted).abs().max()))
        assert worst[-1] <= 20 * math.e / math.factorial(degree + 1)
    assert worst[-1] < 1e-6


def test_the_first_chunk_descends_from_nothing():
    """At an empty memory the error is the value: the squared error is the inner product of twice the step."""
    q, writes, _ = problem(30, Rule(30, 3))
    squared, _ = omega_chunked(q, writes, None, Rule(30, 3))
    twice = writes._replace(step_size=2 * writes.step_size)
    assert_close(squared, omega_chunked(q, twice, None, Rule(30, 3, "dot"))[0], FLOAT64)


def test_a_chunk_without_momentum_and_forgetting_is_one_gradient_step_on_its_tokens():
    """The mini-batch form of test-time training: M' = M - eta grad sum_i |k_i M - v_i|^2."""
    q, writes, store = problem(12, Rule(12), momentum=False)
    eta = torch.full_like(writes.step_size, 0.05)
    writes = flat_window(writes, step_size=eta, log_retention=torch.zeros_like(eta))
    memory = store.memory.clone().requires_grad_()
    loss = (torch.einsum("bthk,bhkv->bthv", writes.k, memory) - writes.v).square().sum()
    descended = memory - 0.05 * torch.autograd.grad(loss, memory)[0]
    _, after = omega_chunked(q, writes, at_the_start_of_a_chunk(store), Rule(12))
    assert_close(after.memory, descended, FLOAT64)


def test_orthogonalised_updates_forget_the_size_of_the_errors():
    rule = Rule(4, 2, "dot", 5, 2)
    q, writes, _ = problem(20, rule)
    reads, _ = omega_chunked(q, writes, None, rule)
    louder, _ = omega_chunked(q, writes._replace(v=100 * writes.v), None, rule)
    assert_close(louder, reads, FLOAT64)
    assert not reads[:, 0].any()
    assert reads[:, 1].any()


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_values_stay_finite(name: str, dtype: torch.dtype):
    rule = RULES[name]
    q, writes, store = problem(40, rule)
    q, writes, store, _ = leaves(q, writes, at_the_start_of_a_chunk(store), dtype)
    zeros, strong = torch.zeros_like(writes.log_retention), torch.full_like(writes.log_retention, -1e4)
    no_keys, no_values = torch.zeros_like(writes.k), torch.zeros_like(writes.v)
    for changed in (
        writes._replace(log_retention=strong),
        writes._replace(log_momentum=strong),
        writes._replace(log_retention=strong, log_momentum=strong),
        writes._replace(step_size=zeros),
        writes._replace(window_weight=torch.zeros_like(writes.window_weight)),
        writes._replace(k=no_keys, v=no_values),
    ):
        for tensor in run(omega_chunked, q, changed, store, rule, 0):
            assert tensor.isfinite().all()


def test_strong_forgetting_leaves_the_last_descent():
    q, writes, _ = problem(30, Rule(8), momentum=False)
    writes = flat_window(writes, log_retention=torch.full_like(writes.log_retention, -1e4))
    reads, _ = omega_chunked(q, writes, None, Rule(8, 1, "dot"))
    alone = writes.step_size.unsqueeze(-1) * (q * writes.k).sum(-1, keepdim=True) * writes.v
    assert_close(reads, alone, FLOAT64)
