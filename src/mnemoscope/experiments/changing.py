"""The examined model as a product: memories of a run folded or deleted, attention with a shorter window, before export.

    fold      the memory's read becomes the vector that it is worth (of a clock, one for each position)
    delete    the memory's whole output goes, gate included; where that costs too much, a vector stands for it
    window    attention looks at the last tokens alone, and keeps no others

Windows are shortened first, then memories are folded in the order in which they are named, each constant fitted on what
the changes before it left. What is left has the logits of the original under the same interventions, put in by hooks as
an examination puts them; and its loss on held-out sequences may be worse only within the examination's margin.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.examination.interventions.reads import Window
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.protocol.conditions import together
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss
from mnemoscope.examination.subject.sites import Point, find_sites
from mnemoscope.experiments.fold import FOLDED, budget_of, foldable
from mnemoscope.experiments.folding import (
    Way,
    decode_speeds,
    fitted,
    folded_stack,
    increase,
    losses,
    shortened_stack,
    sizes,
)
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.subjects import of_run
from mnemoscope.models import Stack
from mnemoscope.runs import Estimate, Examination, Record, RunDirectory

Kind = Literal["fold", "delete", "window"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change to a model.

    Args:
        site: name of the memory, or of the attention, in the examination.
        kind: see the top of this file.
        window: tokens that attention looks at, the present one included; of "window" alone.
    """

    site: str
    kind: Kind
    window: int | None = None

    def __post_init__(self) -> None:
        if (self.kind == "window") != (self.window is not None):
            raise ValueError(f"export: a window has a number of tokens and nothing else has one, got {self}")


@dataclass(frozen=True, kw_only=True)
class ChangeConfig:
    """What is changed, and what is asked of the result.

    Args:
        changes: in order; none for those that the examination prescribes.
        even_if_worse: keep a model that is not as good within the margin. Not with prescribed changes: those that
            cost too much are left out.
        n_test: held-out sequences of the comparison; None for as many as the examination has.
        fit_steps: of a constant, at most; 300 are an examination's.
    """

    changes: tuple[Change, ...] = ()
    even_if_worse: bool = False
    n_test: int | None = None
    fit_steps: int = 300


class ChangeRecord(Record):
    """A change that was made.

    `replaced_by` says what stands in the memory's place ("vector", "vector for each position", "nothing") or "window".
    `difference` is the loss increase, in nats, from the model as the changes before this one had left it.
    """

    site: str
    verdict: str | None
    replaced_by: Literal["vector", "vector for each position", "nothing", "vector for the output", "window"]
    window: int | None
    difference: Estimate


class ChangesRecord(Record):
    """What was changed, what it costs and what it saves; pairs are before and after.

    Losses are in nats per scored token on `n_test` held-out sequences; `difference` is their paired increase, and
    `accepted` says whether its upper end is below the examination's `margin`. `left` are prescribed changes that would
    have cost more. `state_bytes` are those of one sequence after `state_tokens` tokens; `decoded_per_second` are tokens
    decoded one by one on the machine that exported.
    """

    changes: list[ChangeRecord]
    left: list[str]
    loss_before: Estimate
    loss_after: Estimate
    difference: Estimate
    margin: float
    accepted: bool
    n_test: int
    parameters: tuple[int, int]
    parameter_bytes: tuple[int, int]
    state_bytes: tuple[int, int]
    state_tokens: int
    decoded_per_second: tuple[float, float]


class Changed(NamedTuple):
    """The stack that is left, the edits that make the original equal to it, and the record."""

    model: Stack
    edits: list[Edit]
    record: ChangesRecord


WAYS: dict[Way, Any] = {
    "read": "vector",
    "positions": "vector for each position",
    "zero": "nothing",
    "output": "vector for the output",
}


