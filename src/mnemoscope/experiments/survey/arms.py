"""Arms of a study: how networks are trained, what is measured of each, and its examination where it is asked for.

OUT/survey-runs/NAME/seed-0/ is a run directory; `verdicts.json` in it is the examination.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from mnemoscope.contracts import Batch
from mnemoscope.contracts.devices import Device, chosen_device
from mnemoscope.examination import Budget
from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.examining import Choice, examine_subject
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.held_out import Data, drawn
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim
from mnemoscope.experiments.shared_runs import run_folder, validation_curve
from mnemoscope.experiments.subjects import of_run
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.models import StackConfig, VectorsConfig, parse_layout
from mnemoscope.runs import Examination, RunDirectory
from mnemoscope.runs.examination import SiteRecord
from mnemoscope.tasks import MqarConfig, Split, Task, TaskConfig
from mnemoscope.training import Recipe, TrainConfig, TrainedRun
from mnemoscope.training.metrics import MetricsConfig
from mnemoscope.training.remedies import Remedy

RUNS = "survey-runs"
BEATS = 0.1
"""Nats below a bigram that say that a network reads more of a text than the last token."""
AFFORDABLE = 0.02
"""Accuracy that waking a memory may cost."""
CEILING = 0.98
"""Accuracy above which a network leaves no room to be better."""
BATCH = 64
"""Sequences that are evaluated at once."""

RECALL = MqarConfig(vocab_size=64, length=32, n_pairs=8, power_a=1.0)
"""What studies of recall learn: 8 of 31 keys, answers anywhere in what follows."""

LIGHT_RECALL = MqarConfig(vocab_size=32, length=16, n_pairs=4, power_a=1.0)
"""The same of 4 of 15 keys, which narrow networks of four and eight blocks learn in some hundred steps."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every arm of a study is trained and tested.

    Args:
        d_model: width.
        mlp_ratio: of the feed-forward parts.
        steps: of the optimiser.
        batch_size: sequences a step.
        learning_rate: largest.
        n_test: sequences of the test.
        device: of everything.
    """

    d_model: int = 64
    mlp_ratio: float = 2.0
    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 3e-3
    n_test: int = 512
    device: Device = "cpu"

    def recipe(
        self,
        name: str,
        layout: str,
        task: TaskConfig,
        *,
        vocab_size: int,
        vectors: VectorsConfig | None = None,
        remedies: tuple[Remedy, ...] = (),
        metrics: MetricsConfig | None = None,
    ) -> Recipe:
        """One training; its name is that of its folder."""
        train = TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=self.steps // 15,
            final_lr_fraction=0.05,
            eval_every=max(1, self.steps // 12),
            eval_sequences=128,
            checkpoint_every=max(1, self.steps // 2),
            metrics=metrics,
            threads=1,
        )
        model = StackConfig(
            vocab_size=vocab_size,
            d_model=self.d_model,
            mixers=parse_layout(layout),
            mlp_ratio=self.mlp_ratio,
            vectors=vectors,
            tie_embeddings=vectors is None,
        )
        return Recipe(name=name, model=model, task=task, train=train, remedies=remedies)

    def recall(self, name: str, layout: str, task: MqarConfig = RECALL, *, remedies: tuple[Remedy, ...] = ()) -> Recipe:
        """A training on recall."""
        return self.recipe(name, layout, task, vocab_size=task.vocab_size, remedies=remedies)


class Score(NamedTuple):
    """Of held-out sequences: nats per scored token, and the share of right answers."""

    loss: float
    accuracy: float


def trained(training: Training, recipe: Recipe, seed: int, out: Path) -> TrainedRun:
    """The trained network of an arm, from its run directory if it is there."""
    return shared_runs.trained(out, RUNS, recipe, seed, training.device)


def folder_of(out: Path, recipe: Recipe, seed: int) -> Path:
    """Its run directory."""
    return run_folder(out, RUNS, recipe.name, seed)


def held_out(task: Task, n_test: int, at_once: int = BATCH) -> list[Batch]:
    """The same sequences of the test split at every call, in batches of one size; as many as there are, if fewer."""
    return drawn_from(task, "test", n_test, at_once)


def drawn_from(task: Task, split: Split, n: int, at_once: int = BATCH) -> list[Batch]:
    """The same of any split that is held out."""
    there = task.n_sequences(split)
    n_sequences = n if there is None else min(n, there)
    return drawn(task, split, n_sequences, min(at_once, n_sequences), 0)


def score(run: TrainedRun, n_test: int) -> Score:
    """Of a network on held-out sequences of its task."""
    losses, right = held_out_losses(run.model.eval(), held_out(run.task, n_test))
    return Score(float(losses.mean()), float(right.mean()))


def scores(
    training: Training, recipes: Mapping[str, Recipe], seed: int, out: Path
) -> tuple[dict[str, Score], dict[str, Sequence[float]]]:
    """Train all arms; the score of each, and its validation curve, as series "NAME: step" and "NAME: validation"."""
    found, series = dict[str, Score](), dict[str, Sequence[float]]()
    for name, recipe in recipes.items():
        found[name] = score(trained(training, recipe, seed, out), training.n_test)
        series |= validation_curve(folder_of(out, recipe, seed), name)
    return found, series


@dataclass(frozen=True, kw_only=True)
class Examining:
    """What the examination of an arm may cost.

    Args:
        n_calibration: sequences that fit constants.
        n_test: sequences that decide.
        fit_steps: of one constant.
    """

    n_calibration: int = 96
    n_test: int = 256
    fit_steps: int = 60

    @property
    def budget(self) -> Budget:
        """Of one examination."""
        return Budget(
            n_calibration=self.n_calibration,
            n_test=self.n_test,
            windows=(1, 4),
            fit_steps=self.fit_steps,
            joint_fit_steps=max(1, self.fit_steps // 2),
            contribution=False,
            untrained_copy=False,
            n_resamples=2000,
        )


def examined(
    training: Training, examining: Examining, recipe: Recipe, seed: int, out: Path, choice: Choice | None = None
) -> Examination:
    """The examination of a trained arm, kept in its run directory; one that is there is not done again."""
    trained(training, recipe, seed, out)
    folder, budget = folder_of(out, recipe, seed), examining.budget
    run = RunDirectory.open(folder)
    if run.verdicts_path.exists():
        return run.read_examination()
    subject = of_run(folder, Data(batch=BATCH), budget)
    subject.model.to(chosen_device(training.device))
    examination = examine_subject(subject, budget, choice or Choice())
    if any("interrupted" in what for what in examination.missing):
        raise KeyboardInterrupt
    run.write_examination(examination)
    return examination


def all_memories(examination: Examination) -> SiteRecord:
    """All memories together: their group, or the only one."""
    return examination.groups[0] if examination.groups else examination.sites[0]


def use_of_memory(examination: Examination) -> dict[str, float]:
    """Of all memories together: "effect" (nats, best constant), "share" (of the headroom), "bears" (1: yes).

    "headroom" is the lower end of its interval, in nats; the share is NaN where that is not above 0.
    """
    site, share = all_memories(examination), examination.memories_share
    headroom = examination.headroom.low
    return {
        "effect": site.effects["read"]["optimal_constant"].value,
        "share": share.value if share is not None and headroom > 0 else float("nan"),
        "headroom": headroom,
        "bears": float((site.verdict or "").startswith("load-bearing")),
    }


def gains_of_share(figures: Mapping[str, float], treated: Iterable[str], control: str) -> dict[str, float]:
    """By arm: the accuracy that it costs, and what it adds to the memory's share; 0 where it costs too much for that.

    Args:
        figures: "NAME: accuracy" and "NAME: share" of all of them.
        treated: arms.
        control: what they are held against.
    """
    found = dict[str, float]()
    for name in treated:
        cost = figures[f"{control}: accuracy"] - figures[f"{name}: accuracy"]
        gain = figures[f"{name}: share"] - figures[f"{control}: share"]
        found |= {f"{name}_cost": cost, f"{name}_gain": gain if cost <= AFFORDABLE else 0.0}
    return found


def use_claims(judged: Iterable[str], others: Iterable[str] = (), *, bears: bool = True) -> tuple[Claim, ...]:
    """What is shown, without a bound, of the use that arms make of their memories; see `use_of_memory`.

    Args:
        judged: arms whose share has no claim of its own.
        others: arms whose share has one.
        bears: whether verdicts are shown.
    """
    judged, others = tuple(judged), tuple(others)
    shown = {"effect": "loss without the memory: {} (nats)", "bears": "is the memory load-bearing: {} (1: yes)"}
    if not bears:
        shown.pop("bears")
    share = (Claim(figure=f"{name}: share", what=f"share of the memory: {name}") for name in judged)
    rest = (
        Claim(figure=f"{name}: {figure}", what=what.format(name))
        for figure, what in shown.items()
        for name in (*others, *judged)
    )
    return (*share, *rest)


def below_bigram(task: Task, losses: Iterable[float]) -> float:
    """How far the worst of some losses on text is below what the last token alone tells (nats); NaN without a bound."""
    bound = task.memoryless_loss
    return float("nan") if bound is None else bound - max(losses)


def with_prefix(name: str, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of an arm, each as "NAME: FIGURE"."""
    return {f"{name}: {figure}": value for figure, value in figures.items()}


def targets(recipes: Iterable[Recipe]) -> list[Target]:
    """Trainings as the planner takes them."""
    return [planned(recipe) for recipe in recipes]


def larger(training: Training) -> Training:
    """The same on a GPU: wider, longer, more sequences."""
    return replace(training, d_model=128, steps=20_000, batch_size=256, learning_rate=1e-3, n_test=4096, device="auto")


LARGER_RECALL = MqarConfig(vocab_size=8192, length=256, n_pairs=64, power_a=1.0)
"""The hardest setting of the published training mixture (Zoology), with uniform gaps."""
