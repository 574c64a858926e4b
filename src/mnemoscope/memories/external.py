"""What memories beside a controller share: the loop over tokens, the read points and the way to the output.

    y_t = W_o r_t, or W_o [r_t; h_t]

r_t are the reads of token t, joined, and h_t is the controller's output.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.controllers import Cell, Controller
from mnemoscope.ops.precision import at_least_float32

Output = Literal["reads", "controller_and_reads"]
"""What an output is made of. A controller remembers as well; with the reads alone, all that leaves has been read."""

StateT = TypeVar("StateT", bound=tuple[Any, ...])


class Token(NamedTuple):
    """What one token did: the controller's output, the reads, their weights, and the memory they came from."""

    hidden: Float[Tensor, "b hidden"]
    reads: Float[Tensor, "b read word"]
    weights: Float[Tensor, "b read m"]
    memory: Float[Tensor, "b m word"]


class Trace(NamedTuple):
    """What all tokens did."""

    hidden: Float[Tensor, "b t hidden"]
    reads: Float[Tensor, "b t read word"]
    weights: Float[Tensor, "b t read m"] | None
    memories: Float[Tensor, "b t m word"] | None


class External(nn.Module, ABC, Generic[StateT]):
    """A memory beside a controller, one token after the other.

    Read points: `read` (b t read*word), `contribution` (b t d), `addressing` (b t read m: the weights of the reads),
    `state` (b t m word: the memory).
    """

    role: Role = "memory"

    def __init__(self, controller: Controller, n_read_values: int, output: Output) -> None:
        super().__init__()
        self.controller, self.output = controller, output
        d_model = controller.inputs.in_features
        self.out = nn.Linear(n_read_values + controller.hidden * (output != "reads"), d_model, bias=False)
        self.addressing = ReadPoint()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    @abstractmethod
    def init_state(self, batch: int) -> StateT:
        """The state before the first token."""

    @abstractmethod
    def token(self, projected: Float[Tensor, "b gates"], state: StateT, cell: Cell) -> tuple[Token, StateT]:
        """Control, write, read: the present token."""

    @abstractmethod
    def tokens(self, projected: Float[Tensor, "b t gates"], state: StateT, cell: Cell) -> tuple[Trace, StateT]:
        """All tokens, in the fastest way; weights and memories need not be formed."""

    def one_by_one(
        self, projected: Float[Tensor, "b t gates"], state: StateT, cell: Cell, *, seen: bool
    ) -> tuple[Trace, StateT]:
        """All tokens, each as `token`; weights and memories are kept only to be `seen`."""
        done = []
        for present in projected.unbind(1):
            token, state = self.token(present, state, cell)
            done.append(token if seen else token[:2])
        hidden, reads, *rest = (torch.stack(parts, dim=1) for parts in zip(*done, strict=True))
        weights, memories = rest or (None, None)
        return Trace(hidden, reads, weights, memories), state

    def step(self, x: Float[Tensor, "b d"], state: StateT) -> tuple[Float[Tensor, "b d"], StateT]:
        """One token, in constant time and memory."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(self, x: Float[Tensor, "b t d"], state: StateT | None = None) -> tuple[Float[Tensor, "b t d"], StateT]:
        """All tokens; what they give to the controller is computed at once.

        Half precision is computed in float32. What replaces an observed read, weight or memory acts on the output of
        its own token; the next one goes on from what was there. The last memory, if replaced, is returned.
        """
        wide = at_least_float32(x.dtype)
        given: StateT = self.init_state(x.shape[0]) if state is None else state
        seen = self.addressing.observed or self.state.observed
        with without_autocast(x):
            run = partial(self.one_by_one, seen=True) if seen else self.tokens
            projected, cell = self.controller.project(x.to(wide)), self.controller.cell(wide)
            trace, last = run(projected, in_dtype(given, wide), cell)
        reads = trace.reads
        if seen:
            assert trace.weights is not None
            assert trace.memories is not None
            weights, memories = self.addressing(trace.weights), self.state(trace.memories)
            reads = weights @ memories
            last = last._replace(memory=memories[:, -1].clone())  # pyright: ignore[reportAttributeAccessIssue]
        y = self.read(reads.flatten(2).to(x.dtype))
        if self.output != "reads":
            y = torch.cat([y, trace.hidden.to(x.dtype)], dim=-1)
        return self.contribution(self.out(y)), in_dtype(last, at_least_float32(self.out.weight.dtype))


def in_dtype(state: StateT, dtype: torch.dtype) -> StateT:
    """A state, nested or not, in another dtype."""
    parts = (part.to(dtype) if isinstance(part, Tensor) else in_dtype(part, dtype) for part in state)
    return type(state)(*parts)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """The recurrence chooses its precision itself, and mixed dtypes do not mix."""
    return torch.autocast(device_type=x.device.type, enabled=False)
