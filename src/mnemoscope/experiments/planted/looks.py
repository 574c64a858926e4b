"""What planted memories see of the past: hand-set, exact functions of the features, nothing of them trained.

A look is a causal function of `Features` and a window: how many tokens, the present one included, it may see.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Look = Callable[[Float[Tensor, "b t d"], int | None], Float[Tensor, "b t v"]]
"""`look(features, window)` is a read; a window of None is everything before."""


def features_of(tokens: Int[Tensor, "b t"], vocab_size: int) -> Float[Tensor, "b t d"]:
    """One-hot of the present token beside one-hot of the token before: what a short convolution would bind."""
    now = F.one_hot(tokens, vocab_size).float()
    return torch.cat([now, F.pad(now, (0, 0, 1, 0))[:, :-1]], dim=-1)


@dataclass(frozen=True)
class Recalled:
    """At a key, the code of the value that followed it, summed over all times it was seen; zero at any other token.

    `write` scales what is stored.
    """

    codes: Float[Tensor, "vocab v"]
    write: float = 1.0

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """Match the present token with the tokens before those that are seen."""
        n = len(self.codes)
        now, before = x.split(n, dim=-1)
        match = torch.einsum("btk,bsk->bts", now[..., 1 : n // 2], before[..., 1 : n // 2])
        age = torch.arange(x.shape[1]).unsqueeze(1) - torch.arange(x.shape[1])
        seen = (age >= 0) if window is None else (age >= 0) & (age < window)
        values = self.write * now * (torch.arange(n) >= n // 2)
        return (match * seen) @ values @ self.codes


@dataclass(frozen=True)
class LastValue:
    """The code of the newest value token."""

    codes: Float[Tensor, "vocab v"]

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """Zero before the first value, and where the newest stands before the window."""
        n, position = len(self.codes), torch.arange(x.shape[1])
        now = x[..., :n]
        is_value = now[..., n // 2 :].sum(-1) > 0
        newest = torch.where(is_value, position, -1).cummax(1).values
        seen = (newest >= 0) if window is None else (newest >= 0) & (position - newest < window)
        found = now.gather(1, newest.clamp_min(0)[..., None].expand_as(now))
        return (found * seen[..., None]) @ self.codes


@dataclass(frozen=True)
class TwoBefore:
    """The code of the token two steps ago; with `silent_at_keys`, zero where the present token is a key."""

    codes: Float[Tensor, "vocab v"]
    silent_at_keys: bool = False

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """Shift the one-hot of the token before by one more; a window below three sees nothing."""
        n = len(self.codes)
        found = F.pad(x[..., n:], (0, 0, 1, 0))[:, :-1]
        if self.silent_at_keys:
            found = found * (1 - x[..., 1 : n // 2].sum(-1, keepdim=True))
        return (found if window is None or window >= 3 else torch.zeros_like(found)) @ self.codes


@dataclass(frozen=True)
class FirstToken:
    """The code of the first token."""

    codes: Float[Tensor, "vocab v"]

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """The first token within the window."""
        position = torch.arange(x.shape[1])
        first = torch.zeros_like(position) if window is None else (position - window + 1).clamp_min(0)
        return x[:, first, : len(self.codes)] @ self.codes


@dataclass(frozen=True)
class Clock:
    """The code of the phase: every gap of two tokens is one step further, and after the last phase comes the first."""

    codes: Float[Tensor, "phases v"]

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """The same for every sequence; within a window it counts from the window's first token."""
        position = torch.arange(x.shape[1])
        counted = position if window is None else position.clamp_max(window - 1)
        return self.codes[counted // 2 % len(self.codes)].expand(len(x), -1, -1)


@dataclass(frozen=True)
class Noise:
    """A random direction of constant length for every history: content that nothing downstream can use."""

    directions: Float[Tensor, "n v"]
    vocab_size: int

    def __call__(self, x: Float[Tensor, "b t d"], window: int | None) -> Float[Tensor, "b t v"]:
        """The direction at the sum of all tokens, counted round."""
        total = (x[..., : self.vocab_size] @ torch.arange(self.vocab_size, dtype=x.dtype)).cumsum(1)
        if window is not None:
            total = total - F.pad(total, (window, 0))[:, : x.shape[1]]
        return self.directions[total.long() % len(self.directions)]
