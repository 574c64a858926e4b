"""One sequence seen at every memory: what each token wrote, what it read, and where it looked.

What it says: norms tell how much, never whether it is used; that is what the losses beside them say. Where a mechanism
does not show something, its field is None and `unmeasured` has the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts import Slots, Stateful
from mnemoscope.contracts.outputs import tensors_in
from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.interventions.reads import window_input
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.announced_states import announced_states
from mnemoscope.examination.subject.calls import Call
from mnemoscope.examination.subject.held import held
from mnemoscope.examination.subject.losses import Loss, score
from mnemoscope.examination.subject.sites import Point, Site
from mnemoscope.runs.trace import Address

MOST_ADDRESSES = 3
"""Of each read that are kept."""


@dataclass
class Observations:
    """What one site showed at every token; `unmeasured` says why something is None."""

    written: list[float] | None = None
    read: list[float] | None = None
    addresses: list[list[Address]] | None = None
    n_addresses: int | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)


class _Keep:
    """Changes nothing, and keeps every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def apply(self, call: Call) -> Tensor:
        """Pass the value on."""
        self.calls.append(call)
        return call.value


@torch.no_grad()
def observe(model: nn.Module, loss: Loss, batch: Any, n_tokens: int, sites: Sequence[Site]) -> dict[str, Observations]:
    """What every site wrote and read at each token of a batch of one sequence, by name; one pass."""
    modules = dict(model.named_modules())
    keepers = {point: _Keep() for site in sites for point in _points(site)}
    with edited(modules, [Edit(point, keeper) for point, keeper in keepers.items()]):
        score(loss, model, batch)
    calls = {point: keeper.calls for point, keeper in keepers.items()}
    return {site.name: _observed(site, calls, modules, n_tokens) for site in sites}


def _points(site: Site) -> list[Point]:
    shown = [site.evidence[name] for name in ("addressing",) if name in site.evidence]
    taps = [point for name, point in site.evidence.items() if name == "state" and point.kind == "tap"]
    return [site.loci["read"], *shown, *taps, *([] if site.whole is None else [site.whole])]


def _observed(
    site: Site, calls: Mapping[Point, list[Call]], modules: Mapping[str, nn.Module], n_tokens: int
) -> Observations:
    """Each of the three by itself, since a mechanism may show any of them and not the others."""
    seen = Observations()
    try:
        seen.read = _norms(_only(calls[site.loci["read"]]).value, n_tokens)
    except ValueError as error:
        seen.unmeasured["read"] = str(error)
    try:
        seen.addresses, seen.n_addresses = _looked_at(site, calls, n_tokens)
    except ValueError as error:
        seen.unmeasured["addresses"] = str(error)
    try:
        seen.written = _written(site, calls, modules, n_tokens)
    except ValueError as error:
        seen.unmeasured["written"] = str(error)
    return seen


def _only(calls: Sequence[Call]) -> Call:
    if len(calls) != 1:
        raise ValueError(f"it ran {len(calls)} times in one pass")
    return calls[0]


def _norms(value: Tensor, n_tokens: int) -> list[float]:
    """Of what belongs to each token of a tensor (1, t, ...)."""
    if value.ndim < 3 or value.shape[:2] != (1, n_tokens):
        raise ValueError(f"it has no axis of {n_tokens} tokens: shape {tuple(value.shape)}")
    return in_float64(value)[0].flatten(1).norm(dim=1).tolist()


def _looked_at(site: Site, calls: Mapping[Point, list[Call]], n_tokens: int) -> tuple[list[list[Address]], int]:
    """The places that weighed most in the read of every token, and how many places there are."""
    point = site.evidence.get("addressing")
    if point is None:
        raise ValueError("it has no distribution over places that it reads from")
    if site.channels is not None:
        raise ValueError("places are those of the whole memory, not of a part")
    weights = _by_token(in_float64(_only(calls[point]).value), n_tokens)
    top = weights.topk(min(MOST_ADDRESSES, weights.shape[1]), dim=1)
    found = [
        [Address(at=at, weight=weight) for weight, at in zip(row, places, strict=True) if weight > 0]
        for row, places in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]
    return found, weights.shape[1]


def _by_token(weights: Tensor, n_tokens: int) -> Float[Tensor, "t m"]:
    """Weights (1, h, t, m) or (1, t, ..., m), averaged over heads.

    Of two axes as long as the sequence, that of the heads comes first.
    """
    axes = [axis for axis in range(1, weights.ndim - 1) if weights.shape[axis] == n_tokens]
    if not axes or weights.shape[0] != 1:
        raise ValueError(f"its addressing has no axis of {n_tokens} tokens: shape {tuple(weights.shape)}")
    axis = axes[-1] if weights.ndim == 4 else axes[0]
    return weights[0].movedim(axis - 1, 0).reshape(n_tokens, -1, weights.shape[-1]).mean(1)


def _written(
    site: Site, calls: Mapping[Point, list[Call]], modules: Mapping[str, nn.Module], n_tokens: int
) -> list[float]:
    """By how much each token changed the state, as announced or else as the memory's own step carries it."""
    if site.channels is not None:
        raise ValueError("the state is that of the whole memory, not of a part")
    point = site.evidence.get("state")
    if point is not None and point.kind == "tap":
        return _changes(_only(calls[point]).value, n_tokens)
    if site.whole is None:
        raise ValueError("a tap shows no state")
    owner, call = modules[site.whole.path], _only(calls[site.whole])
    if isinstance(owner, Slots):
        raise ValueError("its slots are learned: nothing of a sequence is written to them")
    if point is not None and (states := announced_states(call, modules[point.path])) is not None:
        return _changes(states, n_tokens)
    if not isinstance(owner, Stateful):
        raise ValueError(f"{type(owner).__name__} shows no state after each token, and has no step to form one")
    with held(owner):
        return _stepped(owner, window_input(call))


def _changes(states: Tensor, n_tokens: int) -> list[float]:
    """Norms of the differences of states (1, t, ...), the first from zeros."""
    if states.ndim < 2 or states.shape[1] != n_tokens:
        raise ValueError(f"its state has no axis of {n_tokens} tokens: shape {tuple(states.shape)}")
    flat = in_float64(states)[:1].flatten(2) if states.ndim > 2 else in_float64(states)[:1].unsqueeze(2)
    return flat.diff(dim=1, prepend=torch.zeros_like(flat[:, :1])).norm(dim=2)[0].tolist()


def _stepped(owner: Stateful, x: Float[Tensor, "1 t d"]) -> list[float]:
    """Norms of what each step added to what is carried."""
    state, norms = owner.init_state(1), list[float]()
    for token in x.unbind(1):
        _, later = owner.step(token, state)
        before, after = tensors_in(state), tensors_in(later)
        added = [_added(old, new) for old, new in zip(before, after, strict=True) if new.is_floating_point()]
        norms.append(float(sum(float(in_float64(part).square().sum()) for part in added) ** 0.5))
        state = later
    return norms


def _added(old: Tensor, new: Tensor) -> Tensor:
    """What is new: the entries by which it grew or moved on, else the difference."""
    for axis in range(1, min(old.ndim, new.ndim)):
        n, kept = new.shape[axis], old.shape[axis]
        if kept < n and old.shape[:axis] == new.shape[:axis]:
            return new.narrow(axis, kept, n - kept)
        moved = kept == n > 1 and old.shape == new.shape
        if moved and torch.equal(old.narrow(axis, 1, n - 1), new.narrow(axis, 0, n - 1)):
            return new.narrow(axis, n - 1, 1)
    return in_float64(new) - in_float64(old)
