"""A dry run: what an examination would do, and about what it would cost, from a few passes of one batch.

The conditions are those of the examination itself, at constants that nobody has fitted. One pass of a batch is timed
at every place where conditions begin, since a pass is computed from there on, and one for every way of cutting the
history. The minutes are nearer to a bound than to a guess: a fit is charged all steps that it may take, the test
pass all of its batches; fits stop when they no longer improve, the test pass when everything is decided, and
conditions share passes where they can. The states that are taken out of a model are taken here as well, which gives
their time. What else is done once is left out: measures, probes, exchanges of states and intervals.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.inner import RUNNING_AGAIN, Inside
from mnemoscope.examination.interventions.reads import Intervention
from mnemoscope.examination.judgement.tally import Key
from mnemoscope.examination.protocol.calibration import calibrate, groups_of, split
from mnemoscope.examination.protocol.fit import CHECK_EVERY, TUNING_EVERY, frozen
from mnemoscope.examination.protocol.programme import Conditions, Programme
from mnemoscope.examination.protocol.streaming import stream_states
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.fresh import cannot_copy
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss, score
from mnemoscope.examination.subject.sites import Point, Site, find_sites
from mnemoscope.runs.examination import ContinuationRecord

Meter = Callable[[Callable[[], None]], float]
"""Runs a pass and says what it cost."""


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A site, a group, or what is switched off together.

    Args:
        name: of the site or group.
        role: memory, route, group or "together".
        horizon: how its history is cut, "" for what is switched off together.
        conditions: how often the test pass intervenes there, by kind.
    """

    name: str
    role: str
    horizon: str
    conditions: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an examination would do.

    Args:
        subject: class of the model.
        rows: what is done where.
        local_window: tokens of history that count as local.
        n_fits: fitted constants, each of one condition; fits of constants by position are left out where they turn
            out not to be needed.
        n_conditions: interventions of the test pass, on every test batch.
        n_calibration, n_test: batches.
        fit_cost, test_cost: as they are charged (see the top of this file), in the meter's unit, by default seconds.
        model_bytes, copy_bytes, cache_bytes, pass_bytes: parameters and buffers; the same of the untrained copy that
            is a control; recorded activations that are kept; what one forward pass of a batch keeps for its backward
            pass.
        no_copy: why there is no untrained copy; empty where there is one.
        replay: how what precedes an intervention is computed.
        states_minutes: of the self-test of going on from a state and of the states that are taken; as timed here.
        states: what the self-test said; None where nothing asks for states.
        warnings: as the examination would say them.
    """

    subject: str
    rows: tuple[Planned, ...]
    local_window: int
    n_fits: int
    n_conditions: int
    n_calibration: int
    n_test: int
    fit_cost: float
    test_cost: float
    model_bytes: int
    cache_bytes: int
    pass_bytes: int
    replay: str
    warnings: tuple[str, ...]
    states_minutes: float = 0.0
    states: ContinuationRecord | None = None
    copy_bytes: int = 0
    no_copy: str = ""

    @property
    def fit_minutes(self) -> float:
        """Of all fits, where the meter was a clock."""
        return self.fit_cost / 60

    @property
    def test_minutes(self) -> float:
        """Of the test pass, where the meter was a clock."""
        return self.test_cost / 60

    @property
    def minutes(self) -> float:
        """Of everything."""
        return self.fit_minutes + self.test_minutes + self.states_minutes

    @property
    def n_bytes(self) -> int:
        """At the peak, beside what the process holds anyway."""
        return self.model_bytes + self.copy_bytes + self.cache_bytes + self.pass_bytes


def plan(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss | None = None,
    sites: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    local_window: int | None = None,
    heads: bool = False,
    budget: Budget | None = None,
    meter: Meter = seconds,
) -> Plan:
    """What `examine` would do with the same arguments, and about what it would cost; nothing is decided.

    Args:
        model: as for `examine`, like all that follow.
        batches: what would calibrate and test.
        loss: one value per sequence.
        sites: path patterns of memories.
        routes: path patterns of what could replace them.
        groups: patterns by name.
        local_window: tokens that count as local.
        heads: every memory by its heads.
        budget: what it may cost.
        meter: of the cost of one pass; by default its seconds.

    Raises:
        ValueError: as `examine` does.
    """
    budget, loss = budget or Budget(), loss or NextTokenLoss()
    with torch.inference_mode(False), torch.enable_grad(), intact(model) as held:
        calibration, test, warnings = split(model, loss, list(batches), budget)
        with torch.no_grad():
            found = find_sites(model, lambda: score(loss, model, calibration[0]), sites, routes, heads)
        everything = (*found.memories, *found.routes)
        replayer = Replayer(model, loss, [point for site in everything for point in _points(site)], held)
        case = calibrate(replayer, calibration[:2], found, groups_of(found, groups), local_window, budget)
        unmeasured = {site.name: {"effective_dimension": 1.0} for site in everything}
        programme = Programme(replayer, case, budget, unmeasured, torch.Generator().manual_seed(0), until=-math.inf)
        conditions = programme.conditions()
        started = time.perf_counter()
        streamed = stream_states(model, calibration[0], found, case.methods)
        states_minutes = (time.perf_counter() - started) / 60
        costs = _Costs(replayer, case.tapes[-1], conditions, meter)
        steps = {key: _most_steps(key, budget) for key in conditions}
        n_choosing = -(-len(calibration) // TUNING_EVERY)
        fit = sum(costs.fit(edits, steps[key], n_choosing) for key, edits in conditions.items() if steps[key])
        tested = sum(costs.forward(edits) for edits in conditions.values()) * len(test)
        model_bytes = sum(held.nbytes for held in chain(model.parameters(), model.buffers()))
        no_copy = (cannot_copy(model) or "") if budget.untrained_copy else "budget.untrained_copy is off"
        roles = {site.name: site.role for site in everything} | {group.name: "group" for group in case.groups}
        return Plan(
            subject=type(model).__name__,
            rows=_rows(conditions, roles, case.methods),
            local_window=case.window,
            n_fits=sum(map(bool, steps.values())),
            n_conditions=len(conditions),
            n_calibration=len(calibration),
            n_test=len(test),
            fit_cost=fit,
            test_cost=tested,
            model_bytes=model_bytes,
            states_minutes=states_minutes,
            states=streamed.record,
            copy_bytes=0 if no_copy else model_bytes,
            no_copy=no_copy,
            cache_bytes=min(case.tapes[0].n_bytes * len(calibration), budget.tape_bytes),
            pass_bytes=costs.pass_bytes,
            replay=replayer.path,
            warnings=(*warnings, *found.remarks, *case.warnings),
        )


def _rows(conditions: Conditions, roles: Mapping[str, str], methods: Mapping[str, str]) -> tuple[Planned, ...]:
    """Conditions counted where they intervene: keys are ("off", names...), (locus, name, kind) and (kind, name...)."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in roles}
    together = Counter[str]()
    for key in conditions:
        if key[0] == "off":
            together["alone" if len(key) == 2 else "several"] += 1
        else:
            counted[key[1]][key[0]] += 1
    rows = [
        Planned(name=name, role=roles[name], horizon=methods[name], conditions=dict(kinds))
        for name, kinds in counted.items()
    ]
    off = Planned(name="switched off", role="together", horizon="", conditions=dict(together))
    return (*rows, off)


