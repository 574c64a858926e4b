"""Rank of a memory: over how many directions the content of its state is spread.

    rank = exp(H(s / sum s)),  s the singular values of one state matrix, H the entropy in nats

as the mean over sequences, and over heads where a state has several matrices. The matrix is the last two axes of a
state after its last token: keys by values, slots by word, channels by order. The share is the rank over the smaller
side.

What it says: whether a memory holds one thing or many. How to read it: 1 is a single direction; a Gaussian square
matrix reaches about 0.8 of its width, so the width is not to be expected. Use is not necessity: a full memory may be
ignored. Traps: of a batch flattened into one matrix the rank is at most the batch, and says nothing of any memory, so
matrices are never joined. A state of fewer than `SMALLEST_SIDE` rows or columns (a vector, layers of a recurrent net,
real and imaginary parts) is no matrix memory and has no figure; weights of a small network, packed into one row a head,
have one that means little. Cost: eigenvalues of at most `MOST_MATRICES` Gram matrices, evenly spaced, beside the states
(see `state_magnitude`).

Source: effective rank, Roy & Vetterli 2007.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64
from mnemoscope.training.metrics.sampling import evenly

SMALLEST_SIDE = 4
MOST_MATRICES = 64


@torch.no_grad()
def memory_rank(state: Float[Tensor, "b *s"]) -> float | None:
    """Mean rank of the state's matrices, in [1, smaller side]; a matrix of zeros has rank 0.

    Args:
        state: after the last token.

    Returns:
        None where the state is no matrix.
    """
    if state.ndim < 3 or min(state.shape[-2:]) < SMALLEST_SIDE:
        return None
    matrices = state.flatten(0, -3)
    matrices = in_float64(matrices[evenly(len(matrices), MOST_MATRICES, state.device)])
    gram = matrices @ matrices.mT if matrices.shape[1] <= matrices.shape[2] else matrices.mT @ matrices
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    total = values.sum(-1, keepdim=True)
    share = values / torch.where(total > 0, total, 1.0)
    rank = (-torch.special.xlogy(share, share).sum(-1)).exp()
    return float(torch.where(total.squeeze(-1) > 0, rank, 0.0).mean())


@torch.no_grad()
def memory_rank_share(state: Float[Tensor, "b *s"]) -> float | None:
    """`memory_rank` over the smaller side of the state's matrices, in [0, 1]; None where the state is no matrix."""
    rank = memory_rank(state)
    return None if rank is None else rank / min(state.shape[-2:])
