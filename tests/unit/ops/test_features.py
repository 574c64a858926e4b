"""Feature maps: their inner products in closed form, and the directions they really span."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mnemoscope.ops.features import (
    Monomials,
    elementwise_features,
    exponential_coefficients,
    monomial_features,
    sketch_features,
    sketch_signs,
)
from tests.oracle import omega as oracle
from tests.tolerances import FLOAT64, assert_close

D, N_KEYS = 16, 400


def keys(n: int = N_KEYS, width: int = D, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scales(degree: int) -> Tensor:
    return torch.tensor(exponential_coefficients(degree), dtype=torch.float64).sqrt()


RANKS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "identity": (lambda x: x, D),
    "elementwise of degree 2": (lambda x: elementwise_features(x, scales(2)), 2 * D + 1),
    "elementwise of degree 3": (lambda x: elementwise_features(x, scales(3)), 3 * D + 1),
    "monomials of degree 2": (lambda x: monomial_features(x, scales(2), Monomials.of(D, 2)), math.comb(D + 2, 2)),
    # Powers that are added up instead of laid side by side, and features that are projected back, gain nothing.
    "sum of powers": (lambda x: x + x**2 / 2, D),
    "sketch as wide as the keys": (lambda x: sketch_features(x, scales(2), sketch_signs(D, 2, D, seed=0)), D),
    "sketch of 64": (lambda x: sketch_features(x, scales(2), sketch_signs(D, 2, 64, seed=0)), 64),
    "sketch of more than there are monomials": (
        lambda x: sketch_features(x, scales(2), sketch_signs(D, 2, 300, seed=0)),
        math.comb(D + 2, 2),
    ),
}


@pytest.mark.parametrize("name", RANKS)
def test_a_map_spans_as_many_directions_as_stated(name: str):
    phi, rank = RANKS[name]
    assert torch.linalg.matrix_rank(phi(keys())) == rank


def test_the_ranks_are_the_stated_numbers():
    assert [RANKS[name][1] for name in list(RANKS)[:4]] == [16, 33, 49, 153]


@pytest.mark.parametrize(("width", "degree"), [(1, 4), (3, 1), (3, 2), (4, 3), (2, 5)])
def test_inner_products_of_monomials_are_polynomials(width: int, degree: int):
    q, k = keys(10, width), keys(12, width, seed=1)
    coefficients = torch.rand(degree + 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    monomials = Monomials.of(width, degree)
    phi_q, phi_k = (monomial_features(x, coefficients.sqrt(), monomials) for x in (q, k))
    assert phi_q.shape[-1] == math.comb(width + degree, degree)
    expected = sum(a * (q @ k.T) ** i for i, a in enumerate(coefficients))
    assert isinstance(expected, Tensor)
    assert_close(phi_q @ phi_k.T, expected, FLOAT64)


def test_inner_products_tend_to_the_exponential():
    q, k = (torch.nn.functional.normalize(keys(10, 3, seed=seed), dim=-1) for seed in (0, 1))
    worst = []
    for degree in range(1, 9):
        phi_q, phi_k = (monomial_features(x, scales(degree), Monomials.of(3, degree)) for x in (q, k))
        worst.append(float((phi_q @ phi_k.T - (q @ k.T).exp()).abs().max()))
        # The remainder of the series for arguments of at most one.
        assert worst[-1] <= math.e / math.factorial(degree + 1)
    assert worst == sorted(worst, reverse=True)


def test_elementwise_features_are_powers_behind_a_constant():
    x, factors = keys(5, 3), torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    expected = torch.cat([torch.full((5, 1), 2.0), 0.5 * x, 3 * x**2], dim=1)
    assert_close(elementwise_features(x, factors), expected, FLOAT64)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_sketch_is_the_loop_over_its_features(degree: int):
    x = keys(6, 5)
    ours = sketch_features(x, scales(degree), sketch_signs(5, degree, 7, seed=4))
    assert_close(ours, oracle.sketch(x, scales(degree), 7, 4), FLOAT64)


def test_a_sketch_is_right_on_average():
    q, k = (torch.nn.functional.normalize(keys(6, 4, seed=seed), dim=-1) for seed in (0, 1))
    signs = sketch_signs(4, 2, 100_000, seed=0)
    product = q @ k.T
    found = sketch_features(q, scales(2), signs) @ sketch_features(k, scales(2), signs).T
    # Three standard errors of a mean of 100 000 products of size one.
    assert (found - (1 + product + product**2 / 2)).abs().max() < 0.03


def test_signs_follow_from_the_seed_alone():
    first, other = sketch_signs(3, 2, 8, seed=0), sketch_signs(3, 2, 8, seed=1)
    torch.manual_seed(5)
    assert torch.equal(sketch_signs(3, 2, 8, seed=0), first)
    assert not torch.equal(first, other)
    assert set(first.flatten().tolist()) == {-1.0, 1.0}
    # Golden: a saved model draws the same signs in every version.
    assert sketch_signs(2, 1, 8, seed=0).int().tolist() == [[1, -1, 1, 1, -1, -1, 1, 1], [1, 1, 1, -1, -1, -1, -1, -1]]
