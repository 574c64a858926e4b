"""Approximate retrieval: what it looks at, what it makes of that, and how far that is from the exact read."""

from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mnemoscope.ops.approximate import (
    Buckets,
    Hashing,
    Method,
    RandomFeatures,
    approximate_read,
    chosen_read,
    exact_weights,
    k_means,
    random_feature_read,
    retrieval_report,
)
from tests.oracle import approximate as oracle
from tests.tolerances import CAUSAL, FLOAT32, FLOAT64, assert_close

B, H, K, V = 2, 2, 6, 5
METHODS: tuple[Method, ...] = (
    Hashing(n_hashes=3, n_bits=4),
    Buckets(n_buckets=5, n_probed=2, n_iterations=3),
    RandomFeatures(n_features=32, chunk_tokens=16),
)
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)


def problem(n_tokens: int, seed: int = 0, width: int = K) -> tuple[Tensor, Tensor, Tensor]:
    """Unit queries and keys in a few loose clusters, and values."""
    generator = seeded(seed)
    centres = torch.randn(6, width, generator=generator, dtype=torch.float64)
    unit = [
        F.normalize(
            centres[torch.randint(6, (B, H, n_tokens), generator=generator)]
            + 0.4 * torch.randn(B, H, n_tokens, width, generator=generator, dtype=torch.float64),
            dim=-1,
        )
        for _ in range(2)
    ]
    return unit[0], unit[1], torch.randn(B, H, n_tokens, V, generator=generator, dtype=torch.float64)


def seeded(seed: int = 1) -> Generator:
    return torch.Generator().manual_seed(seed)


def exact(q: Tensor, k: Tensor, v: Tensor, beta: float) -> Tensor:
    everything = [list(range(t)) for t in range(q.shape[2])]
    return by_head(lambda b, h: oracle.read(q[b, h], k[b, h], v[b, h], beta, everything))


def by_head(form) -> Tensor:
    return torch.stack([torch.stack([form(b, h) for h in range(H)]) for b in range(B)])


@pytest.mark.parametrize("beta", [1.0, 7.4, 500.0])
@pytest.mark.parametrize("n_tokens", [1, 2, 40])
def test_hashing_is_softmax_over_the_pairs_that_collide(n_tokens: int, beta: float):
    q, k, v = problem(n_tokens)
    method = Hashing(n_hashes=3, n_bits=4)
    planes = torch.randn(3, 4, K, generator=seeded(), dtype=torch.float64)
    found = chosen_read(q, k, v, beta, method, seeded())
    for b in range(B):
        for h in range(H):
            pairs = oracle.hashed(q[b, h], k[b, h], planes)
            assert_close(found.read[b, h], oracle.read(q[b, h], k[b, h], v[b, h], beta, pairs), FLOAT64)
            assert found.n_pairs[b, h].tolist() == [len(looked_at) for looked_at in pairs]


@pytest.mark.parametrize("beta", [1.0, 7.4, 500.0])
@pytest.mark.parametrize("n_tokens", [1, 5, 6, 7, 40])
def test_buckets_are_softmax_over_the_nearest_clusters(n_tokens: int, beta: float):
    q, k, v = problem(n_tokens)
    found = chosen_read(q, k, v, beta, Buckets(n_buckets=5, n_probed=2, n_iterations=3), seeded())
    generator = seeded()
    picks = {n: torch.randperm(n, generator=generator)[:5].tolist() for n in (6, 12, 24) if n < n_tokens}
    for b in range(B):
        for h in range(H):
            pairs = oracle.probed(q[b, h], k[b, h], 5, 2, 3, picks)
            assert_close(found.read[b, h], oracle.read(q[b, h], k[b, h], v[b, h], beta, pairs), FLOAT64)
            assert found.n_pairs[b, h].tolist() == [len(looked_at) for looked_at in pairs]


