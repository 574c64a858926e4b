"""A contextual memory that holds at most `capacity` pairs a head, and how the pairs to hold are chosen.

    kbar_T = W_k x_T + l kbar_{T-1}                  k_T = kbar_T / |kbar_T|
    v_i = u n(c W_v x_i + (1 - c) W_v x_{i+1})       n(x) = x / |x|
    w_Ti = m_i exp(beta k_T . k_i) / sum_j m_j exp(beta k_T . k_j)        r_T = sum_i w_Ti v_i        y_T = W_o r_T

At token T the pair of T - 1, whose value is known now, is written; if that makes capacity + 1 pairs, one is given up;
then k_T reads those that are left. The policy says which is given up:

    ring    the oldest
    lru     of all but the one just written, that of least usage: a_i <- retention a_i + w_Ti at every read, and a pair
            enters with a_i = 1, the mass of one whole read
    merge   none: the two of the nearest keys become one, k = n(m_i k_i + m_j k_j), v = (m_i v_i + m_j v_j) / m, which
            stands where the older stood and counts m = m_i + m_j times; merging equal keys loses nothing

Until the capacity is reached, each policy is the contextual memory. Choices have no gradient; what is kept has.

Why: how much of a contextual memory is needed, and which pairs: capacity and choice can be varied alone.

Known limits: tokens come one after the other, so training is slow; choices are not trained.

Source: the memory, Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), equations 7 and 8, parametrised as in
`contextual`; a bound is that paper's wish. Keeping what draws attention, Zhang et al. 2023, "H2O" (arXiv 2306.14048).
Differs: H2O sums attention for ever and holds a share of recent pairs; here older attention fades instead.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.key_extractors import GAIN, LeakyKeys, by_head, projection
from mnemoscope.memories.parts import require, tensor_bytes
from mnemoscope.ops.smoothing import smoothing_weights
from mnemoscope.ops.smoothing_read import of_length

Policy = Literal["ring", "lru", "merge"]
SCALE_CAP = 5.0
USAGE_RETENTION = 0.99


@dataclass(frozen=True, kw_only=True)
class BoundedConfig:
    """Contextual memory of bounded size.

    Args:
        n_heads: heads; must divide the model width.
        capacity: most pairs a head holds.
        policy: which pair is given up.
        usage_retention: with policy="lru", what a read leaves of the attention drawn before it, where None is 0.99.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["bounded"] = "bounded"
    n_heads: int = 4
    capacity: int = 128
    policy: Policy = "ring"
    usage_retention: float | None = None

    def __post_init__(self) -> None:
        where = "bounded"
        require(self.n_heads >= 1, f"{where}.n_heads", "at least 1", self.n_heads, "use 1 or more")
        require(self.capacity >= 1, f"{where}.capacity", "at least 1 pair", self.capacity, "use 1 or more")
        require(
            self.usage_retention is None or (self.policy == "lru" and 0 <= self.usage_retention <= 1),
            f"{where}.usage_retention",
            "None, or in [0, 1] with policy='lru'",
            self.usage_retention,
            "use None",
        )


class Store(NamedTuple):
    """The pairs of every head, oldest first, and what is known of them.

    `merged` is how many pairs one stands for, `hits` the attention it has drawn so far, `usage` the same with what
    is long ago faded, under "lru" alone (u is s there, else 0).
    """

    k: Float[Tensor, "b h s k"]
    v: Float[Tensor, "b h s k"]
    merged: Int[Tensor, "b h s"]
    hits: Float[Tensor, "b h s"]
    usage: Float[Tensor, "b h u"]


