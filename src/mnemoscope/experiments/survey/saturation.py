"""Is a part of attention always stuck in the saturated softmax, and does that make training long?

Two blocks of attention learn recall, and text, with plain queries and keys and with normalised ones, whose scores are
bounded. Every 1/40 of the training the share of rows is taken through which no gradient reaches the scores
(Jacobian below 0.01, `attention_saturation`), and rows that are saturated half-way are looked up again at the end.

What bounded scores say of saturation presupposes that they lowered it: by 1 % of the rows and more, in the mean over
the training.

Known limits: a saturated row may be a sharp answer that is right; scores of normalised queries and keys are at most the
square root of the head's width, so that they can saturate a little too.

Source: Wang et al. 2021, as the survey quotes it ("there is always a part of the input stuck in the saturation area,
leading to gradient vanishing and long training"). What differs: "a part" is 1 % of the rows here; the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import (
    BATCH,
    LARGER_RECALL,
    RECALL,
    Training,
    folder_of,
    held_out,
    larger,
    score,
    targets,
    trained,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.memories.attention import Attention
from mnemoscope.models import Model
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import MqarConfig, TaskConfig, TextConfig, build_task
from mnemoscope.training import Recipe, load_run
from mnemoscope.training.checkpoint import path_of
from mnemoscope.training.metrics import MetricsConfig, jacobian_norm
from mnemoscope.training.metrics.attention_saturation import N_FORCED, THRESHOLD

KINDS = {"plain": "", "normalised": ", normalise_qk=True"}
TASKS = ("recall", "text")
GOOD = 0.9
PART = 0.01


@dataclass(frozen=True, kw_only=True)
class SaturationStudy:
    """Which sequences, and how arms are trained on either."""

    training: Training = field(default_factory=Training)
    reading: Training = field(default_factory=Training)
    recall: MqarConfig = RECALL
    text: TextConfig = field(default_factory=lambda: TextConfig(corpus="prose", length=64))

    def training_of(self, task: str) -> Training:
        """How a task is learned."""
        return self.training if task == "recall" else self.reading

    def recipe(self, task: str, kind: str) -> Recipe:
        """One training."""
        learned: TaskConfig = self.recall if task == "recall" else self.text
        training = self.training_of(task)
        metrics = MetricsConfig(every=max(1, training.steps // 40), names=("attention_saturation",), detail=False)
        return training.recipe(
            f"saturation-{task}-{kind}",
            f"attention(convolution=3{KINDS[kind]}) * 2",
            learned,
            vocab_size=build_task(learned).vocab_size,
            metrics=metrics,
        )


def recipes(settings: SaturationStudy) -> dict[str, Recipe]:
    """Of every task and kind."""
    return {f"{task} {kind}": settings.recipe(task, kind) for task in TASKS for kind in KINDS}


def _training(settings: SaturationStudy, name: str) -> Training:
    return settings.training_of(name.partition(" ")[0])


def saturation(settings: SaturationStudy, seed: int, out: Path) -> Measured:
    """Shares through training, rows that stay, and how long a kind takes to learn recall."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for name, recipe in recipes(settings).items():
        training = _training(settings, name)
        run = trained(training, recipe, seed, out)
        folder = folder_of(out, recipe, seed)
        rows = [row for row in RunDirectory(folder).read_metrics() if "attention_saturation.share" in row]
        shares = [float(row["attention_saturation.share"]) for row in rows]
        series |= {f"{name}: step": [float(row["step"]) for row in rows], f"{name}: share": shares}
        scored = score(run, training.n_test)
        half = load_run(folder, path_of(RunDirectory(folder).checkpoints_path, max(1, training.steps // 2)))
        both = saturated_rows(half.model, settings, recipe) & saturated_rows(run.model, settings, recipe)
        figures |= {
            f"{name}: least": min(shares[len(shares) // 2 :]),
            f"{name}: last": shares[-1],
            f"{name}: stuck": float(both.double().mean()),
            f"{name}: accuracy": scored.accuracy,
            f"{name}: loss": scored.loss,
            f"{name}: mean": sum(shares) / len(shares),
            f"{name}: steps": _steps_to(folder, training.steps),
        }
    for task in TASKS:
        figures[f"{task}: lowered"] = figures[f"{task} plain: mean"] - figures[f"{task} normalised: mean"]
    figures["steps_saved"] = figures["recall plain: steps"] - figures["recall normalised: steps"]
    figures["loss_saved"] = figures["text plain: loss"] - figures["text normalised: loss"]
    return Measured(figures=figures, series=series)


def _steps_to(folder: Path, steps: int) -> float:
    """Steps until validation accuracy is 90 %; half as much again as there were where it never is."""
    rows = [row for row in RunDirectory(folder).read_metrics() if "validation_accuracy" in row]
    good = [float(row["step"]) for row in rows if float(row["validation_accuracy"]) >= GOOD]
    return min(good, default=1.5 * steps)


@torch.no_grad()
def saturated_rows(model: Model, settings: SaturationStudy, recipe: Recipe) -> Bool[Tensor, "n"]:
    """Which rows of all heads are saturated on a test batch; the first queries have no choice and are left out."""
    (batch,) = held_out(build_task(recipe.task), BATCH)
    found = list[Tensor]()

    def listen(module: torch.nn.Module, given: object, weights: Tensor) -> None:
        found.append((jacobian_norm(weights[..., N_FORCED:, :]) < THRESHOLD).flatten().cpu())

    points = [module.addressing for module in model.modules() if isinstance(module, Attention)]
    handles = [point.register_forward_hook(listen) for point in points]
    model.eval()(torch.as_tensor(batch.inputs).to(input_device(model)))
    for handle in handles:
        handle.remove()
    return torch.cat(found)


def trainings(settings: SaturationStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


ARMS = tuple(f"{task} {kind}" for task in TASKS for kind in KINDS)
CLAIMS = (
    Claim(figure="recall plain: accuracy", what="accuracy: recall, plain", published="learned", least=0.9),
    *(
        Claim(
            figure=f"{task} plain: {figure}",
            what=f"{task}, plain: {what}",
            published="always a part; ours: 1 %",
            least=PART,
        )
        for task in TASKS
        for figure, what in (
            ("least", "smallest share of saturated rows in the second half"),
            ("stuck", "share saturated half-way and at the end"),
        )
    ),
    *(
        Claim(
            figure=f"{task}: lowered",
            what=f"{task}: mean share of saturated rows, plain less normalised",
            least=PART,
        )
        for task in TASKS
    ),
    Claim(
        figure="steps_saved",
        what="steps to 90 % of recall: plain less normalised",
        published="long training; ours: sooner at all",
        least=1.0,
    ),
    Claim(
        figure="loss_saved",
        what="loss on text: plain less normalised (nats a byte)",
        published="long training; ours: 0.02",
        least=0.02,
    ),
    *(Claim(figure=f"{name}: last", what=f"{name}: share of saturated rows at the end") for name in ARMS),
    *(Claim(figure=f"{name}: loss", what=f"{name}: loss (nats)") for name in ARMS),
    Claim(figure="recall plain: steps", what="steps to 90 % of recall, plain"),
    Claim(figure="recall normalised: steps", what="steps to 90 % of recall, normalised"),
)
SMALL = SaturationStudy(training=Training(steps=250), reading=Training(steps=300))
PAPER = SaturationStudy(
    training=larger(Training()),
    reading=larger(Training()),
    recall=LARGER_RECALL,
    text=TextConfig(corpus="prose", length=1024),
)

STUDY = study(
    Experiment(
        name="survey-saturation",
        what="is a part of attention always stuck in the saturated softmax, and does that make training long?",
        source="Wang et al. 2021, as the survey quotes it",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=saturation,
        minutes={"small": 0.9},
        trainings=trainings,
        plots=(
            Plot(
                title="Saturated rows through training",
                caption="Share of the rows of attention whose softmax passes no gradient on.",
                y_label="share of rows",
                lines={name: f"{name}: step -> {name}: share" for name in ARMS},
                x="recall plain: step",
            ),
        ),
    ),
    Finding(
        slug="rows-stuck-in-saturation",
        claim="A part of attention is always stuck in the saturated softmax",
        source="Wang et al. 2021, as the survey quotes it",
        decided_by={
            f"{task} plain: {figure}": words
            for task in TASKS
            for figure, words in (
                ("least", f"on {task}, 1 % of the rows and more are saturated at any time of the second half"),
                ("stuck", f"on {task}, 1 % of the rows and more are saturated half-way and still at the end"),
            )
        },
        requires=("recall plain: accuracy",),
        if_holds="Log `attention_saturation`; it says how much of an addressing can no longer be learned.",
        if_not="Saturation is no explanation for an idle memory where it is not there: look at `attention_saturation` "
        "first.",
        elsewhere="Deep networks and long training, in which scores keep growing.",
    ),
    Finding(
        slug="saturation-makes-training-long",
        claim="Saturation of the softmax makes training on recall long",
        source="Wang et al. 2021, as the survey quotes it",
        decided_by={
            "steps_saved": "recall is learned in fewer steps with bounded scores",
        },
        requires=("recall plain: accuracy", "recall: lowered"),
        if_holds="Use `normalise_qk=True`.",
        if_not="Saturated rows are no obstacle at this size; bound scores for stability only.",
        elsewhere="Whether bounded scores help where training diverges or lasts for days.",
    ),
    Finding(
        slug="saturation-makes-reading-long",
        claim="Saturation of the softmax makes training on text long",
        source="Wang et al. 2021, as the survey quotes it",
        decided_by={"loss_saved": "text is read better after as many steps with bounded scores"},
        requires=("text: lowered",),
        if_holds="Use `normalise_qk=True`.",
        if_not="Saturated rows are no obstacle at this size; bound scores for stability only.",
        elsewhere="Whether bounded scores help where training diverges or lasts for days.",
    ),
)
