"""The two-layer network that deep test-time memories are made of, and the gradients that write it.

    M(x) = [x +] act(x U) D          act(z) = gelu(z), or gelu(z_1) * z_2 with z = [z_1 z_2] where the network is gated

Gradients of |M(k) - v|^2 or -<M(k), v> are outer products, one a layer and token: k^T d_z for U and h^T error for D.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), the memories of Atlas and of Atlas++ (gated).
"""

import math
from typing import Literal, NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact

WEIGHT_EPSILON = 1e-6
"""Added to the variance of a unit's weights where they are normalised."""

Objective = Literal["delta", "dot"]


class Shape(NamedTuple):
    """What of a network and its objective is not a tensor.

    Args:
        gated: the hidden layer is gelu(z_1) * z_2.
        residual: M(x) starts with x; needs keys as wide as values.
        objective: squared error, or minus the dot product with the value.
    """

    gated: bool = False
    residual: bool = True
    objective: Objective = "delta"


class Network(NamedTuple):
    """Both layers; `u` is the hidden width `e`, twice that for a gated network."""

    up: Float[Tensor, "b h k u"]
    down: Float[Tensor, "b h e v"]


class Gains(NamedTuple):
    """Standard deviation of every unit's incoming weights after normalisation."""

    up: Float[Tensor, "h u"]
    down: Float[Tensor, "h v"]


@exact
def read_network(network: Network, x: Float[Tensor, "b t h k"], shape: Shape) -> Float[Tensor, "b t h v"]:
    """M(x), one network for all tokens."""
    hidden = activate(einsum(x, network.up, "b t h k, b h k u -> b t h u"), shape.gated)
    read = einsum(hidden, network.down, "b t h e, b h e v -> b t h v")
    return x + read if shape.residual else read


def gradients_written_out(
    network: Network,
    k: Float[Tensor, "b r h k"],
    v: Float[Tensor, "b r h v"],
    weight: Float[Tensor, "b r h"],
    shape: Shape,
) -> Network:
    """Gradient of the weighted sum of objectives over r tokens, propagated back by hand."""
    z = einsum(k, network.up, "b r h k, b h k u -> b r h u")
    hidden = activate(z, shape.gated)
    error = -v
    if shape.objective == "delta":
        predicted = einsum(hidden, network.down, "b r h e, b h e v -> b r h v")
        error = 2 * ((k + predicted if shape.residual else predicted) - v)
    error = weight.unsqueeze(-1) * error
    d_hidden = einsum(error, network.down, "b r h v, b h e v -> b r h e")
    d_z = through_slopes(d_hidden, slopes(z, shape.gated), shape.gated)
    return Network(einsum(k, d_z, "b r h k, b r h u -> b h k u"), einsum(hidden, error, "b r h e, b r h v -> b h e v"))


def gradients_by_autograd(
    network: Network,
    k: Float[Tensor, "b r h k"],
    v: Float[Tensor, "b r h v"],
    weight: Float[Tensor, "b r h"],
    shape: Shape,
) -> Network:
    """The slow twin: the objective as it is written, left to autograd."""
    with torch.enable_grad():
        at = Network(*(w if w.requires_grad else w.detach().requires_grad_() for w in network))
        predicted = read_network(at, k, shape)
        loss = (predicted - v).square().sum(-1) if shape.objective == "delta" else -(predicted * v).sum(-1)
        return Network(*torch.autograd.grad((weight * loss).sum(), at, create_graph=True))


def activate(z: Float[Tensor, "*b u"], gated: bool) -> Float[Tensor, "*b e"]:
    """The hidden layer."""
    if not gated:
        return F.gelu(z)
    shaped, gate = z.chunk(2, dim=-1)
    return F.gelu(shaped) * gate


def slopes(z: Float[Tensor, "*b u"], gated: bool) -> Float[Tensor, "*b u"]:
    """Derivative of the hidden unit that each entry of z belongs to, with respect to that entry."""
    if not gated:
        return _gelu_slope(z)
    shaped, gate = z.chunk(2, dim=-1)
    return torch.cat([_gelu_slope(shaped) * gate, F.gelu(shaped)], dim=-1)


def through_slopes(grad: Float[Tensor, "*b e"], slope: Float[Tensor, "*b u"], gated: bool) -> Float[Tensor, "*b u"]:
    """Gradient with respect to z, given that with respect to the hidden layer."""
    return torch.cat([grad, grad], dim=-1) * slope if gated else grad * slope


def through_slopes_backward(
    twice: Float[Tensor, "*b u"],
    grad: Float[Tensor, "*b e"],
    slope: Float[Tensor, "*b u"],
    z: Float[Tensor, "*b u"],
    gated: bool,
) -> tuple[Float[Tensor, "*b e"], Float[Tensor, "*b u"]]:
    """Gradients with respect to `grad` and z, given that with respect to `through_slopes(grad, slopes(z))`."""
    if not gated:
        return twice * slope, grad * twice * _gelu_curvature(z)
    (shaped, gate), (of_shaped, of_gate) = z.chunk(2, dim=-1), twice.chunk(2, dim=-1)
    sloped = _gelu_slope(shaped)
    bent = of_shaped * gate * _gelu_curvature(shaped) + of_gate * sloped
    g_first, g_second = (twice * slope).chunk(2, dim=-1)
    return g_first + g_second, torch.cat([grad * bent, grad * of_shaped * sloped], dim=-1)


def _gelu_slope(z: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
    return torch.ops.aten.gelu_backward(torch.ones_like(z), z)


def _gelu_curvature(z: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
    """Second derivative of z Phi(z): (2 - z^2) phi(z)."""
    square = z * z
    return (2 - square) * torch.exp(-0.5 * square) * (2 * math.pi) ** -0.5


def normalise_weights(network: Network, gains: Gains) -> Network:
    """Layer normalisation of the incoming weights of every unit, over its inputs."""
    normalised = []
    for weight, gain in zip(network, gains, strict=True):
        centred = weight - weight.mean(-2, keepdim=True)
        scale = (centred.square().mean(-2, keepdim=True) + WEIGHT_EPSILON).rsqrt()
        normalised.append(centred * scale * gain.unsqueeze(-2))
    return Network(*normalised)
