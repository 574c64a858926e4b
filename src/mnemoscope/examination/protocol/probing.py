"""Gathering what the probe of stored information needs: reads, inputs and answers at scored positions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnemoscope.contracts import IGNORE
from mnemoscope.examination.budget import Budget
from mnemoscope.examination.interventions.reads import Call, window_input
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.measures.stored_information import Gains, stored_information
from mnemoscope.examination.protocol.calibration import Case
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import NextTokenLoss, prepare
from mnemoscope.examination.subject.sites import Point, Site
from mnemoscope.runs.examination import Estimate, ProbeRecord

ANSWERS_PER_SEQUENCE = 4


class _Keep:
    """Keeps every call it sees and changes nothing."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def apply(self, call: Call) -> Tensor:
        """Pass the value on."""
        self.calls.append(call)
        return call.value


def probe_sites(
    replayer: Replayer, case: Case, batches: list[Any], budget: Budget, untrained: Replayer | None = None
) -> dict[str, ProbeRecord]:
    """The probe of every memory whose read and input have one row for each position; only for losses of tokens.

    Args:
        replayer: of the model.
        case: its sites.
        batches: calibration sequences.
        budget: of the examination.
        untrained: of a copy with fresh parameters, whose reads are the floor; None where there is none.
    """
    sites = [site for site in case.sites.memories if site.owner is not None]
    if not isinstance(replayer.loss, NextTokenLoss) or not sites:
        return {}
    gains = _gains(replayer, sites, batches, budget)
    floors = (
        {} if untrained is None else _gains(untrained, [site for site in sites if site.name in gains], batches, budget)
    )
    return {name: _record(found, floors.get(name), budget) for name, found in gains.items()}


def _gains(replayer: Replayer, sites: list[Site], batches: list[Any], budget: Budget) -> dict[str, Gains]:
    """What a probe gains at each site; the same answers at the same positions every time."""
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {site.name: [] for site in sites}
    answers, sequences = [], []
    generator = torch.Generator().manual_seed(budget.seed)
    n_seen = 0
    for batch in batches:
        targets = prepare(batch, torch.device("cpu"))[1]
        row, position = _some_scored(targets, generator)
        answers.append(targets[row, position])
        sequences.append(n_seen + row)
        n_seen += len(targets)
        seen = _seen(replayer, batch, sites)
        for site in sites:
            found = _at(seen, site, row, position, targets.shape)
            if found is not None:
                rows[site.name].append(found)
    found = {}
    for site in sites:
        if len(rows[site.name]) == len(batches):
            read, own = (torch.cat(parts) for parts in zip(*rows[site.name], strict=True))
            if not bool(torch.isfinite(read).all() and torch.isfinite(own).all()):
                continue
            gains = stored_information(read, own, torch.cat(answers), torch.cat(sequences), generator)
            if gains is not None:
                found[site.name] = gains
    return found


def _some_scored(targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Up to four scored positions of each sequence, at random."""
    score = torch.rand(targets.shape, generator=generator).masked_fill(targets == IGNORE, -1)
    top = score.topk(min(ANSWERS_PER_SEQUENCE, targets.shape[1]), dim=1)
    row, column = (top.values >= 0).nonzero(as_tuple=True)
    return row, top.indices[row, column]


@torch.no_grad()
def _seen(replayer: Replayer, batch: Any, sites: list[Site]) -> dict[Point, _Keep]:
    keepers: dict[Point, _Keep] = {}
    for site in sites:
        assert site.whole is not None
        keepers.setdefault(site.loci["read"], _Keep())
        keepers.setdefault(site.whole, _Keep())
    replayer.restore_rng()
    with edited(replayer.modules, [Edit(point, keeper) for point, keeper in keepers.items()]):
        replayer.loss(replayer.model, batch)
    return keepers


def _at(
    seen: dict[Point, _Keep], site: Site, row: Tensor, position: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor] | None:
    """Read and input at these places; None where a site is called more than once or has other axes."""
    assert site.whole is not None
    reads, inputs = seen[site.loci["read"]].calls, seen[site.whole].calls
    if len(reads) != 1 or len(inputs) != 1:
        return None
    try:
        own = window_input(inputs[0])
    except ValueError:
        return None
    # A view of a parameter asks for gradients even where none are wanted.
    own, read = own.detach(), reads[0].value.detach()
    fits = read.ndim >= 3 and own.shape[0] == read.shape[0] == shape[0] and min(read.shape[1], own.shape[1]) >= shape[1]
    if not fits:
        return None
    return read[row, position].flatten(1).float().cpu(), own[row, position].flatten(1).float().cpu()


def _record(gains: Gains, floor: Gains | None, budget: Budget) -> ProbeRecord:
    """Means over sequences, each with an interval."""
    _, inverse = gains.sequence.unique(return_inverse=True)
    n = int(inverse.max()) + 1
    counts = torch.bincount(inverse, minlength=n)
    bootstrap = Bootstrap(n, budget.n_resamples, budget.seed)

    def estimate(values: Tensor) -> Estimate:
        per_sequence = torch.zeros(n, dtype=torch.float64).index_add_(0, inverse, values) / counts
        return bootstrap.mean(per_sequence.numpy().astype(np.float64))

    return ProbeRecord(
        gain=estimate(gains.gain),
        shuffled=estimate(gains.shuffled),
        n_answers=gains.n_answers,
        untrained=None if floor is None else estimate(floor.gain),
        above_untrained=None if floor is None else estimate(gains.gain - floor.gain),
    )
