"""What the last query of a window looks at: its weight on every earlier token, per head, and shares of these profiles.

    profile[h, i]     mean over windows of w(q_T, k_i), i < T; a token's weight on itself is left out
    flat              1 / (T - 1) on each

The weights are those that the mechanism reads with: all but the last token are read at once, the last as one step, and
the read point `addressing` is watched meanwhile.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), figures 12, 13 and 15.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.memories.attention import Attention
from mnemoscope.memories.contextual import Contextual
from mnemoscope.models import Model
from mnemoscope.models.mosaic import Mosaic

CHUNK = 32
FIRST, RECENT = 4, 16
ENDS = (1, 4, 8, 16)
"""Where the bins of a picture end, from either end of a profile."""


@torch.no_grad()
def last_profile(model: Model, tokens: Int[Tensor, "b t"]) -> Float[np.ndarray, "h t1"]:
    """Mean over windows of the last token's weights on the tokens before it.

    Args:
        model: of one block, whose mixer is attention or a contextual memory without a null pair.
        tokens: at least two a window.

    Returns:
        Non-negative numbers that add up to at most 1 for each head; what attention is missing is on the token itself.

    Raises:
        ValueError: another model, or windows of one token.
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"last_profile: needs windows of at least 2 tokens, got {tokens.shape[1]}")
    point, device, total = addressing_of(model), input_device(model), torch.zeros(())
    # Either model takes back what it gave.
    going: Any = model
    for part in tokens.split(CHUNK):
        part = part.to(device)
        _, state = going.prefill(part[:, :-1])
        with _watching(point) as seen:
            going.step(part[:, -1], state)
        total = total + seen[0][:, :, -1, : tokens.shape[1] - 1].double().sum(0).cpu()
    return (total / len(tokens)).numpy()


@contextmanager
def _watching(point: ReadPoint) -> Iterator[list[Tensor]]:
    seen = list[Tensor]()

    def keep(module: nn.Module, inputs: Any, weights: Tensor) -> None:
        seen.append(weights)

    handle = point.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def addressing_of(model: Model) -> ReadPoint:
    """Where the weights of a one-block model can be watched.

    Raises:
        ValueError: more blocks, or a mixer without such weights over the tokens before.
    """
    mixer = next(iter(model.blocks)).contextual if isinstance(model, Mosaic) else next(iter(model.blocks)).mixer
    null = isinstance(mixer, Contextual) and mixer.config.start == "learned"
    if len(model.blocks) > 1 or null or not isinstance(mixer, Attention | Contextual):
        raise ValueError(
            f"last_profile: needs one block of attention or of a contextual memory that starts from zeros, got "
            f"{len(model.blocks)} of {type(mixer).__name__}; build one of these with n_layers=1"
        )
    return mixer.addressing


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Where the weight of each head is, arrays of shape (h,).

    Args:
        first: on the first token.
        first_four: on the first four.
        recent: on the last 16 before the query.
        uneven: of the tokens between, the standard deviation over places of weight / flat. As the product of two
            halves of the windows, it is free of what the chance of these windows adds; 0 is flat.
        far: on tokens farther back than the training length; 0 where there are none.
    """

    first: Float[np.ndarray, "h"]
    first_four: Float[np.ndarray, "h"]
    recent: Float[np.ndarray, "h"]
    uneven: Float[np.ndarray, "h"]
    far: Float[np.ndarray, "h"]

    def means(self) -> dict[str, float]:
        """Over heads."""
        return {name: float(values.mean()) for name, values in vars(self).items()}


def shares(halves: Float[np.ndarray, "two h t1"], trained_length: int) -> Shares:
    """Shares of the mean of two profiles.

    Args:
        halves: of different windows, as many in each; see `last_profile`.
        trained_length: tokens of a window in training.

    Raises:
        ValueError: a profile of so few tokens that nothing is between the first and the recent ones.
    """
    profile, n = halves.mean(0), halves.shape[2]
    if n <= FIRST + RECENT:
        raise ValueError(f"shares: needs a profile over more than {FIRST + RECENT} tokens, got {n}")
    between = halves[:, :, FIRST:-RECENT]
    first, second = between / between.mean(2, keepdims=True) - 1
    return Shares(
        first=profile[:, 0],
        first_four=profile[:, :FIRST].sum(1),
        recent=profile[:, -RECENT:].sum(1),
        uneven=np.sqrt(np.maximum((first * second).mean(1), 0)),
        far=profile[:, : max(0, n + 1 - trained_length)].sum(1),
    )


def bins(n: int, n_between: int = 12) -> list[tuple[int, int]]:
    """Ranges of positions that show both ends of a profile over `n` tokens finely: from, and up to without."""
    inner = np.linspace(ENDS[-1], n - ENDS[-1], n_between + 1).round().astype(int).tolist()
    edges = [0, *ENDS[:-1], *inner, *(n - end for end in reversed(ENDS[:-1])), n]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]


def bin_names(ranges: Sequence[tuple[int, int]]) -> list[str]:
    """Their positions, from 0."""
    return [f"{start}" if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in ranges]


def doublings(profile: Float[np.ndarray, "h t1"]) -> Float[np.ndarray, "h bins"]:
    """log2 of the mean weight in each of `bins`, over flat: 0 is flat, 1 twice that; -10 at least."""
    n = profile.shape[1]
    binned = np.stack([profile[:, start:stop].mean(1) for start, stop in bins(n)], axis=1)
    return np.log2(np.maximum(binned * n, 2.0**-10))
