"""Token by token: what the loss of one sequence would be without the content of each memory.

The read is replaced as the examination does it, by default by the one vector that costs least on calibration
sequences; zeros put a network where it has never been and overstate what a memory is worth. A single sequence decides
nothing: it shows where the effect of an examination comes from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.reads import Constant, PositionConstant
from mnemoscope.examination.protocol.calibration import ALL_MEMORIES
from mnemoscope.examination.protocol.conditions import Fitted, Moments, removal_of_memory
from mnemoscope.examination.protocol.traced import observe
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss, Scores, score
from mnemoscope.examination.subject.plain import original, remarks
from mnemoscope.examination.subject.points import Site
from mnemoscope.examination.subject.sites import find_sites
from mnemoscope.runs.trace import Replacement, TracedSite

N_OTHERS = 8
"""Other sequences whose reads stand in, with `resample`."""

TRACE_BUDGET = Budget(n_calibration=128, fit_steps=150, joint_fit_steps=60)

Told = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One sequence of t tokens: its losses, None where nothing is scored, and every site.

    `lengths` are those of the sequences that calibrate, `n_calibration` is how many there were.
    """

    losses: list[float | None]
    sites: list[TracedSite]
    n_calibration: int
    lengths: tuple[int, ...]
    warnings: list[str]


def trace_model(
    model: nn.Module,
    batch: Any,
    calibration: Sequence[Any],
    *,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
    replaced_by: Replacement = "optimal_constant",
    budget: Budget = TRACE_BUDGET,
    told: Told = lambda what: None,
) -> Traced:
    """Losses of one sequence with and without every memory; the model comes back exactly as it was.

    Args:
        model: any module.
        batch: of one sequence.
        calibration: batches of other sequences, at least two, on which replacements are fitted.
        loss: one that knows positions; None for next-token cross-entropy.
        sites: path patterns of memories; None for every announced one (see `examine`).
        replaced_by: what stands in place of a read.
        budget: `n_calibration`, `fit_steps`, `joint_fit_steps` and `seed` count.
        told: hears what is being done.

    Raises:
        ValueError: no memory, no losses by position, too few calibration sequences, or (`resample`) shorter ones.
    """
    loss = loss or NextTokenLoss()
    if len(calibration) < 2:
        raise ValueError(f"trace: at least 2 batches of other sequences must calibrate, got {len(calibration)}")
    notes, model = remarks(model), original(model)
    with torch.inference_mode(False), intact(model) as held:
        with torch.no_grad():
            found = find_sites(model, lambda: score(loss, model, calibration[0]), sites, ())
        points = [site.loci["read"] for site in found.memories]
        work = _Work(Replayer(model, loss, points, held), found.memories, calibration, replaced_by, budget)
        tape = work.replayer.record(batch)
        own = _of_one(tape.scores)
        without = {name: work.without(tape, names, told) for name, names in _players(found.memories).items()}
        told("looking at what is written and read")
        seen = observe(model, loss, batch, len(own), found.memories)
        warnings = [*notes, *found.remarks, *work.replayer.remarks]
    return Traced(
        losses=own,
        sites=[
            TracedSite(name=name, losses=losses, **vars(seen[name]))
            if name in seen
            else TracedSite(name=name, losses=losses, members=[site.name for site in found.memories])
            for name, losses in without.items()
        ],
        n_calibration=work.n_calibration,
        lengths=work.lengths,
        warnings=warnings,
    )


def _players(memories: Sequence[Site]) -> dict[str, list[str]]:
    """Every memory, and where there are several, all of them together."""
    names = [site.name for site in memories]
    return {name: [name] for name in names} | ({ALL_MEMORIES: names} if len(names) > 1 else {})


class _Work:
    """Replacements of the reads of every site, fitted when they are first asked for."""

    def __init__(
        self,
        replayer: Replayer,
        memories: Sequence[Site],
        calibration: Sequence[Any],
        replaced_by: Replacement,
        budget: Budget,
    ) -> None:
        self.replayer, self.replaced_by = replayer, replaced_by
        self.points = {site.name: site.loci["read"] for site in memories}
        moments = {point: Moments(point) for point in self.points.values()}
        tapes: list[Tape] = []
        self.others: list[dict[str, Tensor]] = []
        for batch in calibration:
            tape = replayer.record(batch, keep=tuple(moments))
            for seen in moments.values():
                seen.see(tape)
            self._keep_others(tape)
            tape.values.clear()
            tapes.append(tape)
        self.profiles = {point: seen.profile() for point, seen in moments.items()}
        players = {site.name: [removal_of_memory(site, self.profiles)] for site in memories}
        self.fitted = Fitted(replayer, tapes, players, budget)
        self.n_calibration = sum(len(tape.scores.per_sequence) for tape in tapes)
        self.lengths = tuple(sorted({profile.n_tokens for profile in self.profiles.values()}))

    def without(self, tape: Tape, names: Sequence[str], told: Told) -> list[float | None]:
        """Losses by position of a recorded sequence, without the content of these sites."""
        told(f"without {names[0] if len(names) == 1 else 'all memories'}")
        match self.replaced_by:
            case "optimal_constant":
                conditions = [self.fitted.edits(frozenset(names))]
            case "mean":
                conditions = [[self._mean(name) for name in names]]
            case _:
                conditions = [[self._other(name, reads) for name in names] for reads in self.others]
        with torch.no_grad():
            found = torch.stack([_per_token(self.replayer.run(tape, edits)) for edits in conditions])
        return _numbers(found.mean(0))

    def _mean(self, name: str) -> Edit:
        point = self.points[name]
        return Edit(point, Constant(self.profiles[point].mean))

    def _keep_others(self, tape: Tape) -> None:
        if self.replaced_by == "resample" and len(self.others) < N_OTHERS:
            values = {name: tape.values[point] for name, point in self.points.items()}
            n = min(len(tape.scores.per_sequence), N_OTHERS - len(self.others))
            self.others += [{name: calls[0][i].clone() for name, calls in values.items()} for i in range(n)]

    def _other(self, name: str, reads: dict[str, Tensor]) -> Edit:
        return Edit(self.points[name], _AsLong(reads[name]))


@dataclass(frozen=True)
class _AsLong:
    """What a site produced on another sequence, at the same positions."""

    values: Float[Tensor, "t ..."]

    def apply(self, call: Any) -> Tensor:
        """As many of its positions as there are tokens."""
        n_tokens = call.value.shape[1]
        if len(self.values) < n_tokens:
            raise ValueError(
                f"trace: resample takes the reads of other sequences at the same positions, and these have "
                f"{len(self.values)} tokens, this one {n_tokens}; trace fewer, or use another replacement"
            )
        return PositionConstant(self.values[:n_tokens]).apply(call)


def _per_token(scores: Scores) -> Float[Tensor, "t"]:
    if scores.per_token is None or scores.per_token.ndim != 2:
        raise ValueError("trace: the loss must know positions (see ScoringLoss), got one value per sequence")
    if len(scores.per_token) != 1:
        raise ValueError(f"trace: one sequence is traced, got a batch of {len(scores.per_token)}; give one row")
    return in_float64(scores.per_token[0]).cpu()


def _of_one(scores: Scores) -> list[float | None]:
    return _numbers(_per_token(scores))


def _numbers(values: Float[Tensor, "t"]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
