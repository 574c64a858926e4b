"""Share of the gradient signal that reaches each site, and how much of it is signal (D13).

Definitions: E |dl/dr| |r| of a site over the sum for all sites and routes; signal-to-noise |E g|^2 / tr Cov g of
per-sequence gradients g.

What it says: whether training can teach a memory anything. How to read it: a share below a thousandth throughout
training is a starved signal. A ratio of 1/n over n sequences is what noise alone gives. Traps: at convergence the share
is small for memories that are used, too; a saturated softmax passes no gradient to a memory that matters; measure in
the first tenth of training and late. Cost: one backward pass.

Source: gradient signal-to-noise, Liu et al. 2020 (arXiv 2001.07384), there for each parameter.
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64


def gradient_share(
    reads: Mapping[str, Float[Tensor, "n d"]], gradients: Mapping[str, Float[Tensor, "n d"]]
) -> dict[str, float]:
    """Each site's share, in [0, 1]; all zero where no gradient reaches any site."""
    strength = {
        name: float(in_float64(gradients[name]).norm(dim=-1).mul(in_float64(read).norm(dim=-1)).mean())
        for name, read in reads.items()
    }
    total = sum(strength.values())
    return {name: value / total if total > 0 else 0.0 for name, value in strength.items()}


def gradient_snr(gradients: Float[Tensor, "n d"]) -> float:
    """|E g|^2 over tr Cov g, for one gradient a sequence; 0 without gradient, infinite where all are the same."""
    gradients = in_float64(gradients)
    mean = gradients.mean(0)
    signal, noise = float(mean.square().sum()), float((gradients - mean).square().sum(-1).mean())
    if signal == 0:
        return 0.0
    return signal / noise if noise > 0 else float("inf")
