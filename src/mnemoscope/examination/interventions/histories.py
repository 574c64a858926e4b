"""Interventions on what a memory has seen: another run's history, or nothing written after some token.

Both edit the state without knowing it: a causal module's state is a function of the inputs before, so the module is run
again on inputs that lead to the state wanted. What follows sees the changed outputs, so the edit propagates. Other
layers, their caches and convolutions stay at their own run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.examination.interventions import reads
from mnemoscope.examination.interventions.reads import run_again, window_input
from mnemoscope.examination.subject.calls import Call, Seen


@dataclass(frozen=True)
class HistorySwap:
    """From token `at` on, the state is another run's; before it, nothing changes.

        y_p = module([donor_0 .. donor_{at-local-1}, x_{at-local} .. x_p])   for p >= at

    With `local` 0 this is the exchange of the whole state before token `at`, the tail of a short convolution
    included. With `local` the kernel size less one that tail stays the module's own, and so do the writes of those
    tokens. What the module is told of its tokens besides (masks, positions) stays its own.

    Args:
        donor: the module's inputs in the other run; or how many rows of the batch before stands the sequence whose
            history is taken (as in `Resample`).
        at: first token that sees the other history.
        local: tokens before `at` that stay its own.
    """

    donor: Float[Tensor, "b t d"] | int
    at: int
    local: int = 0

    def __post_init__(self) -> None:
        if self.local < 0 or self.at <= self.local:
            raise ValueError(
                f"HistorySwap: at must be more than local, and local at least 0, got at {self.at} and local "
                f"{self.local}; otherwise nothing of the other history is seen"
            )

    def apply(self, call: Call) -> Tensor:
        """Run the module on the other history and its own tokens; only a causal module can be asked."""
        _require_module(call, "HistorySwap")
        x = window_input(call)
        donor = x.roll(self.donor, dims=0) if isinstance(self.donor, int) else self.donor
        foreign = self.at - self.local
        if donor.shape[0] != x.shape[0] or donor.shape[2:] != x.shape[2:] or not foreign <= donor.shape[1]:
            raise ValueError(
                f"HistorySwap: donor must be ({x.shape[0]}, at least {foreign}, {x.shape[2]}), got "
                f"{tuple(donor.shape)}; take the module's inputs from a run on a batch of the same shape"
            )
        _require_reached("HistorySwap", self.at, x)
        again = run_again(call, torch.cat([donor[:, :foreign].to(x), x[:, foreign:]], dim=1))
        return torch.cat([call.value[:, : self.at], again[:, self.at :]], dim=1)


@dataclass(frozen=True)
class WriteFreeze:
    """Nothing is written after the first `at` tokens: later ones only read, and see but themselves and local tokens.

        y_p = module([x_0 .. x_{at-1}, x_{p-local+1} .. x_p])   for p >= at + local, unchanged before

    With `local` 1 a stateful module takes every step from the state after `at` tokens, its count of tokens included:
    a module that counts positions itself takes each later token to be the next. Exact, at the price of one sequence of
    `at + local` tokens per position, run in pieces of at most `reads.MAX_UNFOLDED_VALUES` values.

    Args:
        at: tokens that are written.
        local: last tokens that each position sees besides, itself included: what a short convolution needs.
    """

    at: int
    local: int = 1

    def __post_init__(self) -> None:
        if self.local < 1 or self.at < 0:
            raise ValueError(
                f"WriteFreeze: local must be at least 1 (a token sees itself) and at at least 0, got local "
                f"{self.local} and at {self.at}"
            )

    def apply(self, call: Call) -> Tensor:
        """Run the module once for every position after; only a causal module can be asked."""
        _require_module(call, "WriteFreeze")
        x = window_input(call)
        _require_reached("WriteFreeze", self.at, x)
        first = self.at + self.local
        if first >= x.shape[1]:
            return call.value
        rest = [run_again(call, part, seen)[:, -1] for part, seen in self._sequences(x)]
        after = torch.cat(rest).unflatten(0, (len(x), x.shape[1] - first))
        return torch.cat([call.value[:, :first], after], dim=1)

    def _sequences(self, x: Float[Tensor, "b t d"]) -> Iterator[tuple[Float[Tensor, "m w d"], Seen]]:
        """What each position sees, row after row, as many at a time as the limit allows."""
        first, (n_rows, n_tokens, width) = self.at + self.local, x.shape
        written = torch.arange(self.at, device=x.device)
        local = torch.arange(1 - self.local, 1, device=x.device)
        at_once = max(1, reads.MAX_UNFOLDED_VALUES // (first * width))
        for index in torch.arange(n_rows * (n_tokens - first), device=x.device).split(at_once):
            rows, now = index // (n_tokens - first), index % (n_tokens - first) + first
            positions = torch.cat([written.expand(len(index), -1), now[:, None] + local], dim=1)
            yield x[rows[:, None], positions], Seen(rows, positions)


def _require_module(call: Call, name: str) -> None:
    if call.module is None:
        raise ValueError(f"{name}: a tap has no module to run again; announce the memory by read points instead")


def _require_reached(name: str, at: int, x: Float[Tensor, "b t d"]) -> None:
    if at >= x.shape[1]:
        raise ValueError(f"{name}: at must be one of the {x.shape[1]} tokens of a sequence (from 0), got {at}")
