"""Effective state size and the dynamics of states: by hand, and against operators written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.examination.measures.effective_state_size import (
    block_state_sizes,
    mixer_operator,
    probed_operator,
    state_rank_share,
    state_share,
    state_sizes,
)
from mnemoscope.examination.measures.state_dynamics import half_life, key_coherence, retention_product, state_growth

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def recurrence(q: Tensor, k: Tensor, values: Tensor, retention: Tensor, erases: Tensor) -> Tensor:
    """Outputs of a gated delta rule for one head, token by token; `erases` 0 makes it a linear mixer."""
    state = values.new_zeros(len(values), k.shape[-1], values.shape[-1])
    outputs = []
    for t in range(len(k)):
        old = torch.einsum("k,nkv->nv", k[t], state)
        state = retention[t] * (state - erases[t] * torch.einsum("k,nv->nkv", k[t], old))
        state = state + torch.einsum("k,nv->nkv", k[t], values[:, t])
        outputs.append(torch.einsum("k,nkv->nv", q[t], state))
    return torch.stack(outputs, dim=1)


def one_head(seed: int, n_tokens: int, width: int, erases: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k = drawn(seed, n_tokens, width), drawn(seed + 1, n_tokens, width)
    retention = 0.8 + 0.2 * drawn(seed + 2, n_tokens).sigmoid()
    return q, k / k.norm(dim=-1, keepdim=True), retention, torch.full((n_tokens,), erases, dtype=torch.float64)


@given(SEEDS)
def test_the_operator_of_a_linear_mixer_is_what_probing_finds(seed: int):
    q, k, retention, erases = one_head(seed, 6, 3, 0.0)
    written = mixer_operator(q, k, retention.log())
    probed = probed_operator(lambda v: recurrence(q, k, v, retention, erases), 6, 1, q)
    torch.testing.assert_close(probed[:, 0, :, 0], written, rtol=1e-9, atol=1e-12)
    assert bool((written.triu(1) == 0).all())


def test_the_operator_of_the_delta_rule_is_found_by_probing_alone():
    q, k, retention, erases = one_head(0, 7, 3, 0.9)
    values = drawn(5, 1, 7, 2)
    probed = probed_operator(lambda v: recurrence(q, k, v, retention, erases), 7, 2, q)
    expected = recurrence(q, k, values, retention, erases)[0]
    torch.testing.assert_close(torch.einsum("tosi,si->to", probed, values[0]), expected, rtol=1e-9, atol=1e-12)
    naive = mixer_operator(q, k, retention.log())
    assert float((probed[:, 0, :, 0] - naive).norm()) > 0.1, "the linear form misses what keys erase"


def test_a_map_that_is_not_linear_is_refused():
    with pytest.raises(ValueError, match=r"linear in its values.*relative\s+error.*fix keys"):
        probed_operator(lambda v: v.cumsum(1).tanh(), 4, 2, torch.zeros(1))
    with pytest.raises(ValueError, match="linear"):
        probed_operator(lambda v: v.cumsum(1) + 1, 4, 2, torch.zeros(1))


def test_state_sizes_by_hand():
    running_sum = torch.ones(8, 8).tril()
    assert state_sizes(running_sum).tolist() == pytest.approx([1.0] * 7)
    assert state_sizes(running_sum, tolerance=1e-6).tolist() == [1.0] * 7
    no_memory = torch.eye(8)
    assert state_sizes(no_memory).tolist() == [0.0] * 7
    delay_by_two = torch.eye(8).roll(2, 0).tril()
    assert state_sizes(delay_by_two, tolerance=1e-6).tolist() == [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    assert state_sizes(delay_by_two).tolist() == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0])


@given(SEEDS, st.integers(1, 4))
def test_the_rank_of_a_mixer_is_its_number_of_keys_in_the_middle(seed: int, width: int):
    q, k, retention, erases = one_head(seed, 12, width, 0.5)
    operator = probed_operator(lambda v: recurrence(q, k, v, retention, erases), 12, 1, q)[:, 0, :, 0]
    sizes = state_sizes(operator, tolerance=1e-9)
    assert float(sizes.max()) == width
    assert bool((state_sizes(operator) <= sizes + 1e-9).all())
    assert state_share(sizes, width, 16) == 1.0


def test_the_operator_of_all_channels_has_the_rank_of_the_whole_state():
    q, k, retention, erases = one_head(3, 12, 2, 0.5)
    operator = probed_operator(lambda v: recurrence(q, k, v, retention, erases), 12, 3, q)
    assert float(block_state_sizes(operator, tolerance=1e-9).max()) == 2 * 3


@given(SEEDS, st.floats(0.1, 100.0))
def test_state_sizes_do_not_depend_on_scale_and_go_head_by_head(seed: int, scale: float):
    operators = drawn(seed, 2, 6, 6).tril()
    together = state_sizes(scale * operators, n_positions=3)
    for head in range(2):
        torch.testing.assert_close(together[head], state_sizes(operators[head], n_positions=3), rtol=1e-9, atol=0)


def test_a_single_token_has_no_past():
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        state_sizes(torch.ones(1, 1))


def test_state_rank_share_by_hand():
    full, one = torch.eye(3), torch.ones(3, 3)
    assert state_rank_share(full) == pytest.approx(1.0)
    assert state_rank_share(torch.stack([full, one])) == pytest.approx((1 + 1 / 3) / 2)
    assert state_rank_share(torch.eye(2, 5)) == pytest.approx(1.0)
    assert state_rank_share(torch.zeros(2, 3, 3)) == 0.0


def test_retention_by_hand():
    retention = torch.tensor([0.1, 0.5, 0.5, 0.0, 1.0])
    assert retention_product(retention).tolist() == [1.0, 0.5, 0.25, 0.0, 0.0]
    assert float(half_life(torch.full((4,), 0.5))) == pytest.approx(1.0)
    assert float(half_life(torch.tensor([0.25, 1.0]))) == pytest.approx(1.0)
    assert float(half_life(torch.ones(3))) == math.inf
    assert float(half_life(torch.tensor([0.0, 1.0]))) == 0.0
    assert half_life(torch.tensor([[0.5], [0.5**0.5]])).tolist() == pytest.approx([1.0, 2.0])


def test_state_growth_by_hand():
    states = torch.arange(1.0, 9.0).view(1, 8, 1, 1).expand(2, 8, 2, 3)
    assert state_growth(states) == pytest.approx(8 / 2)
    assert state_growth(states, n_trained=4) == pytest.approx(8 / 4)
    assert state_growth(torch.ones(2, 3, 4)) == pytest.approx(1.0)
    assert math.isnan(state_growth(torch.zeros(1, 4, 2)))
    with pytest.raises(ValueError, match="between 1 and the 8 tokens there are, got 9"):
        state_growth(states, n_trained=9)


def test_coherence_by_hand():
    keys = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, -2.0]])
    assert float(key_coherence(keys)) == pytest.approx(math.sqrt(0.5))
    assert float(key_coherence(torch.eye(3))) == 0.0
    assert key_coherence(torch.stack([torch.ones(2, 2), torch.eye(2)])).tolist() == pytest.approx([1.0, 0.0])
    assert float(key_coherence(torch.ones(1, 2))) == 0.0
