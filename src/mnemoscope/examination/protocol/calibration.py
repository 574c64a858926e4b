"""Before anything is tested: which sequences fit, choose and test, and what every site produces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.reads import reach
from mnemoscope.examination.protocol.conditions import Moments, Profile
from mnemoscope.examination.protocol.fit import tuning
from mnemoscope.examination.protocol.horizon import Method, horizon_method
from mnemoscope.examination.protocol.part import Player
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.heads import fits
from mnemoscope.examination.subject.losses import Loss, score
from mnemoscope.examination.subject.sites import Point, Site, Sites

DEFAULT_LOCAL_WINDOW = 4
ALL_MEMORIES = "(memories)"
"""The group of all memory sites, which has a verdict of its own where there are several."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What stays fixed after calibration.

    Args:
        sites: memories and routes.
        groups: groups of memories.
        window: tokens of history that count as local.
        profiles: what every point produced.
        methods: how the history of each site and group is cut.
        tapes: the calibration sequences; `tuning(tapes)` choose, the others fit.
        warnings: what the user should know.
    """

    sites: Sites
    groups: tuple[Player, ...]
    window: int
    profiles: Mapping[Point, Profile]
    methods: Mapping[str, Method]
    tapes: list[Tape]
    warnings: list[str]

    @property
    def n_calibration(self) -> int:
        """Sequences that fit or choose."""
        return sum(len(tape.scores.per_sequence) for tape in self.tapes)

    @property
    def n_tuning(self) -> int:
        """Sequences that choose."""
        return sum(len(tape.scores.per_sequence) for tape in tuning(self.tapes))


def split(model: nn.Module, loss: Loss, batches: list[Any], budget: Budget) -> tuple[list[Any], list[Any], list[str]]:
    """Batches for calibration and for the test, as many as the budget asks for, and warnings.

    Where there are fewer, one in three calibrates.

    Raises:
        ValueError: fewer than four batches, or batches of a single sequence.
    """
    if len(batches) < 4:
        raise ValueError(
            f"examine: batches must hold at least 4 batches (2 to calibrate, 2 to test), got {len(batches)}; "
            "cut the data into smaller batches, of 2 sequences or more"
        )
    with torch.no_grad():
        size = len(score(loss, model, batches[0]).per_sequence)
    if size < 2:
        raise ValueError(
            f"examine: a batch must hold at least 2 sequences, since one is replaced by another's, got {size}"
        )
    n_calibration, n_test = max(2, -(-budget.n_calibration // size)), max(2, -(-budget.n_test // size))
    warnings = []
    if n_calibration + n_test > len(batches):
        n_calibration = max(2, len(batches) // 3)
        n_test = len(batches) - n_calibration
        warnings.append(
            f"the batches hold fewer sequences than the budget asks for: {n_calibration} batches calibrate, "
            f"{n_test} test"
        )
    return batches[:n_calibration], batches[n_calibration : n_calibration + n_test], warnings


def groups_of(sites: Sites, patterns: Mapping[str, Sequence[str]] | None) -> tuple[Player, ...]:
    """The parts of each memory, and the user's groups by path patterns; without any, all memories where there are more.

    Raises:
        ValueError: a pattern that matches no memory site, or a name that is taken.
    """
    names = [site.name for site in sites.memories]
    parts = _parts_together(sites)
    if patterns is None:
        everything = Player(name=ALL_MEMORIES, members=tuple(names), site=None)
        is_new = len(names) > 1 and all(group.members != everything.members for group in parts)
        return (*parts, everything) if is_new else parts
    found = list(parts)
    for group, wanted in patterns.items():
        members = tuple(name for name in names if any(fits(name, pattern) for pattern in wanted))
        if group in names or not members or isinstance(wanted, str):
            raise ValueError(
                f"examine: group {group!r} must have a name of its own and patterns, in a list, that match memory "
                f"sites, got {wanted!r}; the memory sites are {', '.join(names)}"
            )
        found.append(Player(name=group, members=members, site=None))
    return tuple(found)


def _parts_together(sites: Sites) -> tuple[Player, ...]:
    """What several parts of a memory are together, so that parts that back each other up are seen."""
    of: dict[str, list[Site]] = {}
    for site in sites.memories:
        of.setdefault(site.of or site.name, []).append(site)
    return tuple(
        Player(
            name=f"{'heads' if all('[head ' in part.name for part in parts) else 'parts'} of {name}",
            members=tuple(part.name for part in parts),
            site=None,
        )
        for name, parts in of.items()
        if len(parts) > 1
    )


def calibrate(
    replayer: Replayer, batches: list[Any], sites: Sites, groups: tuple[Player, ...], window: int | None, budget: Budget
) -> Case:
    """A clean pass of the calibration batches.

    Raises:
        ValueError: a local window that does not fit the sequences, or a site that cannot be examined.
    """
    points = [point for site in (*sites.memories, *sites.routes) for point in profiled(site)]
    tapes, kept, moments = [], 0, {point: Moments(point) for point in dict.fromkeys(points)}
    for batch in batches:
        tape = replayer.record(batch, keep=tuple(moments))
        kept += tape.n_bytes
        if kept > budget.tape_bytes:
            tape.calls.clear()
        for seen in moments.values():
            seen.see(tape)
        tape.values.clear()
        tapes.append(tape)
    profiles = {point: seen.profile() for point, seen in moments.items()}
    n_tokens = max(profile.n_tokens for profile in profiles.values())
    methods, warnings = _methods(replayer, tapes[0], sites, groups)
    chosen = window if window is not None else _default_window(replayer.modules, sites, n_tokens)
    if chosen < 1 or (window is not None and n_tokens > 1 and chosen >= n_tokens):
        raise ValueError(
            f"examine: local_window must be at least 1 and below the {n_tokens} tokens of a sequence, got {chosen}"
        )
    return Case(
        sites=sites,
        groups=groups,
        window=chosen,
        profiles=profiles,
        methods=methods,
        tapes=tapes,
        warnings=[*replayer.remarks, *warnings],
    )


def profiled(site: Site) -> list[Point]:
    """The points of a site whose values are put in place of others, or windowed."""
    return [*site.loci.values(), *([] if site.whole is None else [site.whole])]


def _methods(
    replayer: Replayer, tape: Tape, sites: Sites, groups: Sequence[Player]
) -> tuple[dict[str, Method], list[str]]:
    methods: dict[str, Method] = {}
    warnings = []
    of_whole: dict[str, Method] = {}
    for site in (*sites.memories, *sites.routes):
        whole = site.of or site.name
        if whole not in of_whole:
            of_whole[whole], warning = horizon_method(site, replayer.modules, replayer, tape)
            warnings += [warning] if warning else []
        methods[site.name] = of_whole[whole]
    for group in groups:
        of_members: list[Method] = [methods[name] for name in group.members]
        methods[group.name] = "none" if "none" in of_members else of_members[0]
    return methods, warnings


def _default_window(modules: Mapping[str, nn.Module], sites: Sites, n_tokens: int) -> int:
    reaches = [reach_of_site(route, modules) for route in sites.routes]
    short = [found for found in reaches if found is not None and found < n_tokens / 2]
    return max(1, min(max([DEFAULT_LOCAL_WINDOW, *short]), n_tokens - 1))


def reach_of_site(site: Site, modules: Mapping[str, nn.Module]) -> int | None:
    """How many tokens a site looks back to, the present one included; None for all, or where nobody can say."""
    owner = owner_of(site, modules)
    return site.reach if owner is None or site.reach is not None else reach(owner)


def owner_of(site: Site, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """The module that maps the site's sequence; None for taps."""
    return None if site.owner is None else modules[site.owner]
