"""Gate heads of the memories that learn at test time: how much to retain, to carry on, to step, and to weigh.

    log_retention_t = log sigmoid(W_a x_t + bias)          step_size_t     = sigmoid(W_e x_t + bias)
    log_momentum_t  = log sigmoid(W_m x_t + bias)          window_weight_t = sigmoid(W_g x_t + bias)

one value per head. Weights start at zero and biases at the logit of the configured start, so that every gate starts
at exactly that value for every token.

Source: Behrouz et al. 2024, "Titans" (arXiv 2501.00663), section 3.1, and 2025, "ATLAS" (arXiv 2505.23735), equations
9 and 32; retention, momentum and step size are alpha, theta and eta there (Titans: 1 - alpha, eta and theta).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.memories.parts import require


class GateStarts(NamedTuple):
    """Where each gate starts, in (0, 1); None for a gate that is absent.

    Args:
        step_size: of the inner gradient step.
        retention: of the memory, per token; absent, everything is retained.
        momentum: of the past surprise, per token; absent, there is none.
        window_weight: of a token in the objective; absent, every token weighs 1.
    """

    step_size: float
    retention: float | None
    momentum: float | None
    window_weight: float | None = None


class GateValues(NamedTuple):
    """Gates of every token and head, in float32 at least; `log_momentum` is None where there is no momentum."""

    step_size: Float[Tensor, "b t h"]
    log_retention: Float[Tensor, "b t h"]
    log_momentum: Float[Tensor, "b t h"] | None
    window_weight: Float[Tensor, "b t h"]


class Gates(nn.Module):
    """One linear head per gate that is present."""

    def __init__(self, starts: GateStarts, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.step_size = _head(starts.step_size, d_model, n_heads)
        self.retention = None if starts.retention is None else _head(starts.retention, d_model, n_heads)
        self.momentum = None if starts.momentum is None else _head(starts.momentum, d_model, n_heads)
        self.window_weight = None if starts.window_weight is None else _head(starts.window_weight, d_model, n_heads)

    def forward(self, x: Float[Tensor, "b t d"]) -> GateValues:
        """The gates of all tokens."""
        step_size = _wide(self.step_size(x)).sigmoid()
        return GateValues(
            step_size,
            torch.zeros_like(step_size) if self.retention is None else F.logsigmoid(_wide(self.retention(x))),
            None if self.momentum is None else F.logsigmoid(_wide(self.momentum(x))),
            torch.ones_like(step_size) if self.window_weight is None else _wide(self.window_weight(x)).sigmoid(),
        )

    @property
    def n_outputs(self) -> int:
        """Outputs of all heads together, which is what their projections cost per token and input channel."""
        return sum(gate.out_features for gate in self.children() if isinstance(gate, nn.Linear))


def require_start(value: float, where: str) -> None:
    """Refuse a start that no sigmoid takes."""
    require(0 < value < 1, where, "between 0 and 1, both excluded", value, "use 0.99 for nearly 1, 0.01 for nearly 0")


def _head(start: float, d_model: int, n_heads: int) -> nn.Linear:
    head = nn.Linear(d_model, n_heads)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, math.log(start) - math.log1p(-start))
    return head


def _wide(logits: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
    # A retention of 0.99 and one of 0.995 are the same number in bfloat16 after a few products.
    return logits if logits.dtype == torch.float64 else logits.float()
