"""Batched products with a transpose, whose gradients are laid out like their operands.

Autograd's own gradient of the transposed operand comes out transposed; what is then added to it or multiplied by it
runs through memory crosswise, which a CPU does several times slower.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def between_rows(a: Float[Tensor, "m c k"], b: Float[Tensor, "m s k"]) -> Float[Tensor, "m c s"]:
    """A B^T: the product of every row of A with every row of B."""
    return _BetweenRows.apply(a, b)


def over_rows(a: Float[Tensor, "m c k"], b: Float[Tensor, "m c v"]) -> Float[Tensor, "m k v"]:
    """A^T B: the sum over rows of outer products."""
    return _OverRows.apply(a, b)


class _BetweenRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b.mT

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (a, b) = grad_outputs, ctx.saved_tensors
        return gradient @ b, gradient.mT @ a


class _OverRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a.mT @ b

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (a, b) = grad_outputs, ctx.saved_tensors
        return b @ gradient.mT, a @ gradient
