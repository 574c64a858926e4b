"""What is left of a memory whose read is a constant: one learned vector, behind the gate that the memory had.

    nothing          y_t = 0
    vector           y_t = c
    sigmoid_after    y_t = sigmoid(W x_t + b) * c             the gate behind the output projection, as banks have it
    silu_before      y_t = W_o (silu(W x_t + b) * c)          the gate before it, as linear memories have it
    sigmoid_before   y_t = W_o (sigmoid(W x_t + b) * c)       the same with a sigmoid

With `positions` there is a vector c_t (and behind the projection a bias b_t) for every position: a clock. Nothing of
the sequence is remembered. It is not meant to be built by hand: `mnemoscope fold` puts it where a memory was.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import require

Form = Literal["nothing", "vector", "sigmoid_after", "silu_before", "sigmoid_before"]
BEFORE = ("silu_before", "sigmoid_before")


@dataclass(frozen=True, kw_only=True)
class FoldedConfig:
    """What is left of a memory.

    Args:
        form: see the top of this file.
        width: channels of the vector where the gate is before the output projection, and only there; None for d_model.
        positions: longest sequence, with a vector for each position; None for one vector.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["folded"] = "folded"
    form: Form = "vector"
    width: int | None = None
    positions: int | None = None

    def __post_init__(self) -> None:
        forms = ("nothing", "vector", "sigmoid_after", *BEFORE)
        require(self.form in forms, "folded.form", f"one of {forms}", self.form, 'use "vector"')
        works = self.width is None or (self.form in BEFORE and self.width >= 1)
        require(works, "folded.width", f"None, or at least 1 with form in {BEFORE}", self.width, "use None")
        works = self.positions is None or (self.form != "nothing" and self.positions >= 1)
        require(works, "folded.positions", "None, or at least 1 where there is a vector", self.positions, "use None")


class FoldedState(NamedTuple):
    """How many tokens were seen, where there is a vector for each position; None where nothing need be remembered."""

    n_tokens: Int[Tensor, ""] | None


class Folded(nn.Module):
    """A constant behind a gate. Read points: `read` (b t w), `contribution` (b t d), with a sigmoid `gate` (b t w)."""

    role: Role = "memory"

    def __init__(self, config: FoldedConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.width = config.width or d_model
        if config.form == "nothing":
            return
        rows = config.positions or 1
        # As embeddings they are spared by weight decay, which would make a constant forget itself.
        self.vector = _zeros(rows, self.width)
        self.read = ReadPoint()
        self.contribution = ReadPoint()
        if config.form != "vector":
            self.gate_input = nn.Linear(d_model, self.width, bias=False)
            self.gate_bias = _zeros(rows if config.form == "sigmoid_after" else 1, self.width)
        if config.form.startswith("sigmoid"):
            self.gate = ReadPoint()
        if config.form in BEFORE:
            self.out = nn.Linear(self.width, d_model, bias=False)

    def init_state(self, batch: int) -> FoldedState:
        """Nothing seen."""
        return FoldedState(None if self.config.positions is None else torch.zeros((), dtype=torch.int64))

    def step(self, x: Float[Tensor, "b d"], state: FoldedState) -> tuple[Float[Tensor, "b d"], FoldedState]:
        """One token."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: FoldedState | None = None
    ) -> tuple[Float[Tensor, "b t d"], FoldedState]:
        """Every token on its own.

        Raises:
            ValueError: more tokens than there are vectors.
        """
        state = state or self.init_state(x.shape[0])
        after = FoldedState(None if state.n_tokens is None else state.n_tokens + x.shape[1])
        if self.config.form == "nothing":
            return torch.zeros_like(x), after
        read = self.read(self._rows(self.vector, x.shape[1], state).expand(*x.shape[:2], self.width))
        return self.contribution(self._gated(x, read, state)), after

    def _gated(
        self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t w"], state: FoldedState
    ) -> Float[Tensor, "b t d"]:
        form = self.config.form
        if form == "vector":
            return read
        bias = self._rows(self.gate_bias, x.shape[1], state) if form == "sigmoid_after" else self.gate_bias.weight
        logits = self.gate_input(x) + bias
        gated = (F.silu(logits) if form == "silu_before" else self.gate(logits.sigmoid())) * read
        return self.out(gated) if form in BEFORE else gated

    def _rows(self, of: nn.Embedding, n_tokens: int, state: FoldedState) -> Float[Tensor, "n w"]:
        """Looked up, since a view of a parameter asks for gradients even where none are wanted."""
        if self.config.positions is None or state.n_tokens is None:
            return of(torch.zeros(1, dtype=torch.int64, device=of.weight.device))
        start = int(state.n_tokens)
        if start + n_tokens > self.config.positions:
            raise ValueError(
                f"folded: there is a vector for each of {self.config.positions} positions, got {start + n_tokens} "
                "tokens; use shorter sequences, or fold a memory that needs one vector"
            )
        return of(torch.arange(start, start + n_tokens, device=of.weight.device))

    @property
    def reach(self) -> int:
        """The present token."""
        return 1

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """The same: no token is remembered."""
        return self.forward(x)[0]

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The count of tokens, where it is looked at."""
        return 0 if self.config.positions is None else 8

    def flops(self, batch: int, tokens: int) -> int:
        """Gate and output projections."""
        form = self.config.form
        products = (form not in ("nothing", "vector")) + (form in BEFORE)
        return 2 * batch * tokens * self.d_model * self.width * products


def _zeros(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.zeros_(table.weight)
    return table
