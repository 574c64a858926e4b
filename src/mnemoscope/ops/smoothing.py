"""Weights of kernel smoothing: how much each visible pair counts in a read, given the logits of its key.

    p_s = [(a - 1) z_s - tau]_+ ^ (1 / (a - 1)),   tau such that sum_s p_s = 1

is the a-entmax of the logits z. On keys of one length its weights are those of a kernel of compact support:
a = 2 (sparsemax) is Epanechnikov's, 3/2 the biweight, 4/3 the triweight; a = 1 is softmax, the Gaussian kernel.
Positions that are not visible weigh nothing, and a row that sees nothing is all zeros, with zero gradient.

Source: Peters, Niculae, Martins 2019, "Sparse Sequence-to-Sequence Models" (arXiv 1905.05702); for a = 2, Martins,
Astudillo 2016 (arXiv 1602.02068), algorithm 1; the kernels, Martins et al. 2021 (arXiv 2108.01988).
Differs: for a = 3/2 a threshold by Newton's steps, where the first source sorts.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Kernel = Literal["softmax", "epanechnikov", "biweight", "triweight", "top_k"]
"""Gaussian, three of compact support, and softmax over the largest logits alone."""

POWERS: dict[Kernel, int] = {"epanechnikov": 1, "biweight": 2, "triweight": 3}
"""1 / (a - 1): the power of the positive part."""

NEWTON_STEPS = 10
"""From below the threshold of a biweight or triweight: float64 took at most 8 for rows of up to 10^5 logits."""


def smoothing_weights(
    logits: Float[Tensor, "*b t s"], visible: Bool[Tensor, "t s"], kernel: Kernel, top_k: int | None = None
) -> Float[Tensor, "*b t s"]:
    """The share of each visible position in each read; rows sum to one, or are zeros where nothing is visible.

    Half precision is computed in float32: thresholds and sums over thousands of positions need it.

    Args:
        logits: inverse temperature times similarity.
        visible: which positions each row may read.
        kernel: form of the weights.
        top_k: for "top_k" alone, how many logits count, at least 1; all that tie with the last of them count as well.

    Cost: a sort of each row for "epanechnikov", `NEWTON_STEPS` passes over it for "biweight" and "triweight".
    """
    if (kernel == "top_k") != (top_k is not None) or (top_k is not None and top_k < 1):
        raise ValueError(
            f"smoothing_weights: top_k must be at least 1 for kernel='top_k' and None for any other, got {top_k} for "
            f"kernel={kernel!r}; change either"
        )
    if logits.shape[-1] == 0:
        return logits
    compute = torch.float64 if logits.dtype == torch.float64 else torch.float32
    z = logits.to(compute)
    if kernel in POWERS:
        weights = Entmax.apply(z, visible, POWERS[kernel])
        assert isinstance(weights, Tensor)
        return weights.to(logits.dtype)
    kept = visible
    if top_k is not None and top_k < z.shape[-1]:
        masked = z.detach().masked_fill(~visible, -torch.inf)
        kept = visible & (masked >= masked.topk(top_k, dim=-1).values[..., -1:])
    # A row of nothing but minus infinity would be NaN; such a row keeps its logits and loses its weights.
    closed = ~kept & visible.any(-1, keepdim=True)
    return z.masked_fill(closed, -torch.inf).softmax(-1).masked_fill(~kept, 0).to(logits.dtype)


class Entmax(torch.autograd.Function):
    """Entmax with 1 / (a - 1) = `power`; its gradient follows from the weights alone, however tau was found.

    With s = p^(2 - a) on the support and 0 elsewhere, dp = s (dz - <s, dz> / <s, 1>).
    """

    @staticmethod
    def forward(z: Float[Tensor, "*b t s"], visible: Bool[Tensor, "t s"], power: int) -> Float[Tensor, "*b t s"]:
        """The weights."""
        # Without the visible maximum, tau is between -1 and 0: what is below -1 has no weight, whatever it is.
        top = z.masked_fill(~visible, -torch.inf).amax(-1, keepdim=True)
        top = top.masked_fill(~visible.any(-1, keepdim=True), 0)
        x = ((z - top) / power).masked_fill(~visible, -1).clamp(min=-1)
        tau = _sorted_threshold(x) if power == 1 else _newton_threshold(x, power)
        return (x - tau).clamp(min=0).pow(power).masked_fill(~visible, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        """Keep the weights."""
        ctx.save_for_backward(output)
        ctx.power = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Differentiable itself, since it is made of the weights."""
        (p,) = ctx.saved_tensors
        support = p > 0
        # The power is steep at zero: off the support it is taken of one, so that its own gradient stays finite.
        s = torch.where(support, torch.where(support, p, 1).pow(1 - 1 / ctx.power), 0)
        total = s.sum(-1, keepdim=True)
        mean = (s * grads[0]).sum(-1, keepdim=True) / torch.where(total > 0, total, 1)
        return s * (grads[0] - mean), None, None


def _sorted_threshold(x: Float[Tensor, "*b t s"]) -> Float[Tensor, "*b t 1"]:
    """tau for power 1, exactly: of the thresholds of the n largest x, the last one that all n exceed.

    Newton's steps, exact as well, may need one for every element of the support here.
    """
    ordered = x.sort(dim=-1, descending=True).values
    taus = (ordered.cumsum(-1) - 1) / torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    n_support = (ordered > taus).sum(-1, keepdim=True).clamp(min=1)
    return taus.gather(-1, n_support - 1)


def _newton_threshold(x: Float[Tensor, "*b t s"], power: int) -> Float[Tensor, "*b t 1"]:
    """tau as the root of |[x - tau]_+|_power - 1, which is convex and falls: Newton's steps from -1 never pass it.

    As a norm it is linear in tau where all x are equal: n equal logits take one step instead of log n. It needs no
    sort, and no difference of sums of squares, which costs a sorted closed form its digits on long rows.
    """
    tau = torch.full_like(x[..., :1], -1)
    for _ in range(NEWTON_STEPS):
        above = (x - tau).clamp(min=0)
        slope = above.pow(power - 1).sum(-1, keepdim=True)
        norm = (above.pow(power - 1) * above).sum(-1, keepdim=True).pow(1 / power)
        tau = tau + (norm - 1) * norm.pow(power - 1) / slope
    return tau
