"""LSTM and GRU as float64 loops, unit by unit.

Source: Gers et al. 2000 (LSTM with forget gates); Cho et al. 2014 (arXiv 1406.1078), reset gate after the product.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def lstm(weights: Mapping[str, Tensor], x: Tensor, n_layers: int) -> Tensor:
    """One sequence x (t d); gates stand in the order input, forget, proposal, output."""
    for n in range(n_layers):
        w, u, w_bias, u_bias = parts(weights, n)
        width = u.shape[1]
        h = c = torch.zeros(width, dtype=torch.float64)
        shown = []
        for x_t in x:
            a = [w[i] @ x_t + w_bias[i] + u[i] @ h + u_bias[i] for i in range(4 * width)]
            i, f, g, o = (torch.stack(a[j * width : (j + 1) * width]) for j in range(4))
            c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            h = sigmoid(o) * torch.tanh(c)
            shown.append(h)
        x = torch.stack(shown)
    return x @ weights["out.weight"].T


def gru(weights: Mapping[str, Tensor], x: Tensor, n_layers: int) -> Tensor:
    """One sequence x (t d); gates stand in the order reset, keep, proposal."""
    for n in range(n_layers):
        w, u, w_bias, u_bias = parts(weights, n)
        width = u.shape[1]
        h, shown = torch.zeros(width, dtype=torch.float64), []
        for x_t in x:
            units = []
            for i in range(width):
                reset, keep, propose = i, width + i, 2 * width + i
                r = sigmoid(w[reset] @ x_t + w_bias[reset] + u[reset] @ h + u_bias[reset])
                z = sigmoid(w[keep] @ x_t + w_bias[keep] + u[keep] @ h + u_bias[keep])
                proposal = torch.tanh(w[propose] @ x_t + w_bias[propose] + r * (u[propose] @ h + u_bias[propose]))
                units.append((1 - z) * proposal + z * h[i])
            h = torch.stack(units)
            shown.append(h)
        x = torch.stack(shown)
    return x @ weights["out.weight"].T


def parts(weights: Mapping[str, Tensor], layer: int) -> tuple[Tensor, ...]:
    return tuple(weights[f"weights.{4 * layer + i}"] for i in range(4))
