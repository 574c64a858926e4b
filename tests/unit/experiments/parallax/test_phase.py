import pytest
import torch

from mnemoscope.experiments.parallax.phase import (
    KINDS,
    PARALLAX_PHASE,
    PhaseStudy,
    draw_queries,
    follow,
    kind_of,
    maps,
    phase,
)
from mnemoscope.ops.bank_energy import bank_energy

TINY = PhaseStudy(sharpness=(0.7, 1.5), scales=(0.01, 2.0), n_slots=8, width=4, n_queries=32, steps=150)


def test_a_seed_has_a_kind_for_every_bank():
    measured = phase(TINY, 0)
    assert {claim.figure for claim in PARALLAX_PHASE.claims} == set(measured.figures)
    assert measured.figures["line_obeyed"] == 1
    (picture,) = maps(TINY, measured.series)
    assert (len(picture.rows), len(picture.columns)) == (2, 2)
    assert picture.values[0][0] == KINDS.index("uniform")


def test_a_step_goes_down_the_gradient_of_the_energy():
    generator = torch.Generator().manual_seed(0)
    queries = draw_queries(TINY, generator)
    slots = torch.randn(8, 4, generator=generator, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(bank_energy(queries, slots, 0.9), slots)
    stepped = follow(queries, slots.detach(), 0.9, 1, 0.3)
    assert stepped.numpy() == pytest.approx((slots - 0.3 * 8 * gradient).detach().numpy(), abs=1e-12)


def test_kinds_of_banks_that_are_known():
    queries = draw_queries(TINY, torch.Generator().manual_seed(0))
    one = torch.ones(8, 4, dtype=torch.float64)
    assert kind_of(queries, one, 1.0) == "uniform"
    winner = torch.cat([100 * queries.mean(0, keepdim=True), torch.zeros(7, 4, dtype=torch.float64)])
    shifted = queries + 5 * queries.mean(0)
    assert kind_of(shifted, winner, 1.0) == "winner-take-all"
    assert kind_of(queries, 10 * torch.eye(4, dtype=torch.float64).repeat(2, 1), 1.0) == "diverse"