@pytest.mark.parametrize("method", [Hashing(n_hashes=1, n_bits=0), Hashing(n_bits=0), Buckets(n_buckets=4, n_probed=4)])
def test_what_looks_at_everything_is_exact(method: Method):
    q, k, v = problem(50)
    report = retrieval_report(q, k, v, 7.4, method, seeded())
    assert_close(report.approximate, exact(q, k, v, 7.4), FLOAT64)
    assert_close(report.exact, exact(q, k, v, 7.4), FLOAT64)
    assert report.percentile_95_error < 1e-12
    assert abs(report.mass - 1) < 1e-12
    assert report.n_pairs == report.n_pairs_exact == 25


@every_method
@pytest.mark.parametrize("changed", [0, 1, 20, 38])
def test_no_read_depends_on_its_own_or_a_later_pair(method: Method, changed: int):
    q, k, v = problem(40)
    other_k, other_v = k.clone(), v.clone()
    other_k[:, :, changed:] = problem(40, seed=5)[1][:, :, changed:]
    other_v[:, :, changed:] += 1
    before, after = (approximate_read(q, *pairs, 3.0, method, seeded()) for pairs in ((k, v), (other_k, other_v)))
    assert_close(after[:, :, : changed + 1], before[:, :, : changed + 1], CAUSAL)
    assert not torch.equal(after[:, :, changed + 1 :], before[:, :, changed + 1 :])


@every_method
def test_later_tokens_change_no_choice(method: Method):
    q, k, v = problem(50)
    whole = approximate_read(q, k, v, 3.0, method, seeded())
    for n in (1, 7, 33):
        first = (x[:, :, :n] for x in (q, k, v))
        assert_close(approximate_read(*first, 3.0, method, seeded()), whole[:, :, :n], FLOAT64)


