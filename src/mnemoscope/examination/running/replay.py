"""Running a model again from where an intervention begins, on recorded outputs of everything before.

A clean pass records every module call. To intervene, calls that ended before the intervention begins are answered
from the record, and only the rest is computed. This is used only where a replay without any intervention gives the
same losses to the bit and nothing random or mutable was touched; otherwise the full forward runs, and `Replayer.path`
says why.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.spared import AmongHollow, Answers, Ended, Replaced, is_hollow, ways_to_spare
from mnemoscope.examination.running.tape import Recorder, Tape, versions
from mnemoscope.examination.subject.held import Held
from mnemoscope.examination.subject.losses import Loss, Scores, score
from mnemoscope.examination.subject.sites import Point


class Replayer:
    """Evaluates a model under interventions, as cheaply as it safely can.

    Args:
        model: in evaluation mode.
        loss: one value per sequence.
        points: where interventions may happen.
        held: what the modules kept before anything ran; every pass begins with it. None for what they keep now.
    """

    def __init__(self, model: nn.Module, loss: Loss, points: Sequence[Point], held: Held | None = None) -> None:
        self.model, self.loss, self.points = model, loss, tuple(dict.fromkeys(points))
        self.modules = dict(model.named_modules())
        self.unsafe: str | None = None
        self.n_recomputed = 0
        self._verified: set[int] = set()
        self._ways: dict[tuple[int, frozenset[str]], int | None] = {}
        self._earlier: list[Any] = []
        self._rng = _rng_state()
        self.held = Held(model) if held is None else held.settled()
        self.kept: tuple[str, ...] = ()
        self._first: Tape | None = None

    @property
    def path(self) -> str:
        """How what precedes an intervention was computed, for the record."""
        if self.unsafe is not None:
            return f"full forward: {self.unsafe}"
        rest = f"; {self.n_recomputed} runs in full, beyond budget.tape_bytes" if self.n_recomputed else ""
        return f"from a record, checked to the bit{rest}"

    @property
    def remarks(self) -> list[str]:
        """What the user should know of the model, as seen while recording."""
        if not self.kept:
            return []
        names = ", ".join(self.kept)
        return [f"{names}: tensors kept from one forward to the next; every pass begins with what was there before"]

    def record(self, batch: Any, keep: Sequence[Point] = ()) -> Tape:
        """A clean pass. Values at the points of `keep` are kept on the tape."""
        tape = Tape(batch, Scores(torch.empty(0), None))
        buffers = {name: buffer._version for name, buffer in self.model.named_buffers()}
        with ExitStack() as stack, torch.no_grad():
            Recorder(tape, self.modules, self.points, frozenset(keep), stack)
            self.restore_rng()
            tape.scores = score(self.loss, self.model, batch, accuracy=True)
        self.kept = tuple(dict.fromkeys((*self.kept, *self.held.changed())))
        if not torch.equal(_rng_state(), self._rng):
            self._give_up("the model draws random numbers in evaluation mode")
        if any(buffer._version != buffers.get(name) for name, buffer in self.model.named_buffers()):
            self._give_up("the forward pass changes a buffer")
        if any(versions(call.output) != call.versions for call in tape.calls):
            self._give_up("a module's output is changed in place afterwards")
        if self.unsafe is not None:
            tape.calls.clear()
        if not bool(torch.isfinite(tape.scores.per_sequence).all()):
            raise ValueError(
                "examine: the model's own loss is not finite on these data; mend the model or the data first"
            )
        self._earlier = [*self._earlier[-1:], batch]
        self._require_steady(tape)
        return tape

    def run(self, tape: Tape, edits: Sequence[Edit]) -> Scores:
        """Losses of a recorded batch under edits; differentiable in what the edits hold, if gradients are enabled."""
        began = tape.began(edits)
        if self.unsafe is None and tape.calls and began not in self._verified:
            self._verify(tape, began)
        self.n_recomputed += self.unsafe is None and not tape.calls
        spared = self._spared(tape, edits, began) if self.unsafe is None and tape.calls else {}
        return self._run(tape, edits, began, spared)

    def _run(self, tape: Tape, edits: Sequence[Edit], began: int, spared: Answers) -> Scores:
        with ExitStack() as stack:
            if self.unsafe is None:
                stack.enter_context(self._stubbed(tape, began, spared))
            stack.enter_context(edited(self.modules, edits))
            self.restore_rng()
            return score(self.loss, self.model, tape.batch)

    def _spared(self, tape: Tape, edits: Sequence[Edit], began: int) -> Answers:
        """What the modules answer that need not run; the first time, only if that changes no bit of the losses."""
        calls = {call.path: Ended(call.end, call.output) for call in tape.calls if call.path not in tape.repeated}
        replaced = [
            Replaced(edit.point, edit.intervention, tape.begins.get((edit.point, False), 0))
            for edit in edits
            if edit.point.kind == "module"
        ]
        ways = ways_to_spare(calls, replaced, tape.began(edits))
        kind = began, frozenset(path for way in ways for path in way)
        if ways and kind not in self._ways:
            self._ways[kind] = self._first_equal(tape, edits, began, ways)
        chosen = self._ways.get(kind)
        return {} if chosen is None else ways[chosen]

    @torch.no_grad()
    def _first_equal(self, tape: Tape, edits: Sequence[Edit], began: int, ways: list[Answers]) -> int | None:
        whole = self._run(tape, edits, began, {}).per_sequence
        for i, spared in enumerate(ways):
            try:
                if torch.equal(self._run(tape, edits, began, spared).per_sequence, whole):
                    return i
            except Exception:  # whatever a foreign model objects to in tensors without values
                continue
        return None

    @torch.no_grad()
    def _require_steady(self, tape: Tape) -> None:
        """Once, when a second batch has run, the first one must still have the losses that it had.

        Raises:
            ValueError: for a model with a state that is kept where it cannot be put back.
        """
        if self._first is None:
            self._first = Tape(tape.batch, tape.scores)
        elif self._first.batch is not None:
            self.restore_rng()
            before = self._first.scores.per_sequence
            again = score(self.loss, self.model, self._first.batch).per_sequence
            difference = float((again - before).abs().max())
            if not difference <= 1e-3 * max(float(before.abs().max()), 1e-6):
                raise ValueError(
                    f"examine: a batch has other losses when it runs again (by up to {difference:.3g}): the model or "
                    "the loss keeps a state that cannot be put back; reset it in loss=, before every batch"
                )
            self._first = Tape(None, tape.scores)

    @torch.no_grad()
    def _verify(self, tape: Tape, began: int) -> None:
        """Another batch runs in between, so that nothing left behind by this one can make a replay look right.

        What that batch leaves in attributes stays there: a replay must not depend on it.
        """
        for batch in self._earlier:
            if batch is not tape.batch:
                score(self.loss, self.model, batch)
        try:
            with self._stubbed(tape, began):
                torch.set_rng_state(self._rng)
                again = score(self.loss, self.model, tape.batch)
        except Exception as error:  # whatever a foreign model objects to when a part of it does not run
            self._give_up(f"a replay raises {type(error).__name__}")
            return
        if not torch.equal(again.per_sequence, tape.scores.per_sequence):
            self._give_up("a replay without intervention differs from the clean pass")
        self._verified.add(began)

    def _give_up(self, reason: str) -> None:
        self.unsafe = self.unsafe or reason

    def restore_rng(self) -> None:
        """The random state, and what modules keep, that every pass begins with."""
        torch.set_rng_state(self._rng)
        self.held.put_back()

    @contextmanager
    def _stubbed(self, tape: Tape, began: int, spared: Answers | None = None) -> Iterator[None]:
        """Answer the outermost calls that ended by `began` from the tape; later calls of a module run as ever.

        `spared` answers for modules that are called later and need not run.
        """
        spared = spared or {}
        answers: dict[str, list[Any]] = {path: [output] for path, output in spared.items()}
        for call in tape.ended_by(began):
            if call.path not in spared:
                answers.setdefault(call.path, []).append(call.output)
        with ExitStack() as stack:
            if is_hollow(spared):
                stack.enter_context(AmongHollow())
            for path, outputs in answers.items():
                stack.enter_context(_answering(self.modules[path], outputs))
            yield


@contextmanager
def _answering(module: nn.Module, outputs: list[Any]) -> Iterator[None]:
    """Let the next calls of a module return these outputs, then let it compute again."""
    original = module.forward
    overridden = "forward" in module.__dict__
    module.forward = partial(_answer, iter(outputs), original)
    try:
        yield
    finally:
        if overridden:
            module.forward = original
        else:
            del module.forward


def _answer(outputs: Iterator[Any], original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    for output in outputs:
        return output
    return original(*args, **kwargs)


def _rng_state() -> Tensor:
    return torch.get_rng_state()
