"""The training step of the three moons as the official code has it, twice: in PyTorch, and in MLX, its own framework.

All pairs of observations in every head, a strict mask that is added to the logits, the row that sees nothing set to
zero, gradients through all of it; matrices made complex anew in every call; AdamW without bias correction. What it
checks for NaN is left out.

Source: facebookresearch/MemoryMosaics, `ThreeMoons`, commit 1fff63b.
"""

import importlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts import Batch
from mnemoscope.experiments.mosaics.moons_training import BETAS, EPSILON, MoonsTraining
from mnemoscope.models.moons import MATRICES

BETA = 50.0
HIDDEN = -1e10

Weights = Mapping[str, NDArray[np.float32]]
"""By the name of the matrix, as stored: before they are made complex."""


def linear_rate(settings: MoonsTraining, step: int) -> float:
    """From the first to the last learning rate, along a line."""
    first, last = settings.learning_rate, settings.last_learning_rate
    return first + (last - first) * step / settings.steps


class DenseMoons:
    """The step in PyTorch."""

    name = "dense, PyTorch"

    def __init__(self, weights: Weights, n_heads: int, settings: MoonsTraining) -> None:
        self.n_heads, self.settings, self.n_steps = n_heads, settings, 0
        self.stored = [torch.tensor(weights[name], requires_grad=True) for name in MATRICES]
        self.first = [torch.zeros_like(weight) for weight in self.stored]
        self.second = [torch.zeros_like(weight) for weight in self.stored]
        self.mask = torch.full((settings.length, settings.length), HIDDEN).triu()

    def step(self, batch: Batch) -> float:
        """Train once; the loss before it."""
        error = self._foreseen(torch.from_numpy(batch.inputs)) - torch.from_numpy(batch.targets)
        loss = error.clamp(-self.settings.clip, self.settings.clip).square().mean()
        gradients = torch.autograd.grad(loss, self.stored)
        rate = linear_rate(self.settings, self.n_steps)
        for weight, m, v, gradient in zip(self.stored, self.first, self.second, gradients, strict=True):
            m.lerp_(gradient, 1 - BETAS[0])
            v.lerp_(gradient.square(), 1 - BETAS[1])
            weight.data -= rate * m / (v.sqrt() + EPSILON)
        self.n_steps += 1
        return loss.item()

    def weights(self) -> list[Tensor]:
        """As stored."""
        return [weight.detach() for weight in self.stored]

    def _foreseen(self, x: Tensor) -> Tensor:
        keys, values, out = map(_complex, self.stored)
        k = self._by_head(F.linear(x, keys))
        v = self._by_head(F.pad(F.linear(x[:, 1:], values), (0, 0, 0, 1)))
        weights = ((k @ k.mT + self.mask) * BETA).softmax(-1)
        weights = weights.index_fill(2, torch.tensor([0]), 0.0)
        return F.linear((weights @ v).transpose(1, 2).flatten(2), out)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


def _complex(weight: Tensor) -> Tensor:
    a = (weight[0::2, 0::2] + weight[1::2, 1::2]) / 2
    b = (weight[0::2, 1::2] - weight[1::2, 0::2]) / 2
    return torch.stack([torch.stack([a, b], -1), torch.stack([-b, a], -1)], 1).flatten(2).flatten(0, 1)


class MlxMoons:
    """The step in MLX on its CPU device; its optimiser is MLX's."""

    def __init__(self, weights: Weights, n_heads: int, settings: MoonsTraining) -> None:
        self.mx: Any = importlib.import_module("mlx.core")
        optimisers: Any = importlib.import_module("mlx.optimizers")
        self.mx.set_default_device(self.mx.cpu)
        self.n_heads, self.settings, length = n_heads, settings, settings.length
        self.stored = {name: self.mx.array(weight) for name, weight in weights.items()}
        self.mask = self.mx.triu(self.mx.full((length, length), vals=HIDDEN), k=0)
        rate = optimisers.linear_schedule(settings.learning_rate, settings.last_learning_rate, settings.steps)
        self.optimiser = optimisers.AdamW(learning_rate=rate, betas=list(BETAS), eps=EPSILON, weight_decay=0.0)
        self.learn = self.mx.value_and_grad(self._loss)

    @property
    def name(self) -> str:
        """With the version."""
        return f"official, MLX {version('mlx')}"

    def step(self, batch: Batch) -> float:
        """Train once; the loss before it."""
        loss, gradients = self.learn(self.stored, self.mx.array(batch.inputs), self.mx.array(batch.targets))
        self.stored = self.optimiser.apply_gradients(gradients, self.stored)
        self.mx.eval(self.stored, self.optimiser.state)
        return loss.item()

    def weights(self) -> list[Tensor]:
        """As stored."""
        return [torch.from_numpy(np.array(self.stored[name])) for name in MATRICES]

    def _loss(self, stored: Any, x: Any, y: Any) -> Any:
        clip = self.settings.clip
        return self.mx.clip(self._foreseen(stored, x) - y, a_min=-clip, a_max=clip).square().mean()

    def _foreseen(self, stored: Any, x: Any) -> Any:
        mx, (b, t, channels) = self.mx, x.shape
        keys, values, out = (self._complex(stored[name]) for name in MATRICES)
        k = self._by_head(x @ keys.T)
        v = self._by_head(mx.pad(x[:, 1:] @ values.T, ((0, 0), (0, 1), (0, 0))))
        weights = mx.softmax((k @ k.transpose(0, 1, 3, 2) + self.mask) * BETA, axis=-1)
        weights[:, :, :1, :] = 0
        mx.eval(weights, k, v)
        return (weights @ v).transpose(0, 2, 1, 3).reshape(b, t, channels) @ out.T

    def _by_head(self, x: Any) -> Any:
        b, t, channels = x.shape
        return x.reshape(b, t, self.n_heads, channels // self.n_heads).transpose(0, 2, 1, 3)

    def _complex(self, weight: Any) -> Any:
        weight = weight * 0.5
        weight[0::2, 0::2] += weight[1::2, 1::2]
        weight[0::2, 1::2] -= weight[1::2, 0::2]
        weight[1::2, 0::2] = -weight[0::2, 1::2]
        weight[1::2, 1::2] = weight[0::2, 0::2]
        return weight
