"""Orthogonal gradients (PerpGrad): the part of a gradient that only scales the weights is taken out.

    g' = g - strength (<w, g> / <w, w>) w        for every weight w on its own

A network whose logits grow in proportion to its weights can lower its loss without changing a single prediction, by
scaling w: a gradient along -w, which is what is left once everything is fitted, and which delays or prevents
generalisation. With strength 1 what remains is orthogonal to w. Rescaled, it has the norm that g had.

What it does not do: an optimiser that divides by the root of mean squares, as AdamW does, turns the step away from g',
so norms still move. A tied embedding may lose most of its directions under it while the accuracy still climbs.

Source: Prieto et al., "Grokking at the Edge of Numerical Stability" (2025);
LucasPrietoAl/grokking-at-the-edge-of-numerical-stability, which projects every tensor at strength 1 and rescales. A
strength below 1, and no rescaling, are additions of r3d91ll/Todd_Atlas.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.training.config import TrainConfig
from mnemoscope.training.optimiser import spared_parameters

NOTHING_LEFT = 100
"""A projected gradient of less than so many roundings of the gradient's norm is rounding itself, and not rescaled."""


def orthogonal_gradient(
    gradient: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"], strength: float = 1.0, *, rescale: bool = False
) -> Float[Tensor, "*shape"]:
    """The gradient without `strength` times its part along the weight; computed in float32 at least.

    Args:
        gradient: of the weight.
        weight: one whose elements are all 0 has no direction, and the gradient stays as it is.
        strength: share of the part along the weight that is taken out, in [0, 1].
        rescale: give the result the norm of the gradient. Where next to nothing is left (the gradient was along the
            weight) it stays small: scaled up, it would be a step in the direction of the rounding errors.

    Returns:
        in the precision of the gradient.
    """
    wide = torch.promote_types(gradient.dtype, torch.float32)
    g, w = gradient.to(wide), weight.detach().to(wide)
    square = w.square().sum()
    along = (w * g).sum() / torch.where(square > 0, square, 1)
    projected = g - strength * along * w
    if rescale:
        before, after = g.norm(), projected.norm()
        is_left = after > NOTHING_LEFT * torch.finfo(wide).eps * before
        projected = projected * torch.where(is_left, before / after, 1)
    return projected.to(gradient.dtype)


@torch.no_grad()
def project_gradients(parameters: Sequence[nn.Parameter], strength: float = 1.0, *, rescale: bool = False) -> None:
    """Replace the gradient of every parameter that has one by `orthogonal_gradient`, in place."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.copy_(orthogonal_gradient(parameter.grad, parameter, strength, rescale=rescale))


def projected_parameters(model: nn.Module, config: TrainConfig) -> list[nn.Parameter]:
    """The parameters whose gradients a training projects; none where `config.orthogonal_gradient` is 0.

    Of "matrices", those that weight decay may shrink: no vector has a direction that only scales the logits, and a
    table of embeddings is not one weight but many. Of "all", everything with more than one element.
    """
    if config.orthogonal_gradient == 0:
        return []
    trained = [p for p in model.parameters() if p.requires_grad]
    if config.orthogonal_gradient_of == "all":
        return [p for p in trained if p.numel() > 1]
    spared = spared_parameters(model)
    found = [p for p in trained if id(p) not in spared]
    if not found:
        raise ValueError(
            "TrainConfig.orthogonal_gradient_of: the model has no weight matrix that is not an embedding, so nothing "
            "would be projected; set it to 'all', or orthogonal_gradient to 0"
        )
    return found
