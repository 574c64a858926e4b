"""Griffin's recurrent block as float64 loops over time and blocks, written from the paper; nothing of the package.

h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t x_t)          a_t = exp(-8 r_t softplus(Lambda))

Source: De et al. 2024 (arXiv 2402.19427), equations 1 to 4.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps


def recurrence(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """All states h_t = a_t h_{t-1} + b_t of one sequence: a, b (t d), h (d)."""
    states = []
    for t in range(a.shape[0]):
        h = a[t] * h + b[t]
        states.append(h)
    return torch.stack(states)


def gate(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A sigmoid gate whose matrix is block-diagonal: u (t w), weight (blocks in out)."""
    size = weight.shape[1]
    blocks = [u[:, n * size : (n + 1) * size] @ weight[n] for n in range(weight.shape[0])]
    return 1 / (1 + (-torch.cat(blocks, dim=1) - bias).exp())


def memory(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """A whole block for one sequence x (t d)."""
    u, g = (x @ weights["inputs.weight"].T).chunk(2, dim=1)
    u = causal_taps(u, weights["convolution.weight"]) + weights["convolution_bias"]
    i = gate(u, weights["input_gate.weight"], weights["input_gate.bias"])
    r = gate(u, weights["recurrence_gate.weight"], weights["recurrence_gate.bias"])
    a = (-8 * r * (1 + weights["rate"].exp()).log()).exp()
    h = recurrence(a, (1 - a**2).sqrt() * i * u, torch.zeros_like(u[0]))
    gelu = 0.5 * g * (1 + (math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)).tanh())
    return (h * gelu) @ weights["out.weight"].T
