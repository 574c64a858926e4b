"""Do the entropy of a head's looks, or the gradient that reaches it, tell which heads of a network are idle?

The networks of `survey-heads` (four blocks of four heads, on recall and on text; the runs are shared, nothing is
trained) are taken apart head by head:

    effect      what the loss rises by when all that the head reads is replaced by its mean (nats a scored token)
    entropy     of its weights, the mean over rows, 1 where it looks everywhere alike
    gradient    its part of the norm of gradient times read, of all heads of the network (D13)
    told        of a head that is idle and one that bears, how often the entropy (gradient) of the idle one is the
                higher (lower); one half is a coin

A head is idle where its effect is at most 0.01 nats, the margin below which the examination calls effects equal.

Known limits: a mean is no best constant, so that a head may be idle that is counted as one that bears; heads are taken
away one at a time, and of two that do the same none is missed; the gradient is that of the trained network, small
where little is left to learn.

Source: the survey: heads "that attend uniformly (high entropy, likely decorative)"; "near-zero gradient norms indicate
decorative components". What differs: no source has a figure; "likely" is three times as often right as wrong here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor, nn

from mnemoscope.contracts import Batch
from mnemoscope.examination import NextTokenLoss
from mnemoscope.examination.measures import addressing_entropy, gradient_share
from mnemoscope.examination.subject.losses import score
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey import heads
from mnemoscope.experiments.survey.arms import drawn_from, held_out, targets, trained
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.heads import TASKS, HeadStudy
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.memories import Attention
from mnemoscope.models import Model
from mnemoscope.training import TrainedRun

MARGIN = 0.01
FEWEST = 2
"""Idle heads, and heads that bear, that a network must have for either figure to tell them apart."""
LIKELY = 0.75


@dataclass(frozen=True, kw_only=True)
class TellingStudy:
    """The study whose networks are taken apart, and how many sequences that takes."""

    heads: HeadStudy = field(default_factory=HeadStudy)
    n_test: int = 256


class Head(NamedTuple):
    """What is seen of a head, and what it is worth."""

    effect: float
    entropy: float
    gradient: float


def telling(settings: TellingStudy, seed: int, out: Path) -> Measured:
    """How well either figure tells idle heads from those that bear, on both tasks and in the mean."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for task in TASKS:
        run = trained(settings.heads.training, settings.heads.recipe(task), seed, out)
        found = heads_of(run, settings.n_test)
        figures |= {f"{task}: {name}": value for name, value in told(found).items()}
        series |= {f"{task}: {name}": [getattr(head, name) for head in found] for name in Head._fields}
    able = [task for task in TASKS if min(figures[f"{task}: idle"], figures[f"{task}: bearing"]) >= FEWEST]
    figures["able"] = float(len(able))
    for name in ("entropy", "gradient"):
        figures[f"{name} told"] = sum(figures[f"{task}: {name}"] for task in able) / len(able) if able else math.nan
    return Measured(figures=figures, series=series)


def told(found: Sequence[Head]) -> dict[str, float]:
    """Idle and bearing heads, and how often entropy and gradient put one of each in order; NaN without one of each."""
    idle = [head for head in found if head.effect <= MARGIN]
    bearing = [head for head in found if head.effect > MARGIN]
    return {
        "idle": float(len(idle)),
        "bearing": float(len(bearing)),
        "entropy": _ordered([head.entropy for head in idle], [head.entropy for head in bearing]),
        "gradient": _ordered([-head.gradient for head in idle], [-head.gradient for head in bearing]),
    }


