"""Geometry and use of slots: by hand, and under what must not matter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnemoscope.examination.measures.mean_vector_share import mean_vector_share, read_variance_share
from mnemoscope.examination.measures.slot_geometry import (
    centred_rank,
    collapse_kind,
    effective_rank,
    mean_cosine,
    stability,
    stable_rank,
)
from mnemoscope.examination.measures.utilisation import (
    dead_slots,
    gini,
    max_violation,
    slot_mass,
    write_to_read_lag,
)

SEEDS = st.integers(0, 10_000)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int, n: int) -> Tensor:
    return torch.linalg.qr(drawn(seed + 1, n, n))[0]


def test_mean_cosine_by_hand():
    square = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -1.0]])
    assert mean_cosine(square) == pytest.approx(-1 / 3)
    assert mean_cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(math.sqrt(0.5))
    assert mean_cosine(torch.ones(5, 3)) == pytest.approx(1.0)
    assert math.isnan(mean_cosine(torch.ones(1, 3)))
    assert mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])) == pytest.approx(0.0)


def test_a_common_offset_fakes_the_raw_cosine_and_not_the_centred_one():
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert mean_cosine(square + 100) > 0.999
    assert mean_cosine(square + 100, centred=True) == pytest.approx(-1 / 3)


@given(SEEDS)
def test_cosine_is_that_of_all_pairs(seed: int):
    vectors = drawn(seed, 6, 3)
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    pairs = [float(unit[i] @ unit[j]) for i in range(6) for j in range(i)]
    assert mean_cosine(vectors) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_ranks_by_hand():
    assert float(effective_rank(torch.eye(4))) == pytest.approx(4.0)
    assert float(effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0])))) == pytest.approx(2.0)
    assert float(effective_rank(torch.diag(torch.tensor([3.0, 1.0])))) == pytest.approx(4 / 3**0.75)
    assert float(effective_rank(torch.zeros(2, 3))) == 0.0
    assert stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(6 / 4)
    assert stable_rank(torch.zeros(2, 2)) == 0.0


def test_centred_rank_by_hand():
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert centred_rank(cross + 50) == pytest.approx(2.0, abs=1e-5)
    assert centred_rank(torch.tensor([[1.0, 5.0], [2.0, 5.0], [9.0, 5.0]])) == pytest.approx(1.0, abs=1e-5)


def test_reads_that_differ_by_rounding_only_have_no_rank():
    constant = drawn(0, 1, 16).float().expand(200, 16) * torch.linspace(1 - 1e-7, 1 + 1e-7, 200).unsqueeze(1)
    noisy = constant + 1e-8 * drawn(1, 200, 16).float()
    assert centred_rank(noisy) == 0.0
    assert centred_rank(constant + 1e-2 * drawn(1, 200, 16).float()) > 14


@given(SEEDS, st.floats(0.1, 100.0))
def test_geometry_does_not_depend_on_rotation_scale_or_order(seed: int, scale: float):
    slots = drawn(seed, 7, 4)
    moved = scale * (slots @ rotation(seed, 4))[torch.randperm(7, generator=torch.Generator().manual_seed(seed))]
    for measure in (mean_cosine, stable_rank, lambda m: float(effective_rank(m)), centred_rank, read_variance_share):
        assert measure(moved) == pytest.approx(measure(slots), rel=1e-6, abs=1e-9)


@given(SEEDS, st.floats(0.5, 3.0))
def test_stability_number_under_rotation_and_scale(seed: int, scale: float):
    queries = drawn(seed, 9, 4)
    for radius in (None, 2.0):
        plain, moved = stability(queries, 0.7, radius), stability(scale * queries @ rotation(seed, 4), 0.7, radius)
        assert moved.number == pytest.approx(scale**2 * plain.number, rel=1e-6)
        assert moved.threshold == pytest.approx(plain.threshold * (1 if radius is None else scale), rel=1e-9)


def test_stability_number_by_hand():
    queries = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = stability(queries, inverse_temperature=0.4)
    assert found.number == pytest.approx(0.4 * 2.0)
    assert found.threshold == 1.0
    assert found.collapse_is_stable
    assert not stability(queries, inverse_temperature=0.6).collapse_is_stable
    on_sphere = stability(queries + torch.tensor([0.0, 3.0]), inverse_temperature=0.4, radius=2.0)
    assert on_sphere.threshold == pytest.approx(1.5)
    assert on_sphere.number == pytest.approx(0.4 * 2.0), "the spread along the mean query does not count"


def energy_gradient(slots: Tensor, queries: Tensor, beta: float) -> Tensor:
    """Of the bank's energy at its slots, from the definition."""
    slots = slots.clone().requires_grad_()
    energy = slots.square().sum() / (2 * len(slots)) - (beta * queries @ slots.T).logsumexp(-1).mean() / beta
    return torch.autograd.grad(energy, slots)[0]


