"""Carried states: a long sequence is read in pieces, a step each, and the memory goes on from piece to piece (R8).

What it does: with P pieces, step s (from 0) sees piece s mod P of the batch of step s // P, from the state that the
piece before has left. The state is detached: gradients stay within a piece (truncated backpropagation through time).
At the beginning of a piece every row is reset with the probability `reset` and then starts from nothing, as does the
first piece of a batch unless `across` (state passing), under which a row goes on from the sequence of an earlier batch.
Evaluations are of whole sequences from an empty memory.

A row that was reset is computed as a fresh one to the last digit: rows whose states differ in what rows share, such as
a count of tokens, are run in calls of their own.

    batch 1 | piece 1 -> piece 2 -> piece 3        batch 2 | piece 1 -> piece 2 -> piece 3
                                            `-- across --->

Why: a state that never grows full in training is never forgotten from, and what stands beyond the trained length is
then unlike anything seen. Pieces reach lengths whose graph would not fit; states that are passed on start training from
all the states that a model meets later, at the cost of short sequences.

Published effect: recurrent models generalise beyond their trained length after a short further training from states
that were passed on (Buitrago Ruiz and Gu, arXiv 2507.02782); the trained length from which on models learn to forget
grows linearly with their state (Chen et al., "Stuffed Mamba", arXiv 2410.07145). Nothing was measured here for it.

Known problems: what a piece wrote gets no gradient from later ones, so a task whose answers lie beyond a piece is not
learnt from this alone; pieces without a scored target are refused. Under `reset` within a sequence some rows are asked
for what they were made to forget. Rows of many ages make many small calls, where states hold counts (windowed
attention). Remedies that look at one call with the whole batch (reconstruction, prediction) refuse such steps.

Example: `Carried(pieces=4)` for pieces of a long text, `Carried(pieces=1, across=True, reset=0.5)` for state passing.

Source: decorative-memory specification, R8; truncated backpropagation through time is Williams and Peng (1990).
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.models import Stack
from mnemoscope.training.batches import draw
from mnemoscope.training.lessons.carrying import States
from mnemoscope.training.lessons.lesson import Course, Lesson, LessonConfig
from mnemoscope.training.loss import is_scored
from mnemoscope.training.remedies import Computed

RESET = 3
"""Stream of random numbers beside those of the data."""

MULTIPLES = (Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))


def lengths_to_try(*, n_heads: int, key_width: int, value_width: int, d_model: int) -> tuple[int, ...]:
    """Lengths to train on, ascending: 1/4, 1/2, 1, 2 and 4 times K H V / d, the numbers of a state by those of a token.

    Try them in this order, and take the first after which the state is healthy beyond the trained length: it neither
    grows nor does the loss rise there. Shorter ones teach no forgetting; the length from which on it is learnt grows
    linearly with the state.

    Args:
        n_heads: H.
        key_width: K, channels of a key.
        value_width: V, channels of a value.
        d_model: d, channels of a token.

    Returns:
        whole lengths, at least 1, each once; rounded up.

    Raises:
        ValueError: a width or number below 1.

    Source: decorative-memory specification, R8, after Chen et al., "Stuffed Mamba" (arXiv 2410.07145).
    """
    given = {"n_heads": n_heads, "key_width": key_width, "value_width": value_width, "d_model": d_model}
    for name, value in given.items():
        if value < 1:
            raise ValueError(f"lengths_to_try: {name} must be at least 1, got {value}; take it from the memory")
    tokens = Fraction(key_width * n_heads * value_width, d_model)
    return tuple(sorted({max(1, -(-(part * tokens) // 1)) for part in MULTIPLES}))


@dataclass(frozen=True, kw_only=True)
class Carried(LessonConfig):
    """Settings.

    Args:
        pieces: of a sequence, at least 1; as equal as its length allows, the first ones longer.
        reset: probability, in [0, 1], that a row starts anew at the beginning of a piece.
        across: go on from one batch to the next.
    """

    kind: Literal["carried"] = "carried"
    pieces: int = 4
    reset: float = 0.0
    across: bool = False

    def __post_init__(self) -> None:
        if self.pieces < 1 or (self.pieces == 1 and not self.across):
            raise ValueError(
                f"Carried.pieces: must be at least 2, or 1 with across=True, got {self.pieces}; nothing is carried "
                "within one piece"
            )
        if not 0 <= self.reset <= 1:
            raise ValueError(f"Carried.reset: is a probability, in [0, 1], got {self.reset}")

    def begin(self, course: Course) -> "CarriedLesson":
        """On models that are read piece by piece, and tasks of sequences as long as there are pieces.

        Raises:
            ValueError: a model or task that is not so; across batches, a state that grows with every token.
        """
        return CarriedLesson(self, course)


class Group(NamedTuple):
    """Rows of a batch that stand in one state."""

    rows: Int[Tensor, "rows"]
    state: Any


class CarriedLesson(Lesson):
    """One piece a step; the states in which it has left the rows."""

    def __init__(self, settings: Carried, course: Course) -> None:
        super().__init__(course)
        self.settings, self.states = settings, States(course.model, "Carried")
        self._groups: list[Group] = []
        length = course.task.length
        if length < settings.pieces:
            raise ValueError(
                f"Carried.pieces: must be at most {length}, the length of the task's sequences, got {settings.pieces}"
            )
        if settings.across and settings.reset < 1 and self.states.grows():
            raise ValueError(
                "Carried.across: the model's state grows with every token (attention without a window keeps them all), "
                "and would never end; give attention a window, or use across=False"
            )

    def forward(self, step: int) -> Computed:
        """The loss of the step's piece, from the states that the piece before has left."""
        config, (batch, piece) = self.course.config, divmod(step - 1, self.settings.pieces)
        drawn = draw(self.course.task, config.seed, "train", batch + 1, config.batch_size)
        inputs, targets = (torch.tensor_split(part, self.settings.pieces, dim=1)[piece] for part in drawn)
        if not is_scored(targets).any():
            raise ValueError(
                f"Carried.pieces: piece {piece + 1} of {self.settings.pieces} has no scored target, and nothing is "
                "learnt of it; use fewer pieces, or a task that is scored everywhere"
            )
        if piece == 0 and not self.settings.across:
            self._groups = []
        before, after = self._begun(step, len(inputs)), list[list[Group]]()

        def run(tokens: Tensor) -> Float[Tensor, "b t vocab"]:
            logits, left = self._read(tokens, before)
            after.append(left)
            return logits

        computed = self.course.compute(inputs, targets, run)
        self._groups = self._merged(after[0])
        return computed

    def figures(self, computed: Computed) -> dict[str, float]:
        """Those of the task, and the calls that a step needed."""
        return super().figures(computed) | {"lesson.states": float(len(self._groups))}

    def state(self) -> dict[str, Tensor]:
        """Rows and states of every group."""
        kept: dict[str, Tensor] = {}
        for index, group in enumerate(self._groups):
            kept[f"rows.{index:03d}"] = group.rows.clone()
            kept |= self.states.packed(f"state.{index:03d}", group.state)
        return kept

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: the state of another lesson or model.
        """
        n = sum(name.startswith("rows.") for name in state)
        self._groups = [
            Group(state[f"rows.{index:03d}"].clone(), self.states.unpacked(f"state.{index:03d}", state))
            for index in range(n)
        ]
        if sorted(self.state()) != sorted(state):
            raise ValueError(
                f"CarriedLesson: does not know {', '.join(set(state) - set(self.state()))}; resume the run's own lesson"
            )

    def _begun(self, step: int, size: int) -> list[Group]:
        """The states from which a piece is read: rows that are reset are taken out, and stand in a fresh one."""
        everything = torch.arange(size)
        if not self._groups:
            return [Group(everything, self.states.start(size))]
        chance = np.random.default_rng([self.course.config.seed, step, RESET]).random(size)
        is_reset = torch.from_numpy(chance < self.settings.reset)
        groups: list[Group] = []
        for rows, state in self._groups:
            kept = (~is_reset[rows]).nonzero().flatten()
            if len(kept):
                groups.append(Group(rows[kept], self.states.rows(state, kept)))
        fresh = everything[is_reset]
        return [*groups, Group(fresh, self.states.start(len(fresh)))] if len(fresh) else groups

    def _read(self, inputs: Tensor, groups: list[Group]) -> tuple[Float[Tensor, "b t vocab"], list[Group]]:
        """Logits of all rows in their order, and the groups after them."""
        found: list[Tensor] = []
        left: list[Group] = []
        for rows, state in groups:
            logits, state = self.states.read(inputs[rows.to(inputs.device)], state)
            found.append(logits)
            left.append(Group(rows, self.states.detached(self._without_count(state))))
        order = torch.cat([rows for rows, _ in groups]).argsort().to(inputs.device)
        return torch.cat(found)[order], left

    def _merged(self, groups: list[Group]) -> list[Group]:
        """As few groups as their states allow."""
        merged: list[Group] = []
        for rows, state in groups:
            for index, (others, other) in enumerate(merged):
                if self.states.agree(other, state):
                    merged[index] = Group(torch.cat([others, rows]), self.states.joined(other, state))
                    break
            else:
                merged.append(Group(rows, state))
        return merged

    def _without_count(self, state: Any) -> Any:
        """A stack without learned positions counts tokens for nobody; without the count more rows agree."""
        model = self.course.model
        if isinstance(model, Stack) and model.positions is None:
            return state._replace(n_tokens=0)
        return state
