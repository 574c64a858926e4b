"""Legendre summary of a time series: the last `horizon` tokens of each channel as `order` polynomial coefficients.

    dc/dt = (A c + B x) / horizon      A_ij = -r_i r_j (1 if i < j else (-1)^(i - j))      B_i = r_i (-1)^i
    c_t = exp(A / horizon) c_{t-1} + A^-1 (exp(A / horizon) - I) B x_t                     r_i = sqrt(2 i + 1)

the second line being the first with every token held for one unit of time. Over the window, with u in [0, 1] counted
back from the present, the signal is about sum_i c_i r_i P_i(2 u - 1). The basis is orthonormal, so the length of c is
the root mean square of the window, and a distance of two summaries that of two windows.

Source: Voelker, Kajic, Eliasmith 2019, "Legendre Memory Units" (NeurIPS), equations 1 to 4; Gu et al. 2020, "HiPPO"
(arXiv 2008.07669), LegT.
Differs: orthonormal polynomials instead of the first source's P_i: c_i there is r_i times c_i here.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import wide_dtype

CHUNK_TOKENS = 32
"""Between the cost of a chunk's own product, which grows with it, and the number of steps in sequence."""


def init_legendre_state(batch: int, n_heads: int, width: int, order: int, like: Tensor) -> Float[Tensor, "b h d m"]:
    """Nothing seen: a signal that was zero for ever, in the dtype and on the device of `like`."""
    return like.new_zeros(batch, n_heads, width, order)


def legendre_summary(
    x: Float[Tensor, "b t h d"],
    order: int,
    horizon: int,
    state: Float[Tensor, "b h d m"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h d m"], Float[Tensor, "b h d m"]]:
    """The coefficients after every token, each channel on its own; equals `legendre_summary_recurrent`.

    Within a chunk the summary is a product with the impulse responses; only the state at the end of each chunk is
    computed in sequence. Half precision is computed in float32.

    Args:
        x: the series.
        order: coefficients m, at least 1; a window of polynomials of degree below m is kept whole.
        horizon: length of the window in tokens, at least 1.
        state: the coefficients before the first token.
        chunk_tokens: the result does not depend on it.

    Returns:
        Coefficients in the dtype of x, and the last of them.

    Cost: O(t m (c + m)) multiply-adds a channel, see `legendre_flops`.
    """
    (b, n_tokens, h, _), dtype = x.shape, x.dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    c = min(chunk_tokens, n_tokens)
    powers, impulse = (matrix.to(compute) for matrix in _responses(order, horizon, c, x))
    chunks = rearrange(F.pad(x.to(compute), (0, 0, 0, 0, 0, -n_tokens % c)), "b (n c) h d -> n (b h d) c", c=c)
    local = rearrange(chunks @ rearrange(_toeplitz(impulse), "s c m -> s (c m)"), "n p (c m) -> n p c m", c=c)
    starts, at_start = [], rearrange(state.to(compute), "b h d m -> (b h d) m")
    for end in local[:, :, -1].unbind():
        starts.append(at_start)
        at_start = torch.addmm(end, at_start, powers[-1].T)
    carried = torch.stack(starts) @ rearrange(powers, "c m k -> k (c m)")
    summary = local + rearrange(carried, "n p (c m) -> n p c m", c=c)
    summary = rearrange(summary, "n (b h d) c m -> b (n c) h d m", b=b, h=h)[:, :n_tokens].to(dtype)
    # A clone: as a view, the state would keep the summaries of all tokens alive.
    return summary, summary[:, -1].clone()


def legendre_summary_recurrent(
    x: Float[Tensor, "b t h d"], order: int, horizon: int, state: Float[Tensor, "b h d m"]
) -> tuple[Float[Tensor, "b t h d m"], Float[Tensor, "b h d m"]]:
    """One token at a time: the slow twin."""
    powers, impulse = (matrix.to(x.dtype) for matrix in _responses(order, horizon, 1, x))
    summaries = []
    for t in range(x.shape[1]):
        state = torch.einsum("bhdk,mk->bhdm", state, powers[0]) + x[:, t].unsqueeze(-1) * impulse[0]
        summaries.append(state)
    return torch.stack(summaries, dim=1), state


def legendre_values(order: int, back: Float[Tensor, "n"]) -> Float[Tensor, "n m"]:
    """The basis at fractions of the horizon back from the present: `summary @ legendre_values(...).T` is the signal."""
    z, values = 2 * back - 1, [torch.ones_like(back)]
    for i in range(1, order):
        before = values[-2] if i > 1 else torch.zeros_like(z)
        values.append(((2 * i - 1) * z * values[-1] - (i - 1) * before) / i)
    return torch.stack(values, dim=-1) * _roots(order, back)


def legendre_flops(n_channels: int, tokens: int, order: int, chunk_tokens: int = CHUNK_TOKENS) -> int:
    """Of the matrix products of `legendre_summary` over `n_channels` = b h d series."""
    c = min(chunk_tokens, tokens)
    return 2 * n_channels * -(-tokens // c) * order * (c * c + order + c * order)


def _roots(order: int, like: Tensor) -> Float[Tensor, "m"]:
    return (2 * torch.arange(order, dtype=like.dtype, device=like.device) + 1).sqrt()


def _responses(order: int, horizon: int, n: int, like: Tensor) -> tuple[Float[Tensor, "n m m"], Float[Tensor, "n m"]]:
    """The transition over 1..n tokens, and what a token of one leaves after 0..n - 1 more; in float64.

    The hold is part of the exponential: with the input as one more coordinate that does not change,
    exp([[A, B], [0, 0]]) holds the transition and the response. All exponents in one batch: no products to count.
    """
    i = torch.arange(order, device=like.device)
    root = _roots(order, torch.empty(0, dtype=wide_dtype(like.device), device=like.device))
    sign = torch.where(i % 2 == 0, 1.0, -1.0).to(wide_dtype(like.device))
    pair = torch.where(i.unsqueeze(1) < i, torch.ones_like(sign), torch.outer(sign, sign))
    system = torch.cat([-torch.outer(root, root) * pair, (root * sign).unsqueeze(1)], dim=1)
    tokens = torch.arange(n + 1, dtype=wide_dtype(like.device), device=like.device)
    held = F.pad(system, (0, 0, 0, 1)) * (tokens / horizon)[:, None, None]
    exponentials = torch.linalg.matrix_exp(held)
    powers, one = exponentials[:, :order, :order], exponentials[1, :order, order]
    return powers[1:], (powers[:-1] * one).sum(-1)


def _toeplitz(impulse: Float[Tensor, "n m"]) -> Float[Tensor, "s c m"]:
    """What token s of a chunk leaves at token c: nothing where c is before s."""
    at = torch.arange(impulse.shape[0], device=impulse.device)
    lag = at - at.unsqueeze(1)
    return impulse[lag.clamp(min=0)] * (lag >= 0).unsqueeze(-1)
