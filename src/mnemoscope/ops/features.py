"""Feature maps of keys and queries, and how many directions each really spans.

    elementwise:  phi(x) = [s_0, s_1 x, s_2 x^2, ...], powers channel by channel             rank 1 + degree * d
    monomial:     phi(x) = [s_|beta| sqrt(multinomial(beta)) x^beta] over |beta| <= degree    rank C(d + degree, degree)
                  phi(q) . phi(k) = sum_i s_i^2 (q . k)^i, so s_i^2 = 1 / i! tends to exp(q . k)
    sketch:       phi_r(x) = m^-1/2 sum_i s_i prod_{j <= i} (w_rj . x), w of random signs     rank at most m
                  m random projections of the monomials, never formed; phi(q) . phi(k) as above on average

The elementwise map is often called polynomial; it spans 2 d + 1 directions for degree 2 where the monomials span
(d + 1)(d + 2) / 2, because it has no products of different channels.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), section 4 (polynomial features, coefficients 1 / i!); the
sketch is Kar and Karnick 2012, "Random Feature Maps for Dot Product Kernels" (arXiv 1201.6530), algorithm 1, with all
degrees in every coordinate.
"""

import math
import random
from itertools import combinations_with_replacement
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


def exponential_coefficients(degree: int) -> list[float]:
    """1 / i! up to the degree: the first terms of exp."""
    return [1 / math.factorial(i) for i in range(degree + 1)]


def elementwise_features(x: Float[Tensor, "*b k"], scales: Float[Tensor, "n_degrees"]) -> Float[Tensor, "*b f"]:
    """Powers of every channel side by side, behind one constant."""
    constant, *others = scales.unbind()
    powers, power = [constant.expand(*x.shape[:-1], 1)], None
    for scale in others:
        power = x if power is None else power * x
        powers.append(scale * power)
    return torch.cat(powers, dim=-1)


class Monomials(NamedTuple):
    """How the monomials are made, each from one of the degree below times one channel.

    Args:
        channel, below: for every degree from 2 up, which channel and which monomial of the degree below.
        root_multinomial: square root of the multinomial coefficient of every monomial, all degrees in order.
        degree: of every monomial.
    """

    channel: tuple[Int[Tensor, "n"], ...]
    below: tuple[Int[Tensor, "n"], ...]
    root_multinomial: Float[Tensor, "f"]
    degree: Int[Tensor, "f"]

    @classmethod
    def of(cls, width: int, degree: int) -> "Monomials":
        """All monomials of `width` variables up to `degree`, in lexicographic order within each degree."""
        by_degree = [list(combinations_with_replacement(range(width), i)) for i in range(degree + 1)]
        channel, below = [], []
        for i in range(2, degree + 1):
            place = {beta: n for n, beta in enumerate(by_degree[i - 1])}
            channel.append(torch.tensor([beta[0] for beta in by_degree[i]]))
            below.append(torch.tensor([place[beta[1:]] for beta in by_degree[i]]))
        roots = [math.sqrt(_multinomial(beta)) for betas in by_degree for beta in betas]
        degrees = [i for i, betas in enumerate(by_degree) for _ in betas]
        return cls(tuple(channel), tuple(below), torch.tensor(roots, dtype=torch.float64), torch.tensor(degrees))


def monomial_features(
    x: Float[Tensor, "*b k"], scales: Float[Tensor, "n_degrees"], monomials: Monomials
) -> Float[Tensor, "*b f"]:
    """Every monomial once, weighted so that inner products are polynomials of q . k."""
    parts = [torch.ones_like(x[..., :1]), x]
    for channel, below in zip(monomials.channel, monomials.below, strict=True):
        # Gathered along the last axis in one go each: a loop over channels is slower, and its backward far slower.
        parts.append(x.index_select(-1, channel.to(x.device)) * parts[-1].index_select(-1, below.to(x.device)))
    weights = monomials.root_multinomial.to(x) * scales.index_select(0, monomials.degree.to(x.device))
    return torch.cat(parts[: len(scales)], dim=-1) * weights


def sketch_signs(width: int, degree: int, n_features: int, seed: int) -> Float[Tensor, "k f_degree"]:
    """Random signs, always the same for a seed.

    Drawn as bits of Python's generator, whose stream is promised never to change; torch's is not.
    """
    n = width * degree * n_features
    n_bytes = 4 * -(-n // 32)
    drawn = torch.tensor(list(random.Random(seed).getrandbits(8 * n_bytes).to_bytes(n_bytes, "little")))
    bits = (drawn.unsqueeze(1) >> torch.arange(8)) & 1
    return (2.0 * bits - 1).flatten()[:n].view(width, degree * n_features)


def sketch_features(
    x: Float[Tensor, "*b k"], scales: Float[Tensor, "n_degrees"], signs: Float[Tensor, "k f_degree"]
) -> Float[Tensor, "*b f"]:
    """Products of random projections, the first i of them for degree i."""
    constant, *others = scales.unbind()
    projections = (x @ signs.to(x)).chunk(len(others), dim=-1)
    total, product = constant, None
    for scale, projection in zip(others, projections, strict=True):
        product = projection if product is None else product * projection
        total = total + scale * product
    return total * projections[0].shape[-1] ** -0.5


def _multinomial(beta: tuple[int, ...]) -> int:
    """Orderings of a multiset."""
    return math.factorial(len(beta)) // math.prod(math.factorial(beta.count(i)) for i in set(beta))
