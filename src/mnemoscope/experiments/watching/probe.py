"""One probe: what every memory is worth to the model as it is now, and how it fares.

    effect(S)   loss with the reads of the sites S held at their means over the probe, less the loss; in nats
    demand      effect of all memories and routes together
    share(m)    (effect(m) + demand - effect(all but m)) / (2 demand), effects cut to [0, demand]

the share is the Shapley value of the memory m in the game of m against everything else, as part of the demand; 0 where
the demand is below the margin. A mean costs at least what the best constant costs, so a share that is small here is
small in an examination too, up to the noise of the probe; one that is large may be less there (see `examine`).

Cost: per memory at most two forward passes of the probe, two more for all, and one forward and backward pass of its
first batch, of which the rest is measured.

Source: Shapley share of a memory against its routes, "decorative memory" protocol, docs/design.md section 4.
"""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.interventions.reads import Constant
from mnemoscope.examination.protocol.evidence import measure
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.announced_states import announced_states
from mnemoscope.examination.subject.calls import Call
from mnemoscope.examination.subject.held import Held
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.losses import Loss, NextTokenLoss, score
from mnemoscope.examination.subject.plain import original
from mnemoscope.examination.subject.sites import Site, Sites, find_sites
from mnemoscope.training.metrics import memory_rank, state_norm

SHOWN: Mapping[str, str] = {
    "gradient_share": "gradient_share",
    "gate_mean": "gate",
    "centred_rank": "read_rank",
    "read_width": "read_width",
}
"""Measures of an examination that a reading shows, and under which name."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a probe found.

    Args:
        step: finished optimiser steps.
        loss: of the probe, in nats per scored token.
        demand: what all memories and routes are worth together.
        memories: figures of every memory by its site: `share`, `effect`, `gradient_share`, `read_variance`,
            `read_rank`, `read_width`, and where there are such points `gate`, `state_norm` and `state_rank`. Empty
            where the loss is not finite.
    """

    step: int
    loss: float
    demand: float
    memories: Mapping[str, Mapping[str, float]]

    def figures(self) -> dict[str, float]:
        """As a row of metrics holds them."""
        found = {"watch.loss": self.loss, "watch.demand": self.demand}
        return found | {
            f"watch.{name}.{site}": value
            for site, figures in self.memories.items()
            for name, value in figures.items()
            if name != "read_width"
        }


@final
class Probe:
    """Measures a model on always the same sequences.

    Args:
        batches: batches that the loss understands, a few; held-out ones say more.
        loss: `loss(model, batch)` to one value per sequence; None for next-token cross-entropy of logits.
        sites: path patterns of memories; None for every announced one.
        routes: path patterns of what could replace them; None for every announced one.
    """

    def __init__(
        self,
        batches: Sequence[Any],
        loss: Loss | None = None,
        sites: Sequence[str] | None = None,
        routes: Sequence[str] | None = None,
    ) -> None:
        if not batches:
            raise ValueError("MemoryWatch: needs at least one batch to probe with, got none; give a few held-out ones")
        self.batches, self.loss = list(batches), loss or NextTokenLoss()
        self._patterns = sites, routes
        self._known: tuple[weakref.ref[nn.Module], Sites] | None = None

    def read(self, model: nn.Module, step: int, margin: float) -> Reading:
        """Measure a model, which is afterwards exactly as it was.

        Args:
            model: any module with memories.
            step: finished optimiser steps.
            margin: nats of demand below which no memory has a share.

        Raises:
            ValueError: where the model has no memory, or batches and loss do not fit.
        """
        model = original(model)
        with torch.inference_mode(False), torch.enable_grad(), intact(model) as held:
            sites = self._sites(model)
            passes = _Passes(model, self.loss, self.batches, held)
            means, calls, loss = passes.intact(sites)
            if not math.isfinite(loss):
                return Reading(step=step, loss=loss, demand=math.nan, memories={})
            everything = frozenset(means)
            passes.begin()
            found = measure(model, self.loss, self.batches[0], sites.memories, sites.routes)

            def effect(of: frozenset[str]) -> float:
                return passes.without({name: means[name] for name in of}) - loss if of else 0.0

            demand = effect(everything)
            memories = {
                site.name: _worth(frozenset({site.name}), everything, demand, effect, margin)
                | _health(found[site.name])
                | _state(site, calls, model)
                for site in sites.memories
            }
        return Reading(step=step, loss=loss, demand=demand, memories=memories)

    def _sites(self, model: nn.Module) -> Sites:
        if self._known is None or self._known[0]() is not model:
            with torch.no_grad():
                sites = find_sites(model, lambda: score(self.loss, model, self.batches[0]), *self._patterns)
            self._known = weakref.ref(model), sites
        return self._known[1]


