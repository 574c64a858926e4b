"""Finding what is on trial: memory sites and the routes that could replace them, in any model."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from mnemoscope.contracts import POINT_NAMES, ReadPoint, Role, announced_role, listening
from mnemoscope.contracts.outputs import PART
from mnemoscope.contracts.paths import matches
from mnemoscope.examination.subject.adapters import Adapted, Found, adapted
from mnemoscope.examination.subject.heads import Portion, divided, without_portion
from mnemoscope.examination.subject.points import Point, Site, Sites
from mnemoscope.examination.subject.selectors import selected
from mnemoscope.runs.examination import Locus

__all__ = ["EVIDENCE", "Point", "Site", "Sites", "find_sites"]

EVIDENCE = ("gate", "addressing", "state")
"""Points that measures look at and no intervention replaces."""


def find_sites(
    model: nn.Module,
    run_once: Callable[[], object],
    sites: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    heads: bool = False,
) -> Sites:
    """Sites by announcement, by what is known of Hugging Face classes, or by the user's path patterns.

    Where a model announces nothing, its modules are looked up by class name (see `subject.adapters`).

    Args:
        model: any module.
        run_once: runs the model on one batch; needed to hear its taps.
        sites: path patterns of memories ("blocks.*.memory"), a module's further tensors by `path::name` or
            `path::number`, or selectors of other libraries (see `subject.selectors`); None for every
            announced memory. A module under several paths is one site. `[heads]`, `[head 2]` or `[channels 0:16]`
            behind a pattern names parts of its read (see `subject.heads`).
        routes: path patterns of routes; None for every announced one; an empty sequence says that there are none.
        heads: every memory by its heads, where it is known to have several.

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
    wanted: dict[str, list[Portion]] = {}
    memories = (
        _with_role(announced, "memory") if sites is None else _by_pattern(model, announced, sites, "memory", wanted)
    )
    beside = _with_role(announced, "route") if routes is None else _by_pattern(model, announced, routes, "route", {})
    taken = {site.name for site in memories}
    if not memories:
        raise ValueError(
            "examine: found no memory site: no module announces one by read points and no tap was heard; give sites=, "
            f"path patterns of modules, for instance from: {', '.join(_some_paths(model, announced))}"
        )
    parts, remarks = divided(model, run_once, memories, wanted, heads)
    return Sites(
        memories=parts,
        remarks=remarks,
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


def _by_pattern(
    model: nn.Module,
    announced: Sequence[Site],
    patterns: Sequence[str],
    role: Role,
    wanted: dict[str, list[Portion]],
) -> tuple[Site, ...]:
    """Whole sites; the parts that are named of them are added to `wanted`."""
    if isinstance(patterns, str):
        raise ValueError(
            f"examine: {role} patterns must be a sequence of strings, got one string; write [{patterns!r}]"
        )
    known = {site.name: site for site in announced} | {site.owner: site for site in announced if site.owner is not None}
    paths = _paths(model)
    found: dict[str, Site] = {}
    for selector in patterns:
        given, portion = without_portion(selector)
        if portion is not None and role == "route":
            raise ValueError(f"examine: routes are switched off as a whole, got {selector!r}; write {given!r}")
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
            portions = wanted.get(site.name, [])
            if site.name in found and (portion is None) != (not portions):
                raise ValueError(f"examine: {site.name} is named as a whole and in parts, got {selector!r}; choose one")
            found[site.name] = replace(site, role=role)
            if portion is not None:
                wanted[site.name] = [*portions, portion]
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