class BoundedState(NamedTuple):
    """The leaky average, the last token's value (none before the first), the pairs, and how many were written."""

    average: Float[Tensor, "b h k"]
    pending: Float[Tensor, "b h p k"]
    store: Store
    n_written: Int[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class StorageReport:
    """How the storage of a state is used.

    Args:
        n_in_use: pairs that each head holds.
        n_evicted: pairs that each head has given up, or merged into others.
        hits: reads that each pair in memory has served, a read being shared out by its weights.
        hits_lost: share of all reads so far that went to pairs no longer in memory, by head.
        merged: pairs that each slot stands for.
    """

    n_in_use: int
    n_evicted: int
    hits: Float[Tensor, "b h s"]
    hits_lost: Float[Tensor, "b h"]
    merged: Int[Tensor, "b h s"]


class Bounded(nn.Module):
    """Contextual memory of bounded size.

    Read points: `addressing` (b h t m) over the slots, the newest pair last; `read` (b t h v), `contribution` (b t d).
    """

    role: Role = "memory"

    def __init__(self, config: BoundedConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(d_model % h == 0, "bounded: d_model", f"a multiple of n_heads={h}", d_model, "change either")
        self.config, self.d_model = config, d_model
        self.retention = USAGE_RETENTION if config.usage_retention is None else config.usage_retention
        self.keys = LeakyKeys(d_model, h)
        self.value, self.out = projection(d_model, d_model, False), projection(d_model, d_model, False)
        self.mix = nn.Parameter(torch.rand(h))
        self.key_scale = nn.Parameter(torch.full((h,), 1 / GAIN))
        self.value_scale = nn.Parameter(torch.full((h,), -0.5 / GAIN))
        self.addressing = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> BoundedState:
        """Nothing seen."""
        average = self.keys.init_carry(batch)
        pairs, numbers = average.unsqueeze(2)[:, :, :0], average[:, :, :0]
        merged = torch.zeros_like(numbers, dtype=torch.int64)
        store = Store(pairs.clone(), pairs.clone(), merged, numbers.clone(), numbers.clone())
        return BoundedState(average, pairs.clone(), store, torch.zeros((), dtype=torch.int64, device=average.device))

    def step(self, x: Float[Tensor, "b d"], state: BoundedState) -> tuple[Float[Tensor, "b d"], BoundedState]:
        """Write the pair of the token before, give one up if there are too many, read."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: BoundedState | None = None
    ) -> tuple[Float[Tensor, "b t d"], BoundedState]:
        """As many tokens at once as need no choice: all of them in a ring, those up to the capacity for the others."""
        state = state or self.init_state(x.shape[0])
        q, k, v, average, pending = self._pairs(x, state)
        store, start, n_new, reads = state.store, 0, k.shape[2], []
        if self.addressing.observed:
            read, store = self._observed(q, k, v, store, x.shape[1])
            reads.append(read)
            start = n_new
        while start < n_new:
            now = slice(start, start + self._n_without_choice(store, n_new - start))
            weights, store = self._write(q[:, :, now], k[:, :, now], v[:, :, now], store)
            reads.append(weights @ store.v)
            store, start = self._cut(store), now.stop
        # The very first token finds no pair, and reads zeros.
        read = torch.cat(reads, dim=2) if reads else q
        read = rearrange(F.pad(read, (0, 0, x.shape[1] - read.shape[2], 0)), "b h t k -> b t h k")
        y = self.contribution(self.out(self.read(read).flatten(2)))
        return y, BoundedState(average, pending, store, state.n_written + n_new)

    def _pairs(self, x: Float[Tensor, "b t d"], state: BoundedState) -> tuple[Tensor, ...]:
        """Queries, with their inverse temperature, the keys and values that are written before each, and the carries.

        The first token of all writes nothing, since no pair waits, and has no query here.
        """
        n_pending = state.pending.shape[2]
        averages, average = self.keys(x, state.average)
        k = torch.cat([state.average.unsqueeze(1)[:, :n_pending], averages], dim=1)
        k = rearrange(of_length(k), "b t h k -> b h t k")
        v = rearrange(by_head(self.value(x), self.config.n_heads), "b t h k -> b h t k")
        seen = torch.cat([state.pending, v], dim=2)
        v_mean = torch.lerp(seen[:, :, 1:], seen[:, :, :-1], self.mix[:, None, None])
        written = of_length(v_mean) * (GAIN * self.value_scale).exp()[:, None, None]
        beta = (2 * (GAIN * self.key_scale).clamp(max=SCALE_CAP)).exp()[:, None, None]
        return beta * k[:, :, 1:], k[:, :, :-1], written, average, seen[:, :, -1:].clone()

    def _n_without_choice(self, store: Store, n_left: int) -> int:
        """How many tokens can be read at once."""
        if self.config.policy == "ring":
            return min(n_left, max(self.config.capacity, 32))
        return min(n_left, max(self.config.capacity - store.k.shape[2], 1))

    def _write(
        self, q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t k"], store: Store
    ) -> tuple[Float[Tensor, "b h t s"], Store]:
        """The weights of the reads, and the pairs with the new ones: in a ring more than its capacity, to be cut."""
        n_new, capacity, policy = q.shape[2], self.config.capacity, self.config.policy
        store = self._joined(store, k, v)
        if policy != "ring" and store.k.shape[2] > capacity:
            store = _without_least_used(store) if policy == "lru" else _with_nearest_merged(store)
        n_pairs = store.k.shape[2]
        end = torch.arange(n_pairs - n_new + 1, n_pairs + 1, device=q.device).unsqueeze(1)
        pair = torch.arange(n_pairs, device=q.device)
        logits = q @ store.k.mT
        if policy == "merge":
            logits = logits + store.merged.to(logits.dtype).log().unsqueeze(2)
        weights = smoothing_weights(logits, (pair < end) & (pair >= end - capacity), "softmax")
        return weights, self._used(store, weights.detach())

    def _joined(self, store: Store, k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t k"]) -> Store:
        """The pairs with new ones, which count once, have not been read, and enter with a usage of 1."""
        one = torch.ones_like(k[..., 0])
        new = Store(
            k, v, one.to(torch.int64), torch.zeros_like(one), one if self.config.policy == "lru" else one[..., :0]
        )
        return Store(*(torch.cat([old, late], dim=2) for old, late in zip(store, new, strict=True)))

    def _cut(self, store: Store) -> Store:
        """The newest pairs up to the capacity; copied, since a view would keep the others alive."""
        n_over = store.k.shape[2] - self.config.capacity
        return Store(*(part[:, :, n_over:].clone() for part in store)) if n_over > 0 else store

    def _used(self, store: Store, weights: Float[Tensor, "b h t s"]) -> Store:
        """The pairs after these reads of them; each fades once for every read since it was written."""
        store = store._replace(hits=store.hits + weights.sum(2))
        if self.config.policy != "lru":
            return store
        n_new, n_pairs = weights.shape[2:]
        ago = torch.arange(n_new - 1, -1, -1, device=weights.device, dtype=weights.dtype)
        n_reads = (n_pairs - torch.arange(n_pairs, device=weights.device)).clamp(max=n_new)
        drawn = (weights * (self.retention**ago).unsqueeze(-1)).sum(2)
        return store._replace(usage=store.usage * self.retention ** n_reads.to(drawn.dtype) + drawn)

    def _observed(
        self,
        q: Float[Tensor, "b h t k"],
        k: Float[Tensor, "b h t k"],
        v: Float[Tensor, "b h t k"],
        store: Store,
        n: int,
    ) -> tuple[Float[Tensor, "b h n k"], Store]:
        """One token at a time, with the weights of all `n` in sight; what replaces them changes reads, not choices."""
        capacity = self.config.capacity
        blank = k.new_zeros(*k.shape[:2], n - k.shape[2], capacity)
        weights, values = [blank], [blank.unsqueeze(-1).expand(*blank.shape, k.shape[3])]
        for t in range(k.shape[2]):
            at = slice(t, t + 1)
            weight, store = self._write(q[:, :, at], k[:, :, at], v[:, :, at], store)
            store = self._cut(store)
            n_free = capacity - store.k.shape[2]
            weights.append(F.pad(weight[..., -store.k.shape[2] :], (n_free, 0)))
            values.append(F.pad(store.v, (0, 0, n_free, 0)).unsqueeze(2))
        seen = self.addressing(torch.cat(weights, dim=2))
        return torch.einsum("bhtm,bhtmk->bhtk", seen, torch.cat(values, dim=2)), store

    def storage_report(self, state: BoundedState) -> StorageReport:
        """How the storage of a state is used."""
        n_written, n_in_use = int(state.n_written), state.store.k.shape[2]
        # Every token after the first has read once.
        served = state.store.hits.sum(-1) / max(n_written, 1)
        return StorageReport(
            n_in_use=n_in_use,
            n_evicted=n_written - n_in_use,
            hits=state.store.hits,
            hits_lost=(1 - served).clamp(min=0) if n_written else torch.zeros_like(served),
            merged=state.store.merged,
        )

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Average, waiting value and pairs; per pair its count, its hits and, under "lru", its usage; and one count."""
        n_pairs, h = min(max(tokens - 1, 0), self.config.capacity), self.config.n_heads
        numbers = self.d_model * (1 + (tokens > 0) + 2 * n_pairs) + h * n_pairs * (1 + (self.config.policy == "lru"))
        return tensor_bytes(batch * numbers, self.out.weight) + 8 * batch * h * n_pairs + 8

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and average; scores, reads and, for each merge, the products of all keys, from an empty state."""
        d, capacity, held, start, pairs = self.d_model, self.config.capacity, 0, 0, 0
        n_new = max(tokens - 1, 0)
        while start < n_new:
            if self.config.policy == "ring":
                n = min(n_new - start, max(capacity, 32))
                pairs += 2 * n * (held + n)
            elif held < capacity:
                n = min(n_new - start, capacity)
                pairs += 2 * n * n
            else:
                n = n_new - start
                pairs += n * (2 * capacity + (capacity + 1) ** 2 * (self.config.policy == "merge"))
            held, start = min(held + n, capacity), start + n
        return self.keys.flops(batch, tokens) + 2 * batch * d * (2 * tokens * d + pairs)


def _chosen(store: Store, slots: Int[Tensor, "b h n"]) -> Store:
    """The pairs of some slots; where there is no usage there is none to choose."""
    wide = slots.unsqueeze(-1).expand(-1, -1, -1, store.k.shape[3])
    usage = store.usage.gather(2, slots) if store.usage.shape[2] else store.usage
    return Store(
        store.k.gather(2, wide),
        store.v.gather(2, wide),
        store.merged.gather(2, slots),
        store.hits.gather(2, slots),
        usage,
    )


def _without(store: Store, slot: Int[Tensor, "b h 1"]) -> Store:
    """All pairs but that of one slot."""
    rest = torch.arange(store.k.shape[2] - 1, device=slot.device)
    return _chosen(store, rest + (rest >= slot))


def _without_least_used(store: Store) -> Store:
    """All but the pair of least usage; the newest, which nothing has read yet, stays."""
    return _without(store, store.usage[:, :, :-1].argmin(-1, keepdim=True))


def _with_nearest_merged(store: Store) -> Store:
    """The pairs of the two nearest keys as one, in the place of the older."""
    n_pairs, k = store.k.shape[2], store.k.detach()
    later = torch.ones(n_pairs, n_pairs, dtype=torch.bool, device=k.device).triu(1)
    nearest = (k @ k.mT).masked_fill(~later, -torch.inf).flatten(2).argmax(-1, keepdim=True)
    older, newer = nearest // n_pairs, nearest % n_pairs
    both, rest = _chosen(store, torch.cat([older, newer], dim=-1)), _without(store, newer)
    count = both.merged.sum(-1, keepdim=True)
    share = (both.merged.to(k.dtype) / count.to(k.dtype)).unsqueeze(-1)
    merged_k, merged_v = ((share * part).sum(2, keepdim=True) for part in (both.k, both.v))
    at = torch.arange(n_pairs - 1, device=k.device) == older
    return Store(
        torch.where(at.unsqueeze(-1), of_length(merged_k), rest.k),
        torch.where(at.unsqueeze(-1), merged_v, rest.v),
        torch.where(at, count, rest.merged),
        torch.where(at, both.hits.sum(-1, keepdim=True), rest.hits),
        rest.usage,
    )
