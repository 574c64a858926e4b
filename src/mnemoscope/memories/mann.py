"""Memory-augmented neural network with least-recently-used access: new keys go where nobody has been for long.

    w_w = sigmoid(alpha) w_r + (1 - sigmoid(alpha)) w_lu      w_lu = 1 at the n least used slots, else 0
    M_t = M_{t-1} (1 - w_lu) + sum_h w_w,h k_h^T              w_r and w_lu are those of the token before
    w_r = softmax_i(cos(k, M_i))                              r_t = w_r M_t        y_t = W_o r_t
    u_t = gamma u_{t-1} + sum_h (w_r,h + w_w,h)

n is the number of heads; each head h has a key k_h = tanh of a projection of the controller's output, which is both
what it writes and what it looks for, and a trained scalar alpha_h. The controller sees x_t and r_{t-1}.

Why: writing to where nobody has been for long stores a new class after one example, without learned allocation.

Known limits: a loop over tokens; location and order of writing cannot be read.

Source: Santoro et al. 2016, "One-shot Learning with Memory-Augmented Neural Networks" (arXiv 1605.06065), equations 2
to 8.
Differs: equally used slots are taken from the left, where the inequality of the source would take them all; all rows of
w_lu are emptied before the write, the source says so of one. The output is made of reads alone unless `output` says
otherwise.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.memories.controllers import Cell, Controller, ControllerKind, ControllerSettings, ControllerState
from mnemoscope.memories.external import External, Output, Token, Trace
from mnemoscope.memories.parts import empty_state, require, state_bytes
from mnemoscope.ops.addressing import content_weights
from mnemoscope.ops.usage import least_used


@dataclass(frozen=True, kw_only=True)
class MANNConfig:
    """Memory-augmented neural network.

    Args:
        n_slots: rows of the memory.
        word: numbers in a row.
        n_heads: heads; each writes, then reads.
        usage_decay: gamma, in [0, 1).
        output: what outputs are made of.
        controller: LSTM or feed-forward network.
        hidden: width of the controller.
        forget_bias: start of the LSTM's forget-gate bias.
        clip: bound of all controls before their activation; None for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["mann"] = "mann"
    n_slots: int = 128
    word: int = 40
    n_heads: int = 4
    usage_decay: float = 0.95
    output: Output = "reads"
    controller: ControllerKind = "lstm"
    hidden: int = 200
    forget_bias: float = 1.0
    clip: float | None = 20.0

    def __post_init__(self) -> None:
        for name in ("n_slots", "word", "n_heads"):
            require(getattr(self, name) >= 1, f"mann.{name}", "at least 1", getattr(self, name), "use 1 or more")
        require(
            self.n_heads <= self.n_slots,
            "mann.n_heads",
            f"at most n_slots={self.n_slots}, since each empties a slot",
            self.n_heads,
            "use fewer heads or more slots",
        )
        require(0 <= self.usage_decay < 1, "mann.usage_decay", "in [0, 1)", self.usage_decay, "use 0.95 to 0.99")
        self.controller_settings.check()

    @property
    def controller_settings(self) -> ControllerSettings:
        """The options that concern the controller."""
        return ControllerSettings(
            where=self.kind,
            kind=self.controller,
            hidden=self.hidden,
            forget_bias=self.forget_bias,
            clip=self.clip,
        )


class MANNState(NamedTuple):
    """The memory, how much its slots were used, the last weights and reads, and the controller."""

    memory: Float[Tensor, "b m word"]
    usage: Float[Tensor, "b m"]
    weights: Float[Tensor, "b h m"]
    reads: Float[Tensor, "b h word"]
    controller: ControllerState


class MANN(External[MANNState]):
    """Memory-augmented neural network. Read points as of `External`."""

    def __init__(self, config: MANNConfig, d_model: int) -> None:
        n_values = config.n_heads * config.word
        super().__init__(Controller(config.controller_settings, d_model, n_values, n_values), n_values, config.output)
        self.config, self.d_model = config, d_model
        self.reuse = nn.Parameter(torch.zeros(config.n_heads))

    def init_state(self, batch: int) -> MANNState:
        """Zeros: nothing is written, used or read."""
        m, word, h = self.config.n_slots, self.config.word, self.config.n_heads
        zeros = partial(empty_state, self.out.weight, batch)
        return MANNState(
            memory=zeros(m, word),
            usage=zeros(m),
            weights=zeros(h, m),
            reads=zeros(h, word),
            controller=self.controller.init_state(batch),
        )

    def tokens(self, projected: Float[Tensor, "b t gates"], state: MANNState, cell: Cell) -> tuple[Trace, MANNState]:
        """One by one."""
        return self.one_by_one(projected, state, cell, seen=False)

    def token(self, projected: Float[Tensor, "b gates"], state: MANNState, cell: Cell) -> tuple[Token, MANNState]:
        """Write where was read last or where nobody has been, then read."""
        hidden, keys, controller = self.controller.step(projected, state.reads.flatten(1), state.controller, cell)
        keys = keys.unflatten(-1, (self.config.n_heads, self.config.word)).tanh()
        unused = least_used(state.usage, self.config.n_heads)
        reuse = self.reuse.to(keys.dtype).sigmoid().unsqueeze(-1)
        write = torch.lerp(unused.unsqueeze(1), state.weights, reuse)
        memory = torch.baddbmm(state.memory * (1 - unused).unsqueeze(-1), write.mT, keys)
        weights = content_weights(memory, keys, torch.ones_like(keys[..., 0]))
        reads = weights @ memory
        usage = self.config.usage_decay * state.usage + (weights + write).sum(1)
        return Token(hidden, reads, weights, memory), MANNState(memory, usage, weights, reads, controller)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Memory, usage, weights, reads and controller: the same for any number of tokens."""
        m, word, h = self.config.n_slots, self.config.word, self.config.n_heads
        values = m * word + m + h * (m + word) + self.controller.state_values()
        return state_bytes(self.out.weight, carried=batch * values)

    def flops(self, batch: int, tokens: int) -> int:
        """Controller; a write, a look-up and a read per head; output."""
        memory = 2 * 3 * self.config.n_heads * self.config.n_slots * self.config.word
        return batch * tokens * (self.controller.flops() + memory + 2 * self.out.in_features * self.d_model)
