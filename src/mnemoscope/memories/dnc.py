"""Differentiable neural computer: a memory that is addressed by content, by what is free, and by order of writing.

    usage       u <- (u + w - u w) psi      psi = prod_h (1 - f_h r_h)         with the last weights w, r
    write       w = g_w (g_a a + (1 - g_a) c),   a = allocation(u),   c = content(M_{t-1}, k_w)
    memory      M_t = M_{t-1} * (1 - w e^T) + w v^T
    links       L_ij <- (1 - w_i - w_j) L_ij + w_i p_j, L_ii = 0               p <- (1 - sum w) p + w
    read        r <- pi_1 L^T r + pi_2 content(M_t, k_r) + pi_3 L r            y_t = W_o r M_t

All controls are one projection of the controller's output, and the controller sees x_t and the last reads: strengths =
1 + softplus, gates and e = sigmoid, pi = softmax. Three amendments, each an option:

    masking        content(M, k) compares m * M with m * k, m = sigmoid, moved into (floor, 1)
    deallocation   what is freed is wiped: M_{t-1} * psi; usage passes no gradient back to the writing weights
    sharpness      L r and L^T r are raised to a power 1 + softplus and normalised

Why: allocation and temporal links let it store without overwriting and read back in order, which content alone
cannot.

Known limits: a loop over tokens, and a link matrix with the square of the slots; training is unstable, see the
remedies `dnc_masking` and `ntm_stability`.

Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory" (Nature 538, 471),
methods; amendments, Csordás & Schmidhuber 2019, "Improving Differentiable Neural Computers Through Memory Masking,
De-allocation, and Link Distribution Sharpness Control" (arXiv 1904.10278), sections 3.1 to 3.3.
Differs: equally used slots are taken from the left; with `sharpness`, 1e-6 is added to the weights before the power.
The output is made of reads alone unless `output` says otherwise, because an LSTM that reaches it is a second memory.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor

from mnemoscope.memories.controllers import (
    Cell,
    Controller,
    ControllerKind,
    ControllerSettings,
    ControllerState,
    LstmState,
)
from mnemoscope.memories.external import External, Output, Token, Trace
from mnemoscope.memories.parts import empty_state, require, state_bytes
from mnemoscope.ops.dnc import DncMemory, DncOptions, dnc_step
from mnemoscope.ops.dnc_fused import Machine, Worker, dnc_machine


@dataclass(frozen=True, kw_only=True)
class DNCConfig:
    """Differentiable neural computer.

    Args:
        n_slots: rows of the memory.
        word: numbers in a row.
        n_read: read heads.
        masking: look content up under a mask.
        mask_floor: least value of a mask, in [0, 1).
        deallocation: wipe what is freed.
        sharpness: sharpen what the links say.
        output: what outputs are made of.
        controller: LSTM or feed-forward network.
        hidden: width of the controller.
        forget_bias: start of the LSTM's forget-gate bias.
        clip: bound of all controls before their activation; None for none.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["dnc"] = "dnc"
    n_slots: int = 64
    word: int = 16
    n_read: int = 4
    masking: bool = False
    mask_floor: float = 0.0
    deallocation: bool = False
    sharpness: bool = False
    output: Output = "reads"
    controller: ControllerKind = "lstm"
    hidden: int = 100
    forget_bias: float = 1.0
    clip: float | None = 20.0

    def __post_init__(self) -> None:
        for name in ("n_slots", "word", "n_read"):
            require(getattr(self, name) >= 1, f"dnc.{name}", "at least 1", getattr(self, name), "use 1 or more")
        require(
            0 <= self.mask_floor < 1 and (self.masking or not self.mask_floor),
            "dnc.mask_floor",
            "in [0, 1), and 0 where masking=False",
            self.mask_floor,
            "use 0, or set masking=True",
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

    @property
    def options(self) -> DncOptions:
        """The options that concern the memory."""
        return DncOptions(
            n_read=self.n_read,
            word=self.word,
            mask_floor=self.mask_floor if self.masking else None,
            deallocation=self.deallocation,
            sharpness=self.sharpness,
        )


class DNCState(NamedTuple):
    """The memory, what is known of its slots, the last weights and reads, and the controller."""

    memory: Float[Tensor, "b m word"]
    usage: Float[Tensor, "b m"]
    link: Float[Tensor, "b m m"]
    precedence: Float[Tensor, "b m"]
    write: Float[Tensor, "b m"]
    weights: Float[Tensor, "b read m"]
    reads: Float[Tensor, "b read word"]
    controller: ControllerState


class DNC(External[DNCState]):
    """Differentiable neural computer. Read points as of `External`."""

    def __init__(self, config: DNCConfig, d_model: int) -> None:
        n_values = config.n_read * config.word
        options = config.options
        super().__init__(
            Controller(config.controller_settings, d_model, n_values, options.n_controls), n_values, config.output
        )
        self.config, self.d_model, self.options = config, d_model, options

    def init_state(self, batch: int) -> DNCState:
        """Zeros: nothing is used, written, linked or read."""
        m, word, n = self.config.n_slots, self.config.word, self.config.n_read
        zeros = partial(empty_state, self.out.weight, batch)
        return DNCState(
            memory=zeros(m, word),
            usage=zeros(m),
            link=zeros(m, m),
            precedence=zeros(m),
            write=zeros(m),
            weights=zeros(n, m),
            reads=zeros(n, word),
            controller=self.controller.init_state(batch),
        )

    def token(self, projected: Float[Tensor, "b gates"], state: DNCState, cell: Cell) -> tuple[Token, DNCState]:
        """Free, allocate, write, link, read."""
        *memory, reads, controller = state
        hidden, controls, controller = self.controller.step(projected, reads.flatten(1), controller, cell)
        reads, memory = dnc_step(controls, DncMemory(*memory), self.options)
        return Token(hidden, reads, memory.weights, memory.memory), DNCState(*memory, reads, controller)

    def tokens(self, projected: Float[Tensor, "b t gates"], state: DNCState, cell: Cell) -> tuple[Trace, DNCState]:
        """The same as one node of the graph."""
        *memory, reads, controller = state
        empty = reads.new_zeros(reads.shape[0], 0)
        h, c = controller if isinstance(controller, LstmState) else (empty, empty.clone())
        last, worker = Machine(reads, h, c, DncMemory(*memory)), Worker(*cell, self.controller.clip)
        all_reads, hidden, last = dnc_machine(projected, last, worker, self.options)
        if isinstance(controller, LstmState):
            controller = LstmState(last.h, last.c)
        return Trace(hidden, all_reads, None, None), DNCState(*last.memory, last.reads, controller)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Memory, links, what is known of the slots, reads and controller: the same for any number of tokens."""
        m, word, n = self.config.n_slots, self.config.word, self.config.n_read
        values = m * word + m * m + 3 * m + n * (m + word) + self.controller.state_values()
        return state_bytes(self.out.weight, carried=batch * values)

    def flops(self, batch: int, tokens: int) -> int:
        """Controller; a look-up per head (two products with masks); a read and two ways along links each; output."""
        m, word, n = self.config.n_slots, self.config.word, self.config.n_read
        memory = m * word * ((n + 1) * (1 + self.config.masking) + n) + 2 * n * m * m
        return batch * tokens * (self.controller.flops() + 2 * memory + 2 * self.out.in_features * self.d_model)
