"""Several interventions in one forward pass: copies of the batch are stacked, each copy sees its own.

Only where rows do not see each other. A batch whose other rows change, and a batch that grows, must leave the losses of
a row as they are, and the first stack at every place is compared with its conditions one by one; otherwise, and for
interventions that call a module again, each condition runs alone. Losses agree with those of single runs to
`TOLERANCE`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mnemoscope.contracts import Batch
from mnemoscope.contracts.outputs import named_parts, with_parts
from mnemoscope.examination.interventions.reads import (
    Call,
    Constant,
    GateClamp,
    Intervention,
    PositionConstant,
    Resample,
    Zero,
)
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.losses import Scores, score
from mnemoscope.examination.subject.sites import Point

TOLERANCE = 1e-5
"""Of a loss, relative to the greater of it and 1 nat."""

MAX_STACKED_VALUES = 2**19
"""Values of the largest recorded tensor over all copies of a stack: more fill a processor core without company."""

OF_THE_VALUE_ALONE = (Constant, PositionConstant, Zero, Resample, GateClamp)
"""Interventions that need nothing but what the point produced on the rows of one copy."""


class Known(NamedTuple):
    """What is known of stacks: why there are none, whether rows were tried, and where a stack was compared."""

    alone: str | None
    tested: bool
    compared: frozenset[tuple[int, frozenset[Point]]]


class Batcher:
    """Runs conditions on a tape, as many at once as fit.

    Args:
        replayer: of the model.
        max_values: values that the largest recorded tensor may have over all copies; 1 for one condition at a time.
    """

    def __init__(self, replayer: Replayer, max_values: int = MAX_STACKED_VALUES) -> None:
        self.replayer, self.max_values = replayer, max_values
        self.alone: str | None = None
        self._tested = False
        self._compared: set[tuple[int, frozenset[Point]]] = set()

    @property
    def path(self) -> str:
        """Whether conditions share forward passes, for the record."""
        return "stacked where they fit" if self.alone is None else f"one condition at a time: {self.alone}"

    @property
    def known(self) -> "Known":
        """What it has found out about stacks by now."""
        return Known(self.alone, self._tested, frozenset(self._compared))

    def learn(self, known: "Known") -> None:
        """Take over what another one has found out, and nothing else."""
        self.alone, self._tested, self._compared = known.alone, known.tested, set(known.compared)

    @torch.no_grad()
    def run_many(self, tape: Tape, conditions: Sequence[Sequence[Edit]]) -> list[Scores]:
        """The scores of every condition, as `Replayer.run` gives them one by one."""
        found: dict[int, Scores] = {}
        for group in self._groups(tape, conditions):
            found |= dict(zip(group, self._together(tape, [conditions[i] for i in group]), strict=True))
        return [found[i] if i in found else self.replayer.run(tape, conditions[i]) for i in range(len(conditions))]

    def n_at_once(self, tape: Tape) -> int:
        """Copies that fit."""
        return self.max_values // tape.n_largest if tape.n_largest else 1

    def _groups(self, tape: Tape, conditions: Sequence[Sequence[Edit]]) -> list[list[int]]:
        """Conditions that begin at the same place and fit into one pass; those in no group run alone."""
        fit = self.n_at_once(tape)
        if fit < 2 or not self._may_stack(tape):
            return []
        by_place: dict[int, list[int]] = {}
        for i, edits in enumerate(conditions):
            began = tape.began(edits)
            if all(isinstance(edit.intervention, OF_THE_VALUE_ALONE) for edit in edits) and tape.ended_by(began):
                by_place.setdefault(began, []).append(i)
        cut = [group[i : i + fit] for group in by_place.values() for i in range(0, len(group), fit)]
        return [group for group in cut if len(group) > 1]

    def _may_stack(self, tape: Tape) -> bool:
        if not self._tested and self.replayer.unsafe is None and tape.calls:
            self.alone, self._tested = row_dependence(self.replayer, tape), True
        return self._tested and self.alone is None and self.replayer.unsafe is None

    def _together(self, tape: Tape, conditions: Sequence[Sequence[Edit]]) -> list[Scores]:
        """One pass over stacked copies; the first at a place beside the single runs, which win if they differ."""
        place = tape.began(conditions[0]), frozenset(edit.point for edits in conditions for edit in edits)
        if self.alone is None and place in self._compared:
            return self._stacked(tape, conditions)
        single = [self.replayer.run(tape, edits) for edits in conditions]
        if self.alone is None and self.replayer.unsafe is None:
            try:
                stacked = self._stacked(tape, conditions)
                agree = all(_agree(a.per_sequence, b.per_sequence) for a, b in zip(stacked, single, strict=True))
            except Exception as error:  # whatever a foreign model objects to in a batch of another size
                agree, self.alone = False, f"a stack of batches raises {type(error).__name__}"
            self._compared.add(place)
            self.alone = self.alone if agree else self.alone or "a stack of batches gives other losses"
        return single

    def _stacked(self, tape: Tape, conditions: Sequence[Sequence[Edit]]) -> list[Scores]:
        n, copies = len(tape.scores.per_sequence), len(conditions)
        calls = [
            replace(call, output=_repeated(call.output, n, copies)) for call in tape.ended_by(tape.began(conditions[0]))
        ]
        stack = Tape(_take_rows(tape.batch, torch.arange(n).repeat(copies), n), tape.scores, calls, tape.begins)
        points = dict.fromkeys(edit.point for edits in conditions for edit in edits)
        edits = [Edit(point, _Each.of(point, conditions)) for point in points]
        return _split(self.replayer.run(stack, edits), copies)


def row_dependence(replayer: Replayer, tape: Tape) -> str | None:
    """Why the rows of a batch cannot be told apart from their neighbours; None where they can.

    Half of the rows give way to copies of the first, the batch grows by as many copies, and the losses of what stayed
    must stay.
    """
    n = len(tape.scores.per_sequence)
    kept, first = torch.arange(n), torch.zeros(n, dtype=torch.int64)
    half = n // 2
    for what, rows in {
        "when other rows change": torch.cat([kept[:half], first[half:]]),
        "when other rows change, seen from the last": torch.cat([first[:half], kept[half:]]),
        "when the batch grows": torch.cat([kept, first]),
    }.items():
        try:
            batch = _take_rows(tape.batch, rows, n)
            replayer.restore_rng()
            losses = score(replayer.loss, replayer.model, batch).per_sequence
        except Exception as error:  # whatever a foreign model or loss objects to in another batch
            return f"another batch raises {type(error).__name__}: {error}"
        if not _agree(losses, tape.scores.per_sequence[rows.to(losses.device)]):
            return f"losses of a row change {what}"
    return None


@dataclass(frozen=True)
class _Each:
    """Each copy of the batch under its own interventions."""

    per_copy: tuple[tuple[Intervention, ...], ...]

    @classmethod
    def of(cls, point: Point, conditions: Sequence[Sequence[Edit]]) -> "_Each":
        """What every condition does at a point."""
        return cls(tuple(tuple(edit.intervention for edit in edits if edit.point == point) for edits in conditions))

    def apply(self, call: Call) -> Tensor:
        """Apply them copy by copy."""
        if call.value.shape[0] % len(self.per_copy):
            raise ValueError(f"a stack of {len(self.per_copy)} batches met a first axis of {call.value.shape[0]}")
        seen: list[Tensor] = []
        for value, interventions in zip(call.value.chunk(len(self.per_copy)), self.per_copy, strict=True):
            for intervention in interventions:
                value = intervention.apply(Call(None, (), {}, value))
            seen.append(value)
        return torch.cat(seen)


def _agree(one: Tensor, other: Tensor) -> bool:
    """Equal to the tolerance; what is not finite must be so in both."""
    if one.shape != other.shape:
        return False
    close = (one - other).abs() <= TOLERANCE * other.abs().clamp_min(1.0)
    return bool((close | (~torch.isfinite(one) & ~torch.isfinite(other))).all())


def _take_rows(batch: Any, rows: Int[Tensor, "m"], n: int) -> Any:
    """A batch of these rows of a batch of n."""

    def taken(value: Any) -> Any:
        if isinstance(value, (Tensor, np.ndarray)) and value.ndim and value.shape[0] == n:
            tensor = torch.as_tensor(value)
            return tensor[rows.to(tensor.device)]
        return value

    match batch:
        case Batch():
            about = {name: taken(values) for name, values in batch.about.items()}
            return replace(batch, inputs=taken(batch.inputs), targets=taken(batch.targets), about=about)
        case Tensor():
            return taken(batch)
        case Mapping():
            return {name: taken(value) for name, value in batch.items()}
        case _:
            raise ValueError(f"rows of a {type(batch).__name__} cannot be taken; use a Batch, a tensor or a dictionary")


def _repeated(output: Any, n: int, copies: int) -> Any:
    """A recorded output for a stack of batches: what has n rows is repeated, anything else is shared."""
    match output:
        case Tensor():
            shared = output.ndim == 0 or output.shape[0] != n
            return output if shared else output.repeat(copies, *[1] * (output.ndim - 1))
        case _ if named_parts(output):
            return with_parts(output, lambda name, value: _repeated(value, n, copies))
        case _:
            return output


def _split(scores: Scores, copies: int) -> list[Scores]:
    parts = [[None] * copies if column is None else column.chunk(copies) for column in scores]
    return [Scores(*part) for part in zip(*parts, strict=True)]
