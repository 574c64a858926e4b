"""Protocols of a memory. The examination relies on these and on nothing else of a model."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from torch import Tensor, nn

from mnemoscope.contracts.points import ReadPoint

Role = Literal["memory", "route"]
"""`memory`: what is on trial. `route`: what could replace it, such as attention over the raw sequence."""


def announced_role(module: nn.Module) -> Role | None:
    """The role of a module that holds a `ReadPoint` called `read`; None for any other module.

    A module that says nothing else is a memory; attention and other ways round a memory set `role = "route"`.
    """
    if not isinstance(dict(module.named_children()).get("read"), ReadPoint):
        return None
    match getattr(module, "role", "memory"):
        case "memory":
            return "memory"
        case "route":
            return "route"
        case other:
            raise ValueError(f"{type(module).__name__}.role must be one of {get_args(Role)}, got {other!r}")


@runtime_checkable
class Stateful(Protocol):
    """A causal map from (b, t, d) to (b, t, d) with an explicit state; both forms agree for any split."""

    def init_state(self, batch: int) -> Any:
        """The state before the first token, for `batch` sequences."""
        ...

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Parallel form: (b, t, d) -> (b, t, d) and the state after the last token."""
        ...

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Recurrence: (b, d) -> (b, d) and the next state."""
        ...

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Exact size in bytes of the state after `tokens` tokens."""
        ...

    def flops(self, batch: int, tokens: int) -> int:
        """Floating-point operations of the matrix products in `forward`; a multiply-add counts as two."""
        ...


@runtime_checkable
class Windowed(Protocol):
    """A memory that can answer as if only the last tokens had been written."""

    @property
    def reach(self) -> int | None:
        """How many tokens it can look back to, the present one included; None for all."""
        ...

    def windowed(self, x: Tensor, window: int) -> Tensor:
        """`forward(x)[0]`, each output with only the last `window` tokens (itself included) in memory."""
        ...


@runtime_checkable
class Recalling(Protocol):
    """A memory that can be read without being written to, as memory-as-a-context asks."""

    def init_recall(self, batch: int) -> Tensor:
        """What a recall carries from token to token (the last inputs of a convolution): before the first token."""
        ...

    def recall(self, x: Tensor, state: Any, tail: Tensor) -> tuple[Tensor, Tensor]:
        """What `state` holds for the tokens x (b, t, d), as (b, t, d), and the new tail; nothing is written."""
        ...

    def recall_flops(self, batch: int, tokens: int) -> int:
        """Floating-point operations of the matrix products in `recall`."""
        ...


@runtime_checkable
class Auxiliary(Protocol):
    """A module that minimises something of its own beside the task."""

    def auxiliary_loss(self, x: Tensor) -> Tensor:
        """What training adds to its loss, weighted, for the module's input x; a scalar, and a pure function."""
        ...


@runtime_checkable
class Slots(Protocol):
    """A memory of input-independent learned vectors."""

    def single_vector(self) -> Tensor:
        """The read (without batch and time axes) if every slot held the mean slot."""
        ...


@runtime_checkable
class Bank(Slots, Protocol):
    """Slots that can be seen, one vector each."""

    slots: Tensor


@runtime_checkable
class Settling(Protocol):
    """A memory in which a state settles, at every token, under a loop that is a contraction whatever the weights."""

    def certificate(self) -> float:
        """q: a step of the loop shrinks the distance of any two states by this or more."""
        ...

    def inner_map(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """A step of the loop for input x: a state for each token, of x's shape behind any axes, to the next."""
        ...


@runtime_checkable
class Collapsible(Protocol):
    """A bank that an energy shapes, and that may collapse to one vector."""

    def collapse_threshold(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Two scalars for the module's input x: a bank that is one vector stays so where the first is the smaller."""
        ...