def changes_of(fold: Sequence[str], window: Sequence[str]) -> tuple[Change, ...]:
    """The changes of a command line: "SITE", "SITE=constant" or "SITE=delete", and "SITE=TOKENS".

    Raises:
        ValueError: anything else, or a site that is named twice.
    """
    changes: list[Change] = []
    for text in window:
        site, equals, tokens = text.rpartition("=")
        if not (site and equals and tokens.isdecimal()):
            raise ValueError(f"export: --window must be SITE=TOKENS (blocks.0.mixer=16), got {text!r}")
        changes.append(Change(site=site, kind="window", window=int(tokens)))
    for text in fold:
        site, _, way = text.partition("=")
        if not site or way not in ("", "constant", "delete"):
            raise ValueError(f"export: --fold must be SITE, SITE=constant or SITE=delete, got {text!r}")
        changes.append(Change(site=site, kind="delete" if way == "delete" else "fold"))
    names = [change.site for change in changes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"export: {', '.join(twice)} is named twice; choose one change for a site")
    return tuple(changes)


def prescribed(examination: Examination) -> tuple[Change, ...]:
    """The foldings and deletions that an examination prescribes, one for a site, in its order.

    Raises:
        ValueError: there are none.
    """
    found: dict[str, Change] = {}
    known = {record.name for record in examination.sites}
    for row in examination.prescriptions:
        words = shlex.split(row.command)
        if words[:2] == ["mnemoscope", "fold"] and row.site in known:
            found.setdefault(row.site, Change(site=row.site, kind="delete" if "--delete" in words else "fold"))
    if not found:
        verdicts = ", ".join(f"{record.name} {record.verdict or 'without a verdict'}" for record in examination.sites)
        raise ValueError(
            f"export: the examination prescribes no folding and no deletion ({verdicts}); leave out --as-prescribed, "
            "or name changes with --fold and --window"
        )
    return tuple(found.values())


def changed_run(directory: str | Path, config: ChangeConfig) -> Changed:
    """Change the model of an examined run; the run stays as it is.

    Raises:
        ValueError: no run or examination, no such site, a verdict or a kind of memory that forbids the change, or a
            model that is not as good.
    """
    run = RunDirectory.open(directory)
    if not run.verdicts_path.is_file():
        raise ValueError(
            f"export: {directory} has not been examined, so it is not known what may go; run: "
            f"mnemoscope examine {directory}"
        )
    examination = run.read_examination()
    changes = config.changes or prescribed(examination)
    for change in changes:
        if change.kind != "window":
            foldable(examination, change.site)
    made = _Making(directory, examination, config)
    for change in changes:
        made.add(change, keep_worse=bool(config.changes))
    return made.finished(config.even_if_worse)