def _most_steps(key: Key, budget: Budget) -> int:
    """Optimisation steps that the constant of a condition may take; 0 where nothing is fitted."""
    if key[0] == "off":
        return budget.fit_steps if len(key) == 2 else budget.joint_fit_steps
    if key[-1] == "position_constant":
        return budget.joint_fit_steps
    return budget.fit_steps if key[-1] == "optimal_constant" else 0


class _Costs:
    """What a pass of one batch costs, by where it begins and which modules run again."""

    def __init__(self, replayer: Replayer, tape: Tape, conditions: Conditions, meter: Meter) -> None:
        self.replayer, self.tape, self.pass_bytes = replayer, tape, 0
        self.meter = meter
        self._forward: dict[Any, float] = {}
        self._both: dict[Any, float] = {}
        for edits in conditions.values():
            # The first pass at a place is checked by others, which the examination does once.
            if self._place(edits) not in self._forward:
                self._run(edits)
                self._forward[self._place(edits)] = self.meter(lambda edits=edits: self._run(edits))

    def forward(self, edits: Sequence[Edit]) -> float:
        """Of a forward pass."""
        return self._forward[self._place(edits)]

    def fit(self, edits: Sequence[Edit], most_steps: int, n_choosing: int) -> float:
        """Of a fit that takes all of its steps."""
        checks = 1 + -(-most_steps // CHECK_EVERY)
        return most_steps * self._step_cost(edits) + checks * n_choosing * self.forward(edits)

    def _place(self, edits: Sequence[Edit]) -> tuple[int, frozenset[Any]]:
        again = [edit for edit in edits if isinstance(edit.intervention, RUNNING_AGAIN)]
        return self.tape.began(edits), frozenset((edit.point, *_plain(edit.intervention)) for edit in again)

    def _step_cost(self, edits: Sequence[Edit]) -> float:
        place = self._place(edits)
        if place not in self._both:
            self._both[place] = self.meter(lambda: self._step(edits))
        return self._both[place]

    @torch.no_grad()
    def _run(self, edits: Sequence[Edit]) -> None:
        self.replayer.run(self.tape, edits)

    def _step(self, edits: Sequence[Edit]) -> None:
        """A forward and a backward pass, as a step of a fit; what is kept in between is counted."""
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        learning = [Edit(edit.point, _learning(edit.intervention)) for edit in edits]
        constants = [value for edit in learning for value in _tensors(edit.intervention).values()]
        with frozen(self.replayer.model), torch.enable_grad():
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                total = self.replayer.run(self.tape, learning).per_sequence.mean()
            if total.requires_grad and constants:
                torch.autograd.grad(total, constants, allow_unused=True)
        weights = {held.untyped_storage().data_ptr() for held in self.replayer.model.parameters()}
        self.pass_bytes = max(self.pass_bytes, sum(n for place, n in kept.items() if place not in weights))


def _tensors(intervention: Intervention) -> dict[str, Tensor]:
    """The constants that an intervention holds."""
    return {name: value for name, value in vars(intervention).items() if isinstance(value, Tensor)}


def _plain(intervention: Intervention) -> tuple[Any, ...]:
    """What of it is no constant: its kind, and how many tokens stay."""
    inner = _plain(intervention.history) if isinstance(intervention, Inside) else ()
    return type(intervention), *inner, *(value for value in vars(intervention).values() if isinstance(value, int))


def _learning(intervention: Any) -> Any:
    """The same with constants that want gradients."""
    tensors = _tensors(intervention)
    return replace(intervention, **{name: value.clone().requires_grad_() for name, value in tensors.items()})


def _points(site: Site) -> list[Point]:
    return [*site.loci.values(), *([] if site.whole is None else [site.whole])]
