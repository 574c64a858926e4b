"""Controllers: the networks that work an external memory, as cells.

    feed-forward    h_t = tanh(W [x_t; r_{t-1}] + bias)
    LSTM            i, f, o = sigmoid(.), g = tanh(.) of W [x_t; r_{t-1}; h_{t-1}] + bias
                    c_t = f * c_{t-1} + i * g      h_t = o * tanh(c_t)

x_t is the input and r_{t-1} what was read one token before. What x_t alone decides is computed for all tokens at once;
what remains in sequence is one product.

Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; as a controller, Graves, Wayne &
Danihelka 2014 (arXiv 1410.5401), section 3.4.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.memories.parts import empty_state, require

ControllerKind = Literal["lstm", "feed_forward"]


class LstmState(NamedTuple):
    """Output and cell of an LSTM."""

    h: Float[Tensor, "b hidden"]
    c: Float[Tensor, "b hidden"]


class FeedForwardState(NamedTuple):
    """Empty: a feed-forward controller remembers nothing."""


ControllerState = LstmState | FeedForwardState


class Cell(NamedTuple):
    """The weights that act in sequence, in the dtype that is computed in."""

    recurrent: Float[Tensor, "back gates"]
    controls: Float[Tensor, "hidden controls"]
    bias: Float[Tensor, "controls"]


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """What a configuration says of its controller.

    Args:
        where: kind of the memory, for refusals.
        kind: LSTM or feed-forward network.
        hidden: width of h.
        forget_bias: start of the LSTM's forget-gate bias.
        clip: largest absolute value of a control before its activation; None for no bound.
    """

    where: str
    kind: ControllerKind
    hidden: int
    forget_bias: float
    clip: float | None

    def check(self) -> None:
        """Refuse what cannot work."""
        require(self.hidden >= 1, f"{self.where}.hidden", "at least 1", self.hidden, "use 1 or more")
        require(
            self.kind == "lstm" or self.forget_bias == 1.0,
            f"{self.where}.forget_bias",
            'left at 1.0 where controller="feed_forward", which has no forget gate',
            self.forget_bias,
            'leave it out or set controller="lstm"',
        )
        require(
            self.clip is None or self.clip > 0,
            f"{self.where}.clip",
            "positive, or None for no bound",
            self.clip,
            "use 20, as the sources do",
        )


class Controller(nn.Module):
    """A controller, and the projection from its output to the controls of the heads."""

    def __init__(self, settings: ControllerSettings, d_model: int, n_read_values: int, n_controls: int) -> None:
        super().__init__()
        hidden, self.recurs = settings.hidden, settings.kind == "lstm"
        self.hidden, self.clip = hidden, settings.clip
        gates = 4 * hidden if self.recurs else hidden
        self.inputs = nn.Linear(d_model, gates)
        self.recurrent = nn.Linear(n_read_values + hidden * self.recurs, gates, bias=False)
        self.controls = nn.Linear(hidden, n_controls)
        if self.recurs:
            # The gates stand in the order i, f, o, g.
            nn.init.constant_(self.inputs.bias[hidden : 2 * hidden], settings.forget_bias)

    def init_state(self, batch: int) -> ControllerState:
        """Zeros."""
        if not self.recurs:
            return FeedForwardState()
        empty = empty_state(self.inputs.weight, batch, self.hidden)
        return LstmState(empty, torch.zeros_like(empty))

    def project(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t gates"]:
        """What the inputs give to the gates."""
        return F.linear(x, self.inputs.weight.to(x.dtype), self.inputs.bias.to(x.dtype))

    def cell(self, dtype: torch.dtype) -> Cell:
        """The weights of all steps to come."""
        weights = (self.recurrent.weight.mT, self.controls.weight.mT, self.controls.bias)
        return Cell(*(weight.to(dtype) for weight in weights))

    def step(
        self, projected: Float[Tensor, "b gates"], reads: Float[Tensor, "b read"], state: ControllerState, cell: Cell
    ) -> tuple[Float[Tensor, "b hidden"], Float[Tensor, "b controls"], ControllerState]:
        """Output, controls and state after one token."""
        if isinstance(state, LstmState):
            gates = torch.addmm(projected, torch.cat([reads, state.h], dim=-1), cell.recurrent)
            squashed, candidate = gates.split([3 * self.hidden, self.hidden], dim=-1)
            i, f, o = squashed.sigmoid().chunk(3, dim=-1)
            c = torch.addcmul(f * state.c, i, candidate.tanh())
            h = o * c.tanh()
            state = LstmState(h, c)
        else:
            h = torch.addmm(projected, reads, cell.recurrent).tanh()
        controls = torch.addmm(cell.bias, h, cell.controls)
        return h, controls if self.clip is None else controls.clamp(-self.clip, self.clip), state

    def state_values(self) -> int:
        """Numbers in the state of one sequence."""
        return 2 * self.hidden * self.recurs

    def flops(self) -> int:
        """Of one token of one sequence."""
        linears = (self.inputs, self.recurrent, self.controls)
        return sum(2 * linear.in_features * linear.out_features for linear in linears)
