"""Attribution: an estimate from gradients of what replacing a read would cost (D14).

Definitions, for a read r that becomes c: first order, <dl/dr at r, c - r>; integrated, the mean of <dl/dr, c - r> at
points evenly spaced on the way from r to c, which adds up to l(c) - l(r) as the points become many.

What it says: which of many sites are worth an intervention. How to read it: for screening only, beside the effect that
was measured. Traps: near a saturated softmax the first order is small, or of the wrong sign, for memories that matter;
the straight way leads through reads that the network has never seen. Cost: one backward pass, or one a step.

Source: first order, Syed et al. 2023 (arXiv 2310.10348); integrated gradients, Sundararajan et al. 2017 (arXiv
1703.01365), by the midpoint rule.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64

N_STEPS = 8


def first_order(
    slope: Float[Tensor, "b *s"], read: Float[Tensor, "b *s"], replacement: Float[Tensor, "*s2"]
) -> Float[Tensor, "b"]:
    """<slope, replacement - read> of every sequence.

    Args:
        slope: gradient of each sequence's loss at its read.
        read: what was read.
        replacement: what would be read instead; broadcast to the read.
    """
    return (in_float64(slope) * (in_float64(replacement) - in_float64(read))).flatten(1).sum(1)


def integrated(
    slope_at: Callable[[Float[Tensor, "b *s"]], Float[Tensor, "b *s"]],
    read: Float[Tensor, "b *s"],
    replacement: Float[Tensor, "*s2"],
    n_steps: int = N_STEPS,
) -> Float[Tensor, "b"]:
    """The same, averaged over the midpoints of `n_steps` pieces of the way; exact where the loss is quadratic.

    Args:
        slope_at: gradient of each sequence's loss where this is read.
        read: what was read.
        replacement: what would be read instead; broadcast to the read.
        n_steps: gradients that are asked for.
    """
    if n_steps < 1:
        raise ValueError(f"integrated: n_steps must be at least 1, got {n_steps}; use {N_STEPS}")
    way = replacement.to(read) - read
    middles = [(k + 0.5) / n_steps for k in range(n_steps)]
    effects = [first_order(slope_at(read + share * way), read, replacement) for share in middles]
    return sum(effects[1:], effects[0]) / n_steps
