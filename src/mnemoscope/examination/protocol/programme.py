"""The conditions of the test pass: everything that is done to the model, each under its own name.

("off", a, b, ...)               switched off together, at jointly fitted constants
(locus, site, intervention)      one site at one locus
("single", site or group)        banks whose slots all hold the mean slot
("window", site, w)              only the last w tokens in memory
("probe", site)                  a large random constant, to see whether anything listens
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mnemoscope.contracts import Slots
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.histories import WriteFreeze
from mnemoscope.examination.interventions.reads import Constant, GateClamp
from mnemoscope.examination.judgement.tally import Key
from mnemoscope.examination.protocol.calibration import Case, owner_of, reach_of_site
from mnemoscope.examination.protocol.conditions import (
    ROUTES,
    Coalition,
    Fitted,
    coalitions,
    fixed_edits,
    history_edit,
    removal_of_memory,
    removal_of_route,
    starts,
    together,
    window_edit,
)
from mnemoscope.examination.protocol.fit import Removal, fit_removals
from mnemoscope.examination.protocol.part import LEAST_MARGIN_NATS, Player
from mnemoscope.examination.protocol.waves import Fit, fit_in_waves
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.ranks import Alone, Ranks, of_each
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.sites import Site

Conditions = dict[Key, list[Edit]]


class Programme:
    """Fits what must be fitted and lists every condition.

    Args:
        replayer: of the model.
        case: what calibration found.
        budget: of the examination.
        measures: by site and name; the effective dimension of a read is how many random directions are its control.
        generator: of the random constants.
        until: when fitting must stop, on the clock of `time.perf_counter`.
        ranks: the processes that share the fits.
    """

    def __init__(
        self,
        replayer: Replayer,
        case: Case,
        budget: Budget,
        measures: Mapping[str, Mapping[str, float]],
        generator: torch.Generator,
        until: float = torch.inf,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Alone()
        self._ready: dict[Key, list[Tensor]] = {}
        self.replayer, self.case, self.budget, self.measures = replayer, case, budget, measures
        self.generator, self.until = generator, until
        self.told: Callable[[float], None] = lambda done: None
        """Told how much is fitted, from 0 to 1."""

    def conditions(self) -> Conditions:
        """Every condition of the test pass by its name."""
        case = self.case
        players: dict[str, list[Removal]] = {
            site.name: [removal_of_memory(site, case.profiles)] for site in case.sites.memories
        }
        off = [self._removal_of_route(site) for site in case.sites.routes]
        long_range = [removal for removal in off if removal is not None]
        if long_range:
            players[ROUTES] = long_range
        fitted = Fitted(self.replayer, case.tapes, players, self.budget, self.until)
        found: Conditions = {}
        needed = self._coalitions(bool(long_range))
        if self.ranks.count > 1:
            self._fit_together(fitted, needed)
        for n, coalition in enumerate(needed, start=1):
            found["off", *sorted(coalition)] = fitted.edits(coalition)
            self.told(n / len(needed))
        for site in case.sites.memories:
            found |= self._of_memory(site) | self._by_position(fitted, Player.of(site))
        for group in case.groups:
            found |= self._of_group(group) | self._by_position(fitted, group)
        for site in case.sites.routes:
            found |= self._fixed(site, "read") | self._windows(site, (case.window,))
        return found

    def _fit_together(self, fitted: Fitted, needed: Sequence[Coalition]) -> None:
        """Every fit beforehand, each on one of several processes."""
        before = self.replayer.n_recomputed
        fit_in_waves(self._fits(fitted, needed), self.ranks, self.told)
        replayer = self.replayer
        seen = of_each(self.ranks, lambda: (replayer.unsafe, replayer.n_recomputed - before))
        replayer.unsafe = next((reason for reason, _ in seen if reason is not None), None)
        replayer.n_recomputed = before + sum(n for _, n in seen)

    def _fits(self, fitted: Fitted, needed: Sequence[Coalition]) -> dict[Coalition | Key, Fit]:
        """All that is fitted, by coalition or by the condition that it is for."""
        budget, found = self.budget, dict[Coalition | Key, Fit]()
        for coalition, within in starts(needed, fitted.players).items():
            alone = {frozenset({name}) for name in coalition}
            found[coalition] = Fit(
                work=partial(fitted.fit, coalition, within),
                keep=partial(fitted.keep, coalition),
                cost=budget.fit_steps if within is None else budget.joint_fit_steps,
                after=frozenset() if within is None else frozenset({within, *alone}),
            )
        for player in (*map(Player.of, self.case.sites.memories), *self.case.groups):
            key = ("read", player.name, "position_constant")
            found[key] = Fit(
                work=partial(self._constants_by_position, fitted, player),
                keep=partial(self._ready.__setitem__, key),
                cost=budget.joint_fit_steps,
                after=frozenset({frozenset(player.members)}),
            )
        for site in self.case.sites.memories:
            if "contribution" in site.loci and budget.contribution:
                key = ("contribution", site.name, "optimal_constant")
                work, keep = partial(self._contribution, site), partial(self._ready.__setitem__, key)
                found[key] = Fit(work=work, keep=keep, cost=budget.fit_steps)
        return found

    def _removal_of_route(self, site: Site) -> Removal | None:
        case, reach = self.case, reach_of_site(site, self.replayer.modules)
        return removal_of_route(site, reach, case.methods[site.name] == "windowed", case.profiles, case.window)

    def _coalitions(self, has_routes: bool) -> list[Coalition]:
        memories = [site.name for site in self.case.sites.memories]
        players = [frozenset({name}) for name in memories] + [frozenset(group.members) for group in self.case.groups]
        return coalitions(players, frozenset(memories), has_routes)

    def _of_memory(self, site: Site) -> Conditions:
        found: Conditions = {}
        for locus in site.loci:
            if locus == "read" or self.budget.contribution:
                found |= self._fixed(site, locus)
        if "contribution" in site.loci and self.budget.contribution:
            found["contribution", site.name, "optimal_constant"] = self._constant_contribution(site)
        single = self._single_vector(site)
        if single is not None:
            found["single", site.name] = [single]
        if "gate" in site.evidence:
            for name, value in (("gate_shut", 0.0), ("gate_open", 1.0)):
                found["read", site.name, name] = [Edit(site.evidence["gate"], GateClamp(value, value))]
        if self.budget.write_freeze and self.case.methods[site.name] != "none" and site.whole is not None:
            at = self.case.profiles[site.whole].n_tokens // 2
            frozen = WriteFreeze(at, min(self.case.window, at))
            found["read", site.name, "write_freeze"] = history_edit(site, frozen)
        found["probe", site.name] = [Edit(site.loci["read"], Constant(self._large_random(site)))]
        return found | self._windows(site, (*self.budget.windows, self.case.window))

    def _of_group(self, group: Player) -> Conditions:
        members = [site for site in self.case.sites.memories if site.name in group.members]
        fixed = [self._fixed(site, "read") for site in members]
        found: Conditions = {}
        for name in ("zero", "mean", "random_constant"):
            edits = [of[key] for site, of in zip(members, fixed, strict=True) for key in [("read", site.name, name)]]
            found["read", group.name, name] = [edit for some in edits for edit in some]
        single = [edit for site in members if (edit := self._single_vector(site)) is not None]
        if len(single) == len(members):
            found["single", group.name] = single
        windows = [self._windows(site, (self.case.window,)) for site in members]
        if self.case.methods[group.name] != "none" and all(windows):
            cut = [edit for of in windows for edits in of.values() for edit in edits]
            found["window", group.name, str(self.case.window)] = together(cut)
        return found

    def _single_vector(self, site: Site) -> Edit | None:
        """Every slot replaced by the mean slot; None for a memory without slots of its own."""
        owner = owner_of(site, self.replayer.modules)
        if not isinstance(owner, Slots):
            return None
        vector = owner.single_vector().detach()
        vector = vector if site.channels is None else site.channels.of(vector[None, None])[0, 0]
        return Edit(site.loci["read"], Constant(vector))

    def _by_position(self, fitted: Fitted, player: Player) -> Conditions:
        """Only where one constant for all positions is not enough: else a constant for each can be worth no more."""
        key = ("read", player.name, "position_constant")
        constants = self._ready[key] if key in self._ready else self._constants_by_position(fitted, player)
        return {key: fitted.edits_by_position(frozenset(player.members), constants)} if constants else {}

    def _constants_by_position(self, fitted: Fitted, player: Player) -> list[Tensor]:
        coalition = frozenset(player.members)
        if fitted.cost_when_tuning(coalition) < LEAST_MARGIN_NATS / 2:
            return []
        return fitted.fit_by_position(coalition, self.case.profiles)

    def _fixed(self, site: Site, locus: str) -> Conditions:
        point = site.loci["read" if locus == "read" else "contribution"]
        own = round(self.measures[site.name]["effective_dimension"]) if locus == "read" else 0
        edits = fixed_edits(self.case.profiles[point], point, self.generator, max(1, own) if locus == "read" else None)
        return {(locus, site.name, name): of for name, of in edits.items()}

    def _constant_contribution(self, site: Site) -> list[Edit]:
        key = ("contribution", site.name, "optimal_constant")
        (constant,) = self._ready[key] if key in self._ready else self._contribution(site)
        return [Edit(site.loci["contribution"], Constant(constant))]

    def _contribution(self, site: Site) -> list[Tensor]:
        point = site.loci["contribution"]
        at = self.case.profiles[point]
        removal = Removal(point=point, window=None, start=at.mean, scale=at.rms)
        return fit_removals(self.replayer, self.case.tapes, [removal], self.budget.fit_steps, self.until)

    def _large_random(self, site: Site) -> Tensor:
        at = self.case.profiles[site.loci["read"]]
        return 100 * (at.rms + 1) * torch.randn(at.mean.shape, generator=self.generator).to(at.mean)

    def _windows(self, site: Site, windows: Sequence[int]) -> Conditions:
        if self.case.methods[site.name] == "none" or site.whole is None:
            return {}
        n_tokens = self.case.profiles[site.whole].n_tokens
        chosen = sorted({window for window in windows if window < n_tokens})
        return {("window", site.name, str(window)): window_edit(site, window) for window in chosen}
