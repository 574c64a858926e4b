"""Fits that wait for each other, spread over several processes wave by wave; each is done whole, by one of them."""

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from mnemoscope.examination.running.ranks import Ranks, shared

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fit.

    Args:
        work: gives the constants; empty where there is nothing to fit.
        keep: told of them on every rank, before anything that waits for it begins.
        cost: about how long it takes, in any unit.
        after: names of what must be there first.
    """

    work: Callable[[], list[Tensor]]
    keep: Callable[[list[Tensor]], None]
    cost: float
    after: Set[Hashable] = frozenset()


def fit_in_waves(fits: Mapping[Name, Fit], ranks: Ranks, told: Callable[[float], None]) -> None:
    """Do all fits; every rank keeps the constants of all.

    Args:
        fits: by name.
        ranks: that share them.
        told: how much is done, from 0 to 1.
    """
    left = dict(fits)
    while left:
        parts = wave(left, frozenset(fits) - frozenset(left), ranks.count)
        names = [name for part in parts for name in part]
        places = {name: i for i, name in enumerate(names)}
        found = shared(ranks, [fits[name].work for name in names], [[places[name] for name in part] for part in parts])
        for name, constants in zip(names, found, strict=True):
            left.pop(name).keep(constants)
        told(1 - len(left) / len(fits))


def wave(left: Mapping[Name, Fit], done: Set[Hashable], count: int) -> list[list[Name]]:
    """What each rank does next, the longest first: what others wait for, and what else fits beside it."""
    awaited = {name for fit in left.values() for name in fit.after}
    ready = sorted((name for name in left if left[name].after <= done), key=lambda name: -left[name].cost)
    urgent = [name for name in ready if name in awaited]
    parts, loads = [list[Name]() for _ in range(count)], [0.0] * count
    for name in urgent or ready:
        _put(name, left[name].cost, parts, loads)
    longest = max(loads)
    for name in [name for name in ready if name not in awaited] if urgent else []:
        if min(loads) + left[name].cost <= longest:
            _put(name, left[name].cost, parts, loads)
    return parts


def _put(name: Name, cost: float, parts: Sequence[list[Name]], loads: list[float]) -> None:
    """Where there is least to do."""
    least = loads.index(min(loads))
    parts[least].append(name)
    loads[least] += cost
