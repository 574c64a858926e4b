"""The examination: from any model and batches to verdicts with intervals."""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.judgement.family import Level
from mnemoscope.examination.judgement.subsets import Subset, checked, known_subsets
from mnemoscope.examination.protocol.assemble import Measured, assemble
from mnemoscope.examination.protocol.calibration import Case, calibrate, groups_of, profiled, split
from mnemoscope.examination.protocol.controls import run_controls, untrained_copy
from mnemoscope.examination.protocol.evidence import measure
from mnemoscope.examination.protocol.exchange import exchange_states, unmeasured
from mnemoscope.examination.protocol.looks import Looks, Progress
from mnemoscope.examination.protocol.probing import probe_sites
from mnemoscope.examination.protocol.programme import Programme
from mnemoscope.examination.protocol.streaming import stream_states
from mnemoscope.examination.running.ranks import Ranks, alike, all_ranks, of_first, shared
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.sameness import require_same
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss, ScoringLoss, input_device, score
from mnemoscope.examination.subject.plain import original, remarks
from mnemoscope.examination.subject.sites import find_sites
from mnemoscope.runs.examination import ControlRecord, Examination, ProbeRecord


def examine(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    subsets: Mapping[str, Subset] | None = None,
    local_window: int | None = None,
    heads: bool = False,
    budget: Budget | None = None,
    progress: Progress | None = None,
    together: bool = True,
) -> Examination:
    """Decide for every memory of a model whether it is load-bearing.

    The model comes back exactly as it was: modes, weights, buffers, gradients, hooks and random states. Interrupted
    (Ctrl-C) or out of time while it tests, it decides on what it has, and says in `missing` what it has not.

    The processes of an initialised `torch.distributed` share the work: all of them call this with the same arguments,
    and all get the same record, which is that of one process.

    Args:
        model: any module.
        batches: batches the loss understands. The first sequences calibrate, the next are held out for every effect;
            at least two batches for either.
        loss: `loss(model, batch)` to one value per sequence, in nats; None for next-token cross-entropy of logits.
        sites: path patterns of memories ("blocks.*.memory"), `path::name` or `path::number` for another tensor than the
            first that a module returns; None for every announced one. `[heads]` behind a pattern puts every head on
            trial by itself, `[head 2]` one of them, `[heads of 4]` where the module does not say how many there are,
            `[channels 0:16]` a range of channels.
        routes: path patterns of what could replace them (attention, say); None for every announced one.
        groups: patterns of memory sites by name, each group with a verdict of its own, switched off together; None
            for one group of all memories where there are several.
        subsets: functions from a batch to the positions (b, t) or sequences (b,) that belong, by name; each gets
            verdicts of its own, beside those that the data name ("demanding", "lowest load").
        local_window: tokens of history that count as local rather than as memory; None for 4 or, if longer, the
            longest window of a route that is shorter than half the sequences.
        heads: every memory by its heads, as if `[heads]` stood behind each, where it is known to have several. The
            parts of a memory are a group with a verdict too.
        budget: what the examination may cost.
        progress: told how far it is, in the first process.
        together: share the work with the other processes, where there are any; False: this one does it all.

    Raises:
        ValueError: where nothing is to be examined, or batches and loss do not fit; the message says how to mend it.
        ConnectionError: where another process does not come, or ends.
    """
    with all_ranks(together, input_device(model)) as ranks:
        data, budget, loss = list(batches), budget or Budget(), loss or NextTokenLoss()
        arguments = (loss, sites, routes, groups, sorted(subsets or {}), local_window, heads, budget)
        require_same(ranks, original(model), data, arguments)
        session = _Session(model, loss, budget, progress, ranks)
        return session.run(data, sites, routes, groups, checked(subsets), local_window, heads)


