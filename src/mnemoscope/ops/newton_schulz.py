"""Newton-Schulz iteration: a matrix with every singular value near one, at the price of a few matrix products.

    X_0 = S / |S|_F          A = X X^T          X <- a X + (b A + c A^2) X

Each step maps every singular value s to a s + b s^3 + c s^5 and leaves the singular vectors alone; five steps bring
what is not very small into 0.68 .. 1.13. What is zero stays zero, so the rank is kept.

Source: Jordan et al. 2024, the Muon optimiser's coefficients, as ATLAS (arXiv 2505.23735), section 5, uses them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.ops.precision import exact_read

COEFFICIENTS = (3.4445, -4.7750, 2.0315)

SMALLEST_NORM = 1e-7
"""Below it a matrix counts as nothing and is scaled as if it had this norm."""


@exact_read
def newton_schulz(s: Float[Tensor, "*b k v"], steps: int) -> Float[Tensor, "*b k v"]:
    """The iteration on the smaller of the two products; steps = 0 leaves the direction S / |S|_F.

    Cost: steps * (2 r^2 s + r^3) multiply-adds a matrix of smaller side r and larger side s.
    """
    a, b, c = COEFFICIENTS
    tall = s.shape[-2] > s.shape[-1]
    x = s.mT if tall else s
    shape, x = x.shape, x.reshape(-1, *x.shape[-2:])
    x = x * (x.square().sum((-2, -1), keepdim=True) + SMALLEST_NORM**2).rsqrt()
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.view(shape)
    return x.mT if tall else x


def newton_schulz_naive(s: Float[Tensor, "*b k v"], steps: int) -> Float[Tensor, "*b k v"]:
    """The slow twin: the polynomial on the singular values themselves."""
    a, b, c = COEFFICIENTS
    left, values, right = torch.linalg.svd(s, full_matrices=False)
    values = values / (values.square().sum(-1, keepdim=True) + SMALLEST_NORM**2).sqrt()
    for _ in range(steps):
        values = a * values + b * values**3 + c * values**5
    return left * values.unsqueeze(-2) @ right


def newton_schulz_products(k: int, v: int, steps: int) -> int:
    """Multiply-adds of `newton_schulz` on one matrix."""
    small, large = min(k, v), max(k, v)
    return steps * (2 * small**2 * large + small**3)
