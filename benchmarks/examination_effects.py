"""Fixed-constant effects of every site of a hybrid: by the examination, and by plain nnsight calls, one trace each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import max_difference
from mnemoscope.contracts import Batch
from mnemoscope.examination import NextTokenLoss, Point
from mnemoscope.examination.interventions.reads import Constant, Resample, Zero
from mnemoscope.examination.protocol.conditions import ROUTES, Profile, coalitions, profile
from mnemoscope.examination.running.batching import Batcher
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.held import Held
from mnemoscope.examination.subject.sites import Site, Sites, find_sites
from mnemoscope.models import StackConfig, build
from mnemoscope.runs.examination import Locus

Conditions = dict[str, list[Edit]]

Change = Literal["zero", "resample"] | Tensor
"""What the output of a module becomes: zeros, that of the sequence before in the batch, or a constant."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the model and of the data; `batch` sequences run at once."""

    layout: str = "(attention, gated_delta) * 4"
    vocab_size: int = 256
    d_model: int = 128
    n_tokens: int = 256
    n_sequences: int = 64
    batch: int = 16


class Hybrid:
    """A stack with weights as drawn, its sites, and every condition under which its losses are wanted.

    For each memory and each route: its read at zero, at its mean, and that of the sequence before. Together: the
    coalitions that verdicts rest on (joint and conditional effects are differences of these), every read at its mean.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.model = build(StackConfig.of(size.layout, vocab_size=size.vocab_size, d_model=size.d_model), seed=0).eval()
        self.batches = [batch(size, seed) for seed in range(size.n_sequences // size.batch)]
        self.sites = find_sites(self.model, lambda: NextTokenLoss()(self.model, self.batches[0]))
        self.points = points_of(self.sites)
        whole = [site.whole for site in (*self.sites.memories, *self.sites.routes) if site.whole is not None]
        self.replayer = Replayer(self.model, NextTokenLoss(), [*self.points, *whole], Held(self.model))
        self.batcher = Batcher(self.replayer)
        tapes = [self.replayer.record(batch(size, 1000 + seed), keep=self.points) for seed in range(2)]
        self.conditions = conditions(self.sites, {point: profile(tapes, point) for point in self.points})

    @torch.no_grad()
    def examined(self, data: Batch) -> list[Tensor]:
        """The model as it is, then every condition."""
        tape = self.replayer.record(data)
        found = self.batcher.run_many(tape, list(self.conditions.values()))
        return [tape.scores.per_sequence, *(scores.per_sequence for scores in found)]

    @torch.no_grad()
    def plainly(self, data: Batch) -> list[Tensor]:
        """The same by nnsight, which is imported here since it adds attributes to every object there is."""
        from benchmarks.rivals.nnsight_effects import losses, wrapped

        model, runs = wrapped(self.model), [{}, *(changes(edits, self.model) for edits in self.conditions.values())]
        return [losses(model, torch.as_tensor(data.inputs), torch.as_tensor(data.targets), run) for run in runs]


def batch(size: Size, seed: int) -> Batch:
    tokens = np.random.default_rng(seed).integers(0, size.vocab_size, (size.batch, size.n_tokens + 1))
    return Batch(inputs=torch.from_numpy(tokens[:, :-1]), targets=torch.from_numpy(tokens[:, 1:]))


def points_of(sites: Sites, locus: Locus = "read") -> list[Point]:
    return [site.loci[locus] for site in (*sites.memories, *sites.routes)]


def conditions(sites: Sites, profiles: Mapping[Point, Profile]) -> Conditions:
    found: Conditions = {}
    for site in (*sites.memories, *sites.routes):
        point = site.loci["read"]
        found[f"{site.name} zero"] = [Edit(point, Zero())]
        found[f"{site.name} mean"] = [Edit(point, Constant(profiles[point].mean))]
        found[f"{site.name} resample"] = [Edit(point, Resample())]
    names = {site.name: [site] for site in sites.memories} | {ROUTES: list(sites.routes)}
    players = [frozenset({site.name}) for site in sites.memories]
    for coalition in coalitions(players, frozenset(names) - {ROUTES}, bool(sites.routes)):
        members: list[Site] = [site for name in coalition for site in names[name]]
        if len(members) > 1:
            points = sorted((site.loci["read"] for site in members), key=lambda point: point.path)
            found[" ".join(sorted(coalition))] = [Edit(point, Constant(profiles[point].mean)) for point in points]
    return found


def changes(edits: Sequence[Edit], model: nn.Module) -> dict[str, Change]:
    """The same interventions as nnsight has them, in the order in which the modules run."""
    order = {path: i for i, (path, _) in enumerate(model.named_modules())}
    return {edit.point.path: _change(edit) for edit in sorted(edits, key=lambda edit: order[edit.point.path])}


def _change(edit: Edit) -> Change:
    if isinstance(edit.intervention, Constant):
        return edit.intervention.value
    return "zero" if isinstance(edit.intervention, Zero) else "resample"


TINY = Size(layout="(attention, gated_delta) * 2", vocab_size=11, d_model=8, n_tokens=12, n_sequences=8, batch=4)


def largest_difference(size: Size) -> float:
    """Between the losses of both, over every batch and condition; every batch twice, so that shortcuts are taken."""
    hybrid = Hybrid(size)
    pairs = [(hybrid.examined(data), hybrid.plainly(data)) for data in hybrid.batches * 2]
    return max(max_difference(ours, theirs) for ours, theirs in pairs)


if __name__ == "__main__":
    print(largest_difference(TINY))
