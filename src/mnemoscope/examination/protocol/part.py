"""Effects, headroom and shares on one part of the test data: all of it, or a subset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from mnemoscope.examination.judgement.family import Level, adjusted
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.judgement.tally import Key, Losses
from mnemoscope.examination.protocol.conditions import ROUTES
from mnemoscope.examination.subject.sites import Site
from mnemoscope.runs.examination import Estimate, HorizonPoint, InterventionName, Locus

LEAST_MARGIN_NATS = 0.01
MARGIN_OF_HEADROOM = 0.02
CONSTANT_OUTPUT: Key = ("constant output",)
"""The condition under which the best constant output takes the model's place."""

SINGLE_EFFECTS: tuple[InterventionName, ...] = get_args(InterventionName)

HEADROOM: tuple[str, str] = ("", "headroom")


@dataclass(frozen=True, kw_only=True)
class Player:
    """What a verdict is asked of: one memory site, or a group of them that is switched off together."""

    name: str
    members: tuple[str, ...]
    site: Site | None

    @classmethod
    def of(cls, site: Site) -> "Player":
        """One site."""
        return cls(name=site.name, members=(site.name,), site=site)


class Part:
    """Paired differences, and what is made of them.

    Args:
        losses: per-sequence losses by condition.
        players: memories and groups of them.
        memories: names of all memory sites.
        local_window: tokens of history that count as local.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        level: of everything that decides together, and of each interval that is shown.
    """

    def __init__(
        self,
        losses: Mapping[Key, Losses],
        players: Sequence[Player],
        memories: Sequence[str],
        local_window: int,
        n_resamples: int,
        seed: int,
        level: Level,
    ) -> None:
        self.losses, self.local_window, self.level = losses, local_window, level
        self.base = losses[()]
        self.memories = frozenset(memories)
        self.has_routes = ("off", ROUTES) in losses
        self.routes = frozenset({ROUTES} if self.has_routes else ())
        self.everything = self.memories | self.routes
        self.bootstrap = Bootstrap(len(self.base), n_resamples, seed)
        self.headroom = self.estimate(self.cost(self.everything))
        capped = self.headroom.value
        if CONSTANT_OUTPUT in losses:
            capped = min(capped, float(self.difference(CONSTANT_OUTPUT).mean()))
        self.headroom_nats = max(capped, 0.0)
        self.margin = max(LEAST_MARGIN_NATS, MARGIN_OF_HEADROOM * self.headroom_nats)
        self._family = self._adjusted(players)

    def deciding(self, player: Player, name: str) -> Estimate | None:
        """An effect that decides, with the interval that Holm's adjustment leaves to it."""
        return self._family.get(HEADROOM if name == "headroom" else (player.name, name))

    def effects(self, player: Player, locus: Locus) -> dict[InterventionName, Estimate]:
        """Single effects at a locus, each with an interval of its own."""
        found: dict[InterventionName, Estimate] = {}
        for name in SINGLE_EFFECTS:
            values = self._single(player, locus, name)
            if values is not None:
                found[name] = self.estimate(values)
        return found

    def horizon(self, name: str) -> list[HorizonPoint]:
        """Effects of cutting the history, shortest window first."""
        windows = sorted(int(key[2]) for key in self.losses if key[:2] == ("window", name))
        return [
            HorizonPoint(window=w, effect=self.estimate(self.difference(("window", name, str(w))))) for w in windows
        ]

    def difference(self, key: Key) -> Losses:
        """Loss increase per sequence under a condition."""
        return self.losses[key] - self.base

    def estimate(self, values: Losses) -> Estimate:
        """Mean with its interval."""
        return self.bootstrap.mean(values, self.level.confidence())

    def gain(self) -> Estimate | None:
        """What the model is better than the best constant output; None where there is no such thing."""
        return self.estimate(self.difference(CONSTANT_OUTPUT)) if CONSTANT_OUTPUT in self.losses else None

    def cost(self, coalition: frozenset[str]) -> Losses:
        """Loss increase per sequence with the coalition switched off."""
        return self.difference(("off", *sorted(coalition))) if coalition else np.zeros_like(self.base)

    def capped(self, coalition: frozenset[str]) -> Losses:
        """Cost with its mean brought down to the headroom, since no information is worth more than all of it.

        Removals of routes leave the network off its distribution and can cost more than a constant output does.
        """
        cost = self.cost(coalition)
        return cost - max(float(cost.mean()) - self.headroom_nats, 0.0)

    def conditional(self, members: frozenset[str]) -> Losses | None:
        """What the members are worth when everything else is off already; None where there is nothing else.

        The rest may cost more than everything together does: then the members do harm there, and are no backup.
        """
        rest = self.everything - members
        return self.capped(self.everything) - self.cost(rest) if rest else None

    def of_headroom(self, value: float) -> float | None:
        """As a fraction of the headroom."""
        return value / self.headroom_nats if self.headroom_nats > 0 else None

    def sufficiency(self, members: frozenset[str]) -> float | None:
        """One minus the cost of everything else, as a fraction of the headroom."""
        lost = self.of_headroom(float(self.capped(self.everything - members).mean()))
        return None if lost is None else 1 - lost

    def share(self, members: frozenset[str]) -> Estimate | None:
        """Shapley share of the headroom; the players are these, all other memories, and all routes."""
        rest = [group for group in (self.memories - members, self.routes) if group]
        weights = {0: [1.0], 1: [1 / 2, 1 / 2], 2: [1 / 3, 1 / 6, 1 / 3]}[len(rest)]
        value = np.zeros_like(self.base)
        for mask in range(2 ** len(rest)):
            chosen = [group for i, group in enumerate(rest) if mask >> i & 1]
            before = frozenset().union(*chosen)
            value += weights[len(chosen)] * (self.capped(before | members) - self.capped(before))
        return self.bootstrap.ratio(value, self.capped(self.everything), self.level.confidence())

    def _single(self, player: Player, locus: Locus, name: InterventionName) -> Losses | None:
        fitted_with_others = locus == "read" and name == "optimal_constant"
        key = ("off", *sorted(player.members)) if fitted_with_others else (locus, player.name, name)
        return self.difference(key) if key in self.losses else None

    def _adjusted(self, players: Sequence[Player]) -> dict[tuple[str, str], Estimate]:
        values: dict[tuple[str, str], Losses] = {HEADROOM: self.cost(self.everything)}
        for player in players:
            for name, found in self._deciding_values(player).items():
                if found is not None:
                    values[player.name, name] = found
        return adjusted(values, self.margin, self.bootstrap, self.level)

    def _deciding_values(self, player: Player) -> dict[str, Losses | None]:
        cut = ("window", player.name, str(self.local_window))
        single = ("single", player.name)
        return {
            "optimal_constant": self._single(player, "read", "optimal_constant"),
            "position_constant": self._single(player, "read", "position_constant"),
            "zero": self._single(player, "read", "zero"),
            "random_constant": self._single(player, "read", "random_constant"),
            "conditional": self.conditional(frozenset(player.members)),
            "local_horizon": self.difference(cut) if cut in self.losses else None,
            "single_vector": self.difference(single) if single in self.losses else None,
        }
