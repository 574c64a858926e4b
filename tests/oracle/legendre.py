"""The Legendre summary as float64 loops: a window projected by quadrature, the equation solved by scipy."""

import numpy as np
import torch
from numpy.polynomial import legendre
from scipy.integrate import solve_ivp
from torch import Tensor


def basis(order: int, back: np.ndarray) -> np.ndarray:
    """sqrt(2 i + 1) P_i(2 u - 1) at fractions u of the window back from the present: (n, m)."""
    return np.stack([np.sqrt(2 * i + 1) * legendre.Legendre.basis(i)(2 * back - 1) for i in range(order)], axis=1)


def projection(signal: np.ndarray, order: int) -> np.ndarray:
    """Coefficients (m) of a window sampled finely at the middles of equal cells, from the present backwards."""
    back = (np.arange(len(signal)) + 0.5) / len(signal)
    return basis(order, back).T @ signal / len(signal)


def summary(x: Tensor, order: int, horizon: int, state: Tensor) -> Tensor:
    """One series x (t) from a state (m): the differential equation solved numerically over each held token; (t m)."""
    i = np.arange(order)
    root = np.sqrt(2 * i + 1)
    a, b = np.zeros((order, order)), root * (-1.0) ** i
    for row in range(order):
        for column in range(order):
            sign = 1.0 if row < column else (-1.0) ** (row - column)
            a[row, column] = -root[row] * root[column] * sign
    c, summaries = state.numpy(), []
    for value in x.numpy():
        solved = solve_ivp(
            lambda _, c, value=value: (a @ c + b * value) / horizon, (0, 1), c, method="DOP853", rtol=1e-12, atol=1e-13
        )
        c = solved.y[:, -1]
        summaries.append(torch.from_numpy(c.copy()))
    return torch.stack(summaries)
