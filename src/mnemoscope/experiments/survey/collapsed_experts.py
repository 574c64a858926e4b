"""Is routing that collapsed load-bearing, or did the task need no experts?

Text is learned with attention and, in place of the feed-forward part, 32 nets behind a router, one for a token;
beside it the same with balanced loads, and a single net of one expert's size.

    violation    the largest load of an expert over the mean load, less 1
    undone       loss when every token of the trained network goes to the expert that the router likes best on the
                 whole, weighted as its own choice was

Routers are uneven before they learn anything, so that collapsed is only what is far from even (four times a fair share)
and further from it than the same network untrained. Few experts do not collapse: of eight, at a rate of 3e-3, the
violation fell in training in each of three seeds (2.2, 3.0, 1.7 to 1.4, 1.1, 1.3), and at 1e-2 in one (2.2 to 1.1);
of 32, at 1e-2, it rose in a look at one seed (3.5 to 7.3). So there are 32.

Known limits: text of one corpus, a few hundred steps; the single net multiplies as much for a token and has a 32nd of
the weights.

Source: the Parallax note (note 004), "the bigger pattern": check whether the structure was load-bearing in the first
place. What differs: the note has no figures of this case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import (
    BEATS,
    Training,
    below_bigram,
    held_out,
    larger,
    scores,
    targets,
    trained,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.undoing import undone
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.memories import Experts
from mnemoscope.models import build_model
from mnemoscope.tasks import TextConfig
from mnemoscope.training import Recipe, TrainedRun
from mnemoscope.training.remedies import LossFreeBalancing
from mnemoscope.training.remedies.loss_free_balancing import max_violation

FREE, BALANCED, SINGLE = ARMS = ("free experts", "balanced experts", "single net")
BYTES = 256
COUNTS = 0.02
"""Nats a byte that count."""


@dataclass(frozen=True, kw_only=True)
class ExpertStudy:
    """What is learned, and which experts are offered.

    Args:
        training: of every arm.
        text: what is learned.
        n_experts: feed-forward nets.
        width: of each.
        rate: of the biases that balance.
    """

    training: Training = field(default_factory=Training)
    text: TextConfig = field(default_factory=lambda: TextConfig(corpus="prose", length=64))
    n_experts: int = 32
    width: int = 64
    rate: float = 1e-3

    def recipe(self, name: str) -> Recipe:
        """One training."""
        n, balanced = (1 if name == SINGLE else self.n_experts), name == BALANCED
        experts = f"experts(n_experts={n}, experts_per_token=1, width={self.width}, balanced={balanced})"
        return self.training.recipe(
            f"collapse-{name.replace(' ', '-')}",
            f"attention(n_heads=2, convolution=3), {experts}",
            self.text,
            vocab_size=BYTES,
            remedies=(LossFreeBalancing(strength=self.rate),) if balanced else (),
        )


def recipes(settings: ExpertStudy) -> dict[str, Recipe]:
    """Of every arm."""
    return {name: settings.recipe(name) for name in ARMS}


def collapsed_experts(settings: ExpertStudy, seed: int, out: Path) -> Measured:
    """Loss of every arm, how far routing collapsed, and what undoing it costs."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    figures = {f"{name}: loss": one.loss for name, one in found.items()}
    for name in (FREE, BALANCED):
        run = trained(settings.training, arms[name], seed, out)
        figures[f"{name}: violation"] = violation(run)
        figures[f"{name}: undone"] = undone(run, Experts, same_route, settings.training.n_test)
    fresh = TrainedRun(recipe=arms[FREE], model=build_model(arms[FREE].model, seed), task=run.task, step=0)
    figures["untrained: violation"] = violation(fresh)
    compared = {
        "collapse": figures[f"{FREE}: violation"] - figures["untrained: violation"],
        "below_bigram": below_bigram(run.task, [found[FREE].loss, found[SINGLE].loss]),
        "single_cost": found[SINGLE].loss - found[FREE].loss,
        "balance_gain": found[FREE].loss - found[BALANCED].loss,
    }
    return Measured(figures=figures | compared, series=series)


def same_route(shares: Tensor) -> Tensor:
    """Every token (b, t, e) sent to the expert with the largest mean share, with the largest share of its own."""
    liked = shares.mean((0, 1)).argmax()
    sent = torch.full_like(shares, -torch.inf)
    sent[..., liked] = shares.amax(-1)
    return sent


def violation(run: TrainedRun) -> float:
    """Of the experts' loads on test sequences."""
    (memory,) = (module for module in run.model.modules() if isinstance(module, Experts))
    seen = list[Tensor]()

    def listen(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(memory.load(given[0]))

    handle = memory.register_forward_pre_hook(listen)
    held_out_losses(run.model.eval(), held_out(run.task, 64))
    handle.remove()
    return max_violation(torch.stack(seen).mean(0))


def trainings(settings: ExpertStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = ExpertStudy(training=Training(learning_rate=1e-2))
PAPER = ExpertStudy(training=larger(Training()), text=TextConfig(corpus="prose", length=512), width=512)
CLAIMS = (
    Claim(
        figure=f"{FREE}: violation",
        what="violation of free experts",
        published="routing collapses; ours: four times a fair share",
        least=3.0,
    ),
    Claim(
        figure="collapse",
        what="the same, less that of the network before training",
        published="collapses in training",
        least=0.0,
    ),
    Claim(
        figure="below_bigram",
        what="loss of the worse of free experts and single net below that of a bigram (nats a byte)",
        published="text is learned; ours: 0.1",
        least=BEATS,
    ),
    *(
        Claim(figure=figure, what=f"{what} (nats a byte)", published=f"nothing; ours: {COUNTS}", most=COUNTS)
        for figure, what in (
            (f"{FREE}: undone", "loss when the router's choice is undone, free experts"),
            ("single_cost", "loss: single net less free experts"),
            ("balance_gain", "loss: free less balanced experts"),
        )
    ),
    Claim(figure=f"{BALANCED}: violation", what="violation of balanced experts"),
    Claim(figure="untrained: violation", what="violation of free experts before training"),
    Claim(figure=f"{BALANCED}: undone", what="loss when the router's choice is undone, balanced experts (nats a byte)"),
    *(Claim(figure=f"{name}: loss", what=f"loss: {name} (nats a byte)") for name in ARMS),
)

STUDY = study(
    Experiment(
        name="survey-collapsed-experts",
        what="is routing that collapsed load-bearing, or did the task need no experts?",
        source="the Parallax note (note 004), the bigger pattern",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=collapsed_experts,
        minutes={"small": 1.4},
        trainings=trainings,
        plots=(
            Plot(
                title="Validation loss",
                caption="Of the three networks.",
                y_label="nats a byte",
                lines={name: f"{name}: step -> {name}: validation" for name in ARMS},
            ),
        ),
    ),
    Finding(
        slug="collapsed-routing",
        claim="Routing collapse can say that experts were not the right unit: the structure bears nothing",
        source="the Parallax note (note 004)",
        decided_by={
            f"{FREE}: undone": "in that the router's choice can be undone",
            "single_cost": "in that a single net does as well",
            "balance_gain": "in that even loads do not help",
        },
        requires=(f"{FREE}: violation", "collapse", "below_bigram"),
        if_holds="Before you balance a router, train a single net of one expert's size beside it.",
        if_not="The experts that are left do bear: balance them, or take fewer, and measure both.",
        elsewhere="Mixtures trained on tokens by the billion, whose routing collapses far more.",
    ),
)
