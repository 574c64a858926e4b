"""One instrumented pass over calibration sequences: the measures beside the verdict."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.examination.interventions.reads import window_input
from mnemoscope.examination.measures import gradient_share
from mnemoscope.examination.protocol.fit import frozen
from mnemoscope.examination.protocol.observed import Observed, Taken, measured, rows
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.announced_states import announced_states
from mnemoscope.examination.subject.calls import Call
from mnemoscope.examination.subject.losses import Loss, score
from mnemoscope.examination.subject.sites import Point, Site


class _Keep:
    """Changes nothing, and keeps every call; with `slopes`, adds a zero through which gradients are read."""

    def __init__(self, slopes: bool) -> None:
        self.slopes = slopes
        self.calls: list[Call] = []
        self.added: list[Tensor] = []

    def apply(self, call: Call) -> Tensor:
        """Pass the value on."""
        self.calls.append(call._replace(value=call.value.detach()))
        if not self.slopes or not call.value.is_floating_point():
            return call.value
        self.added.append(torch.zeros_like(call.value, requires_grad=True))
        return call.value + self.added[-1]

    @property
    def values(self) -> list[Tensor]:
        """What passed."""
        return [call.value for call in self.calls]


def measure(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    memories: Sequence[Site],
    routes: Sequence[Site],
    states: Mapping[str, Taken] | None = None,
) -> dict[str, dict[str, float]]:
    """Measures of every site and route by name, from one forward and one backward pass of a batch.

    `states` are those of sites that announce none (see `protocol.streaming`).
    """
    sites, modules = (*memories, *routes), dict(model.named_modules())
    reads = {site.loci["read"] for site in sites}
    keepers = {point: _Keep(slopes=point in reads) for site in sites for point in _points(site)}
    streams: dict[str, list[Tensor]] = {path: [] for site in sites for path in _blocks(site) if path in modules}
    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(edited(modules, [Edit(point, keeper) for point, keeper in keepers.items()]))
        for path, stream in streams.items():
            hook = modules[path].register_forward_pre_hook(_entering(stream), with_kwargs=True)
            stack.callback(hook.remove)
        total = score(loss, model, batch).per_sequence.sum()
        slopes = _slopes(total, {point: keepers[point] for point in reads})
    at = {site.name: site.loci["read"] for site in sites}
    shares = gradient_share(
        {name: torch.cat([rows(value) for value in keepers[point].values]) for name, point in at.items()},
        {name: torch.cat([rows(value) for value in slopes[point]]) for name, point in at.items()},
    )
    found: dict[str, dict[str, float]] = {}
    for site in sites:  # one after the other: the states of a site are large, and gone before the next are formed
        seen = replace(_observed(site, keepers, slopes, streams, modules), taken=(states or {}).get(site.name))
        found[site.name] = measured(seen) | {"gradient_share": shares[site.name]}
    return found


def _slopes(total: Tensor, keepers: Mapping[Point, _Keep]) -> dict[Point, list[Tensor]]:
    """The gradient of the losses at every call of every read."""
    added = [tensor for keeper in keepers.values() for tensor in keeper.added]
    found = torch.autograd.grad(total, added, allow_unused=True) if total.requires_grad else [None] * len(added)
    slopes = iter([torch.zeros_like(a) if g is None else g for a, g in zip(added, found, strict=True)])
    return {point: [next(slopes) for _ in keeper.added] for point, keeper in keepers.items()}


def _observed(
    site: Site,
    keepers: Mapping[Point, _Keep],
    slopes: Mapping[Point, list[Tensor]],
    streams: Mapping[str, list[Tensor]],
    modules: Mapping[str, nn.Module],
) -> Observed:
    """An evidence point may be announced and never reached."""
    seen = {name: keepers[point].values for name, point in site.evidence.items() if point in keepers}
    added = keepers[site.loci["contribution"]].values if "contribution" in site.loci else []
    owned = None if site.whole is None else keepers[site.whole].calls
    return Observed(
        read=keepers[site.loci["read"]].values,
        slope=slopes[site.loci["read"]],
        gate=seen.get("gate", []),
        addressing=seen.get("addressing", []),
        contribution=added,
        residual=_residual(site, streams, added),
        state=_state(site, seen, owned, modules),
        owner=None if site.owner is None or site.channels is not None else modules[site.owner],
        own_input=_input_of(owned),
    )


def _points(site: Site) -> list[Point]:
    """What the pass listens to; states that a module would have to form are formed afterwards, for fewer sequences."""
    evidence = [point for name, point in site.evidence.items() if name != "state" or point.kind == "tap"]
    return [*site.loci.values(), *evidence, *([] if site.whole is None else [site.whole])]


def _blocks(site: Site) -> list[str]:
    """Paths of the blocks around a contribution, the outermost first: blocks are the items of a module list."""
    place = site.loci.get("contribution")
    segments = [] if place is None or place.kind == "tap" else place.path.split(".")
    return [".".join(segments[:depth]) for depth in range(1, len(segments)) if segments[depth - 1].isdigit()]


def _entering(stream: list[Tensor]) -> Callable[..., None]:
    """A hook that keeps the first tensor that a module is called with."""

    def hook(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        stream.extend([value.detach() for value in (*args, *kwargs.values()) if isinstance(value, Tensor)][:1])

    return hook


def _residual(site: Site, streams: Mapping[str, list[Tensor]], added: list[Tensor]) -> list[Tensor]:
    """The first of the streams that has the shape of what is added to it."""
    shapes = [value.shape for value in added]
    for path in _blocks(site):
        values = streams.get(path, [])
        if [value.shape for value in values] == shapes and all(value.is_floating_point() for value in values):
            return values
    return []


def _state(
    site: Site, seen: Mapping[str, list[Tensor]], owned: list[Call] | None, modules: Mapping[str, nn.Module]
) -> Tensor | None:
    """The states of a memory that is called once."""
    tapped, point = seen.get("state", []), site.evidence.get("state")
    if len(tapped) == 1:
        return tapped[0]
    if point is None or point.kind == "tap" or owned is None or len(owned) != 1:
        return None
    return announced_states(owned[0], modules[point.path])


def _input_of(owned: list[Call] | None) -> Tensor | None:
    """What a module was called with; None where that is not known, or it was called more than once."""
    if owned is None or len(owned) != 1:
        return None
    try:
        return window_input(owned[0]).detach()
    except ValueError:
        return None
