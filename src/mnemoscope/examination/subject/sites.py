"""Finding what is on trial: memory sites and the routes that could replace them, in any model."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from mnemoscope.contracts import POINT_NAMES, ReadPoint, Role, announced_role, listening
from mnemoscope.examination.subject.adapters import Adapted, Found, adapted
from mnemoscope.examination.subject.outputs import PART
from mnemoscope.examination.subject.selectors import matches, selected
from mnemoscope.runs.examination import Locus

EVIDENCE = ("gate", "addressing", "state")
"""Points that measures look at and no intervention replaces."""


@dataclass(frozen=True)
class Point:
    """A place whose tensor can be seen and replaced: the output of a module, its first tensor input, or a `tap`.

    `within` is for an input that its module is given as (b*t*h, d): the path of the module around it that is called
    with (b, t, ...). Interventions see (b, t, h, d). `part` is for a module that returns several tensors: the name or
    number of the one meant; None for the first.
    """

    path: str
    kind: Literal["module", "input", "tap"] = "module"
    within: str | None = None
    part: str | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """A memory, or a route that could replace one.

    Args:
        name: dotted path, or the prefix of its taps.
        role: memory or route.
        owner: path of the module that maps (b, t, d) to (b, t, d); None for taps, whose state cannot be edited.
        loci: where its read and its contribution can be replaced.
        evidence: other points by name: `gate`, `addressing` and `state`, where there are.
        reach: how many tokens it looks back to, the present one included; None for all, or where only a `Windowed`
            owner can say.
        part: which of the tensors that the owner returns is its output; None for the first.
    """

    name: str
    role: Role
    owner: str | None
    loci: dict[Locus, Point]
    evidence: dict[str, Point] = field(default_factory=dict)
    reach: int | None = None
    part: str | None = None

    @property
    def whole(self) -> Point | None:
        """The output of the owner; None for taps."""
        return None if self.owner is None else Point(self.owner, part=self.part)


@dataclass(frozen=True, kw_only=True)
class Sites:
    """All memory sites and routes of a model; `routes_known` is False where nobody could say what the routes are."""

    memories: tuple[Site, ...]
    routes: tuple[Site, ...]
    routes_known: bool


def find_sites(
    model: nn.Module,
    run_once: Callable[[], object],
    sites: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
) -> Sites:
    """Sites by announcement, by what is known of Hugging Face classes, or by the user's path patterns.

    Where a model announces nothing, its modules are looked up by class name (see `subject.adapters`).

    Args:
        model: any module.
        run_once: runs the model on one batch; needed to hear its taps.
        sites: path patterns of memories ("blocks.*.memory"), a module's further tensors by `path::name` or
            `path::number`, or selectors of other libraries (see `subject.selectors`); None for every
            announced memory. A module under several paths is one site.
        routes: path patterns of routes; None for every announced one; an empty sequence says that there are none.

    Raises:
        ValueError: where a pattern matches nothing, or nothing is announced and no pattern is given.
    """
    announced = _announced(model) + _tapped(run_once)
    by_class = Adapted((), ()) if announced else adapted(model)
    announced += tuple(_adapted_site(found) for found in by_class.found)
    names = [site.name for site in announced]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"examine: {', '.join(twice)} is announced twice, by read points and by taps; rename the taps")
    memories = _by_pattern(model, announced, sites, "memory") if sites is not None else _with_role(announced, "memory")
    beside = _by_pattern(model, announced, routes, "route") if routes is not None else _with_role(announced, "route")
    taken = {site.name for site in memories}
    if not memories:
        raise ValueError(
            "examine: found no memory site: no module announces one by read points and no tap was heard; give sites=, "
            f"path patterns of modules, for instance from: {', '.join(_some_paths(model, announced))}"
        )
    return Sites(
        memories=memories,
        routes=tuple(site for site in beside if site.name not in taken),
        routes_known=routes is not None
        or (any(site.owner is not None for site in announced) and not by_class.strangers),
    )


def _with_role(sites: Sequence[Site], role: Role) -> tuple[Site, ...]:
    return tuple(site for site in sites if site.role == role)


def _announced(model: nn.Module) -> tuple[Site, ...]:
    modules = dict(model.named_modules())
    roles: dict[str, Role] = {}
    for path, module in modules.items():
        role = announced_role(module)
        if role is not None:
            roles[path] = role
    return tuple(_announced_site(path, role, modules, list(roles)) for path, role in roles.items())


def _announced_site(path: str, role: Role, modules: Mapping[str, nn.Module], owners: Sequence[str]) -> Site:
    """The contribution (and the gate) of a read are the outermost ones whose holder contains no other read."""
    holder, parts = path, path.split(".") if path else []
    for depth in range(len(parts) - 1, -1, -1):
        outer = ".".join(parts[:depth])
        if sum(not outer or owner == outer or owner.startswith(f"{outer}.") for owner in owners) > 1:
            break
        if _is_point(modules.get(_join(outer, "contribution"))):
            holder = outer
    loci: dict[Locus, Point] = {"read": Point(_join(path, "read"))}
    if _is_point(modules.get(_join(holder, "contribution"))):
        loci["contribution"] = Point(_join(holder, "contribution"))
    evidence = {
        name: Point(_join(place, name))
        for name in EVIDENCE
        for place in (path, holder)
        if _is_point(modules.get(_join(place, name)))
    }
    return Site(name=holder or "model", role=role, owner=path, loci=loci, evidence=evidence)


def _adapted_site(found: Found) -> Site:
    mixer = found.mixer
    return Site(
        name=found.path or "model",
        role=mixer.role,
        owner=found.path,
        loci={
            "read": Point(found.read, mixer.seen_at, within=found.path if mixer.flattened else None),
            "contribution": Point(found.path),
        },
        evidence={} if found.gate is None else {"gate": Point(found.gate)},
        reach=found.reach,
    )


def _tapped(run_once: Callable[[], object]) -> tuple[Site, ...]:
    heard: dict[str, dict[str, Point]] = {}

    def hear(name: str, tensor: Tensor) -> Tensor:
        prefix, _, point = name.rpartition(".")
        if not prefix and name not in POINT_NAMES:
            prefix, point = name, "read"
        heard.setdefault(prefix or "model", {})[point] = Point(name, "tap")
        return tensor

    with listening(hear):
        run_once()
    return tuple(_tapped_site(prefix, points) for prefix, points in heard.items() if "read" in points)


def _tapped_site(prefix: str, points: dict[str, Point]) -> Site:
    loci: dict[Locus, Point] = {"read": points["read"]}
    if "contribution" in points:
        loci["contribution"] = points["contribution"]
    evidence = {name: points[name] for name in EVIDENCE if name in points}
    return Site(name=prefix, role="memory", owner=None, loci=loci, evidence=evidence)


def _by_pattern(model: nn.Module, announced: Sequence[Site], patterns: Sequence[str], role: Role) -> tuple[Site, ...]:
    if isinstance(patterns, str):
        raise ValueError(
            f"examine: {role} patterns must be a sequence of strings, got one string; write [{patterns!r}]"
        )
    known = {site.name: site for site in announced} | {site.owner: site for site in announced if site.owner is not None}
    paths = _paths(model)
    found: dict[str, Site] = {}
    for given in patterns:
        pattern, end, part = selected(given, [*paths, *known])
        fitting = [path for path in [*paths, *known] if matches(path, pattern)]
        if not fitting:
            raise ValueError(
                f"examine: no module matches the {role} pattern {pattern!r}; nearest: {_nearest(pattern, list(paths))}"
            )
        for path in fitting:
            first = paths.get(path, path)
            plain = Site(name=first, role=role, owner=first, loci={"read": Point(first)})
            site = _with_part(first, part, role) if part else known.get(first, plain)
            site = _at_input(first, role) if end == "input" else site
            found[site.name] = replace(site, role=role)
    return tuple(found.values())


def _with_part(path: str, part: str, role: Role) -> Site:
    return Site(
        name=f"{path}{PART}{part}", role=role, owner=path, loci={"read": Point(path, part=part)}, evidence={}, part=part
    )


def _at_input(path: str, role: Role) -> Site:
    return Site(name=f"{path}.input", role=role, owner=None, loci={"read": Point(path, "input")})


def _paths(model: nn.Module) -> dict[str, str]:
    """Every path of a module, with the first path under which the same module is found."""
    first = {id(module): path for path, module in model.named_modules()}
    return {
        path: first[id(module)]
        for path, module in model.named_modules(remove_duplicate=False)
        if path and not _is_point(module)
    }


def _nearest(pattern: str, paths: Sequence[str]) -> str:
    """The same path further in (a wrapper may have moved it), else the one most alike."""
    within = [path for path in paths if matches(".".join(path.split(".")[-len(pattern.split(".")) :]), pattern)]
    close = within[:1] or difflib.get_close_matches(pattern, paths, n=1, cutoff=0.0)
    return ", ".join(close) or "none"


def _some_paths(model: nn.Module, known: Sequence[Site]) -> list[str]:
    """Where there are routes, any of them can be put on trial."""
    paths = [path for path, module in model.named_modules() if path and next(module.children(), None) is not None]
    return [site.name for site in known][:12] or paths[:12] or ["(the model has no submodules)"]


def _is_point(module: nn.Module | None) -> bool:
    return isinstance(module, ReadPoint)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
