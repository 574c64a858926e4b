"""Approximate reads of a kernel-smoothing memory: softmax over some of the earlier pairs, or over features of all.

    r_t = sum_{s < t} w_ts v_s,   w_ts = exp(beta q_t . k_s) / sum_{s' < t} exp(beta q_t . k_s')      unit q and k

    hashing           only pairs whose key falls on the same side as the query of all hyperplanes of at least one table
    buckets           only pairs in the buckets (k-means of the keys) whose centres are nearest to the query
    random features   exp(beta q . k) as an expectation: phi(q) . phi(k), summed over all pairs before they are asked

All three are strictly causal, in what they choose as well: buckets are fitted to earlier keys alone. A query that finds
no pair reads zeros. `retrieval_report` puts the error beside the exact read.

Source: Charikar 2002, "Similarity estimation techniques from rounding algorithms" (hyperplanes); Jegou, Douze, Schmid
2011 (inverted lists over k-means); Choromanski et al. 2021, "Rethinking Attention with Performers" (arXiv 2009.14794),
lemma 1 with the hyperbolic features, and orthogonal directions of section 3.2.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional as F

from mnemoscope.ops.smoothing import smoothing_weights

LARGEST_FLOAT32_EXPONENT = 40.0
"""Of a random feature: beyond it features are computed in float64, since products of two would overflow."""


@dataclass(frozen=True, kw_only=True)
class Hashing:
    """Angular locality-sensitive hashing; more tables find more, more bits look at less.

    Args:
        n_hashes: tables.
        n_bits: hyperplanes a table.
    """

    n_hashes: int = 8
    n_bits: int = 6

    def __post_init__(self) -> None:
        _require(self.n_hashes >= 1 and self.n_bits >= 0, "at least 1 table of 0 hyperplanes or more", self)


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Clusters of keys, refitted whenever the memory has doubled; up to n_buckets pairs, all are looked at.

    Args:
        n_buckets: clusters.
        n_probed: clusters that a query looks into.
        n_iterations: of k-means.
    """

    n_buckets: int = 32
    n_probed: int = 4
    n_iterations: int = 8

    def __post_init__(self) -> None:
        _require(1 <= self.n_probed <= self.n_buckets, "at least 1 probed bucket, and no more than there are", self)


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Positive orthogonal random features; the error grows as exp(beta), and falls as n_features^-1/2.

    Args:
        n_features: an even number: each direction and its opposite.
        chunk_tokens: tokens that one matrix product covers; the result does not depend on it.
    """

    n_features: int = 256
    chunk_tokens: int = 128

    def __post_init__(self) -> None:
        _require(self.n_features >= 2 and self.n_features % 2 == 0, "an even number of features, 2 or more", self)


Method = Hashing | Buckets | RandomFeatures


class Retrieved(NamedTuple):
    """Reads, and what was looked at for them.

    `log_mass` is the log of the sum of exp(beta q . k) over the pairs that were looked at, minus infinity for none.
    """

    read: Float[Tensor, "b h t v"]
    log_mass: Float[Tensor, "b h t"]
    n_pairs: Int[Tensor, "b h t"]


@dataclass(frozen=True, kw_only=True)
class RetrievalReport:
    """An approximate read beside the exact one, over all queries but the first, which has nothing to read.

    Args:
        exact, approximate: the reads.
        mean_error: of |approximate - exact| / |exact|.
        percentile_95_error: what 95 % of the queries stay below.
        mass: mean share of the exact weights that the approximate ones cover, sum_s min(w_ts, approximate w_ts); where
            pairs are chosen, the weight of the pairs that were found.
        n_pairs: pairs looked at for a query, on average; 0 for random features, which look at sums.
        n_pairs_exact: the same for the exact read.
    """

    exact: Float[Tensor, "b h t v"]
    approximate: Float[Tensor, "b h t v"]
    mean_error: float
    percentile_95_error: float
    mass: float
    n_pairs: float
    n_pairs_exact: float


def approximate_read(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    v: Float[Tensor, "b h t v"],
    inverse_temperature: float | Float[Tensor, "h"],
    method: Method,
    generator: Generator,
) -> Float[Tensor, "b h t v"]:
    """The read of each query over the pairs of earlier tokens.

    Args:
        q: queries of unit length.
        k: keys of unit length.
        v: values.
        inverse_temperature: beta, for all heads or for each.
        method: how to look for pairs.
        generator: of hyperplanes, first centres or features; the same generator state gives the same read.
    """
    if isinstance(method, RandomFeatures):
        return random_feature_read(q, k, v, inverse_temperature, method, generator)
    return chosen_read(q, k, v, inverse_temperature, method, generator).read


def exact_weights(
    q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h t k"], inverse_temperature: float | Float[Tensor, "h"]
) -> Float[Tensor, "b h t t"]:
    """What is approximated."""
    earlier = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril(-1)
    return smoothing_weights((_by_head(inverse_temperature, q) * q) @ k.mT, earlier, "softmax")


@torch.no_grad()
def retrieval_report(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    v: Float[Tensor, "b h t v"],
    inverse_temperature: float | Float[Tensor, "h"],
    method: Method,
    generator: Generator,
) -> RetrievalReport:
    """The exact and the approximate read of the same queries, and how far they are apart; forms all weights."""
    _require(q.shape[2] >= 2, "2 tokens or more, since the first reads nothing", q.shape[2])
    weights = exact_weights(q, k, inverse_temperature)
    exact = weights @ v
    if isinstance(method, RandomFeatures):
        phi_q, phi_k = _features(q, k, inverse_temperature, method, generator)
        kernel = (phi_q @ phi_k.mT).tril(-1)
        approximate_weights = (kernel / kernel.sum(-1, keepdim=True).clamp(min=1e-30)).to(q.dtype)
        approximate = approximate_weights @ v
        mass, n_pairs = torch.minimum(weights, approximate_weights).sum(-1), torch.zeros_like(exact[..., 0])
    else:
        approximate, log_mass, n_pairs = chosen_read(q, k, v, inverse_temperature, method, generator)
        logits = (_by_head(inverse_temperature, q) * q) @ k.mT
        later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu()
        mass = (log_mass - logits.masked_fill(later, -torch.inf).logsumexp(-1)).exp()
    error = ((approximate - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-30))[:, :, 1:].double()
    return RetrievalReport(
        exact=exact,
        approximate=approximate,
        mean_error=float(error.mean()),
        percentile_95_error=float(error.flatten().quantile(0.95)),
        mass=float(mass[:, :, 1:].double().mean()),
        n_pairs=float(n_pairs[:, :, 1:].double().mean()),
        n_pairs_exact=q.shape[2] / 2,
    )


def random_feature_read(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    v: Float[Tensor, "b h t v"],
    inverse_temperature: float | Float[Tensor, "h"],
    method: RandomFeatures,
    generator: Generator,
) -> Float[Tensor, "b h t v"]:
    """Sums over earlier chunks, and all pairs within a chunk: linear in time, differentiable.

    Cost: O(t m (k + c + v)) multiply-adds a head for m features and chunks of c tokens.
    """
    n_tokens, c = q.shape[2], min(method.chunk_tokens, q.shape[2])
    phi_q, phi_k = _features(q, k, inverse_temperature, method, generator)
    # One more channel of ones sums the weights.
    values = F.pad(v.to(phi_k.dtype), (0, 1), value=1.0)
    phi_q, phi_k, values = (
        rearrange(F.pad(x, (0, 0, 0, -n_tokens % c)), "b h (n c) m -> b h n c m", c=c) for x in (phi_q, phi_k, values)
    )
    written = phi_k.mT @ values
    before = written.cumsum(2) - written
    sums = (phi_q @ phi_k.mT).tril(-1) @ values + phi_q @ before
    sums = rearrange(sums, "b h n c v -> b h (n c) v")[:, :, :n_tokens]
    return (sums[..., :-1] / sums[..., -1:].clamp(min=1e-30)).to(v.dtype)


def _features(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    inverse_temperature: float | Float[Tensor, "h"],
    method: RandomFeatures,
    generator: Generator,
) -> tuple[Float[Tensor, "b h t m"], Float[Tensor, "b h t m"]]:
    """phi(x) = exp(+-sqrt(beta) w . x) of orthogonal directions w, each query's divided by its largest.

    What is left out, exp(-beta / 2) and the number of features, is the same for all pairs.
    """
    width, half = q.shape[3], method.n_features // 2
    blocks = [
        torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
        for _ in range(-(-half // width))
    ]
    lengths = torch.randn(half, width, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
    directions = (lengths * torch.cat(blocks)[:half]).to(q.device)
    root = _by_head(inverse_temperature, q).sqrt()
    wide = q.dtype == torch.float64 or float(root.max()) * float(lengths.max()) > LARGEST_FLOAT32_EXPONENT
    compute = torch.float64 if wide else torch.float32
    along_q, along_k = ((root * x).to(compute) @ directions.to(compute).T for x in (q, k))
    largest = along_q.detach().abs().amax(-1, keepdim=True)
    return _both_ways(along_q) * (-largest).exp(), _both_ways(along_k)


def _both_ways(along: Float[Tensor, "b h t m1"]) -> Float[Tensor, "b h t m"]:
    """The exponential of numbers and of their opposites, for the price of one."""
    raised = along.exp()
    return torch.cat([raised, raised.reciprocal()], dim=-1)


@torch.no_grad()
def chosen_read(
    q: Float[Tensor, "b h t k"],
    k: Float[Tensor, "b h t k"],
    v: Float[Tensor, "b h t v"],
    inverse_temperature: float | Float[Tensor, "h"],
    method: Hashing | Buckets,
    generator: Generator,
) -> Retrieved:
    """Exact softmax over the pairs that a method chooses; without gradient.

    Bucket by bucket, the queries that ask it meet the pairs in it, and softmax is put together as it goes. Sizes of
    buckets are those of the data, so the graph cannot be captured.

    Cost: a matrix product per bucket, of the size of its largest list over batch and heads.
    """
    b, h = q.shape[:2]
    flat_k, flat_v = (rearrange(x, "b h t k -> (b h) t k") for x in (k, v))
    asked = rearrange(_by_head(inverse_temperature, q) * q, "b h t k -> (b h) t k")
    lookup = _Lookup(asked, flat_k, flat_v)
    if isinstance(method, Hashing):
        _hash(lookup, rearrange(q, "b h t k -> (b h) t k"), flat_k, method, generator)
    else:
        _probe(lookup, rearrange(q, "b h t k -> (b h) t k"), flat_k, method, generator)
    read, log_mass, n_pairs = lookup.result()
    return Retrieved(*(x.unflatten(0, (b, h)) for x in (read.to(v.dtype), log_mass, n_pairs)))


def hash_codes(x: Float[Tensor, "n t k"], planes: Float[Tensor, "tables bits k"]) -> Int[Tensor, "n t tables"]:
    """The sides of each table's hyperplanes, as the bits of a number."""
    sides = torch.einsum("ntk,jik->ntji", x, planes) > 0
    return (sides * 2 ** torch.arange(planes.shape[1], device=x.device)).sum(-1)


