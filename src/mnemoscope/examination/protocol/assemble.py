"""From per-sequence losses to the record: effects, headroom, shares, verdicts, prescriptions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.judgement.family import Level
from mnemoscope.examination.judgement.prescription import prescribe
from mnemoscope.examination.judgement.subsets import ALL, LOWEST_LOAD
from mnemoscope.examination.judgement.tally import Key, Tally
from mnemoscope.examination.judgement.verdict import (
    STARVED_GATE,
    STARVED_GRADIENT_SHARE,
    STORED_OF_HEADROOM,
    Facts,
    Saturation,
    decide,
    flags_of,
    outcomes,
)
from mnemoscope.examination.protocol.conditions import ROUTES
from mnemoscope.examination.protocol.horizon import Method
from mnemoscope.examination.protocol.part import CONSTANT_OUTPUT, Part, Player
from mnemoscope.examination.subject.sites import Sites
from mnemoscope.runs.examination import (
    ComparisonRecord,
    ContinuationRecord,
    ControlRecord,
    Estimate,
    Examination,
    InterventionName,
    LoadRecord,
    Locus,
    PatchingRecord,
    PositionCurve,
    ProbeRecord,
    SiteRecord,
    SubsetRecord,
)

FEWEST_SEQUENCES = 8
"""A subset of fewer test sequences gets no verdicts."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything a session measured.

    Args:
        model: the subject.
        sites: memories and routes.
        groups: groups of memories with a verdict of their own.
        budget: of the examination.
        local_window: tokens of history that count as local.
        methods: how the history of each site was cut.
        n_calibration, n_tuning: sequences that fitted, and how many of them chose.
        tally: the test pass.
        loads: accuracy by load.
        measures: by site, then name.
        probes: what a probe of the answer gained at each site.
        patchings: what exchanging the state of each site or group carried over.
        unmeasured: by site or group, then by name, why something was not measured.
        continuation: the self-test of going on from a state.
        controls: control arms.
        level: what is left of 5 % at this look.
        missing: what was left unmeasured.
    """

    model: nn.Module
    sites: Sites
    groups: tuple[Player, ...]
    budget: Budget
    local_window: int
    methods: Mapping[str, Method]
    n_calibration: int
    n_tuning: int
    tally: Tally
    loads: list[LoadRecord]
    measures: Mapping[str, Mapping[str, float]]
    probes: Mapping[str, ProbeRecord]
    patchings: Mapping[str, PatchingRecord]
    controls: list[ControlRecord]
    level: Level
    unmeasured: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    continuation: ContinuationRecord | None = None
    missing: list[str] = field(default_factory=list)
    replay: str
    warnings: list[str]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]


def assemble(measured: Measured) -> Examination:
    """The record of an examination."""
    return _Assembly(measured).record()


def is_decided(measured: Measured) -> bool:
    """Whether every verdict is there, so that no further sequence is needed."""
    assembly = _Assembly(measured)
    part = assembly.part(ALL)
    return all(assembly.judged(part, player).verdict != "inconclusive" for player in assembly.players)


class _Assembly:
    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.players = [*map(Player.of, measured.sites.memories), *measured.groups]
        self.curves = measured.tally.curves()
        self.at_lowest_load = self._at_lowest_load()

    def part(self, subset: str) -> Part:
        """The losses on a subset."""
        m = self.measured
        return Part(
            m.tally.losses(subset),
            self.players,
            [site.name for site in m.sites.memories],
            m.local_window,
            m.budget.n_resamples,
            m.budget.seed,
            m.level,
        )

    def record(self) -> Examination:
        """Everything together."""
        m, part = self.measured, self.part(ALL)
        memories = [self.judged(part, Player.of(site), ALL) for site in m.sites.memories]
        routes_off = part.estimate(part.cost(frozenset({ROUTES}))) if part.has_routes else None
        if m.sites.routes_known and not part.has_routes:
            routes_off = Estimate(value=0.0, low=0.0, high=0.0)
        constant = part.losses.get(CONSTANT_OUTPUT)
        return Examination(
            subject=type(m.model).__name__,
            n_calibration=m.n_calibration,
            n_tuning=m.n_tuning,
            n_test=len(part.base),
            seed=m.budget.seed,
            local_window=m.local_window,
            base_loss=part.estimate(part.base),
            constant_output_loss=None if constant is None else float(constant.mean()),
            memories_off=part.estimate(part.cost(part.memories)),
            routes_off=routes_off,
            headroom=part.headroom,
            memories_share=part.share(part.memories) if m.sites.routes_known else None,
            margin=part.margin,
            sites=memories,
            routes=[self._site(part, Player.of(site)) for site in m.sites.routes],
            routes_known=m.sites.routes_known,
            groups=[self.judged(part, group) for group in m.groups],
            subsets=[self._subset(name) for name in m.tally.subsets if self._is_large_enough(name)],
            loads=m.loads,
            controls=m.controls,
            look=m.level.look + 1,
            looks=len(m.level.fractions),
            missing=m.missing,
            continuation=m.continuation,
            base=self._curve(()),
            prescriptions=[row for site in memories for row in prescribe(site)],
            replay=m.replay,
            warnings=m.warnings + self._order_warnings(part),
            seconds=dict(m.seconds),
            versions=dict(m.versions),
        )

    def judged(self, part: Part, player: Player, subset: str = "") -> SiteRecord:
        """A memory or group of them with its verdict."""
        plain, members = self._site(part, player), frozenset(player.members)
        facts = self._facts(part, player, plain)
        decision = decide(facts, len(part.base))
        probed = part.losses.get(("probe", player.name))
        reachable = probed is None or not np.array_equal(probed, part.base)
        known = self.measured.sites.routes_known
        conditional = part.conditional(members)
        return plain.model_copy(
            update={
                "conditional": None if conditional is None else part.estimate(conditional),
                "share": facts.share if known else None,
                "necessity": facts.necessity if known else None,
                "sufficiency": part.sufficiency(members) if known else None,
                "probe": self.measured.probes.get(player.name),
                "patching": self.measured.patchings.get(player.name),
                "unmeasured": {
                    **({} if player.site is None else player.site.left_out),
                    **self.measured.unmeasured.get(player.name, {}),
                },
                "comparisons": [
                    ComparisonRecord(name=name, effect=effect, outcome=outcome)
                    for name, (effect, outcome) in outcomes(facts).items()
                ],
                "verdict": decision.verdict,
                "because": decision.because,
                "flags": flags_of(
                    facts,
                    decision.verdict,
                    plain.effects["read"].get("resample"),
                    plain.measures.get("addressing_entropy"),
                    reachable,
                ),
                "required_sequences": decision.required_sequences,
                "without": self._curve(("off", *sorted(members))) if subset == ALL else None,
            }
        )

    def _facts(self, part: Part, player: Player, plain: SiteRecord) -> Facts:
        optimal, headroom = part.deciding(player, "optimal_constant"), part.deciding(player, "headroom")
        assert optimal is not None
        assert headroom is not None
        patching = self.measured.patchings.get(player.name)
        return Facts(
            margin=part.margin,
            gain=part.gain(),
            headroom=headroom,
            optimal_constant=optimal,
            position_constant=part.deciding(player, "position_constant"),
            zero=part.deciding(player, "zero"),
            random_constant=part.deciding(player, "random_constant"),
            local_horizon=part.deciding(player, "local_horizon"),
            single_vector=part.deciding(player, "single_vector"),
            conditional=part.deciding(player, "conditional"),
            share=part.share(frozenset(player.members)),
            necessity=part.of_headroom(plain.effects["read"]["optimal_constant"].value),
            routes_known=self.measured.sites.routes_known,
            denoise=None if patching is None else patching.denoise,
            stored=self._stored(part, player),
            starving=self._starving(plain),
            saturation=self._saturation(player, plain),
        )

    def _stored(self, part: Part, player: Player) -> bool | None:
        probe = self.measured.probes.get(player.name)
        if probe is None:
            return None
        return probe.stored.low > 0 and probe.stored.value >= STORED_OF_HEADROOM * part.headroom_nats

    def _starving(self, plain: SiteRecord) -> bool:
        share, gate = plain.measures.get("gradient_share", 1.0), plain.measures.get("gate_mean", 1.0)
        return share < STARVED_GRADIENT_SHARE or gate < STARVED_GATE

    def _at_lowest_load(self) -> Part | None:
        there = LOWEST_LOAD in self.measured.tally.subsets and self._is_large_enough(LOWEST_LOAD)
        return self.part(LOWEST_LOAD) if there and len(self.measured.loads) > 1 else None

    def _saturation(self, player: Player, plain: SiteRecord) -> Saturation | None:
        effect = None if self.at_lowest_load is None else self.at_lowest_load.deciding(player, "optimal_constant")
        if effect is None:
            return None
        loads = self.measured.loads
        return Saturation(
            at_lowest_load=effect,
            drop=loads[0].accuracy - loads[-1].accuracy,
            state_share=plain.measures.get("state_share"),
        )

    def _site(self, part: Part, player: Player) -> SiteRecord:
        """What memories, groups and routes have in common."""
        site, m = player.site, self.measured
        loci: tuple[Locus, ...] = ("read",) if site is None else tuple(site.loci)
        effects: dict[Locus, dict[InterventionName, Estimate]] = {locus: part.effects(player, locus) for locus in loci}
        owner = None if site is None else site.owner
        alone = "tap" if site is not None else f"{len(player.members)} sites"
        return SiteRecord(
            name=player.name,
            role="group" if site is None else site.role,
            module=alone if owner is None else type(m.model.get_submodule(owner)).__name__,
            members=list(player.members) if site is None else [],
            effects={locus: found for locus, found in effects.items() if found},
            horizon=part.horizon(player.name),
            horizon_method=m.methods.get(player.name, "none"),
            measures=dict(m.measures.get(player.name, {})),
            part="" if site is None else site.portion,
        )

    def _is_large_enough(self, subset: str) -> bool:
        return int(self.measured.tally.belonging(subset).sum()) >= FEWEST_SEQUENCES

    def _subset(self, name: str) -> SubsetRecord:
        part, m = self.part(name), self.measured
        return SubsetRecord(
            name=name,
            n_sequences=len(part.base),
            share=m.tally.share(name),
            base_loss=part.estimate(part.base),
            headroom=part.headroom,
            margin=part.margin,
            memories_share=part.share(part.memories) if m.sites.routes_known else None,
            sites=[self.judged(part, Player.of(site)) for site in m.sites.memories],
            groups=[self.judged(part, group) for group in m.groups],
        )

    def _curve(self, key: Key) -> PositionCurve | None:
        nats = self.curves.get(key)
        if nats is None:
            return None
        scored = ~torch.isnan(nats)
        positions = scored.any(0).nonzero().flatten()
        return PositionCurve(
            positions=positions.tolist(),
            loss=in_float64(nats[:, positions]).nanmean(0).tolist(),
            n_sequences=scored[:, positions].sum(0).tolist(),
        )

    def _order_warnings(self, part: Part) -> list[str]:
        """A best constant cannot be worse than another constant of its kind; if it is, it was under-fitted."""
        others = {"optimal_constant": ("zero", "mean"), "position_constant": ("position_mean", "resample")}
        warnings = []
        for site in self.measured.sites.memories:
            for best, worse in others.items():
                key = ("off", site.name) if best == "optimal_constant" else ("read", site.name, best)
                for other in worse:
                    rival = ("read", site.name, other)
                    if key not in part.losses or rival not in part.losses:
                        continue
                    excess = part.estimate(part.losses[key] - part.losses[rival])
                    if excess.low > 0.1 * part.margin:
                        warnings.append(
                            f"{site.name}: the {best.replace('_', ' ')} is {excess.value:.3f} nats worse than "
                            f"{other.replace('_', ' ')}: under-fitted, raise budget.fit_steps"
                        )
        return warnings


def accuracy_by_load(correct: Tensor, scored: Tensor, load: Tensor) -> list[LoadRecord]:
    """Accuracy for each number of items, fewest first.

    Args:
        correct: whether each position is right, (n, t).
        scored: whether it counts, (n, t).
        load: items of each sequence, (n,); -1 where unknown.
    """
    found = []
    for value in load[load >= 0].unique().tolist():
        rows = load == value
        accuracy = float(correct[rows].sum() / scored[rows].sum())
        found.append(LoadRecord(load=int(value), accuracy=accuracy, n_sequences=int(rows.sum())))
    return found
