"""Neural Turing machine: a controller writes to and reads from a matrix of slots, addressed by content and location.

    addressing by a head, from its controls (k, beta, g, s, gamma) and its last weights w_{t-1}
      w = softmax_i(beta cos(k, M_i))     w <- g w + (1 - g) w_{t-1}     w <- w (*) s     w <- w^gamma / sum w^gamma

    M_t = M_{t-1} * prod_h (1 - w_h e_h^T) + sum_h w_h a_h^T       (write heads, addressed by M_{t-1})
    r_t = w^T M_t                                                  (read heads, addressed by M_t)
    y_t = W_o r_t

All controls are one projection of the controller's output, and the controller sees x_t and r_{t-1}: beta = softplus,
g, e = sigmoid, s = softmax, gamma = 1 + softplus, k, a = tanh. (*) is circular convolution over slots.

Why: the first differentiable memory with slots: content and location together can learn algorithms such as copying.

Known limits: a loop over tokens; some seeds never learn, and slots may be overwritten, since nothing says what is
free.

Source: Graves, Wayne, Danihelka 2014, "Neural Turing Machines" (arXiv 1410.5401), equations 2 to 9; start of the
memory, trained first weights and reads, tanh and the bound of the controls, Collier & Beel 2018 (arXiv 1807.08518).
Differs: the output is made of reads alone unless `output` says otherwise, because an LSTM that reaches the output is a
second memory. Reads follow the write, as the indices of the equations have it; Collier & Beel read M_{t-1}.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.memories.controllers import Cell, Controller, ControllerKind, ControllerSettings, ControllerState
from mnemoscope.memories.external import External, Output, Token, Trace, in_dtype
from mnemoscope.memories.parts import require, state_bytes
from mnemoscope.ops.addressing import content_weights, sharpened, shifted, written
from mnemoscope.ops.precision import at_least_float32

START = 1e-6
"""Every number of a memory that starts constant."""


@dataclass(frozen=True, kw_only=True)
class NTMConfig:
    """Neural Turing machine.

    Args:
        n_slots: rows of the memory.
        word: numbers in a row.
        n_read: read heads.
        n_write: write heads.
        shift: width of the shift kernel, odd: 3 allows a step either way.
        memory: its start: 1e-6 everywhere, or drawn and fixed, or drawn and trained.
        output: what outputs are made of.
        controller: LSTM or feed-forward network.
        hidden: width of the controller.
        forget_bias: start of the LSTM's forget-gate bias.
        clip: bound of all controls before their activation; None for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["ntm"] = "ntm"
    n_slots: int = 128
    word: int = 20
    n_read: int = 1
    n_write: int = 1
    shift: int = 3
    memory: Literal["constant", "random", "learned"] = "constant"
    output: Output = "reads"
    controller: ControllerKind = "lstm"
    hidden: int = 100
    forget_bias: float = 1.0
    clip: float | None = 20.0

    def __post_init__(self) -> None:
        for name in ("n_slots", "word", "n_read", "n_write"):
            require(getattr(self, name) >= 1, f"ntm.{name}", "at least 1", getattr(self, name), "use 1 or more")
        require(
            self.shift % 2 == 1 and 1 <= self.shift <= self.n_slots,
            "ntm.shift",
            f"odd, from 1 to n_slots={self.n_slots}",
            self.shift,
            "use 1 for no shift, 3 for a step either way",
        )
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


class NTMState(NamedTuple):
    """The memory, the last weights of all heads (write heads first), what was last read, and the controller."""

    memory: Float[Tensor, "b m word"]
    weights: Float[Tensor, "b h m"]
    reads: Float[Tensor, "b read word"]
    controller: ControllerState


class Heads(NamedTuple):
    """How heads are to find their places."""

    key: Float[Tensor, "b h word"]
    strength: Float[Tensor, "b h"]
    gate: Float[Tensor, "b h"]
    shift: Float[Tensor, "b h s"]
    exponent: Float[Tensor, "b h"]

    def place(self, memory: Float[Tensor, "b m word"], last: Float[Tensor, "b h m"]) -> Float[Tensor, "b h m"]:
        """By content, or where the head was, moved, sharpened."""
        content = content_weights(memory, self.key, self.strength)
        return sharpened(shifted(torch.lerp(last, content, self.gate.unsqueeze(-1)), self.shift), self.exponent)