def _hash(
    lookup: "_Lookup", q: Float[Tensor, "n t k"], k: Float[Tensor, "n t k"], method: Hashing, generator: Generator
) -> None:
    planes = torch.randn(method.n_hashes, method.n_bits, q.shape[2], generator=generator, dtype=torch.float64)
    planes = planes.to(q)
    of_q, of_k = hash_codes(q, planes), hash_codes(k, planes)
    for table in range(method.n_hashes):
        # A pair that an earlier table has found is not counted again.
        lookup.look(of_q[:, :, table : table + 1], of_k[:, :, table], (of_q[..., :table], of_k[..., :table]))


def _probe(
    lookup: "_Lookup", q: Float[Tensor, "n t k"], k: Float[Tensor, "n t k"], method: Buckets, generator: Generator
) -> None:
    """Stretches of tokens, each twice as long as all before it, with centres fitted to the keys before it."""
    n_tokens, n_buckets = q.shape[1], method.n_buckets
    start, stop = 0, min(n_buckets + 1, n_tokens)
    everything = torch.zeros_like(q[:, :, 0], dtype=torch.int64)
    lookup.look(everything[:, :stop].unsqueeze(-1), everything[:, :stop], None, slice(0, stop))
    while stop < n_tokens:
        start, stop = stop, min(2 * stop, n_tokens)
        first = torch.randperm(start, generator=generator)[:n_buckets].to(q.device)
        centres = k_means(k[:, :start], k[:, first], method.n_iterations)
        of_k = (k[:, :stop] @ centres.mT).argmax(-1)
        of_q = (q[:, start:stop] @ centres.mT).topk(min(method.n_probed, n_buckets), dim=-1).indices
        lookup.look(of_q, of_k, None, slice(start, stop))


