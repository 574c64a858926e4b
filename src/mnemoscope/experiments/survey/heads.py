"""How many heads of attention can a trained network do without, once it may adapt?

Four blocks of four heads learn recall, and text. Then every head gets a hard-concrete gate (`trained.pruning_gates`)
and the network goes on training with a price on open gates, at three prices and at none. Counted are the heads that are
closed at a price whose loss is no worse than without a price.

Known limits: a head that can go was not unused: others have taken over while the gates were learned. Sixteen heads, one
task at a time.

Source: Voita et al. 2019 (arXiv 1905.09418): 38 of 48 encoder heads go for 0.15 BLEU. What differs: decoders, the task;
"no worse" is 0.02 nats here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    LARGER_RECALL,
    RECALL,
    Training,
    folder_of,
    larger,
    score,
    targets,
    trained,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.trained.pruning_gates import PruneConfig, Pruning, prune_run
from mnemoscope.tasks import MqarConfig, TaskConfig, TextConfig, build_task
from mnemoscope.training import Recipe

TASKS = ("recall", "text")
HEADS = "blocks.*.mixer[heads]"
PUBLISHED = 38 / 48


@dataclass(frozen=True, kw_only=True)
class HeadStudy:
    """Which sequences, how networks are trained, and how heads are closed.

    Args:
        training: of both networks.
        recall: one task.
        text: the other.
        n_layers: blocks.
        n_heads: of each.
        prices: of an open gate, in nats.
        prune_steps: of the training with gates, for each price.
    """

    training: Training = field(default_factory=Training)
    recall: MqarConfig = RECALL
    text: TextConfig = field(default_factory=lambda: TextConfig(corpus="prose", length=64))
    n_layers: int = 4
    n_heads: int = 4
    prices: tuple[float, ...] = (0.003, 0.01, 0.03)
    prune_steps: int = 200

    def recipe(self, task: str) -> Recipe:
        """One training."""
        learned: TaskConfig = self.recall if task == "recall" else self.text
        layout = f"attention(n_heads={self.n_heads}, convolution=3) * {self.n_layers}"
        return self.training.recipe(f"heads-{task}", layout, learned, vocab_size=build_task(learned).vocab_size)

    @property
    def pruning(self) -> PruneConfig:
        """How gates are learned."""
        return PruneConfig(
            lambdas=self.prices,
            steps=self.prune_steps,
            batch_size=self.training.batch_size,
            epsilon=0.02,
            n_test=min(512, self.training.n_test),
        )


def heads(settings: HeadStudy, seed: int, out: Path) -> Measured:
    """The share of heads that can go, at every price and at the best one that costs nothing."""
    figures = dict[str, float]()
    for task in TASKS:
        recipe = settings.recipe(task)
        run = trained(settings.training, recipe, seed, out)
        folder = folder_of(out, recipe, seed)
        found = prune_run(folder, folder / "pruning", settings.pruning, _quiet, sites=[HEADS])
        scored = score(run, settings.training.n_test)
        figures |= {f"{task}: closed": dispensable(found), f"{task}: accuracy": scored.accuracy}
        figures[f"{task}: loss"] = scored.loss
        for price, row in zip(settings.prices, found.rows, strict=True):
            figures[f"{task} {price:g}: closed"] = len(row.closed) / len(found.sites)
            figures[f"{task} {price:g}: change"] = row.change.value
    return Measured(figures=figures)


def dispensable(found: Pruning) -> float:
    """The largest share of heads that is closed at a price which the loss bears."""
    return max((len(row.closed) / len(found.sites) for row in found.borne), default=0.0)


def _quiet(line: str) -> None:
    pass


def trainings(settings: HeadStudy) -> Sequence[Target]:
    """Of one seed, for the planner; gates take a fraction more."""
    return targets(settings.recipe(task) for task in TASKS)


SMALL = HeadStudy(training=Training(steps=400))
PAPER = HeadStudy(
    training=larger(Training()),
    recall=LARGER_RECALL,
    text=TextConfig(corpus="prose", length=1024),
    n_layers=6,
    n_heads=8,
    prune_steps=5000,
)
CLAIMS = (
    Claim(figure="recall: accuracy", what="accuracy: recall", published="learned", least=0.95),
    *(
        Claim(
            figure=f"{task}: closed",
            what=f"share of heads that can go without loss, {task}",
            published=f"{PUBLISHED:.0%}; over three quarters",
            least=0.75,
        )
        for task in TASKS
    ),
    *(
        Claim(figure=f"{task} {price:g}: {figure}", what=f"{task}, price {price:g}: {what}")
        for task in TASKS
        for price in SMALL.prices
        for figure, what in (("closed", "share of heads closed"), ("change", "change of the loss (nats)"))
    ),
    Claim(figure="text: loss", what="loss on text (nats a byte)"),
)

STUDY = study(
    Experiment(
        name="survey-heads",
        what="how many heads of attention can go without loss, once the network may adapt?",
        source="Voita et al. 2019 (arXiv 1905.09418)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=heads,
        minutes={"small": 3.5},
        trainings=trainings,
    ),
    Finding(
        slug="most-heads-can-go",
        claim="Over three quarters of the heads of attention can be pruned for next to nothing",
        source="Voita et al. 2019 (arXiv 1905.09418)",
        decided_by={"recall: closed": "for recall", "text: closed": "for text"},
        requires=("recall: accuracy",),
        if_holds="Prune before you serve: `mnemoscope prune RUN --sites 'blocks.*.mixer[heads]'`. That a head can go "
        "does not say that it was idle; the examination does.",
        if_not="At this width heads are not spare: prune by what the loss bears at your own price.",
        elsewhere="Networks with many more heads than a task needs, such as the published 6 layers of 8.",
    ),
)
