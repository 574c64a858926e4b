"""Products of decays over every stretch of a chunk, without the underflow and the overflow of dividing products."""

import torch
from jaxtyping import Float
from torch import Tensor


def decay_products(log_decay: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c c"]:
    """A_{tn} = prod_{n < j <= t} a_j for n <= t, zero above the diagonal, one on it.

    Each sum of logarithms is taken over its own stretch: the difference of two running sums would lose what is small
    beside the whole, and be undefined after a decay of zero.

    Args:
        log_decay: log a_j, never positive; minus infinity, a decay of zero, is allowed.

    Cost: O(c^2) a chunk.
    """
    c = log_decay.shape[-1]
    return log_decay.unsqueeze(-1).expand(*log_decay.shape, c).tril(-1).cumsum(-2).exp().tril()


def decay_products_naive(log_decay: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c c"]:
    """The slow twin: one product at a time."""
    c = log_decay.shape[-1]
    rows = [
        torch.stack([log_decay[..., n + 1 : t + 1].exp().prod(-1) * (n <= t) for n in range(c)], dim=-1)
        for t in range(c)
    ]
    return torch.stack(rows, dim=-2)
