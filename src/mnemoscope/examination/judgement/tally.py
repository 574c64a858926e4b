"""What the test pass leaves: per-sequence losses of every condition, for all positions and for every subset."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mnemoscope.examination.judgement.subsets import ALL, Subset, marked
from mnemoscope.examination.subject.losses import Scores

Key = tuple[str, ...]
"""The name of a condition; () is the model as it is."""

Losses = NDArray[np.float64]


class Seen(NamedTuple):
    """What is kept of a batch.

    `losses` are by subset and condition, `tokens` those of every position; `members` says of every subset how many
    scored positions belong to it, of how many.
    """

    losses: dict[str, dict[Key, Float[Tensor, "b"]]]
    tokens: dict[Key, Float[Tensor, "b t"]]
    members: dict[str, tuple[int, int]]


class Tally:
    """Losses batch by batch.

    Args:
        subsets: what else to average over, by name.
        with_curves: keep the losses of every position for the plain model and for removals.
    """

    def __init__(self, subsets: Mapping[str, Subset], with_curves: bool = True) -> None:
        self.subsets, self.with_curves = dict(subsets), with_curves
        self.n_batches = 0
        self._parts: dict[str, dict[Key, list[Tensor]]] = {name: {} for name in (ALL, *subsets)}
        self._tokens: dict[Key, list[Tensor]] = {}
        self._members: dict[str, list[tuple[int, int]]] = {name: [] for name in subsets}

    def see(self, batch: Any, scores: Mapping[Key, Scores]) -> None:
        """Take in a batch: the scores of every condition, () among them."""
        self.add(self.reduced(batch, scores))

    def reduced(self, batch: Any, scores: Mapping[Key, Scores]) -> Seen:
        """What is kept of a batch; nothing is taken in."""
        plain = scores[()]
        masks = {name: self._mask(name, batch, plain) for name in self.subsets}
        losses = {ALL: {key: found.per_sequence.detach().cpu().double() for key, found in scores.items()}}
        for name, mask in masks.items():
            losses[name] = {key: _mean_over(found, mask) for key, found in scores.items()}
        tokens = {
            key: found.per_token.detach().cpu()
            for key, found in scores.items()
            if self.with_curves and found.per_token is not None and (not key or key[0] == "off")
        }
        scored = None if plain.per_token is None else ~torch.isnan(plain.per_token.cpu())
        members = (
            {}
            if scored is None
            else {name: (int((mask & scored).sum()), int(scored.sum())) for name, mask in masks.items()}
        )
        return Seen(losses, tokens, members)

    def add(self, seen: Seen) -> None:
        """Take in what is kept of a batch."""
        for name, losses in seen.losses.items():
            for key, values in losses.items():
                self._parts[name].setdefault(key, []).append(values)
        for key, values in seen.tokens.items():
            self._tokens.setdefault(key, []).append(values)
        for name, counts in seen.members.items():
            self._members[name].append(counts)
        # Last, so that a batch in whose middle someone interrupts does not count.
        self.n_batches += 1

    def _mask(self, name: str, batch: Any, plain: Scores) -> Tensor:
        n, n_positions = len(plain.per_sequence), None if plain.per_token is None else plain.per_token.shape[1]
        return marked(self.subsets[name], name, batch, n, n_positions)

    @property
    def n_sequences(self) -> int:
        """Sequences of a batch, on average."""
        return sum(map(len, self._parts[ALL][()][: self.n_batches])) // self.n_batches

    def forget(self, key: Key) -> None:
        """Leave a condition out, what was seen of it before included."""
        for parts in self._parts.values():
            parts.pop(key, None)
        self._tokens.pop(key, None)

    def losses(self, subset: str = ALL) -> dict[Key, Losses]:
        """Losses by condition, of the sequences that hold a position of the subset."""
        gathered = {key: torch.cat(parts[: self.n_batches]).numpy() for key, parts in self._parts[subset].items()}
        if subset == ALL or not gathered:
            return gathered
        belongs = ~np.isnan(gathered[()])
        return {key: losses[belongs] for key, losses in gathered.items()}

    def belonging(self, subset: str) -> NDArray[np.bool_]:
        """Which test sequences hold a position of the subset."""
        return ~np.isnan(torch.cat(self._parts[subset][()][: self.n_batches]).numpy())

    def share(self, subset: str) -> float | None:
        """The part of all scored positions that belongs to the subset; None where the loss knows no positions."""
        counts = self._members.get(subset)
        total = sum(n for _, n in counts or ())
        return sum(n for n, _ in counts or ()) / total if total else None

    def curves(self) -> dict[Key, Tensor]:
        """Losses of every position (n, t), NaN where nothing is scored; empty where lengths differ."""
        if len({part.shape[1] for part in self._tokens.get((), [])}) != 1:
            return {}
        return {key: torch.cat(parts[: self.n_batches]) for key, parts in self._tokens.items()}


def _mean_over(scores: Scores, mask: Tensor) -> Tensor:
    """Mean loss over the marked and scored positions of each sequence; NaN for a sequence without one."""
    if scores.per_token is None:
        return scores.per_sequence.detach().cpu().double().masked_fill(~mask[:, 0], torch.nan)
    nats = scores.per_token.detach().cpu().double()
    counted = mask & ~torch.isnan(nats)
    return nats.nan_to_num().mul(counted).sum(1).div(counted.sum(1))
