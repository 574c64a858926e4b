"""What is done to a model: removals of sites and routes, alone and together, and the conditions of the test pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.histories import WriteFreeze
from mnemoscope.examination.interventions.inner import Inside, is_inside
from mnemoscope.examination.interventions.reads import (
    Constant,
    PositionConstant,
    Resample,
    Window,
    WithoutDirections,
    Zero,
)
from mnemoscope.examination.protocol.fit import Removal, fit_removals, mean_loss, tuning
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.losses import real_tokens
from mnemoscope.examination.subject.sites import Point, Site

ROUTES = "(routes)"
"""The name under which all long-range routes together are a player."""

Coalition = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a point produced on the calibration sequences: its mean, root mean square and time axis.

    `by_position` is the mean at every position, None where there is no time axis or its length varies.
    """

    mean: Tensor
    by_position: Tensor | None
    rms: float
    norm: float
    n_tokens: int


class Moments:
    """Running moments of what a point produces but for padding, batch by batch, so that no batch need be kept."""

    def __init__(self, point: Point) -> None:
        self.point, self.n_calls, self.n_tokens = point, 0, 1
        self.mean, self.square = torch.zeros(()), 0.0
        self.by_position: Tensor | None = None

    def see(self, tape: Tape) -> None:
        """Take in the values of a tape.

        Raises:
            ValueError: where the site did not run, or its values are not floating-point numbers, or not finite.
        """
        values = tape.values.get(self.point, [])
        if not values:
            raise ValueError(
                f"examine: {self.point.path} did not run on every batch; leave it out of sites= and routes="
            )
        for value in values:
            if not value.is_floating_point() or value.ndim < 2:
                raise ValueError(
                    f"examine: {self.point.path} must produce floating-point values (b, t, ...) or (b, d), got "
                    f"{value.dtype} of shape {tuple(value.shape)}; choose another module, or another tensor of its "
                    "output by path::name"
                )
            precise = value.detach().to(torch.promote_types(value.dtype, torch.float32))
            real = real_tokens(tape.batch, value)
            rows = precise.flatten(0, 1) if value.ndim >= 3 else precise
            rows = rows if real is None else rows[real.flatten()]
            mean = rows.mean(0)
            if not bool(torch.isfinite(precise.mean())):
                raise ValueError(
                    f"examine: {self.point.path} produces values that are not finite; mend the model first"
                )
            self.n_calls += 1
            self.mean = self.mean.to(mean) + (mean - self.mean.to(mean)) / self.n_calls
            self._see_positions(precise, real)
            self.square += (float(in_float64(rows).square().mean()) - self.square) / self.n_calls
            self.n_tokens = max(self.n_tokens, value.shape[1] if value.ndim >= 3 else 1)

    def _see_positions(self, value: Tensor, real: Tensor | None) -> None:
        if real is not None:  # where every sequence is padded stands the mean of all
            weights = real.view(*real.shape, *[1] * (value.ndim - 2)).to(value)
            counts = weights.sum(0)
            value = torch.where(counts > 0, (value * weights).sum(0) / counts.clamp_min(1), self.mean).unsqueeze(0)
        if self.n_calls == 1:
            self.by_position = value.mean(0) if value.ndim >= 3 else None
        elif self.by_position is not None:
            same = value.ndim >= 3 and value.shape[1:] == self.by_position.shape
            mean = value.mean(0) if same else None
            self.by_position = None if mean is None else self.by_position + (mean - self.by_position) / self.n_calls

    def profile(self) -> Profile:
        """Moments over all calls."""
        norm = (self.square * self.mean.numel()) ** 0.5
        return Profile(
            mean=self.mean, by_position=self.by_position, rms=self.square**0.5, norm=norm, n_tokens=self.n_tokens
        )


def profile(tapes: Sequence[Tape], point: Point) -> Profile:
    """Moments of the values kept on tapes, over batch and time."""
    moments = Moments(point)
    for tape in tapes:
        moments.see(tape)
    return moments.profile()


def removal_of_memory(site: Site, profiles: Mapping[Point, Profile]) -> Removal:
    """The read becomes one constant."""
    point = site.loci["read"]
    return Removal(point=point, window=None, start=profiles[point].mean, scale=profiles[point].rms)