@torch.no_grad()
def intervened_logits(model: Stack, edits: Sequence[Edit], tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t vocab"]:
    """The logits of the original with the changes put in by hooks."""
    with intact(model), edited(dict(model.named_modules()), edits):
        return model(tokens)


class _Making:
    """A model on its way: what was done so far, and what it costs on the held-out sequences."""

    def __init__(self, directory: str | Path, examination: Examination, config: ChangeConfig) -> None:
        self.budget = budget_of(examination, config.n_test, config.fit_steps)
        subject = of_run(directory, Data(), self.budget)
        assert isinstance(subject.model, Stack)
        assert subject.sizes is not None
        n_calibration = math.ceil(subject.sizes[0] / subject.batches[0].size)
        self.calibration, self.test = subject.batches[:n_calibration], subject.batches[n_calibration:]
        self.loss: Loss = subject.loss or NextTokenLoss()
        self.original, self.model, self.examination = subject.model.eval(), subject.model, examination
        self.verdicts = {record.name: record.verdict for record in examination.sites}
        self.before = losses(self.original, self.loss, self.test)
        self.now = self.before
        self.edits: list[Edit] = []
        self.changes: list[ChangeRecord] = []
        self.left: list[str] = []

    def add(self, change: Change, *, keep_worse: bool) -> None:
        """Make a change; one that costs more than the margin only if `keep_worse`."""
        ways: list[Way | None] = [None]
        if change.kind != "window":
            ways = ["zero", "output"] if change.kind == "delete" else [FOLDED[str(self.verdicts[change.site])]]
        for way in ways:
            model, edits = self._windowed(change) if way is None else self._folded(change.site, way)
            after = losses(model, self.loss, self.test)
            is_good = self._increase(self.before, after).high < self.examination.margin
            if is_good or (keep_worse and way == ways[-1]):
                self._take(change, way, model, edits, after)
                return
        self.left.append(change.site)

    def finished(self, even_if_worse: bool) -> Changed:
        """What is left, and what it costs and saves.

        Raises:
            ValueError: where it is not as good within the margin, or nothing was changed.
        """
        record = self._record()
        if not self.changes:
            raise ValueError(
                f"export: every prescribed change costs more than the margin of {record.margin:.3f} nats "
                f"({', '.join(self.left)}); nothing was written; export without --as-prescribed, or name a change"
            )
        if not (record.accepted or even_if_worse):
            raise ValueError(
                f"export: the changed model must lose less than the margin of {record.margin:.3f} nats, got an "
                f"increase of {record.difference} on {record.n_test} sequences; nothing was written; change less, or "
                "keep it all the same with --even-if-worse"
            )
        return Changed(self.model, self.edits, record)

    def _windowed(self, change: Change) -> tuple[Stack, list[Edit]]:
        assert change.window is not None
        tokens = self.test[0].inputs
        sites = find_sites(self.model, lambda: self.model(tokens))
        owners = {site.name: site.owner for site in (*sites.memories, *sites.routes)}
        owner = owners.get(change.site)
        if owner is None:
            raise ValueError(f"window: no site is called {change.site!r}; sites: {', '.join(owners)}")
        return shortened_stack(self.model, owner, change.window), [Edit(Point(owner), Window(change.window))]

    def _folded(self, site: str, way: Way) -> tuple[Stack, list[Edit]]:
        fit = fitted(self.model, self.loss, self.calibration, site, way, self.budget)
        return folded_stack(self.model, fit), fit.edits

    def _take(
        self, change: Change, way: Way | None, model: Stack, edits: list[Edit], after: Float[Tensor, "n"]
    ) -> None:
        made = ChangeRecord(
            site=change.site,
            verdict=self.verdicts.get(change.site),
            replaced_by="window" if way is None else WAYS[way],
            window=change.window,
            difference=self._increase(self.now, after),
        )
        self.changes.append(made)
        self.model, self.now, self.edits = model.eval(), after, together([*self.edits, *edits])

    def _record(self) -> ChangesRecord:
        before, after, tokens = sizes(self.original), sizes(self.model), self.test[0].inputs
        difference, n_tokens = self._increase(self.before, self.now), tokens.shape[1]
        decoded = decode_speeds(self.original, self.model, tokens[:1])
        return ChangesRecord(
            changes=self.changes,
            left=self.left,
            loss_before=self._mean(self.before),
            loss_after=self._mean(self.now),
            difference=difference,
            margin=self.examination.margin,
            accepted=difference.high < self.examination.margin,
            n_test=len(self.before),
            parameters=(before.parameters, after.parameters),
            parameter_bytes=(before.n_bytes, after.n_bytes),
            state_bytes=(self.original.state_bytes(1, n_tokens), self.model.state_bytes(1, n_tokens)),
            state_tokens=n_tokens,
            decoded_per_second=(decoded.before, decoded.after),
        )

    def _increase(self, before: Float[Tensor, "n"], after: Float[Tensor, "n"]) -> Estimate:
        return increase(before, after, n_resamples=self.budget.n_resamples, seed=self.budget.seed)

    def _mean(self, of: Float[Tensor, "n"]) -> Estimate:
        return Bootstrap(len(of), self.budget.n_resamples, self.budget.seed).mean(of.numpy())
