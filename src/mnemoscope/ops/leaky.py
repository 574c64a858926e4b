"""Leaky averages of keys: a scalar recurrence per head, in matrix form within chunks.

    kbar_t = retention_t kbar_{t-1} + x_t          kbar_T = sum_{i <= T} retention^{T-i} x_i  where it is constant

with retention = exp(log_retention) in [0, 1]. What a chunk leaves behind is itself a leaky average over chunks, whose
retention is the product of the chunk's, so the carry between chunks is the same function, one level up: no loop over
time at all.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), equation 7; with a retention per token, Zhang, Bottou
2025 (arXiv 2507.03285).
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact_read

CHUNK_TOKENS = 32
"""The result does not depend on it."""


@exact_read
def leaky_average(
    x: Float[Tensor, "b t h d"],
    log_retention: Float[Tensor, "h"],
    state: Float[Tensor, "b h d"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h d"], Float[Tensor, "b h d"]]:
    """The leaky average after every token, with one retention per head.

    Half-precision inputs are computed in float32.

    Args:
        x: what is averaged.
        log_retention: log of the retention of each head; finite and never positive.
        state: the average before the first token.
        chunk_tokens: tokens that one matrix product covers.

    Returns:
        Averages in the dtype of `x`, and a copy of the last, in float32 at least.

    Cost: O(t c d) multiply-adds a head for chunks of c tokens; log_c(t) steps in sequence.
    """
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = _constant(x.to(compute), log_retention.to(compute), state.to(compute), chunk_tokens).to(x.dtype)
    return y, y[:, -1].clone(memory_format=torch.contiguous_format)


@exact_read
def leaky_average_gated(
    x: Float[Tensor, "b t h d"],
    log_retention: Float[Tensor, "b t h"],
    state: Float[Tensor, "b h d"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h d"], Float[Tensor, "b h d"]]:
    """The leaky average after every token, with a retention for every token and head.

    Half-precision inputs are computed in float32.

    Args:
        x: what is averaged, gated already.
        log_retention: log of what each token keeps of the average before it; never positive, -inf forgets.
        state: the average before the first token.
        chunk_tokens: tokens that one matrix product covers.

    Returns:
        Averages in the dtype of `x`, and a copy of the last, in float32 at least.

    Cost: O(t c d) multiply-adds and O(t c) memory a head for chunks of c tokens; log_c(t) steps in sequence.
    """
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = _gated(x.to(compute), log_retention.to(compute), state.to(compute), chunk_tokens).to(x.dtype)
    return y, y[:, -1].clone(memory_format=torch.contiguous_format)


@exact_read
def leaky_average_step(
    x: Float[Tensor, "b h d"], log_retention: Float[Tensor, "*b h"], state: Float[Tensor, "b h d"]
) -> Float[Tensor, "b h d"]:
    """The average after one more token; the retention is that of the head, or of this token and the head."""
    return x + log_retention.exp().unsqueeze(-1) * state


def leaky_average_recurrent(
    x: Float[Tensor, "b t h d"], log_retention: Float[Tensor, "b t h"], state: Float[Tensor, "b h d"]
) -> tuple[Float[Tensor, "b t h d"], Float[Tensor, "b h d"]]:
    """One token at a time: the slow twin."""
    averages = []
    for t in range(x.shape[1]):
        state = leaky_average_step(x[:, t], log_retention[:, t], state)
        averages.append(state)
    return torch.stack(averages, dim=1), state


@exact_read
def leaky_average_dense(x: Float[Tensor, "b t h d"], log_retention: Float[Tensor, "h"]) -> Float[Tensor, "b t h d"]:
    """From an empty state by one matrix over all pairs of tokens: the form of the official code, O(t^2) memory."""
    age = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
    age = age.unsqueeze(1) - age
    kept = (log_retention[:, None, None] * age.clamp(min=0)).exp().masked_fill(age < 0, 0)
    return torch.einsum("hts,bshd->bthd", kept, x)


def leaky_average_flops(batch: int, tokens: int, channels: int, chunk_tokens: int = CHUNK_TOKENS) -> int:
    """Matrix products of either form, for so many channels of all heads together; a multiply-add counts as two."""
    c = min(chunk_tokens, tokens)
    n_chunks = -(-tokens // c)
    carries = leaky_average_flops(batch, n_chunks - 1, channels, chunk_tokens) if n_chunks > 1 else 0
    return 2 * batch * n_chunks * c * c * channels + carries


def _constant(
    x: Float[Tensor, "b t h d"], log_retention: Float[Tensor, "h"], state: Float[Tensor, "b h d"], chunk_tokens: int
) -> Float[Tensor, "b t h d"]:
    b, n_tokens, _, d = x.shape
    c = min(chunk_tokens, n_tokens)
    # All chunks of a head stand side by side, so that one matrix a head serves them all.
    chunks = rearrange(_padded(x, c), "b (n c) h d -> h c (b n d)", c=c)
    age = torch.arange(c + 1, device=x.device, dtype=x.dtype)
    kept = (log_retention.unsqueeze(-1) * age).exp()
    apart = (age[:c].unsqueeze(1) - age[:c]).to(torch.int64)
    within = kept[:, apart.clamp(min=0)].tril()
    local = rearrange(within @ chunks, "h c (b n d) -> b n c h d", b=b, d=d)
    carried = _carried(local[:, :-1, -1], state, lambda ends: _constant(ends, c * log_retention, state, chunk_tokens))
    y = torch.addcmul(local, rearrange(kept[:, 1:], "h c -> c h 1"), carried.unsqueeze(2))
    return rearrange(y, "b n c h d -> b (n c) h d")[:, :n_tokens]


def _gated(
    x: Float[Tensor, "b t h d"], log_retention: Float[Tensor, "b t h"], state: Float[Tensor, "b h d"], chunk_tokens: int
) -> Float[Tensor, "b t h d"]:
    b, n_tokens, h, _ = x.shape
    c = min(chunk_tokens, n_tokens)
    chunks = rearrange(_padded(x, c), "b (n c) h d -> (b n h) c d", c=c)
    steps = rearrange(_padded(log_retention.unsqueeze(-1), c), "b (n c) h 1 -> (b n h) c 1", c=c)
    local = rearrange(_kept_between(steps) @ chunks, "(b n h) c d -> b n c h d", b=b, h=h)
    kept = rearrange(steps.cumsum(1), "(b n h) c 1 -> b n c h 1", b=b, h=h)
    whole = kept[:, :-1, -1, :, 0]
    carried = _carried(local[:, :-1, -1], state, lambda ends: _gated(ends, whole, state, chunk_tokens))
    y = torch.addcmul(local, kept.exp(), carried.unsqueeze(2))
    return rearrange(y, "b n c h d -> b (n c) h d")[:, :n_tokens]


def _kept_between(steps: Float[Tensor, "bnh c 1"]) -> Float[Tensor, "bnh c c"]:
    """What is left at the row's token of the column's: exp of the sum of all steps after the column's.

    Every sum is taken on its own. Differences of one running sum would lose the small steps that follow a large one.
    """
    c = steps.shape[1]
    later = torch.ones(c, c, dtype=torch.bool, device=steps.device).tril(-1)
    sums = torch.where(later, steps, 0).cumsum(1)
    return sums.exp().tril()


def _carried(
    ends: Float[Tensor, "b n1 h d"], state: Float[Tensor, "b h d"], average: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b n h d"]:
    """The average before every chunk, from what each chunk but the last leaves behind."""
    first = state.unsqueeze(1)
    return torch.cat([first, average(ends)], dim=1) if ends.shape[1] else first


def _padded(x: Float[Tensor, "b t h d"], c: int) -> Float[Tensor, "b t2 h d"]:
    """Filled up to whole chunks with zeros, which add nothing."""
    return F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % c))
