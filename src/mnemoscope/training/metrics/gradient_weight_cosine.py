"""Cosine between the direction of descent and the weights: is a step mostly a rescaling of what is there?

    cos(-g, w) = -<g, w> / (|g| |w|)       of each tensor, and of all tensors as one vector

What it says: for a network that is homogeneous in its weights, w itself is the direction in which logits grow and no
prediction changes (naive loss minimisation). How to read it: near +1, a step only scales the weights up; 0, a step
turns them; negative, it shrinks them. Language models live near 0, networks that have fitted a small table well above
it; after a full projection (PerpGrad at strength 1) the tensors it touches read 0. Traps: gradients must be live, that
is after the backward pass (and after clipping, as they will be used) and before they are zeroed; the sign is that of
the descent, -g. Cost: three products per tensor.

Source: naive loss minimisation, Prieto et al. 2025 (arXiv 2501.04697), section 4.
Differs: -g in place of g, so that growth is positive.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mnemoscope.contracts.precision import in_float64


class GradientWeightCosine(NamedTuple):
    """Cosines, in [-1, 1].

    Args:
        whole: of all tensors as one vector; None where gradient or weights are zero.
        tensors: of each by name; those whose gradient or weights are zero have none.
    """

    whole: float | None
    tensors: Mapping[str, float]


@torch.no_grad()
def gradient_weight_cosine(parameters: Iterable[tuple[str, nn.Parameter]]) -> GradientWeightCosine:
    """cos(-g, w) of the parameters that have a gradient; products are summed in float64.

    Args:
        parameters: by name, each once; `model.named_parameters()`.

    Raises:
        ValueError: if none has a gradient.
    """
    live = {name: (p, p.grad) for name, p in parameters if p.grad is not None}
    if not live:
        raise ValueError(
            "gradient_weight_cosine: needs live gradients, got none; call it between backward() and zero_grad()"
        )
    products = torch.stack([_products(weight, gradient) for weight, gradient in live.values()])
    *each, whole = torch.cat([products, products.sum(0, keepdim=True)]).tolist()
    cosines = {name: _cosine(*one) for name, one in zip(live, each, strict=True)}
    return GradientWeightCosine(
        _cosine(*whole), {name: cosine for name, cosine in cosines.items() if cosine is not None}
    )


def _products(weight: Tensor, gradient: Tensor) -> Tensor:
    w, g = in_float64(weight.detach().flatten()), in_float64(gradient.flatten())
    return torch.stack([-(g @ w), g @ g, w @ w])


def _cosine(product: float, gradient: float, weight: float) -> float | None:
    return product / (gradient * weight) ** 0.5 if gradient * weight > 0 else None
