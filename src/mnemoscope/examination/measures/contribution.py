"""Size of what a memory adds, and how often its gate is shut (D16).

Definitions: mean of |c| / |h| over tokens, c what is added to the residual stream and h the stream that it is added to;
share of gate values below 0.01.

What it says: how loud the memory is. How to read it: descriptive only. Traps: a tiny norm can be decisive and a large
one can be cancelled downstream, or lie where nothing listens; streams grow with depth, so compare sites of one depth.
Cost: one pass.

Source: norms of what is added rather than weights, Kobayashi et al. 2020 (arXiv 2004.10102).
"""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64

SHUT = 0.01


def contribution_ratio(contribution: Float[Tensor, "n d"], residual: Float[Tensor, "n d"]) -> float:
    """Mean ratio of norms; rows whose residual is zero are left out, NaN where all are."""
    size, stream = in_float64(contribution).norm(dim=-1), in_float64(residual).norm(dim=-1)
    return float((size[stream > 0] / stream[stream > 0]).mean())


def shut_share(gate: Float[Tensor, "*b"], bound: float = SHUT) -> float:
    """Share of gate values below the bound."""
    return float(in_float64(gate < bound).mean())
