"""State spaces and long convolutions against the direct forms and, for S4D, the usual convolution by transforms."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.rivals.rivalry import Rivalry
from mnemoscope.memories import Hyena, HyenaConfig
from mnemoscope.memories.hyena import Scan
from mnemoscope.ops.diagonal_ssm import (
    diagonal_ssm_chunked,
    diagonal_ssm_kernel,
    diagonal_ssm_recurrent,
    discretise,
)
from mnemoscope.ops.long_convolution import long_convolution, long_convolution_direct

B, T, D, N = 4, 1024, 128, 32
"""Sequences, tokens, channels, pairs of states a channel."""

STEP_GRADIENTS = 5e-4
"""Gradients of the steps reach 10: either form is about 1e-4 from float64."""


def with_gradients(form: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Output, and gradients of a weighted sum."""
    y = form(*inputs)
    return [y, *torch.autograd.grad(weighted(y), inputs)]


def weighted(y: Tensor) -> Tensor:
    return (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum() / T


def state_space() -> list[Tensor]:
    """Inputs, log steps, log rates, frequencies and C as S4D draws them."""
    generator = torch.Generator().manual_seed(0)
    log_step = torch.empty(D).uniform_(math.log(1e-3), math.log(1e-1), generator=generator)
    frequency = (math.pi * torch.arange(N)).expand(D, N).clone()
    c = torch.randn(D, N, 2, generator=generator) * 0.5**0.5
    u = torch.randn(B, T, D, generator=generator)
    return [part.requires_grad_() for part in (u, log_step, torch.full((D, N), math.log(0.5)), frequency, c)]


def scanned(form: Callable[..., tuple[Tensor, Tensor]], u: Tensor, *parameters: Tensor) -> Tensor:
    return form(u, discretise(*parameters), u.new_zeros(B, D, N, 2))[0]


def transformed(u: Tensor, *parameters: Tensor) -> Tensor:
    """What most S4D code does: the whole kernel, then transforms."""
    return long_convolution(u, diagonal_ssm_kernel(discretise(*parameters), T).T, u[:, :0])


class Direct(nn.Module):
    """The long convolution that takes the place of Hyena's."""

    def forward(self, z: Tensor, filters: Tensor, past: Tensor) -> Tensor:
        """Output of new inputs after past ones."""
        return long_convolution_direct(z, filters, past)


def hyena(form: nn.Module) -> tuple[Hyena, Tensor]:
    """The whole layer around a long convolution, and its input."""
    torch.manual_seed(0)
    layer = Hyena(HyenaConfig(max_tokens=T), D)
    layer.scan = form
    return layer, torch.randn(B, T, D, generator=torch.Generator().manual_seed(0), requires_grad=True)


def layer_gradients(layer: Hyena, x: Tensor) -> list[Tensor]:
    leaves = [x, *layer.parameters()]
    for leaf in leaves:
        leaf.grad = None
    # The counter of operations looks into modules, which torch allows in `backward` but not in `autograd.grad`.
    y = layer(x)[0]
    weighted(y).backward()
    return [y, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def rivalries() -> Iterator[Rivalry]:
    """Forward and backward in float32."""
    inputs, size = state_space(), f"B{B} T{T} d{D}"
    ours = partial(with_gradients, partial(scanned, diagonal_ssm_chunked), inputs)
    yield Rivalry(
        work=f"S4D {size} n{2 * N}",
        rival="the recurrence",
        bar=2,
        ours=ours,
        theirs=partial(with_gradients, partial(scanned, diagonal_ssm_recurrent), inputs),
        tolerance=STEP_GRADIENTS,
    )
    yield Rivalry(
        work=f"S4D {size} n{2 * N}",
        rival="its kernel by transforms",
        bar=2,
        ours=ours,
        theirs=partial(with_gradients, transformed, inputs),
        tolerance=STEP_GRADIENTS,
    )
    yield Rivalry(
        work=f"Hyena {size}, 2 stages",
        rival="torch's grouped convolution",
        bar=2,
        ours=partial(layer_gradients, *hyena(Scan())),
        theirs=partial(layer_gradients, *hyena(Direct())),
    )