@pytest.mark.parametrize(("share", "stays"), [(0.95, True), (1.05, False)])
def test_a_collapse_stays_below_the_threshold_and_breaks_above_it(share: float, stays: bool):
    queries = drawn(0, 64, 3)
    beta = share / stability(queries, 1.0).number
    slots = queries.mean(0) + 1e-3 * drawn(1, 6, 3)
    start = float((slots - slots.mean(0)).norm())
    for _ in range(600):
        slots = slots - 2.0 * energy_gradient(slots, queries, beta)
    assert (float((slots - slots.mean(0)).norm()) < start) == stays


def test_the_two_collapses_and_none():
    slots = 0.05 * drawn(0, 8, 4) + torch.tensor([1.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    uniform = torch.full((32, 8), 1 / 8, dtype=torch.float64)
    assert collapse_kind(uniform @ slots, uniform) == "uniform"
    winner = (6 * torch.eye(8, dtype=torch.float64)[0] + 0.3 * drawn(1, 32, 8)).softmax(-1)
    assert float(winner[:, 0].mean()) > 0.9
    assert collapse_kind(winner @ slots, winner) == "winner-take-all"
    many = torch.eye(8, dtype=torch.float64).repeat(4, 1)
    assert collapse_kind(many @ drawn(2, 8, 4), many) == "diverse"


@given(SEEDS)
def test_what_varies_and_what_does_not_add_up(seed: int):
    reads = drawn(seed, 12, 3) + 2
    assert mean_vector_share(reads) + read_variance_share(reads) == pytest.approx(1.0)


def test_variance_share_by_hand():
    assert read_variance_share(torch.tensor([[3.0], [1.0]])) == pytest.approx(1 / 5)
    assert read_variance_share(torch.zeros(3, 2)) == 0.0


def test_utilisation_by_hand():
    weights = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0]]])
    mass = slot_mass(weights)
    assert mass.tolist() == pytest.approx([0.3, 0.7, 0.0, 0.0])
    assert dead_slots(mass) == 0.5
    assert gini(mass) == pytest.approx((2 * (0.3 + 0.7 + 0.3 + 0.7 + 0.4)) / (2 * 16 * 0.25))
    assert max_violation(mass) == pytest.approx(1.8)


def test_one_slot_for_everything_and_perfect_balance():
    assert max_violation(torch.eye(5)[0]) == pytest.approx(4.0)
    assert gini(torch.eye(5)[0]) == pytest.approx(0.8)
    assert dead_slots(torch.eye(5)[0]) == pytest.approx(0.8)
    even = torch.full((5,), 0.2)
    assert (max_violation(even), gini(even), dead_slots(even)) == (pytest.approx(0, abs=1e-6), pytest.approx(0), 0.0)


def test_no_weight_at_all():
    mass = slot_mass(torch.zeros(3, 4))
    assert (dead_slots(mass), gini(mass), max_violation(mass)) == (1.0, 0.0, 0.0)


@given(SEEDS, st.floats(0.1, 100.0))
def test_utilisation_does_not_depend_on_the_order_of_slots_or_the_amount(seed: int, amount: float):
    weights = drawn(seed, 5, 6).exp()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    plain, moved = slot_mass(weights), slot_mass(amount * weights[:, order])
    assert float(plain.sum()) == pytest.approx(1.0)
    for measure in (dead_slots, gini, max_violation):
        assert measure(moved) == pytest.approx(measure(plain), rel=1e-9, abs=1e-12)


@given(SEEDS)
def test_gini_is_the_mean_difference(seed: int):
    mass = drawn(seed, 7).abs()
    difference = (mass.unsqueeze(0) - mass.unsqueeze(1)).abs().sum()
    assert gini(mass) == pytest.approx(float(difference / (2 * 49 * mass.mean())))


def test_lag_by_hand():
    writes = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.0]]])
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    nothing = torch.zeros(2)
    late = torch.stack([nothing, nothing, second, nothing]).unsqueeze(0)
    assert write_to_read_lag(late, writes) == pytest.approx(1.0)
    mixed = torch.stack([nothing, nothing, nothing, first]).unsqueeze(0)
    assert write_to_read_lag(mixed, writes) == pytest.approx(0.5 * 3 + 0.5 * 0)
    assert math.isnan(write_to_read_lag(late, torch.zeros(1, 4, 2)))


@given(SEEDS)
def test_lag_is_the_mean_age_of_every_write_that_is_left(seed: int):
    reads, writes = drawn(seed, 2, 5, 3).abs(), drawn(seed + 1, 2, 5, 3).sigmoid()
    age = weight = 0.0
    for b in range(2):
        for t in range(5):
            for m in range(3):
                for s in range(t + 1):
                    left = float(reads[b, t, m] * writes[b, s, m] * (1 - writes[b, s + 1 : t + 1, m]).prod())
                    age, weight = age + left * (t - s), weight + left
    assert write_to_read_lag(reads, writes) == pytest.approx(age / weight)
