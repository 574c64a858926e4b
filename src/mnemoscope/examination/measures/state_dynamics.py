"""Dynamics of a state: how long it keeps, whether it grows, how alike its keys are (D12).

Definitions, for retentions a_t in [0, 1]: what is left of the first write after t tokens, prod a; half-life, how many
tokens of the mean log retention leave one half; growth, |S_4T| / |S_T|; coherence, the largest |cos| of two different
keys.

What it says: whether a memory has learned to forget. How to read it: a state whose norm more than doubles from T to 4T
beyond the length T of training, with a loss that rises there, has not; a half-life far below the distances the data ask
for cannot carry them; coherence near 1 says that some writes overwrite one another. Traps: healthy models drift in norm
too, so pair it with the loss by position; within the length of training a growing state is a state that fills; one
channel that never decays carries what the mean half-life says is gone; repeated tokens have equal keys, so coherence is
1 wherever a token is seen twice. Cost: one pass in which states or gates are formed.

Source: Chen et al. 2025 (arXiv 2410.07145); mutual coherence, Donoho & Huo 2001.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import in_float64


def retention_product(retention: Float[Tensor, "*b t"]) -> Float[Tensor, "*b t"]:
    """What is left of the first token's write after each token: 1, then the product of the later retentions."""
    later = in_float64(retention)[..., 1:]
    return torch.cat([torch.ones_like(later[..., :1]), later.cumprod(-1)], dim=-1)


def half_life(retention: Float[Tensor, "*b t"]) -> Float[Tensor, "*b"]:
    """Tokens after which one half is left, at the mean log retention; infinite where nothing is lost."""
    mean_log = in_float64(retention).log().mean(-1)
    return torch.where(mean_log < 0, -math.log(2) / mean_log, torch.inf)


def state_growth(states: Float[Tensor, "b t *s"], n_trained: int | None = None) -> float:
    """Norm of the state after the last token over that after token `n_trained` (None: a quarter); mean over sequences.

    NaN where a state is still zero there.
    """
    n_tokens = states.shape[1]
    early = max(1, n_tokens // 4) if n_trained is None else n_trained
    if not 1 <= early <= n_tokens:
        raise ValueError(
            f"state_growth: n_trained must be between 1 and the {n_tokens} tokens there are, got {early}; "
            "give longer sequences"
        )
    norm = in_float64(states[:, [early - 1, n_tokens - 1]]).flatten(2).norm(dim=-1)
    return float((norm[:, 1] / norm[:, 0]).mean()) if bool((norm[:, 0] > 0).all()) else float("nan")


def key_coherence(keys: Float[Tensor, "*b t k"]) -> Float[Tensor, "*b"]:
    """Largest |cosine| of two keys at different tokens; 0 for a single token."""
    unit = F.normalize(in_float64(keys), dim=-1)
    cosine = (unit @ unit.mT).abs()
    return cosine.masked_fill(torch.eye(keys.shape[-2], dtype=torch.bool, device=keys.device), 0.0).amax((-2, -1))
