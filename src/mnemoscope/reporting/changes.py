"""Two examinations side by side: what changed between two checkpoints of a model, or two models.

The record of an examination holds intervals and not the losses of every sequence, so two effects cannot be paired,
even where both were measured on the same sequences. The interval of their difference is that of independent ones:

    (b - a) - sqrt((b - b_low)^2 + (a_high - a)^2)   to   (b - a) + sqrt((b_high - b)^2 + (a - a_low)^2)

It is wider than a paired one would be: what is called a change here is one, what is not may still be.
"""

from dataclasses import dataclass
from math import hypot

from mnemoscope.runs import Estimate, Examination, SiteRecord
from mnemoscope.runs.examination import Verdict


@dataclass(frozen=True, kw_only=True)
class Change:
    """One site in both examinations; None where one of them has none of that name.

    Args:
        name: of the site or group.
        verdicts: in the first and in the second.
        effects: of the optimal constant, in nats.
        difference: the second less the first, with the interval of independent ones.
    """

    name: str
    verdicts: tuple[Verdict | None, Verdict | None]
    effects: tuple[Estimate | None, Estimate | None]
    difference: Estimate | None

    @property
    def is_beyond_both(self) -> bool:
        """Whether the effect changed by more than the two intervals leave open."""
        return self.difference is not None and not self.difference.low <= 0 <= self.difference.high

    @property
    def is_another_verdict(self) -> bool:
        """Whether the verdict changed."""
        return self.verdicts[0] != self.verdicts[1]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed between two examinations.

    Args:
        names: what to call them.
        changes: of every site and group, in the order of the second.
        loss: change of the loss.
        losses: in the first and in the second.
        remarks: what makes the two hard to compare.
    """

    names: tuple[str, str]
    changes: tuple[Change, ...]
    loss: Estimate
    losses: tuple[Estimate, Estimate]
    remarks: tuple[str, ...]


def compare(first: Examination, second: Examination, names: tuple[str, str] = ("first", "second")) -> Comparison:
    """What changed from one examination to the other; sites are matched by name."""
    before, after = _by_name(first), _by_name(second)
    changes = [_change(name, before.get(name), after.get(name)) for name in [*after, *(before.keys() - after.keys())]]
    return Comparison(
        names=names,
        changes=tuple(changes),
        loss=difference(first.base_loss, second.base_loss),
        losses=(first.base_loss, second.base_loss),
        remarks=tuple(_remarks(first, second)),
    )


def difference(before: Estimate, after: Estimate) -> Estimate:
    """`after` less `before` where the two are independent; see the top of this file."""
    value = after.value - before.value
    return Estimate(
        value=value,
        low=value - hypot(after.value - after.low, before.high - before.value),
        high=value + hypot(after.high - after.value, before.value - before.low),
        level=min(before.level, after.level),
    )


def _by_name(examination: Examination) -> dict[str, SiteRecord]:
    return {site.name: site for site in (*examination.sites, *examination.groups)}


def _change(name: str, before: SiteRecord | None, after: SiteRecord | None) -> Change:
    effects = _effect(before), _effect(after)
    return Change(
        name=name,
        verdicts=(None if before is None else before.verdict, None if after is None else after.verdict),
        effects=effects,
        difference=None if effects[0] is None or effects[1] is None else difference(effects[0], effects[1]),
    )


def _effect(site: SiteRecord | None) -> Estimate | None:
    return None if site is None else site.effects.get("read", {}).get("optimal_constant")


def _remarks(first: Examination, second: Examination) -> list[str]:
    found = []
    if {site.name for site in first.sites} != {site.name for site in second.sites}:
        found.append("the two have other sites: only those of the same name are compared")
    if first.local_window != second.local_window:
        found.append(
            f"what counts as local differs, {first.local_window} and {second.local_window} tokens: give both the same "
            "--local-window"
        )
    for name, examination in (("first", first), ("second", second)):
        found += [f"the {name} lacks {line}" for line in examination.missing]
    return found