class _Session:
    def __init__(self, model: nn.Module, loss: Loss, budget: Budget, progress: Progress | None, ranks: Ranks) -> None:
        self.notes, self.model = remarks(model), original(model)
        self.loss, self.budget, self.ranks = loss, budget, ranks
        self.told = progress or (lambda phase, done: None)
        # A stream of its own, so that a model drawn from the same seed does not hold the same "random" vectors.
        self.generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([budget.seed, 1]).generate_state(1)[0])
        )
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    def run(
        self,
        batches: list[Any],
        patterns: Sequence[str] | None,
        route_patterns: Sequence[str] | None,
        groups: Mapping[str, Sequence[str]] | None,
        subsets: dict[str, Subset],
        local_window: int | None,
        heads: bool,
    ) -> Examination:
        with torch.inference_mode(False), torch.enable_grad(), intact(self.model) as held:
            calibration, test, warnings = split(self.model, self.loss, batches, self.budget)
            with torch.no_grad():
                found = find_sites(
                    self.model, lambda: score(self.loss, self.model, calibration[0]), patterns, route_patterns, heads
                )
            everything = (*found.memories, *found.routes)
            gates = [site.evidence["gate"] for site in found.memories if "gate" in site.evidence]
            points = [point for site in everything for point in profiled(site)] + gates
            replayer = Replayer(self.model, self.loss, points, held)
            warnings += found.remarks
            self.progress("calibrate", 0.0)
            case = self._timed("calibrate", lambda: self._calibrate(replayer, calibration, found, groups, local_window))
            self.progress("fit", 0.0)
            streamed = self._timed("states", lambda: stream_states(self.model, calibration[0], found, case.methods))
            measures = measure(self.model, self.loss, calibration[0], found.memories, found.routes, streamed.states)
            programme = Programme(replayer, case, self.budget, measures, self.generator, self._until(0.5), self.ranks)
            programme.told = lambda done: self.progress("fit", done)
            conditions = self._timed("fit", programme.conditions)
            (probes, untrained), exchanged = self._beside(
                replayer,
                {
                    "probe": lambda: self._probe(replayer, case, calibration),
                    "patch": lambda: exchange_states(replayer, case, calibration, self.budget, streamed),
                },
            )
            controls, control_warnings = run_controls(replayer, case, conditions, probes, untrained)
            subsets = known_subsets(test, case.window) | subsets
            seen = Looks(replayer, conditions, subsets, self.budget, self.progress, self.ranks)

            def measured(level: Level) -> Measured:
                return Measured(
                    model=self.model,
                    sites=found,
                    groups=case.groups,
                    budget=self.budget,
                    local_window=case.window,
                    methods=case.methods,
                    n_calibration=case.n_calibration,
                    n_tuning=case.n_tuning,
                    tally=seen.tally,
                    loads=seen.loads(),
                    measures=measures,
                    probes=probes,
                    patchings=exchanged.found,
                    unmeasured=unmeasured(replayer, case, streamed, exchanged, probes),
                    continuation=streamed.record,
                    controls=controls,
                    level=level,
                    missing=seen.missing,
                    replay=f"{replayer.path}; {seen.batcher.path}",
                    warnings=self.notes + warnings + case.warnings + control_warnings + seen.warnings,
                    seconds=self.seconds,
                    versions={"python": platform.python_version(), "torch": torch.__version__},
                )

            constant = self.loss.constant_output(calibration, test) if isinstance(self.loss, ScoringLoss) else None
            level = self._timed("test", lambda: seen.run(test, constant, measured, self._until(1.0)))
        return of_first(self.ranks, lambda: assemble(measured(level)))

    def progress(self, phase: str, done: float) -> None:
        """Tell the user how far it is."""
        self.ranks.say(lambda: self.told(phase, done))

    def _beside(self, replayer: Replayer, works: Mapping[str, Callable[[], Any]]) -> list[Any]:
        """What phases give that do not need each other, each done by one process; by all, where passes draw numbers."""
        timed = [partial(self._with_seconds, work) for work in works.values()]
        if replayer.unsafe is None:
            n = self.ranks.count
            found = shared(self.ranks, timed, [range(rank, len(timed), n) for rank in range(n)])
        else:
            found = [alike(self.ranks, work) for work in timed]
        self.seconds |= {phase: seconds for phase, (_, seconds) in zip(works, found, strict=True)}
        return [given for given, _ in found]

    def _calibrate(
        self,
        replayer: Replayer,
        calibration: list[Any],
        found: Any,
        groups: Mapping[str, Sequence[str]] | None,
        window: int | None,
    ) -> Case:
        return calibrate(replayer, calibration, found, groups_of(found, groups), window, self.budget)

    def _probe(
        self, replayer: Replayer, case: Case, calibration: list[Any]
    ) -> tuple[dict[str, ProbeRecord], ControlRecord]:
        """What is stored, and the untrained copy that says how much of it any such model holds; here it lives."""
        untrained = untrained_copy(replayer, case, self.budget)
        return probe_sites(replayer, case, calibration, self.budget, untrained.replayer), untrained.control

    def _until(self, share: float) -> float:
        """When a share of the time is used up."""
        minutes = self.budget.max_minutes
        return torch.inf if minutes is None else self.started + 60 * minutes * share

    def _timed(self, phase: str, work: Callable[[], Any]) -> Any:
        found, self.seconds[phase] = self._with_seconds(work)
        return found

    def _with_seconds(self, work: Callable[[], Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        return work(), time.perf_counter() - started