def removal_of_route(
    site: Site, reach: int | None, can_be_windowed: bool, profiles: Mapping[Point, Profile], local_window: int
) -> Removal | None:
    """What lies beyond the local window becomes a constant; the whole read does where no window can be set.

    None for a route that does not look further than the local window.

    Args:
        site: the route.
        reach: how many tokens it looks back to; None for all.
        can_be_windowed: whether its module, or a mask, can answer for windows.
        profiles: what every point produced.
        local_window: tokens of history that stay.
    """
    if reach is not None and reach <= local_window:
        return None
    if site.whole is None or not can_be_windowed:
        return removal_of_memory(site, profiles)
    output = profiles[site.whole]
    return Removal(point=site.whole, window=local_window, start=torch.zeros_like(output.mean), scale=output.rms)


def coalitions(players: Sequence[Coalition], memories: Coalition, has_routes: bool) -> list[Coalition]:
    """What must be switched off together so that every conditional effect and share can be computed.

    For each player (a memory, or a group of them) the parties are the player, all other memories, and all routes.
    """
    routes = frozenset({ROUTES} if has_routes else ())
    needed: set[Coalition] = {memories}
    for player in players:
        parties = [player, memories - player, routes]
        for n in range(1, 4):
            for group in combinations(parties, n):
                needed.add(frozenset().union(*group))
    return sorted((group for group in needed if group), key=lambda group: (len(group), sorted(group)))


class Fitted:
    """Optimal constants of every coalition.

    A joint fit starts from that of the largest coalition within it, so that the difference of the two (a conditional
    effect) holds what was added and not the luck of two fits.
    """

    def __init__(
        self,
        replayer: Replayer,
        tapes: Sequence[Tape],
        players: Mapping[str, Sequence[Removal]],
        budget: Budget,
        until: float = torch.inf,
    ) -> None:
        self.replayer, self.tapes, self.budget, self.until = replayer, tapes, budget, until
        self.players = players
        self.removals: dict[Coalition, dict[str, list[Removal]]] = {}

    def fit(self, coalition: Coalition, within: Coalition | None) -> list[Tensor]:
        """Constants of all its removals; jointly, they start from those of the coalition within it."""
        if within is None:
            (name,) = coalition
            return self._fit({name: self._started(self.players[name])}, self.budget.fit_steps)
        alone = {name: self.removals[frozenset({name})][name] for name in sorted(coalition)}
        return self._fit(alone | self.removals[within], self.budget.joint_fit_steps)

    def keep(self, coalition: Coalition, constants: Sequence[Tensor]) -> None:
        """What was fitted for a coalition."""
        left = iter(constants)
        self.removals[coalition] = {
            name: [removal.at(next(left)) for removal in self.players[name]] for name in sorted(coalition)
        }

    def edits(self, coalition: Coalition) -> list[Edit]:
        """Everything in the coalition switched off, with jointly fitted constants."""
        fitted = [removal for removals in self._fitted(coalition).values() for removal in removals]
        return [Edit(removal.point, removal.intervention(removal.start)) for removal in fitted]

    def by_position(self, coalition: Coalition, profiles: Mapping[Point, Profile]) -> list[Edit]:
        """Reads become constants of their own at every position; nothing where a read has no time axis."""
        return self.edits_by_position(coalition, self.fit_by_position(coalition, profiles))

    def edits_by_position(self, coalition: Coalition, constants: Sequence[Tensor]) -> list[Edit]:
        """What was fitted by position, put in place; nothing where nothing was fitted."""
        fitted = [removal for removals in self._fitted(coalition).values() for removal in removals]
        return [
            Edit(removal.point, PositionConstant(constant))
            for removal, constant in zip(fitted, constants, strict=bool(constants))
        ]

    def fit_by_position(self, coalition: Coalition, profiles: Mapping[Point, Profile]) -> list[Tensor]:
        """Constants for every position; none where a read has no time axis.

        The fit starts at the best single constants or at the means of each position, whichever costs less.
        """
        fitted = [removal for removals in self._fitted(coalition).values() for removal in removals]
        means = [profiles[removal.point].by_position for removal in fitted]
        if any(mean is None for mean in means):
            return []
        at_means = [
            _by_position(removal, mean) for removal, mean in zip(fitted, means, strict=True) if mean is not None
        ]
        alone = [
            _by_position(removal, removal.start.to(other.start).expand_as(other.start))
            for removal, other in zip(fitted, at_means, strict=True)
        ]
        best = min((alone, at_means), key=self._cost)
        return fit_removals(self.replayer, self.tapes, best, self.budget.joint_fit_steps, self.until)

    def cost_when_tuning(self, coalition: Coalition) -> float:
        """What switching the coalition off costs on the tuning sequences, in nats."""
        off = self._cost([removal for removals in self._fitted(coalition).values() for removal in removals])
        return off - float(torch.cat([tape.scores.per_sequence for tape in tuning(self.tapes)]).mean())

    def _started(self, removals: Sequence[Removal]) -> list[Removal]:
        """At the means, or at zeros if these cost less: the best constant is no worse than either."""
        zeros = [removal.at(torch.zeros_like(removal.start)) for removal in removals]
        return min((list(removals), zeros), key=self._cost)

    def _cost(self, removals: Sequence[Removal]) -> float:
        return mean_loss(self.replayer, tuning(self.tapes), removals, [removal.start for removal in removals])

    def _fitted(self, coalition: Coalition) -> dict[str, list[Removal]]:
        if coalition not in self.removals:
            for earlier, within in starts([*self.removals, coalition], self.players).items():
                if earlier not in self.removals:
                    self.keep(earlier, self.fit(earlier, within))
        return self.removals[coalition]

    def _fit(self, players: Mapping[str, Sequence[Removal]], max_steps: int) -> list[Tensor]:
        """Constants, starting at what was fitted."""
        together = [removal for removals in players.values() for removal in removals]
        return fit_removals(self.replayer, self.tapes, together, max_steps, self.until)


