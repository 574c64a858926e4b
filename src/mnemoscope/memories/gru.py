"""Gated recurrent unit: a state that is shown as it is, replaced by a proposal as far as one gate lets it.

    r, z = sigmoid(W x_t + U h_{t-1} + bias)          n = tanh(W_n x_t + bias + r * (U_n h_{t-1} + bias))
    h_t = z * h_{t-1} + (1 - z) * n          y_t = W_o h_t

Since gates depend on h_{t-1}, tokens come one after the other: `forward` is torch's loop.

Why: the recurrent baseline with the smallest state, for tasks that track a state rather than recall pairs.

Known limits: tokens come one after the other, and the state is one number a cell: it holds few pairs.

Source: Cho et al. 2014 (arXiv 1406.1078), equations 5 to 8.
Differs: the reset gate acts after the product with U_n, and there are two biases a gate, as torch has it; an output
projection, so that the width is free.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require, tensor_bytes


@dataclass(frozen=True, kw_only=True)
class GRUConfig:
    """Gated recurrent unit.

    Args:
        width: units of a layer; None for the model width.
        n_layers: layers on top of each other.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["gru"] = "gru"
    width: int | None = None
    n_layers: int = 1

    def __post_init__(self) -> None:
        required = "at least 1, or None for the model width"
        require(self.width is None or self.width >= 1, "gru.width", required, self.width, "use None")
        require(self.n_layers >= 1, "gru.n_layers", "at least 1", self.n_layers, "use 1 or more")


class GRUState(NamedTuple):
    """What every layer shows and keeps."""

    h: Float[Tensor, "b layers w"]


class GRU(nn.Module):
    """Gated recurrent unit. Read points: `read` (b t w), `contribution` (b t d), `state` (b t layers w)."""

    role: Role = "memory"

    def __init__(self, config: GRUConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model, self.width = config, d_model, config.width or d_model
        w = self.width
        # For each layer in the order torch wants: weights of input and of what was shown, and their biases.
        shapes = [((3 * w, d_model if n == 0 else w), (3 * w, w), (3 * w,), (3 * w,)) for n in range(config.n_layers)]
        drawn = (torch.empty(shape).uniform_(-(w**-0.5), w**-0.5) for layer in shapes for shape in layer)
        self.weights = nn.ParameterList(drawn)
        self.out = nn.Linear(self.width, d_model, bias=False)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> GRUState:
        """All zeros."""
        return GRUState(self.out.weight.new_zeros(batch, self.config.n_layers, self.width))

    def step(self, x: Float[Tensor, "b d"], state: GRUState) -> tuple[Float[Tensor, "b d"], GRUState]:
        """Reset, propose, replace: one token through all layers."""
        h = self._unit(x, state.h)
        if self.state.observed:
            h = self.state(h.unsqueeze(1))[:, 0].clone()
        return self.contribution(self.out(self.read(h[:, -1:]))).squeeze(1), GRUState(h)

    def forward(
        self, x: Float[Tensor, "b t d"], state: GRUState | None = None
    ) -> tuple[Float[Tensor, "b t d"], GRUState]:
        """Torch's loop; the states of all tokens are formed only if `state` is observed.

        What replaces an observed state is shown at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        h = (state or self.init_state(x.shape[0])).h
        # The compiler does not look into torch's loop; it unrolls this one.
        if self.state.observed or torch.compiler.is_compiling():
            states = []
            for x_t in x.unbind(1):
                h = self._unit(x_t, h)
                states.append(h)
            formed = torch.stack(states, dim=1)
            formed = self.state(formed) if self.state.observed else formed
            read, h = formed[:, :, -1], formed[:, -1]
        else:
            # Biases, layers, dropout, training, both directions, batch first.
            options = True, self.config.n_layers, 0.0, self.training, False, True
            read, h = torch.gru(x, h.transpose(0, 1).contiguous(), list(self.weights), *options)
            h = h.transpose(0, 1)
        last = GRUState(h.clone(memory_format=torch.contiguous_format))
        return self.contribution(self.out(self.read(read))), last

    def _unit(self, x: Float[Tensor, "b d"], state: Float[Tensor, "b layers w"]) -> Float[Tensor, "b layers w"]:
        shown = []
        for n in range(self.config.n_layers):
            w, u, w_bias, u_bias = self.weights[4 * n : 4 * n + 4]
            given, last = F.linear(x, w, w_bias).chunk(3, dim=-1), F.linear(state[:, n], u, u_bias).chunk(3, dim=-1)
            r, z = (given[0] + last[0]).sigmoid(), (given[1] + last[1]).sigmoid()
            proposed = (given[2] + r * last[2]).tanh()
            x = torch.lerp(*(part.to(state.dtype) for part in (proposed, state[:, n], z)))
            shown.append(x)
        return torch.stack(shown, dim=1)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """One number a unit, whatever the number of tokens."""
        return tensor_bytes(batch * self.config.n_layers * self.width, self.out.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """Three products of input and state a layer, and the output projection."""
        d, w = self.d_model, self.width
        layers = 3 * w * (d + w) + (self.config.n_layers - 1) * 6 * w * w
        return 2 * batch * tokens * (layers + w * d)
