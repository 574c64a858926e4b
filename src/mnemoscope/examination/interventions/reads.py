"""Interventions: pure functions from what a site produced to what the rest of the network sees."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mnemoscope.contracts import Windowed
from mnemoscope.contracts.outputs import first_tensor
from mnemoscope.examination.subject.adapters import reach_of
from mnemoscope.examination.subject.adapters.masking import can_mask, masked
from mnemoscope.examination.subject.calls import Call, Seen, called_again, sequence_of
from mnemoscope.examination.subject.held import held


@runtime_checkable
class Intervention(Protocol):
    """A pure function from a call to what the rest of the network sees in place of its value."""

    def apply(self, call: Call) -> Tensor:
        """What is seen; the value itself, for one that only observes."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same value for every sequence and position."""

    value: Shaped[Tensor, "..."]

    def apply(self, call: Call) -> Tensor:
        """Expand the constant to the shape of what was produced."""
        return self.value.to(call.value.dtype).expand_as(call.value)


@dataclass(frozen=True)
class PositionConstant:
    """A value for each position, the same for every sequence: what a clock could say, and the mean at each position."""

    values: Shaped[Tensor, "t ..."]

    def apply(self, call: Call) -> Tensor:
        """The same rows for every sequence.

        Raises:
            ValueError: where the sequences have another length than the values.
        """
        if call.value.shape[1:] != self.values.shape:
            raise ValueError(
                f"PositionConstant: a site must produce (b, {', '.join(map(str, self.values.shape))}), as its values "
                f"are, got {tuple(call.value.shape)}; use sequences of one length, or one Constant for all positions"
            )
        return self.values.to(call.value.dtype).expand_as(call.value)


@dataclass(frozen=True)
class Zero:
    """Zeros."""

    def apply(self, call: Call) -> Tensor:
        """Zeros of the same shape."""
        return torch.zeros_like(call.value)


@dataclass(frozen=True)
class Resample:
    """What the site produced on another sequence of the batch: the one `shift` rows before."""

    shift: int = 1

    def apply(self, call: Call) -> Tensor:
        """Roll the batch."""
        return call.value.roll(self.shift, dims=0)


@dataclass(frozen=True)
class GateClamp:
    """Values kept within bounds, for a gate; equal bounds fix it, at 0 shut and at 1 open.

    A floor that the module adds after its `gate` point stays.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(
                f"GateClamp: low must be at most high, got {self.low} and {self.high}; equal bounds fix the gate"
            )

    def apply(self, call: Call) -> Tensor:
        """Clamp."""
        return call.value.clamp(self.low, self.high)


@dataclass(frozen=True)
class BranchOff:
    """The module's own input passes through: a layer that adds to its input adds nothing.

    Where a point holds only what is added (a contribution, the output of a mixer) the branch is off with `Zero`. A
    layer whose output holds the residual stream as well, as those of Hugging Face models do, would lose the stream
    with zeros.
    """

    def apply(self, call: Call) -> Tensor:
        """What went in.

        Raises:
            ValueError: for a tap, and for a module whose output is not shaped like its input.
        """
        if call.module is None:
            raise ValueError("BranchOff: a tap has no input to pass through; use Zero at its contribution")
        x = window_input(call)
        if x.shape != call.value.shape:
            raise ValueError(
                f"BranchOff: the module must return the shape of its input {tuple(x.shape)}, got "
                f"{tuple(call.value.shape)}; use Zero where the point holds only what is added"
            )
        return x


@dataclass(frozen=True)
class WithoutDirections:
    """The part of a vector that lies along some directions is replaced by that of the mean."""

    mean: Float[Tensor, "d"]
    basis: Float[Tensor, "d k"]

    def apply(self, call: Call) -> Tensor:
        """Project the deviation from the mean; the basis is orthonormal."""
        basis = self.basis.to(call.value.dtype)
        return call.value - (call.value - self.mean.to(call.value.dtype)) @ basis @ basis.T


@dataclass(frozen=True)
class Window:
    """Keep only the last `tokens` tokens in memory; `offset` is a constant in place of what the rest contributed."""

    tokens: int
    offset: Shaped[Tensor, "..."] | None = None

    def apply(self, call: Call) -> Tensor:
        """Ask the memory itself where it can answer, mask attention, else run it on unfolded windows of its input."""
        if call.module is None:
            raise ValueError("a tap has no module to run on a window; announce the memory by read points instead")
        if isinstance(call.module, Windowed):
            output = call.module.windowed(window_input(call), self.tokens)
        elif can_mask(call.module):
            output = masked(call, self.tokens)
        else:
            output = unfolded(call, self.tokens)
        return output if self.offset is None else output + self.offset.to(output.dtype)


def reach(module: nn.Module) -> int | None:
    """How many tokens a module looks back to, the present one included; None for all, or where nobody can say."""
    return module.reach if isinstance(module, Windowed) else reach_of(module)


def window_input(call: Call) -> Float[Tensor, "b t d"]:
    """The sequence a module was called with.

    Raises:
        ValueError: where other tensors were passed that are not known to belong to its tokens.
    """
    return sequence_of(call)


MAX_UNFOLDED_VALUES = 2**24


def unfolded(call: Call, window: int) -> Float[Tensor, "b t *out"]:
    """Outputs of a causal module when each position is given its own window of the input and nothing before it.

    Masks, position numbers and position embeddings are cut with their tokens.
    """
    x = window_input(call)
    n_rows, n_tokens, width = x.shape
    head = run_again(call, x[:, :window])
    if window >= n_tokens:
        return head
    n_after = n_tokens - window
    windows = x.unfold(1, window, 1)
    within = torch.arange(window, device=x.device)
    rest: list[Tensor] = []
    for index in torch.arange(n_rows * n_after, device=x.device).split(max(1, MAX_UNFOLDED_VALUES // (window * width))):
        rows, starts = index // n_after, index % n_after + 1
        seen = Seen(rows, starts[:, None] + within)
        rest.append(run_again(call, windows[rows, starts].movedim(-1, 1), seen)[:, -1])
    return torch.cat([head, torch.cat(rest).unflatten(0, (n_rows, n_after))], dim=1)


def run_again(call: Call, x: Float[Tensor, "b t d"], seen: Seen | None = None) -> Float[Tensor, "b t *out"]:
    """The module on another input, called as it was called; its hooks stay out of it.

    `seen` says which tokens x holds, where these are not the first ones of the same rows and the module is told
    something about each token.
    """
    assert call.module is not None
    with held(call.module):
        return first_tensor(called_again(call, x, seen), call.part)