class NTM(External[NTMState]):
    """Neural Turing machine. Read points as of `External`."""

    def __init__(self, config: NTMConfig, d_model: int) -> None:
        h, n_values = config.n_read + config.n_write, config.n_read * config.word
        # Keys and additions, gates and erasures, strengths and exponents, shifts: what shares an activation stands
        # together, write heads before read heads.
        added = config.n_write * config.word
        layout = [h * config.word + added, h + added, 2 * h, h * config.shift]
        controller = Controller(config.controller_settings, d_model, n_values, sum(layout))
        super().__init__(controller, n_values, config.output)
        self.config, self.d_model, self.layout = config, d_model, layout
        # Equal weights on equal slots would keep all slots equal for ever.
        self.first_weights = nn.Parameter(torch.randn(h, config.n_slots))
        self.first_reads = nn.Parameter(0.5 * torch.randn(config.n_read, config.word))
        if config.memory != "constant":
            drawn = (0.5 * torch.randn(config.n_slots, config.word)).tanh()
            self.first_memory = nn.Parameter(drawn, requires_grad=config.memory == "learned")

    def init_state(self, batch: int) -> NTMState:
        """The memory at its start, trained weights and reads, an empty controller."""
        if self.config.memory == "constant":
            memory = self.out.weight.new_full((batch, self.config.n_slots, self.config.word), START)
        else:
            memory = self.first_memory.repeat(batch, 1, 1)
        weights, reads = self.first_weights.softmax(-1), self.first_reads.tanh()
        controller = self.controller.init_state(batch)
        state = NTMState(memory, weights.repeat(batch, 1, 1), reads.repeat(batch, 1, 1), controller)
        return in_dtype(state, at_least_float32(memory.dtype))

    def tokens(self, projected: Float[Tensor, "b t gates"], state: NTMState, cell: Cell) -> tuple[Trace, NTMState]:
        """One by one."""
        return self.one_by_one(projected, state, cell, seen=False)

    def token(self, projected: Float[Tensor, "b gates"], state: NTMState, cell: Cell) -> tuple[Token, NTMState]:
        """Write where the write heads point, then read where the read heads point."""
        hidden, controls, controller = self.controller.step(projected, state.reads.flatten(1), state.controller, cell)
        write, read, erase, add = self._heads(controls)
        last_write, last_read = state.weights.split(self._sides, dim=1)
        to_write = write.place(state.memory, last_write)
        memory = written(state.memory, to_write, erase, add)
        to_read = read.place(memory, last_read)
        reads = to_read @ memory
        state = NTMState(memory, torch.cat([to_write, to_read], dim=1), reads, controller)
        return Token(hidden, reads, to_read, memory), state

    @property
    def _sides(self) -> list[int]:
        return [self.config.n_write, self.config.n_read]

    def _heads(self, controls: Float[Tensor, "b controls"]) -> tuple[Heads, Heads, Tensor, Tensor]:
        """Controls of the write heads and of the read heads, what to erase and what to add."""
        word, h = self.config.word, sum(self._sides)
        signed, unit, positive, shifts = controls.split(self.layout, dim=-1)
        key, add = signed.tanh().unflatten(-1, (-1, word)).split([h, self.config.n_write], dim=1)
        gate, erase = unit.sigmoid().split([h, unit.shape[-1] - h], dim=-1)
        strength, exponent = F.softplus(positive).chunk(2, dim=-1)
        kernel = shifts.unflatten(-1, (h, self.config.shift)).softmax(-1)
        parts = (part.split(self._sides, dim=1) for part in (key, strength, gate, kernel, 1 + exponent))
        write, read = (Heads(*side) for side in zip(*parts, strict=True))
        return write, read, erase.unflatten(-1, (-1, word)), add

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Memory, weights, reads and controller: the same for any number of tokens."""
        m, word = self.config.n_slots, self.config.word
        values = m * word + sum(self._sides) * m + self.config.n_read * word + self.controller.state_values()
        return state_bytes(self.out.weight, carried=batch * values)

    def flops(self, batch: int, tokens: int) -> int:
        """Controller, a look-up per head, a read per read head, output."""
        memory = 2 * (sum(self._sides) + self.config.n_read) * self.config.n_slots * self.config.word
        return batch * tokens * (self.controller.flops() + memory + 2 * self.out.in_features * self.d_model)
