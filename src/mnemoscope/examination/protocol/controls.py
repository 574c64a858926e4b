"""Control arms: what must not happen, tried on every model that is examined.

    identity          hooks that change nothing change no loss, to the bit
    large random      a large random read changes some loss (else the site is disconnected, or the hook is)
    shuffled reads    reads of other sequences add nothing to the probe of stored information
    untrained copy    the same model with fresh parameters is untrained, by the predicate of the verdict; what a probe
                      gains from its reads is the floor above which the model's reads count as storing anything

Two more are effects beside the others: an equal-norm random constant, and as many random directions taken out of the
read as it has of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.reads import Call
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.judgement.verdict import no_better_than_constant
from mnemoscope.examination.protocol.calibration import Case
from mnemoscope.examination.protocol.programme import Conditions
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.fresh import fresh_copy
from mnemoscope.examination.subject.losses import Loss, ScoringLoss, score
from mnemoscope.runs.examination import ControlRecord, ProbeRecord

SHUFFLED_NATS = 0.05


@dataclass(frozen=True)
class Identity:
    """Nothing changes."""

    def apply(self, call: Call) -> Tensor:
        """The value itself."""
        return call.value


class Untrained(NamedTuple):
    """The control arm, and the untrained copy as the probe wants it; None where there is no such copy."""

    control: ControlRecord
    replayer: Replayer | None


@torch.no_grad()
def untrained_copy(replayer: Replayer, case: Case, budget: Budget) -> Untrained:
    """A copy of the model with fresh parameters, judged on the calibration sequences as the model is on the test's."""
    if not budget.untrained_copy:
        return _skipped("budget.untrained_copy is off")
    model, said = fresh_copy(replayer.model, budget.seed)
    if model is None:
        return _skipped(said)
    fresh, batches = Replayer(model, replayer.loss, replayer.points), [tape.batch for tape in case.tapes]
    own = torch.cat([tape.scores.per_sequence for tape in case.tapes]).cpu().double()
    try:
        losses = _losses(fresh, batches)
    except Exception as error:  # whatever a foreign model objects to
        return _skipped(f"the copy does not run: {type(error).__name__}")
    if not bool(torch.isfinite(losses).all()):
        return _skipped("the copy's loss is not finite")
    if torch.equal(losses, own):
        return _skipped("the copy's losses are the model's own: nothing in them is learned, or loss runs another model")
    return Untrained(_judged(losses, own, _constant(replayer.loss, batches), said, budget), fresh)


@torch.no_grad()
def run_controls(
    replayer: Replayer,
    case: Case,
    conditions: Conditions,
    probes: Mapping[str, ProbeRecord],
    untrained: ControlRecord,
) -> tuple[list[ControlRecord], list[str]]:
    """Every control arm, and a warning for each that failed; on the first calibration batch."""
    large = _large_random(replayer, case, conditions)
    found = [_identity(replayer, case), *large, *_shuffled(probes), untrained, *_floors(probes)]
    return found, [f"control {control.name} failed: {control.seen}" for control in found if not control.passed]


def _identity(replayer: Replayer, case: Case) -> ControlRecord:
    tape = case.tapes[0]
    points = {point for site in (*case.sites.memories, *case.sites.routes) for point in site.loci.values()}
    again = replayer.run(tape, [Edit(point, Identity()) for point in sorted(points, key=lambda point: point.path)])
    largest = float((again.per_sequence - tape.scores.per_sequence).abs().max())
    return ControlRecord(
        name="identity", seen=f"{len(points)} hooks that change nothing: {largest:.1g} nats", passed=largest == 0
    )


def _large_random(replayer: Replayer, case: Case, conditions: Conditions) -> list[ControlRecord]:
    """A site that nothing listens to is no failure of the instrument: it is said, and flagged beside the verdict."""
    tape, found = case.tapes[0], []
    for site in case.sites.memories:
        after = replayer.run(tape, conditions["probe", site.name])
        largest = float((after.per_sequence - tape.scores.per_sequence).abs().max())
        heard = f"{largest:.3g} nats at most" if largest else "no loss changes: disconnected"
        found.append(ControlRecord(name=f"large random read, {site.name}", seen=heard, passed=True))
    return found


def _shuffled(probes: Mapping[str, ProbeRecord]) -> list[ControlRecord]:
    return [
        ControlRecord(
            name=f"shuffled reads, {name}",
            seen=f"a probe gains {probe.shuffled} nats from reads of other sequences",
            passed=probe.shuffled.low <= SHUFFLED_NATS,
        )
        for name, probe in probes.items()
    ]


def _floors(probes: Mapping[str, ProbeRecord]) -> list[ControlRecord]:
    return [
        ControlRecord(
            name=f"untrained copy, {name}",
            seen=f"a probe gains {probe.untrained} nats from its reads, {probe.gain} from the model's",
            passed=True,
        )
        for name, probe in probes.items()
        if probe.untrained is not None
    ]


def _skipped(why: str) -> Untrained:
    return Untrained(ControlRecord(name="untrained copy", seen=f"skipped: {why}", passed=True), None)


def _losses(fresh: Replayer, batches: Sequence[Any]) -> Float[Tensor, "n"]:
    found = []
    for batch in batches:
        fresh.restore_rng()
        found.append(score(fresh.loss, fresh.model, batch).per_sequence.cpu().double())
    return torch.cat(found)


def _constant(loss: Loss, batches: Sequence[Any]) -> Float[Tensor, "n"] | None:
    """What the best constant output costs on each calibration sequence; None where nobody can say."""
    found = loss.constant_output(batches, batches) if isinstance(loss, ScoringLoss) else None
    return None if found is None else torch.cat([scores.per_sequence.cpu().double() for scores in found])


def _judged(
    losses: Float[Tensor, "n"],
    own: Float[Tensor, "n"],
    constant: Float[Tensor, "n"] | None,
    said: str,
    budget: Budget,
) -> ControlRecord:
    seen = f"loss {float(losses.mean()):.3f} nats, the model's {float(own.mean()):.3f}"
    if constant is None:
        told, passed = "what a constant output costs is unknown for this loss, so it is not judged", True
    else:
        gain = Bootstrap(len(losses), budget.n_resamples, budget.seed).mean((constant - losses).numpy())
        passed = no_better_than_constant(gain)
        seen += f", the best constant output's {float(constant.mean()):.3f}"
        told = "untrained, as it must be" if passed else "better than any constant, though nothing trained it"
    return ControlRecord(name="untrained copy", seen=f"{seen}: {told}; {said}", passed=passed)
