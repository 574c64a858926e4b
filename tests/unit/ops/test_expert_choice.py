"""Slots that choose their tokens: against loops, by hand, and without a look ahead."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.ops.expert_choice import (
    chosen_ahead,
    chosen_ahead_plain,
    chosen_within,
    chosen_within_plain,
    chunk_capacity,
)


def scores(n_tokens: int, seed: int = 0, n_levels: int = 0) -> Tensor:
    """Shares of three slots; with few levels, many are equal."""
    g = torch.Generator().manual_seed(seed)
    if n_levels:
        return torch.randint(n_levels, (2, n_tokens, 3), generator=g) / n_levels
    return torch.rand(2, n_tokens, 3, generator=g)


def test_a_slot_takes_the_best_tokens_of_a_chunk_that_is_over():
    s = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.2, 0.3, 0.8]).view(1, -1, 1)
    taken = chosen_within(s, chunk_tokens=3, capacity=2)[0, :, 0]
    assert taken.tolist() == [False, True, True, True, False, True, False]


def test_a_slot_takes_what_would_have_been_taken_of_the_chunk_before():
    s = torch.tensor([0.6, 0.2, 0.7, 0.9, 0.65, 0.5, 0.8, 0.65, 0.66, 0.9]).view(1, -1, 1)
    taken = chosen_ahead(s, chunk_tokens=3, capacity=2, threshold=0.5)[0, :, 0]
    # Asked: 0.5; then 0.6, the second of 0.6, 0.2, 0.7; then 0.65; then 0.66.
    assert taken.tolist() == [True, False, True, True, True, False, True, True, False, True]


@given(
    n_tokens=st.integers(1, 23),
    chunk_tokens=st.integers(1, 9),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 99),
    n_levels=st.sampled_from([0, 3]),
)
def test_both_forms_equal_their_loops(n_tokens: int, chunk_tokens: int, share: float, seed: int, n_levels: int):
    s, capacity = scores(n_tokens, seed, n_levels), max(1, round(share * chunk_tokens))
    assert torch.equal(chosen_within(s, chunk_tokens, capacity), chosen_within_plain(s, chunk_tokens, capacity))
    ahead = chosen_ahead(s, chunk_tokens, capacity, 1 / 3)
    assert torch.equal(ahead, chosen_ahead_plain(s, chunk_tokens, capacity, 1 / 3))


@given(n_tokens=st.integers(1, 40), chunk_tokens=st.integers(1, 9), seed=st.integers(0, 99))
def test_loads_are_even_within_chunks_and_never_above_the_share_ahead(n_tokens: int, chunk_tokens: int, seed: int):
    s, n_over = scores(n_tokens, seed), n_tokens // chunk_tokens
    capacity = chunk_capacity(chunk_tokens, 3, 1)
    assert (chosen_within(s, chunk_tokens, capacity).sum(1) == n_over * capacity).all()
    for chunk in chosen_ahead(s, chunk_tokens, capacity, 1 / 3).split(chunk_tokens, dim=1):
        assert (chunk.sum(1) <= capacity).all()


@pytest.mark.parametrize("changed", [0, 7, 8, 13, 19])
def test_a_token_changes_nothing_before_its_chunk_or_before_itself(changed: int):
    before, after = scores(20), scores(20)
    after[:, changed] = 1 - after[:, changed]
    start, stop = changed // 8 * 8, changed // 8 * 8 + 8
    outside = torch.ones(20, dtype=torch.bool)
    outside[start:stop] = False
    within = chosen_within(before, 8, 3), chosen_within(after, 8, 3)
    assert torch.equal(within[0][:, outside], within[1][:, outside])
    ahead = chosen_ahead(before, 8, 3, 1 / 3), chosen_ahead(after, 8, 3, 1 / 3)
    assert torch.equal(ahead[0][:, :changed], ahead[1][:, :changed])
    assert torch.equal(ahead[0][:, stop + 8 :], ahead[1][:, stop + 8 :])


def test_the_share_of_a_slot_is_rounded_up_and_fits_the_chunk():
    assert [chunk_capacity(*given) for given in ((16, 4, 1), (16, 5, 1), (8, 4, 1.5), (4, 1, 9), (2, 64, 0.5))] == [
        4,
        4,
        3,
        4,
        1,
    ]
