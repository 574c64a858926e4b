"""Sums that fade, and sums that are compressed by a logarithm as they grow.

    A_t = g A_{t-1} + u_t                      a fading sum: linear, hence a scan
    s_t = slog(g s_{t-1} + u_t)                compressed in the loop: one token after the other
    slog(x) = sign(x) log(1 + |x|)

The logarithm is 1-Lipschitz, so both contract in their state by g a token.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact

CHUNK_TOKENS = 32
"""The result does not depend on it."""


def signed_log1p(x: Float[Tensor, "*x"]) -> Float[Tensor, "*x"]:
    """sign(x) log(1 + |x|), with its slope of one at zero (the sign and the size alone would have none)."""
    zero = x.new_zeros(())
    return torch.maximum(x, zero).log1p() - torch.maximum(-x, zero).log1p()


@exact
def fading_sum(
    u: Float[Tensor, "b t d"], log_retention: Float[Tensor, "d"], start: Float[Tensor, "b d"]
) -> Float[Tensor, "b t d"]:
    """A_t after every token, in matrix products over chunks; equals `fading_sum_recurrent`.

    Cost: O(t c) multiply-adds a channel for chunks of c tokens; t / c steps in sequence. Half precision is computed
    in float32.
    """
    dtype, (b, n_tokens) = u.dtype, u.shape[:2]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    c = min(CHUNK_TOKENS, n_tokens)
    lags = torch.arange(c + 1, device=u.device, dtype=compute)
    powers = (log_retention.to(compute).unsqueeze(1) * lags).exp()
    # Row s, column t holds g^(t - s), zero before s.
    matrix = F.pad(powers[:, :c], (c - 1, 0)).unfold(1, c, 1).flip(1)
    chunks = rearrange(F.pad(u.to(compute), (0, 0, 0, -n_tokens % c)), "b (n c) d -> d (n b) c", c=c)
    alone = rearrange(chunks @ matrix, "d (n b) c -> n d b c", b=b)
    carried, starts = start.to(compute).T, []
    for alone_n in alone:
        starts.append(carried)
        carried = torch.addcmul(alone_n[..., -1], carried, powers[:, -1:])
    sums = torch.addcmul(alone, torch.stack(starts).unsqueeze(-1), powers[:, 1:].unsqueeze(1))
    return rearrange(sums, "n d b c -> b (n c) d")[:, :n_tokens].to(dtype)


@exact
def fading_sum_recurrent(
    u: Float[Tensor, "b t d"], log_retention: Float[Tensor, "d"], start: Float[Tensor, "b d"]
) -> Float[Tensor, "b t d"]:
    """One token at a time: the slow twin."""
    sums, retention = [], log_retention.exp()
    for u_t in u.unbind(1):
        start = retention * start + u_t
        sums.append(start)
    return torch.stack(sums, dim=1)


@exact
def log_loop(
    u: Float[Tensor, "b t d"], log_retention: Float[Tensor, "d"], start: Float[Tensor, "b d"]
) -> Float[Tensor, "b t d"]:
    """s_t after every token; each needs the one before. Half precision is computed in float32."""
    compute = torch.float64 if u.dtype == torch.float64 else torch.float32
    sums, s, retention = [], start.to(compute), log_retention.to(compute).exp()
    for u_t in u.to(compute).unbind(1):
        s = signed_log1p(torch.addcmul(u_t, retention, s))
        sums.append(s)
    return torch.stack(sums, dim=1).to(u.dtype)
