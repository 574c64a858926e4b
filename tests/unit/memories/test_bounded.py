"""Bounded storage: what each policy keeps, what it loses, and what it says about itself."""

import re
from typing import get_args

import pytest
import torch
from torch import Tensor

from mnemoscope.memories import Bounded, BoundedConfig, Contextual, ContextualConfig
from mnemoscope.memories.bounded import Policy
from tests.oracle import bounded as oracle
from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import inputs, run_steps, tensors

POLICIES: tuple[Policy, ...] = get_args(Policy)
every_policy = pytest.mark.parametrize("policy", POLICIES)


def memory_of(policy: Policy, capacity: int) -> Bounded:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Bounded(BoundedConfig(n_heads=2, capacity=capacity, policy=policy), 16).double()


def unbounded(memory: Bounded) -> Contextual:
    """The contextual memory of the same parameters."""
    contextual = Contextual(ContextualConfig(n_heads=2), 16).double()
    contextual.load_state_dict(memory.state_dict())
    return contextual


def addressing_of(memory: Bounded | Contextual, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = memory.addressing.register_forward_hook(lambda _module, _args, output: seen.append(output))
    memory(x)
    hook.remove()
    return seen[0]


@every_policy
def test_with_room_for_every_pair_it_is_the_contextual_memory(policy: Policy):
    memory, x = memory_of(policy, capacity=59), inputs(60).requires_grad_()
    y, theirs = memory(x)[0], unbounded(memory)(x)[0]
    assert_close(y, theirs, FLOAT64)
    gradients = (torch.autograd.grad(form.square().sum(), x)[0] for form in (y, theirs))
    assert_close(*gradients, FLOAT64)
    assert_close(run_steps(memory, x, memory.init_state(2))[0], theirs, FLOAT64)


@every_policy
@torch.no_grad()
def test_it_is_so_up_to_the_token_that_overflows(policy: Policy):
    memory, x = memory_of(policy, capacity=20), inputs(40)
    y, theirs = memory(x)[0], unbounded(memory)(x)[0]
    assert_close(y[:, :21], theirs[:, :21], FLOAT64)
    assert (y[:, 21:] - theirs[:, 21:]).abs().amax((0, 2)).min() > 1e-6


@torch.no_grad()
def test_a_ring_is_a_sliding_window():
    """Its weights are those over all pairs, cut to the last ones and made to sum to one again."""
    memory, x, capacity = memory_of("ring", capacity=6), inputs(50), 6
    every = addressing_of(unbounded(memory), x)
    ring = addressing_of(memory, x)
    for t in (1, 5, 6, 7, 30, 49):
        newest = every[:, :, t, max(t - capacity, 0) : t]
        assert_close(ring[:, :, t, capacity - newest.shape[-1] :], newest / newest.sum(-1, keepdim=True), FLOAT64)


@torch.no_grad()
def test_merging_equal_keys_loses_nothing():
    memory = memory_of("merge", capacity=6)
    # Nothing leaks from token to token, so that five inputs make five keys.
    memory.keys.leak.fill_(100)
    words = inputs(5, batch=1)[0]
    x = words[torch.randint(5, (2, 70), generator=torch.Generator().manual_seed(0))]
    y, state = memory(x)
    assert_close(y, unbounded(memory)(x)[0], FLOAT64)
    assert_close(state.store.merged.sum(-1), torch.full((2, 2), 69), FLOAT64)


@torch.no_grad()
def test_what_is_asked_for_stays_and_what_is_not_leaves():
    """One input comes back at every other token; the pair that answers it best outlives all its contemporaries."""
    memory = memory_of("lru", capacity=8)
    memory.keys.leak.fill_(100)
    # Sharp reads, and values of the next token alone.
    memory.key_scale.fill_(0.25)
    memory.mix.fill_(0)
    x = inputs(41, batch=1)
    x[:, 2::2] = x[:, :1]
    first_key = memory(x[:, :2])[1].store.k[:, :, 0]
    _, state = memory(x)
    same = torch.einsum("bhk,bhsk->bhs", first_key, state.store.k)
    assert_close(same.amax(-1), torch.ones(1, 2), FLOAT64)
    ring = memory_of("ring", capacity=8)
    ring.load_state_dict(memory.state_dict())
    alone = x.clone()
    alone[:, 2::2] = inputs(20, batch=1, seed=7)
    kept = ring(alone)[1].store.k
    assert torch.einsum("bhk,bhsk->bhs", first_key, kept).max() < 1 - 1e-6


@every_policy
@pytest.mark.parametrize("capacity", [1, 2, 9])
@torch.no_grad()
def test_what_is_stored_is_what_the_equations_keep(policy: Policy, capacity: int):
    memory, x = memory_of(policy, capacity), inputs(45)
    store = memory(x)[1].store
    for b in range(2):
        for h in range(2):
            pairs = oracle.head(dict(memory.named_parameters()), x[b], h, 2, capacity, policy, 0.99)[1]
            assert_close(store.k[b, h], torch.stack([pair.k for pair in pairs]), FLOAT64)
            assert_close(store.v[b, h], torch.stack([pair.v for pair in pairs]), FLOAT64)
            assert store.merged[b, h].tolist() == [pair.merged for pair in pairs]
            assert_close(store.hits[b, h], torch.tensor([pair.hits for pair in pairs], dtype=x.dtype), FLOAT64)
            if policy == "lru":
                assert_close(store.usage[b, h], torch.tensor([pair.usage for pair in pairs], dtype=x.dtype), FLOAT64)


@every_policy
@torch.no_grad()
def test_the_report_counts_pairs_reads_and_evictions(policy: Policy):
    memory, x = memory_of(policy, capacity=10), inputs(30)
    empty = memory.storage_report(memory.init_state(2))
    assert (empty.n_in_use, empty.n_evicted) == (0, 0)
    assert not empty.hits_lost.any()
    half_full = memory.storage_report(memory(x[:, :6])[1])
    assert (half_full.n_in_use, half_full.n_evicted) == (5, 0)
    assert_close(half_full.hits.sum(-1), torch.full((2, 2), 5.0), FLOAT64)
    assert_close(half_full.hits_lost, torch.zeros(2, 2), FLOAT64)
    full = memory.storage_report(memory(x)[1])
    assert (full.n_in_use, full.n_evicted) == (10, 19)
    assert_close(full.hits.sum(-1), 29 * (1 - full.hits_lost), FLOAT64)
    assert bool((full.hits_lost > 1e-6).all()) == (policy != "merge")
    assert_close(full.merged.sum(-1), torch.full((2, 2), 29 if policy == "merge" else 10), FLOAT64)


@every_policy
@torch.no_grad()
def test_the_state_stops_growing(policy: Policy):
    memory, state = memory_of(policy, capacity=5), None
    sizes = []
    for x in inputs(24).split(4, dim=1):
        _, state = memory(x, state)
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors(state)))
    assert sizes[0] < sizes[1]
    assert len(set(sizes[1:])) == 1


@every_policy
@torch.no_grad()
def test_many_equal_tokens_stay_finite(policy: Policy):
    memory = memory_of(policy, capacity=3).float()
    for x in (torch.zeros(1, 20, 16), torch.full((1, 20, 16), 1e4)):
        assert memory(x)[0].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 0}, "bounded.n_heads must be at least 1"),
        ({"capacity": 0}, "bounded.capacity must be at least 1 pair, got 0; use 1 or more"),
        ({"usage_retention": 0.9}, "bounded.usage_retention must be None, or in [0, 1] with policy='lru', got 0.9"),
        ({"policy": "lru", "usage_retention": 1.5}, "bounded.usage_retention must be None, or in [0, 1]"),
    ],
)
def test_what_cannot_work_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        BoundedConfig(**options)


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match=r"^bounded: d_model must be a multiple of n_heads=3"):
        Bounded(BoundedConfig(n_heads=3), 16)