def k_means(x: Float[Tensor, "n t k"], centres: Float[Tensor, "n m k"], n_iterations: int) -> Float[Tensor, "n m k"]:
    """Spherical k-means from given centres; one that loses all its points stays where it is."""
    for _ in range(n_iterations):
        member = F.one_hot((x @ centres.mT).argmax(-1), centres.shape[1]).to(x.dtype)
        sums = member.mT @ x
        centres = torch.where(member.sum(1).unsqueeze(-1) > 0, F.normalize(sums, dim=-1), centres)
    return centres


class _Lookup:
    """Softmax over pairs that arrive bucket by bucket: running largest logit, sum of weights and weighted values.

    One more row at the end of everything takes what is only there to fill up short lists.
    """

    def __init__(self, q: Float[Tensor, "n t k"], k: Float[Tensor, "n t k"], v: Float[Tensor, "n t v"]) -> None:
        compute = torch.float64 if q.dtype == torch.float64 else torch.float32
        self.q, self.k, self.v = (F.pad(x.to(compute), (0, 0, 0, 1)) for x in (q, k, v))
        self.top = torch.full_like(self.q[:, :, 0], -torch.inf)
        self.weight = torch.zeros_like(self.top)
        self.value = torch.zeros_like(self.v)
        self.n_pairs = torch.zeros_like(self.top, dtype=torch.int64)

    def look(
        self,
        of_q: Int[Tensor, "n t p"],
        of_k: Int[Tensor, "n s"],
        found: tuple[Int[Tensor, "n t j"], Int[Tensor, "n s j"]] | None = None,
        queries: slice = slice(None),
    ) -> None:
        """Let queries (a stretch of time) see the earlier pairs in the buckets they ask for.

        Args:
            of_q: the buckets each query asks for, all different.
            of_k: the bucket each pair is in.
            found: codes of queries and pairs; a pair that agrees in any of them with the query is left out.
            queries: when the queries are.
        """
        n_asked, first = of_q.shape[2], queries.start or 0
        n_lists = int(max(of_q.max(), of_k.max())) + 1
        lists_q, sizes_q = _lists(of_q.flatten(1), n_lists)
        lists_k, sizes_k = _lists(of_k, n_lists)
        end = self.top.shape[1] - 1
        for bucket in (sizes_q.amax(0) * sizes_k.amax(0)).nonzero().flatten().tolist():
            entry, real = _members(lists_q, sizes_q, bucket)
            at_q = torch.where(real, first + entry // n_asked, end)
            entry, real = _members(lists_k, sizes_k, bucket)
            at_k = torch.where(real, entry, end)
            self._see(at_q, at_k, found)

    def _see(self, at_q: Int[Tensor, "n i"], at_k: Int[Tensor, "n j"], found: tuple[Tensor, Tensor] | None) -> None:
        hidden = at_k.unsqueeze(1) >= at_q.unsqueeze(2)
        if found is not None:
            for code_q, code_k in zip(found[0].unbind(-1), found[1].unbind(-1), strict=True):
                same_q, same_k = (F.pad(code, (0, 1)).gather(1, at) for code, at in ((code_q, at_q), (code_k, at_k)))
                hidden |= same_q.unsqueeze(2) == same_k.unsqueeze(1)
        logits = (_rows(self.q, at_q) @ _rows(self.k, at_k).mT).masked_fill_(hidden, -torch.inf)
        before = self.top.gather(1, at_q)
        top = torch.maximum(before, logits.amax(-1))
        # Where nothing has been seen yet, any finite number will do in place of minus infinity.
        finite = top.clamp(min=torch.finfo(top.dtype).min)
        kept, weights = (before - finite).exp(), (logits - finite.unsqueeze(-1)).exp()
        value = kept.unsqueeze(-1) * _rows(self.value, at_q) + weights @ _rows(self.v, at_k)
        self.value.scatter_(1, at_q.unsqueeze(-1).expand_as(value), value)
        self.weight.scatter_(1, at_q, kept * self.weight.gather(1, at_q) + weights.sum(-1))
        self.n_pairs.scatter_(1, at_q, self.n_pairs.gather(1, at_q) + (~hidden).sum(-1))
        self.top.scatter_(1, at_q, top)

    def result(self) -> tuple[Float[Tensor, "n t v"], Float[Tensor, "n t"], Int[Tensor, "n t"]]:
        """Reads, log masses, and pairs looked at."""
        read = self.value / self.weight.clamp(min=1e-30).unsqueeze(-1)
        return read[:, :-1], (self.top + self.weight.log())[:, :-1], self.n_pairs[:, :-1]


def _lists(buckets: Int[Tensor, "n e"], n_lists: int) -> tuple[Int[Tensor, "n e"], Int[Tensor, "n m"]]:
    """Entries in the order of their buckets, and how many are in each."""
    sizes = torch.zeros(buckets.shape[0], n_lists, dtype=torch.int64, device=buckets.device)
    return buckets.argsort(dim=1, stable=True), sizes.scatter_add_(1, buckets, torch.ones_like(buckets))


def _members(
    ordered: Int[Tensor, "n e"], sizes: Int[Tensor, "n m"], bucket: int
) -> tuple[Int[Tensor, "n i"], Bool[Tensor, "n i"]]:
    """The entries of a bucket, filled up to the longest list, and which of them are real."""
    place = torch.arange(int(sizes[:, bucket].max()), device=ordered.device)
    start = sizes[:, :bucket].sum(1, keepdim=True)
    return ordered.gather(1, (start + place).clamp(max=ordered.shape[1] - 1)), place < sizes[:, bucket : bucket + 1]


def _rows(x: Float[Tensor, "n t k"], at: Int[Tensor, "n i"]) -> Float[Tensor, "n i k"]:
    """Whole rows, which `index_select` copies in one piece each, where `gather` would go number by number."""
    n, n_rows, _ = x.shape
    first = n_rows * torch.arange(n, device=x.device).unsqueeze(1)
    return x.flatten(0, 1).index_select(0, (first + at).flatten()).unflatten(0, at.shape)


def _by_head(inverse_temperature: float | Tensor, like: Tensor) -> Float[Tensor, "h 1 1"]:
    beta = torch.as_tensor(inverse_temperature, dtype=like.dtype, device=like.device)
    return beta.expand(like.shape[1])[:, None, None]


def _require(condition: bool, required: str, got: object) -> None:
    if not condition:
        raise ValueError(f"approximate: needs {required}, got {got}; change that")
