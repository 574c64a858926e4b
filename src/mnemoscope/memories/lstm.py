"""Long short-term memory: a cell per channel that gates write, keep and show, driven by what it showed last.

    i, f, o = sigmoid(W x_t + U h_{t-1} + bias)          g = tanh(W_g x_t + U_g h_{t-1} + bias)
    c_t = f * c_{t-1} + i * g          h_t = o * tanh(c_t)          y_t = W_o h_t

Since gates depend on h_{t-1}, tokens come one after the other: `forward` is torch's fused loop.

Why: the recurrent baseline: gates decide what is written, kept and shown.

Known limits: tokens come one after the other, and the state is a vector: recall of many pairs is beyond it.

Source: Hochreiter, Schmidhuber 1997, "Long Short-Term Memory"; forget gate, Gers, Schmidhuber, Cummins 2000; its bias
of one at the start, Jozefowicz, Zaremba, Sutskever 2015.
Differs: two biases a gate, as torch has them; an output projection, so that the width is free.
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
class LSTMConfig:
    """Long short-term memory.

    Args:
        width: cells of a layer; None for the model width.
        n_layers: layers on top of each other.
        forget_bias: where the forget gate's bias starts; None leaves it as torch draws it, around zero.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["lstm"] = "lstm"
    width: int | None = None
    n_layers: int = 1
    forget_bias: float | None = 1.0

    def __post_init__(self) -> None:
        required = "at least 1, or None for the model width"
        require(self.width is None or self.width >= 1, "lstm.width", required, self.width, "use None")
        require(self.n_layers >= 1, "lstm.n_layers", "at least 1", self.n_layers, "use 1 or more")


class LSTMState(NamedTuple):
    """What every layer shows, and its cells."""

    h: Float[Tensor, "b layers w"]
    c: Float[Tensor, "b layers w"]


class LSTM(nn.Module):
    """Long short-term memory. Read points: `read` (b t w), `contribution` (b t d), `state` (b t 2 layers w): h, c."""

    role: Role = "memory"

    def __init__(self, config: LSTMConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model, self.width = config, d_model, config.width or d_model
        w = self.width
        # For each layer in the order torch wants: weights of input and of what was shown, and their biases.
        shapes = [((4 * w, d_model if n == 0 else w), (4 * w, w), (4 * w,), (4 * w,)) for n in range(config.n_layers)]
        drawn = (torch.empty(shape).uniform_(-(w**-0.5), w**-0.5) for layer in shapes for shape in layer)
        self.weights = nn.ParameterList(drawn)
        if config.forget_bias is not None:
            with torch.no_grad():
                for n in range(config.n_layers):
                    self.weights[4 * n + 2][w : 2 * w], self.weights[4 * n + 3][w : 2 * w] = config.forget_bias, 0.0
        self.out = nn.Linear(self.width, d_model, bias=False)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> LSTMState:
        """All zeros."""
        empty = self.out.weight.new_zeros(batch, self.config.n_layers, self.width)
        return LSTMState(empty, torch.zeros_like(empty))

    def step(self, x: Float[Tensor, "b d"], state: LSTMState) -> tuple[Float[Tensor, "b d"], LSTMState]:
        """Gate, write, show: one token through all layers."""
        states = self._cell(x, state)
        if self.state.observed:
            states = LSTMState(*self.state(torch.stack(states, dim=1).unsqueeze(1))[:, 0].unbind(1))
        y = self.contribution(self.out(self.read(states.h[:, -1].unsqueeze(1))))
        return y.squeeze(1), LSTMState(states.h.clone(), states.c.clone())

    def forward(
        self, x: Float[Tensor, "b t d"], state: LSTMState | None = None
    ) -> tuple[Float[Tensor, "b t d"], LSTMState]:
        """Torch's loop; the states of all tokens are formed only if `state` is observed.

        What replaces an observed state is shown at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state = state or self.init_state(x.shape[0])
        # The compiler does not look into torch's loop; it unrolls this one.
        if self.state.observed or torch.compiler.is_compiling():
            states = []
            for x_t in x.unbind(1):
                state = self._cell(x_t, state)
                states.append(torch.stack(state, dim=1))
            formed = torch.stack(states, dim=1)
            formed = self.state(formed) if self.state.observed else formed
            read, (h, c) = formed[:, :, 0, -1], formed[:, -1].unbind(1)
        else:
            before = [part.transpose(0, 1).contiguous() for part in state]
            # Biases, layers, dropout, training, both directions, batch first.
            options = True, self.config.n_layers, 0.0, self.training, False, True
            read, h, c = torch.lstm(x, before, list(self.weights), *options)
            h, c = h.transpose(0, 1), c.transpose(0, 1)
        last = LSTMState(*(part.clone(memory_format=torch.contiguous_format) for part in (h, c)))
        return self.contribution(self.out(self.read(read))), last

    def _cell(self, x: Float[Tensor, "b d"], state: LSTMState) -> LSTMState:
        shown, kept = [], []
        for n in range(self.config.n_layers):
            w, u, w_bias, u_bias = self.weights[4 * n : 4 * n + 4]
            i, f, g, o = (F.linear(x, w, w_bias) + F.linear(state.h[:, n], u, u_bias)).chunk(4, dim=-1)
            kept.append(f.sigmoid() * state.c[:, n] + i.sigmoid() * g.tanh())
            x = o.sigmoid() * kept[-1].tanh()
            shown.append(x)
        return LSTMState(torch.stack(shown, dim=1), torch.stack(kept, dim=1))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Two numbers a cell, whatever the number of tokens."""
        return tensor_bytes(2 * batch * self.config.n_layers * self.width, self.out.weight)

    def flops(self, batch: int, tokens: int) -> int:
        """Four products of input and shown state a layer, and the output projection.

        Those of a layer are counted as they are, though torch's counter does not know the fused loop of a CPU.
        """
        d, w = self.d_model, self.width
        layers = 4 * w * (d + w) + (self.config.n_layers - 1) * 8 * w * w
        return 2 * batch * tokens * (layers + w * d)