@every_method
def test_a_generator_decides_the_read(method: Method):
    q, k, v = problem(40)
    first, again, other = (approximate_read(q, k, v, 3.0, method, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_method
def test_heads_may_differ_in_their_inverse_temperature(method: Method):
    q, k, v = problem(40)
    both = approximate_read(q, k, v, torch.tensor([1.0, 9.0], dtype=torch.float64), method, seeded())
    for h, beta in enumerate((1.0, 9.0)):
        assert_close(both[:, h], approximate_read(q, k, v, beta, method, seeded())[:, h], FLOAT64)


@every_method
def test_float32_agrees_with_float64(method: Method):
    q, k, v = problem(60)
    single = approximate_read(q.float(), k.float(), v.float(), 3.0, method, seeded())
    assert single.dtype == torch.float32
    assert_close(single, approximate_read(q, k, v, 3.0, method, seeded()), FLOAT32)


@every_method
@pytest.mark.parametrize("beta", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extreme_temperatures_stay_finite(method: Method, beta: float, dtype: torch.dtype):
    q, k, v = (x.to(dtype) for x in problem(30))
    assert approximate_read(q, k, v, beta, method, seeded()).isfinite().all()
    report = retrieval_report(q, k, v, beta, method, seeded())
    assert 0 <= report.mass <= 1 + 1e-6


@pytest.mark.parametrize("n_tokens", [1, 2, 63, 64, 65, 100])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 500])
def test_chunks_of_features_equal_all_pairs_of_them(chunk_tokens: int, n_tokens: int):
    q, k, v = problem(n_tokens + 1)
    read = random_feature_read(q, k, v, 2.0, RandomFeatures(n_features=24, chunk_tokens=chunk_tokens), seeded())
    dense = retrieval_report(q, k, v, 2.0, RandomFeatures(n_features=24), seeded()).approximate
    assert_close(read, dense, FLOAT64)
    assert not read[:, :, 0].any()


def test_gradients_of_random_features_are_those_of_differences():
    q, k, v = (x[:1, :1].requires_grad_() for x in problem(7))
    method = RandomFeatures(n_features=8, chunk_tokens=3)
    assert torch.autograd.gradcheck(lambda *leaves: random_feature_read(*leaves, 1.5, method, seeded()), (q, k, v))


def test_the_error_of_random_features_falls_with_their_number():
    q, k, v = problem(64, width=16)
    errors = [
        retrieval_report(q, k, v, 1.0, RandomFeatures(n_features=n), seeded()).mean_error for n in (64, 1024, 16384)
    ]
    assert errors[2] < 0.05
    # A factor of sixteen in number is one of four in error.
    for few, many in pairwise(errors):
        assert 2.5 < few / many < 6


def test_features_are_unbiased():
    """Averaged over draws, the share of a pair in what a query sums up is that of its kernel."""
    q, k, v = problem(8)
    exactly = exact(q, k, v, 0.5)
    draws = [random_feature_read(q, k, v, 0.5, RandomFeatures(n_features=512), seeded(seed)) for seed in range(60)]
    bias = (torch.stack(draws).mean(0) - exactly).abs().max()
    spread = (torch.stack(draws) - exactly).abs().mean()
    assert bias < spread


def test_more_tables_find_more_and_more_bits_less():
    q, k, v = problem(200)
    mass, n_pairs = {}, {}
    for n_hashes, n_bits in ((1, 4), (4, 4), (4, 8)):
        report = retrieval_report(q, k, v, 7.4, Hashing(n_hashes=n_hashes, n_bits=n_bits), seeded())
        mass[n_hashes, n_bits], n_pairs[n_hashes, n_bits] = report.mass, report.n_pairs
    assert mass[1, 4] < mass[4, 4] > mass[4, 8]
    assert n_pairs[1, 4] < n_pairs[4, 4] > n_pairs[4, 8]


def test_buckets_find_most_of_the_mass_for_a_fraction_of_the_pairs():
    q, k, v = problem(300)
    report = retrieval_report(q, k, v, 20.0, Buckets(n_buckets=6, n_probed=2), seeded())
    assert report.mass > 0.9
    assert report.n_pairs < 0.6 * report.n_pairs_exact


@every_method
def test_the_report_is_about_these_reads(method: Method):
    q, k, v = problem(50)
    report = retrieval_report(q, k, v, 3.0, method, seeded())
    assert_close(report.approximate, approximate_read(q, k, v, 3.0, method, seeded()), FLOAT64)
    exactly = exact(q, k, v, 3.0)
    assert_close(report.exact, exactly, FLOAT64)
    errors = torch.sort(((report.approximate - exactly).norm(dim=-1) / exactly.norm(dim=-1))[:, :, 1:].flatten()).values
    assert_close(torch.tensor(report.mean_error, dtype=torch.float64), errors.mean(), FLOAT64)
    assert errors[int(0.94 * len(errors))] <= report.percentile_95_error <= errors[int(0.96 * len(errors))]
    if not isinstance(method, RandomFeatures):
        found = chosen_read(q, k, v, 3.0, method, seeded())
        everything = (3.0 * q @ k.mT).exp().tril(-1).sum(-1)
        share = (found.log_mass.exp() / everything)[:, :, 1:].mean()
        assert_close(torch.tensor(report.mass, dtype=torch.float64), share, FLOAT64)


def test_exact_weights_are_distributions_over_earlier_pairs():
    q, k, _ = problem(9)
    weights = exact_weights(q, k, 2.0)
    assert torch.equal(weights > 0, torch.ones(9, 9, dtype=torch.bool).tril(-1).expand(B, H, 9, 9))
    assert_close(weights.sum(-1)[:, :, 1:], torch.ones(B, H, 8), FLOAT64)


def test_k_means_finds_separate_clusters():
    generator = seeded()
    centres = torch.eye(4, dtype=torch.float64)
    points = F.normalize(centres.repeat(20, 1) + 0.05 * torch.randn(80, 4, generator=generator, dtype=torch.float64))
    fitted = k_means(points.unsqueeze(0), points[:4].unsqueeze(0), 5)[0]
    means = torch.stack([F.normalize(points[i::4].sum(0), dim=0) for i in range(4)])
    assert_close(fitted, means, FLOAT64)


def test_a_centre_without_points_stays():
    points = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    centres = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert torch.equal(k_means(points, centres, 3), centres)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hashing(n_hashes=0),
        lambda: Hashing(n_bits=-1),
        lambda: Buckets(n_buckets=2, n_probed=3),
        lambda: RandomFeatures(n_features=3),
        lambda: retrieval_report(*problem(1), 1.0, Hashing(), seeded()),
    ],
)
def test_what_cannot_work_is_refused(make):
    with pytest.raises(ValueError, match=r"^approximate: needs"):
        make()
