"""Experts in blocks and picks: equal to one token through one net, whatever the routing."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.experts import expert_block_rows, expert_picks, expert_rows
from tests.tolerances import FLOAT32, FLOAT64, assert_close

E, D, W = 5, 4, 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nets() -> tuple[Tensor, Tensor]:
    return draw(E, D, W, seed=1).requires_grad_(), draw(E, W, D, seed=2).requires_grad_()


def one_by_one(x: Tensor, chosen: list[int], inner: Tensor, outer: Tensor) -> Tensor:
    return torch.stack([F.gelu(row @ inner[e]) @ outer[e] for row, e in zip(x, chosen, strict=True)])


ROUTINGS = {
    "even": lambda n: [i % E for i in range(n)],
    "all to one": lambda n: [3] * n,
    "all to the last": lambda n: [E - 1] * n,
    "two left out": lambda n: [(0, 2, 3)[i * i % 3] for i in range(n)],
    "drawn": lambda n: torch.randint(E, (n,), generator=torch.Generator().manual_seed(4)).tolist(),
}


@pytest.mark.parametrize("n_rows", [1, 2, 7, 64, 401])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_rows_go_through_their_expert(routing: str, n_rows: int):
    x, (inner, outer), chosen = draw(n_rows, D).requires_grad_(), nets(), ROUTINGS[routing](n_rows)
    fast = expert_rows(x, torch.tensor(chosen), inner, outer)
    slow = one_by_one(x, chosen, inner, outer)
    assert_close(fast, slow, FLOAT64)
    weigh = draw(n_rows, D, seed=3)
    ours, theirs = (torch.autograd.grad((y * weigh).sum(), [x, inner, outer]) for y in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, FLOAT64)
    single = expert_rows(x.float(), torch.tensor(chosen), inner.float(), outer.float())
    assert_close(single, slow, FLOAT32)


def test_few_rows_are_wasted():
    """At most one block an expert, and none where there are fewer rows than experts."""
    assert expert_block_rows(3, 5) == 3
    for n_rows in (10, 100, 1000, 10_000):
        assert n_rows <= expert_block_rows(n_rows, E) < n_rows + E * 32
        assert expert_block_rows(n_rows, E) <= 2 * n_rows


def test_what_experts_pick_is_weighted_and_summed():
    x, weight, (inner, outer) = draw(3, 8, D).requires_grad_(), draw(3, 8, E, seed=5).requires_grad_(), nets()
    taken = draw(3, 8, E, seed=6) > 0.3
    taken = taken & (taken.cumsum(1) <= 3)
    taken[1] = False
    fast = expert_picks(x, weight, taken, 3, inner, outer)
    every = torch.einsum("gcew,ewd->gced", F.gelu(torch.einsum("gcd,edw->gcew", x, inner)), outer)
    slow = torch.einsum("gced,gce->gcd", every, weight * taken)
    assert_close(fast, slow, FLOAT64)
    assert not fast[1].any()
    weigh = draw(3, 8, D, seed=7)
    ours, theirs = (torch.autograd.grad((y * weigh).sum(), [x, weight, inner, outer]) for y in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, FLOAT64)
