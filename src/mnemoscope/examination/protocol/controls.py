"""Control arms: what must not happen, tried on every model that is examined.

    identity          hooks that change nothing change no loss, to the bit
    large random      a large random read changes some loss (else the site is disconnected, or the hook is)
    shuffled reads    reads of other sequences add nothing to the probe of stored information

Two more are effects beside the others: an equal-norm random constant, and as many random directions taken out of the
read as it has of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mnemoscope.examination.interventions.reads import Call
from mnemoscope.examination.protocol.calibration import Case
from mnemoscope.examination.protocol.programme import Conditions
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.runs.examination import ControlRecord, ProbeRecord

SHUFFLED_NATS = 0.05


@dataclass(frozen=True)
class Identity:
    """Nothing changes."""

    def apply(self, call: Call) -> Tensor:
        """The value itself."""
        return call.value


@torch.no_grad()
def run_controls(
    replayer: Replayer, case: Case, conditions: Conditions, probes: Mapping[str, ProbeRecord]
) -> tuple[list[ControlRecord], list[str]]:
    """Every control arm, and a warning for each that failed; on the first calibration batch."""
    found = [_identity(replayer, case), *_large_random(replayer, case, conditions), *_shuffled(probes)]
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
