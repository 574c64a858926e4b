"""The test pass, which looks at its results a few times and stops as soon as everything is decided.

The looks are planned beforehand and share the 5 %: peeking after every batch would find anything in the end.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.judgement.family import Level
from mnemoscope.examination.judgement.subsets import Subset, loads, told
from mnemoscope.examination.judgement.tally import Key, Tally
from mnemoscope.examination.protocol.assemble import Measured, accuracy_by_load, is_decided
from mnemoscope.examination.protocol.part import CONSTANT_OUTPUT
from mnemoscope.examination.protocol.programme import Conditions
from mnemoscope.examination.running.batching import Batcher
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import Scores
from mnemoscope.runs.examination import LoadRecord

Progress = Callable[[str, float], None]
"""`progress(phase, done)`: "calibrate", "fit" or "test", and how much of it is done, from 0 to 1."""

FEWEST_BATCHES = 2
FEWEST_AT_A_LOOK = 128
"""Test sequences that a look adds at least: intervals of far fewer do not hold what they promise."""


class Looks:
    """The test pass.

    Args:
        replayer: of the model.
        conditions: everything that is done to it.
        subsets: what gets verdicts of its own.
        budget: how many looks are planned.
        progress: told how far it is.
    """

    def __init__(
        self,
        replayer: Replayer,
        conditions: Conditions,
        subsets: Mapping[str, Subset],
        budget: Budget,
        progress: Progress,
    ) -> None:
        self.replayer, self.conditions, self.budget, self.progress = replayer, dict(conditions), budget, progress
        self.batcher = Batcher(replayer)
        self.tally = Tally(subsets)
        self.missing: list[str] = []
        self.warnings: list[str] = []
        self._correct: list[tuple[Tensor, Tensor, Tensor]] = []

    def run(
        self,
        test: list[Any],
        constant: list[Scores] | None,
        measured: Callable[[Level], Measured],
        until: float = torch.inf,
    ) -> Level:
        """See test batches until everything is decided, time is up, or there are no more.

        Args:
            test: batches.
            constant: what the best constant output costs on each of them; None where nobody can say.
            measured: everything seen so far, at the level of a look.
            until: when time is up, on the clock of `time.perf_counter`.

        Returns:
            the level of the look that decides.
        """
        ends: list[int] = []
        try:
            for n, batch in enumerate(test):
                if n >= FEWEST_BATCHES and time.perf_counter() > until:
                    self.missing.append(f"{len(test) - n} of {len(test)} test batches: the time was up")
                    break
                self._see(batch, None if constant is None else constant[n])
                self.progress("test", (n + 1) / len(test))
                ends = ends or self._ends(len(test))
                if n + 1 in ends[:-1] and is_decided(measured(_level(ends, n + 1, len(test)))):
                    break
        except KeyboardInterrupt:
            if self.tally.n_batches < FEWEST_BATCHES:
                raise
            left = len(test) - self.tally.n_batches
            self.missing.append(f"{left} of {len(test)} test batches: interrupted")
        return _level(ends, self.tally.n_batches, len(test))

    def _ends(self, n_batches: int) -> list[int]:
        """After how many batches there is a look."""
        n_sequences = n_batches * self.tally.n_sequences
        looks = max(1, min(self.budget.looks, n_sequences // FEWEST_AT_A_LOOK, n_batches // FEWEST_BATCHES))
        return [n_batches * (look + 1) // looks for look in range(looks)]

    @torch.no_grad()
    def _see(self, batch: Any, constant: Scores | None) -> None:
        tape = self.replayer.record(batch)
        scores: dict[Key, Scores] = {(): tape.scores}
        if constant is not None:
            scores[CONSTANT_OUTPUT] = constant
        found_of = self.batcher.run_many(tape, list(self.conditions.values()))
        for name, found in zip(list(self.conditions), found_of, strict=True):
            if bool(torch.isfinite(found.per_sequence).all()):
                scores[name] = found
            else:
                self._drop(name)
        self.tally.see(batch, scores)
        if tape.scores.correct is not None and tape.scores.per_token is not None and told([batch], "load"):
            scored = ~torch.isnan(tape.scores.per_token)
            self._correct.append(((tape.scores.correct & scored).cpu(), scored.cpu(), loads(batch)))

    def _drop(self, name: Key) -> None:
        """An intervention under which a loss is not finite has no effect to report; a removal must have one."""
        if name[0] == "off":
            raise ValueError(
                f"examine: with {', '.join(name[1:])} at the best constant the loss is not finite; "
                "choose a site further from the norm or division that follows"
            )
        del self.conditions[name]
        self.tally.forget(name)
        self.warnings.append(f"{' '.join(name)}: losses are not finite, effect left out")

    def loads(self) -> list[LoadRecord]:
        """Accuracy by the number of items to remember."""
        if not self._correct:
            return []
        correct, scored, load = (torch.cat(parts) for parts in zip(*self._correct, strict=True))
        return accuracy_by_load(correct, scored, load)


def _level(ends: list[int], n_seen: int, n_batches: int) -> Level:
    """The level of the first look that comes no earlier than what was seen."""
    look = next(look for look, end in enumerate(ends) if end >= n_seen)
    return Level(fractions=tuple(end / n_batches for end in ends), look=look)