class _Mean:
    """Changes nothing; keeps the mean over sequences and positions."""

    def __init__(self, site: Site) -> None:
        self.site, self.total, self.n = site, torch.zeros(()), 0

    def apply(self, call: Call) -> Tensor:
        """Pass the value on."""
        value = call.value.detach()
        axes = (0, 1) if value.ndim >= 3 else (0,)
        self.total = self.total.to(value.device) + value.to(torch.promote_types(value.dtype, torch.float32)).sum(axes)
        self.n += value.shape[: len(axes)].numel()
        return call.value

    @property
    def mean(self) -> Edit:
        """The edit that holds the read at its mean."""
        return Edit(self.site.loci["read"], Constant(self.total / max(self.n, 1)))


class _First:
    """Changes nothing; keeps the first call."""

    def __init__(self) -> None:
        self.call: Call | None = None

    def apply(self, call: Call) -> Tensor:
        """Pass the value on."""
        self.call = self.call or call._replace(value=call.value.detach())
        return call.value


class _Passes:
    """Forward passes of the probe, all of which begin with the same random numbers and kept tensors."""

    def __init__(self, model: nn.Module, loss: Loss, batches: Sequence[Any], held: Held) -> None:
        self.model, self.loss, self.batches = model, loss, batches
        self.modules, self.rng, self.held = dict(model.named_modules()), torch.get_rng_state(), held.settled()

    def intact(self, sites: Sites) -> tuple[dict[str, Edit], dict[str, Call], float]:
        """The edits that hold each site at its mean, the first call of every memory's module, and the loss."""
        means = {site.name: _Mean(site) for site in (*sites.memories, *sites.routes)}
        with_states = {site.name: site for site in sites.memories if "state" in site.evidence}
        owners = {name: (site.whole, _First()) for name, site in with_states.items()}
        listening = [Edit(mean.site.loci["read"], mean) for mean in means.values()]
        listening += [Edit(point, first) for point, first in owners.values() if point is not None]
        loss = self._loss(listening)
        calls = {name: first.call for name, (_, first) in owners.items() if first.call is not None}
        return {name: mean.mean for name, mean in means.items()}, calls, loss

    def without(self, means: Mapping[str, Edit]) -> float:
        """The loss with some sites held at their means."""
        return self._loss(list(means.values()))

    def begin(self) -> None:
        """As every pass begins."""
        torch.set_rng_state(self.rng)
        self.held.put_back()

    @torch.no_grad()
    def _loss(self, edits: Sequence[Edit]) -> float:
        losses: list[Tensor] = []
        for batch in self.batches:
            self.begin()
            with edited(self.modules, edits):
                losses.append(in_float64(score(self.loss, self.model, batch).per_sequence))
        return float(torch.cat(losses).mean())


def _worth(
    ours: frozenset[str],
    everything: frozenset[str],
    demand: float,
    effect: Callable[[frozenset[str]], float],
    margin: float,
) -> dict[str, float]:
    """Effect and share of one memory."""
    alone = demand if ours == everything else effect(ours)
    if not demand >= margin:  # not a number, too
        return {"effect": alone, "share": 0.0}
    others, mine = (min(max(value, 0.0), demand) for value in (effect(everything - ours), alone))
    return {"effect": alone, "share": (mine + demand - others) / (2 * demand)}


def _health(found: Mapping[str, float]) -> dict[str, float]:
    shown = {name: found[measured] for measured, name in SHOWN.items() if measured in found}
    if "mean_vector_share" in found:
        shown["read_variance"] = 1 - found["mean_vector_share"]
    return shown


def _state(site: Site, calls: Mapping[str, Call], model: nn.Module) -> dict[str, float]:
    """Norm and rank of the state after the last token, of as many sequences as fit."""
    point = site.evidence.get("state")
    states = None
    if point is not None and point.kind == "module" and site.name in calls:
        states = announced_states(calls[site.name], model.get_submodule(point.path))
    if states is None:
        return {}
    rank = memory_rank(states[:, -1])
    found = {"state_norm": state_norm(states)} | ({} if rank is None else {"state_rank": rank})
    return {name: value if math.isfinite(value) else math.inf for name, value in found.items()}
