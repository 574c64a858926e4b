"""The test pass, which looks at its results a few times and stops as soon as everything is decided.

The looks are planned beforehand and share the 5 %: peeking after every batch would find anything in the end.

Several processes see a round of batches, each a whole one, and every one takes in all of them in their order. What is
found out on the way (a condition whose losses are not finite, whether stacks of batches may be trusted) changes how
later batches are run: where a batch finds out something, what the round has beyond it is seen again. So the losses are
those of one process, to the bit.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.judgement.family import Level
from mnemoscope.examination.judgement.subsets import Subset, loads, told
from mnemoscope.examination.judgement.tally import Key, Seen, Tally
from mnemoscope.examination.protocol.assemble import Measured, accuracy_by_load, is_decided
from mnemoscope.examination.protocol.part import CONSTANT_OUTPUT
from mnemoscope.examination.protocol.programme import Conditions
from mnemoscope.examination.running.batching import Batcher, Known
from mnemoscope.examination.running.ranks import Alone, Ranks, of_first
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import Scores
from mnemoscope.runs.examination import LoadRecord

Progress = Callable[[str, float], None]
"""`progress(phase, done)`: "calibrate", "fit" or "test", and how much of it is done, from 0 to 1."""

FEWEST_BATCHES = 2
FEWEST_AT_A_LOOK = 128
"""Test sequences that a look adds at least: intervals of far fewer do not hold what they promise."""


Counts = tuple[Tensor, Tensor, Tensor]
"""Which answers are right, which positions count, and the load of every sequence."""


class _Way(NamedTuple):
    """How batches are run: under which conditions, what is known of stacks, and why there is no replay."""

    conditions: tuple[Key, ...]
    known: Known
    unsafe: str | None


class _Tested(NamedTuple):
    """What a batch gave.

    Args:
        seen: of every condition.
        dropped: conditions whose losses were not finite.
        counts: where the batch says how much there was to remember.
        way: how the next batch is to be run, where that has changed.
        is_late: whether the time is up.
    """

    seen: Seen
    dropped: list[Key]
    counts: Counts | None
    way: _Way | None
    is_late: bool


class Looks:
    """The test pass.

    Args:
        replayer: of the model.
        conditions: everything that is done to it.
        subsets: what gets verdicts of its own.
        budget: how many looks are planned.
        progress: told how far it is.
        ranks: the processes that share the batches.
    """

    def __init__(
        self,
        replayer: Replayer,
        conditions: Conditions,
        subsets: Mapping[str, Subset],
        budget: Budget,
        progress: Progress,
        ranks: Ranks | None = None,
    ) -> None:
        self.replayer, self.conditions, self.budget, self.progress = replayer, dict(conditions), budget, progress
        self.ranks, self._all = ranks or Alone(), dict(conditions)
        self.batcher = Batcher(replayer)
        self.tally = Tally(subsets)
        self.missing: list[str] = []
        self.warnings: list[str] = []
        self._correct: list[Counts] = []
        self._is_late = False

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
            for tested in self._in_order(test, constant, until):
                self._take_in(tested)
                n = self.tally.n_batches
                self.progress("test", n / len(test))
                ends = ends or self._ends(len(test))
                if n in ends[:-1] and self._decided(measured, _level(ends, n, len(test))):
                    break
            else:
                if (left := len(test) - self.tally.n_batches) > 0:
                    self.missing.append(f"{left} of {len(test)} test batches: the time was up")
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

    def _decided(self, measured: Callable[[Level], Measured], level: Level) -> bool:
        return of_first(self.ranks, lambda: is_decided(measured(level)))

    def _in_order(self, test: list[Any], constant: list[Scores] | None, until: float) -> Iterator[_Tested]:
        """What the batches give, one after the other, until time is up."""

        def work(n: int) -> _Tested | None:
            return self._test(test[n], None if constant is None else constant[n], until) if n < len(test) else None

        n, ready, stopped = 0, deque[_Tested](), False
        while ready or n < len(test):
            if ready:
                yield ready.popleft()
            elif stopped:
                raise KeyboardInterrupt
            elif n >= FEWEST_BATCHES and self._late(until):
                return
            else:
                # The first batch, which finds out most, is seen by all; the next ones by one rank each.
                before, mine = self._way(), n + self.ranks.rank if n else 0
                found = self.ranks.gathered(partial(work, mine))
                ready.extend(self._accepted(found.values if n else found.values[:1], before))
                n, stopped = n + len(ready), found.stopped

    def _accepted(self, values: list[_Tested | None], before: _Way) -> list[_Tested]:
        """What a round gave, up to the first batch after which others are run otherwise; from here on they are."""
        found: list[_Tested] = []
        for tested in values:
            if tested is None or (found and found[-1].way is not None):
                break
            found.append(tested)
        if self.ranks.count > 1 and found:
            way = found[-1].way or before
            self.conditions = {key: self._all[key] for key in way.conditions}
            self.batcher.learn(way.known)
            self.replayer.unsafe = way.unsafe
            self._is_late = any(tested.is_late for tested in found)
        return found

    def _late(self, until: float) -> bool:
        return self._is_late if self.ranks.count > 1 else time.perf_counter() > until

    def _way(self) -> _Way:
        return _Way(tuple(self.conditions), self.batcher.known, self.replayer.unsafe)

    @torch.no_grad()
    def _test(self, batch: Any, constant: Scores | None, until: float) -> _Tested:
        before, tape = self._way(), self.replayer.record(batch)
        scores: dict[Key, Scores] = {(): tape.scores}
        if constant is not None:
            scores[CONSTANT_OUTPUT] = constant
        found_of = self.batcher.run_many(tape, list(self.conditions.values()))
        for name, found in zip(list(self.conditions), found_of, strict=True):
            if bool(torch.isfinite(found.per_sequence).all()):
                scores[name] = found
            else:
                self._drop(name)
        dropped = [name for name in before.conditions if name not in self.conditions]
        way, is_late = self._way(), time.perf_counter() > until
        return _Tested(
            seen=self.tally.reduced(batch, scores),
            dropped=dropped,
            counts=_counts(batch, tape.scores),
            way=None if way == before else way,
            is_late=is_late,
        )

    def _take_in(self, tested: _Tested) -> None:
        for name in tested.dropped:
            self.tally.forget(name)
            self.warnings.append(f"{' '.join(name)}: losses are not finite, effect left out")
        self.tally.add(tested.seen)
        if tested.counts is not None:
            self._correct.append(tested.counts)

    def _drop(self, name: Key) -> None:
        """An intervention under which a loss is not finite has no effect to report; a removal must have one."""
        if name[0] == "off":
            raise ValueError(
                f"examine: with {', '.join(name[1:])} at the best constant the loss is not finite; "
                "choose a site further from the norm or division that follows"
            )
        del self.conditions[name]

    def loads(self) -> list[LoadRecord]:
        """Accuracy by the number of items to remember."""
        if not self._correct:
            return []
        correct, scored, load = (torch.cat(parts) for parts in zip(*self._correct, strict=True))
        return accuracy_by_load(correct, scored, load)


def _counts(batch: Any, scores: Scores) -> Counts | None:
    """None for a batch that does not say how much there is to remember."""
    if scores.correct is None or scores.per_token is None or not told([batch], "load"):
        return None
    scored = ~torch.isnan(scores.per_token)
    return (scores.correct & scored).cpu(), scored.cpu(), loads(batch)


def _level(ends: list[int], n_seen: int, n_batches: int) -> Level:
    """The level of the first look that comes no earlier than what was seen."""
    look = next(look for look, end in enumerate(ends) if end >= n_seen)
    return Level(fractions=tuple(end / n_batches for end in ends), look=look)