def _ordered(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Of all pairs of one of each, how many have the first above the second; a tie counts half."""
    if not (higher and lower):
        return math.nan
    return float(stats.mannwhitneyu(higher, lower).statistic) / (len(higher) * len(lower))


def heads_of(run: TrainedRun, n_test: int) -> list[Head]:
    """All heads of a network, block by block; means are of the validation split, all else of the test split."""
    model, batches = run.model.eval(), held_out(run.task, n_test)
    modules = [module for module in model.modules() if isinstance(module, Attention)]
    means = _mean_reads(model, modules, drawn_from(run.task, "validation", n_test))
    seen = _seen(model, modules, batches[0])
    whole = held_out_losses(model, batches)[0].mean()
    return [
        Head(_without(model, module, head, mean, batches) - whole, entropy[head], gradient[head])
        for module, mean, (entropy, gradient) in zip(modules, means, seen, strict=True)
        for head in range(module.config.n_heads)
    ]


def _without(model: Model, module: Attention, head: int, mean: Tensor, batches: Sequence[Batch]) -> float:
    """The loss when a head reads its mean."""
    channels = _channels(module, head)

    def constant(point: nn.Module, given: object, read: Tensor) -> Tensor:
        changed = read.clone()
        changed[..., channels] = mean[channels]
        return changed

    handle = module.read.register_forward_hook(constant)
    found = held_out_losses(model, batches)[0].mean()
    handle.remove()
    return float(found)


def _channels(module: Attention, head: int) -> slice:
    width = module.d_model // module.config.n_heads
    return slice(head * width, (head + 1) * width)


def _mean_reads(model: Model, modules: Sequence[Attention], batches: Sequence[Batch]) -> list[Tensor]:
    held: list[list[Tensor]] = [[] for _ in modules]
    handles = [
        module.read.register_forward_hook(_keep(kept, lambda read: read.mean((0, 1))))
        for module, kept in zip(modules, held, strict=True)
    ]
    held_out_losses(model, batches)
    for handle in handles:
        handle.remove()
    return [torch.stack(kept).mean(0) for kept in held]


def _keep(held: list[Tensor], of: Callable[[Tensor], Tensor] = lambda seen: seen) -> Callable[..., None]:
    def hook(point: nn.Module, given: object, seen: Tensor) -> None:
        held.append(of(seen))

    return hook


def _seen(model: Model, modules: Sequence[Attention], batch: Batch) -> list[tuple[list[float], list[float]]]:
    """Entropy and gradient share of the heads of every block, of one batch."""
    weights, reads = list[Tensor](), list[Tensor]()
    handles = [module.addressing.register_forward_hook(_keep(weights)) for module in modules]
    handles += [module.read.register_forward_hook(_keep(reads)) for module in modules]
    with torch.enable_grad():
        gradients = torch.autograd.grad(score(NextTokenLoss(), model, batch).per_sequence.sum(), reads)
    for handle in handles:
        handle.remove()
    places = [(i, head) for i, module in enumerate(modules) for head in range(module.config.n_heads)]

    def parts(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        return {f"{i} {h}": tensors[i].detach()[..., _channels(modules[i], h)].flatten(0, 1) for i, h in places}

    shares = gradient_share(parts(reads), parts(gradients))
    return [
        (
            [addressing_entropy(looks[:, head].detach()) for head in range(module.config.n_heads)],
            [shares[f"{i} {head}"] for head in range(module.config.n_heads)],
        )
        for i, (module, looks) in enumerate(zip(modules, weights, strict=True))
    ]


def trainings(settings: TellingStudy) -> Sequence[Target]:
    """Of one seed, for the planner; they are those of `survey-heads`."""
    return targets(settings.heads.recipe(task) for task in TASKS)


SMALL = TellingStudy(heads=heads.SMALL)
PAPER = TellingStudy(heads=heads.PAPER, n_test=2048)
WORDS = {"entropy": "the higher entropy", "gradient": "the smaller gradient"}
CLAIMS = (
    Claim(figure="able", what="networks of two that have two idle heads and two that bear", least=1.0),
    *(
        Claim(
            figure=f"{name} told",
            what=f"of an idle head and one that bears, how often the idle one has {words}",
            published="likely; ours: 3 of 4",
            least=LIKELY,
        )
        for name, words in WORDS.items()
    ),
    *(
        Claim(figure=f"{task}: {figure}", what=f"{task}: {what}")
        for task in TASKS
        for figure, what in (
            ("idle", "heads that are idle"),
            ("bearing", "heads that bear"),
            ("entropy", "how often the idle one has the higher entropy"),
            ("gradient", "how often the idle one has the smaller gradient"),
        )
    ),
)

STUDY = study(
    Experiment(
        name="survey-telling",
        what="do the entropy of a head's looks, or the gradient that reaches it, tell which heads are idle?",
        source="the survey, its diagnostics of unused components",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=telling,
        minutes={"small": 0.2},
        trainings=trainings,
    ),
    Finding(
        slug="high-entropy-is-decorative",
        claim="Heads that attend uniformly, of high entropy, are likely decorative, those of low entropy functional",
        source="the survey, its diagnostics of unused components",
        decided_by={"entropy told": "idle heads have the higher entropy three times in four"},
        requires=("able",),
        if_holds="Look first at heads of high entropy, and let their effect decide.",
        if_not="Do not read importance off attention maps: take the head's effect.",
        elsewhere="Networks of hundreds of heads, and memories that are addressed by slots.",
    ),
    Finding(
        slug="small-gradient-is-decorative",
        claim="Near-zero gradients indicate decorative components",
        source="the survey, on gradient flow analysis",
        decided_by={"gradient told": "idle heads have the smaller gradient three times in four"},
        requires=("able",),
        if_holds="Screen by the gradient share, which costs one backward pass, and let effects decide.",
        if_not="A small gradient at the end of a training does not say that a part is idle: take its effect.",
        elsewhere="Gradients through the first tenth of a training, where a signal that is starved would show.",
    ),
)
