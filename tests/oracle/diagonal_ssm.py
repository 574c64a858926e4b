"""Diagonal state spaces as complex128 loops from continuous time, and the layers S4D and H3 around them.

x'(t) = a x(t) + u(t) with u held between samples: x_{l+1} = e^{a step} x_l + (integral of e^{a s} over a step) u_l.

Source: Gu et al. 2022 (arXiv 2206.11893), section 3; Fu et al. 2022 (arXiv 2212.14052), algorithm 1.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.convolution import causal_taps


def discrete(log_step: Tensor, log_rate: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
    """A and B of one complex state, as complex numbers."""
    a = torch.complex(-log_rate.exp(), frequency)
    transition = (log_step.exp() * a).exp()
    return transition, (transition - 1) / a


def channel(transition: Tensor, write: Tensor, read: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """One channel: A, B, C, s (n) complex, u (t) real; the conjugate of every state is run beside it."""
    conjugates = [torch.cat([number, number.conj()]) for number in (transition, write, read)]
    states, reads = torch.cat([s, s.conj()]), []
    for u_t in u:
        states = conjugates[0] * states + conjugates[1] * u_t
        total = (conjugates[2] * states).sum()
        assert total.imag.abs() < 1e-9 * (1 + total.real.abs())
        reads.append(total.real)
    return torch.stack(reads), states[: s.shape[0]]


def channel_of(weights: Mapping[str, Tensor], c: int, u: Tensor) -> Tensor:
    """Reads of channel c of a layer's `dynamics` from an empty state."""
    log_step, log_rate, frequency, read = (
        weights[f"dynamics.{name}"][c] for name in ("log_step", "log_rate", "frequency", "c")
    )
    transition, write = discrete(log_step, log_rate, frequency)
    return channel(transition, write, torch.complex(read[:, 0], read[:, 1]), u, torch.zeros_like(transition))[0]


def s4d(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """A whole S4D layer for one sequence x (t d)."""
    reads = torch.stack([channel_of(weights, c, x[:, c]) for c in range(x.shape[1])], dim=1)
    mixed = reads + weights["skip"] * x
    bell = 0.5 * (1 + torch.erf(mixed / math.sqrt(2)))
    value, gate = (mixed * bell @ weights["out.weight"].T + weights["out.bias"]).chunk(2, dim=1)
    return value / (1 + (-gate).exp())


def h3(weights: Mapping[str, Tensor], x: Tensor, head_width: int) -> Tensor:
    """A whole H3 layer for one sequence x (t d), product by product of a key's and a value's channel."""
    q, k, v = (x @ weight.T for weight in weights["qkv.weight"].chunk(3))
    k = causal_taps(k, weights["shift.weight"])
    columns = []
    for h in range(x.shape[1] // head_width):
        for j in range(head_width):
            column = torch.zeros_like(x[:, 0])
            for i in range(head_width):
                product = k[:, h * head_width + i] * v[:, h * head_width + j]
                kept = channel_of(weights, h, product) + weights["skip"][h] * product
                column = column + q[:, h * head_width + i] * kept
            columns.append(column)
    return torch.stack(columns, dim=1) @ weights["out.weight"].T