def starts(needed: Sequence[Coalition], players: Mapping[str, object]) -> dict[Coalition, Coalition | None]:
    """The coalition at whose constants each fit starts, in the order of the fits; None for single players."""
    found: dict[Coalition, Coalition | None] = {frozenset({name}): None for name in players}
    for coalition in needed:
        if coalition not in found:
            found[coalition] = max((c for c in found if c < coalition), key=lambda c: (len(c), ROUTES in c))
    return found


def _by_position(removal: Removal, start: Tensor) -> Removal:
    return replace(removal, start=start.clone(), by_position=True)


def fixed_edits(
    site_profile: Profile, point: Point, generator: torch.Generator, n_directions: int | None = None
) -> dict[str, list[Edit]]:
    """What needs no fit: zero, means, resample, an equal-norm random constant, and random directions taken out.

    Args:
        site_profile: what the point produced.
        point: where.
        generator: of what is random.
        n_directions: as many as the value has of its own; None to leave that control out.
    """
    mean = site_profile.mean
    direction = torch.randn(mean.shape, generator=generator).to(mean)
    random_constant = direction * (site_profile.norm / direction.norm().clamp_min(1e-30))
    found = {
        "zero": [Edit(point, Zero())],
        "mean": [Edit(point, Constant(mean))],
        "resample": [Edit(point, Resample())],
        "random_constant": [Edit(point, Constant(random_constant))],
    }
    if site_profile.by_position is not None:
        found["position_mean"] = [Edit(point, PositionConstant(site_profile.by_position))]
    if n_directions is not None and mean.ndim == 1:
        basis = torch.linalg.qr(torch.randn(len(mean), min(n_directions, len(mean)), generator=generator)).Q
        found["random_directions"] = [Edit(point, WithoutDirections(mean, basis.to(mean)))]
    return found


def window_edit(site: Site, tokens: int) -> list[Edit]:
    """Only the last tokens in memory."""
    return history_edit(site, Window(tokens))


def history_edit(site: Site, history: Window | WriteFreeze) -> list[Edit]:
    """Another history at a site; of a part, where it is read, since behind the owner's projection parts are mixed."""
    assert site.whole is not None
    read, channels = site.loci["read"], site.channels
    if channels is None:
        return [Edit(site.whole, history)]
    if is_inside(site.owner, read):
        inside = Inside(history, site.whole.path, replace(read, channels=None), (channels,))
        return [Edit(site.whole, inside)]
    return [Edit(replace(site.whole, channels=channels), history)]


def together(edits: Sequence[Edit]) -> list[Edit]:
    """Edits of several parts of one module as one, since each answers for its module's whole output."""
    found: dict[Point, Edit] = {}
    rest: list[Edit] = []
    for edit in edits:
        other = found.get(edit.point)
        if not isinstance(edit.intervention, Inside):
            rest.append(edit)
        elif other is None:
            found[edit.point] = edit
        else:
            assert isinstance(other.intervention, Inside)
            found[edit.point] = Edit(edit.point, other.intervention.with_parts(edit.intervention.parts))
    return [*rest, *found.values()]
