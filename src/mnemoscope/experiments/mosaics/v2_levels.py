"""The long level of Memory Mosaics v2 taken away after training: what needs no long memory should lose nothing.

    then ivy took the path to the fair . at the fair button the duck ran away .
         |                               |   |      |
         far                             new near   far      distance of a word to the last mention of the same fact

A v2 is trained on the stories of a grammar, which says where a fact recurs, and how far back it was. Most words are
new: neither a fact nor far from what tells them. After the long levels are gone, each kind of word is predicted again.
A transformer of as many parameters, trained alike, says how good a model of the stories this v2 is.

Source: Zhang, Bottou 2025, "Memory Mosaics at scale" (arXiv 2507.03285): without the long level, 13 tasks go from 56.8
to 56.6 %, 6 others from 42.1 to 34.9 %; read through summaries.
Differs: kinds of words in place of tasks; every length of the source by sixteen; two blocks (four at the size "paper")
in place of 32, which reach as many windows back without a long level, so that words between one window and those are
left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch.nn import functional as F

from mnemoscope.contracts.devices import Device
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.experiments.mosaics.schedule import schedule
from mnemoscope.experiments.mosaics.trained import run_folder, trained, validation_curve
from mnemoscope.experiments.mosaics.v2 import SOURCE, bandwidth_plots
from mnemoscope.experiments.mosaics.v2_arms import V2_TITLES, V2Arm, V2Shape, v2_config, without_long_level
from mnemoscope.experiments.mosaics.v2_recall import CHUNK, bandwidths, exponents
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Shown
from mnemoscope.models import Model, Stack
from mnemoscope.tasks import StoriesConfig, build_task, task_rng
from mnemoscope.training import Recipe
from mnemoscope.training.config import Precision

PAIR: tuple[V2Arm, ...] = ("v2", "rotary")
KINDS: Mapping[str, str] = {
    "new": "words that are no fact told before",
    "near": "facts told within the window",
    "far": "facts told beyond the windows of all blocks",
}


@dataclass(frozen=True, kw_only=True)
class LevelsStudy:
    """Which networks, on windows of stories of which length; see `RecallStudy` for what they share."""

    length: int = 256
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    short_window: int = 16
    long_delay: int = 4
    longest_delay: int = 16
    persistent: int = 128
    steps: int = 800
    batch_size: int = 8
    learning_rate: float = 3e-3
    n_test: int = 256
    precision: Precision = "32-true"
    device: Device = "cpu"

    @property
    def task(self) -> StoriesConfig:
        """What is learned."""
        return StoriesConfig(length=self.length)

    def recipe(self, arm: V2Arm) -> Recipe:
        """One training."""
        shape = V2Shape(
            vocab_size=build_task(self.task).vocab_size,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            short_window=self.short_window,
            long_delay=self.long_delay,
            longest_delay=self.longest_delay,
            persistent=self.persistent,
        )
        train = schedule(self, evaluations=10, sequences=32, precision=self.precision)
        return Recipe(name=f"v2-stories-{arm}", model=v2_config(arm, shape), task=self.task, train=train)


def trainings(settings: LevelsStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(arm)) for arm in PAIR]


def levels(settings: LevelsStudy, seed: int, out: Path) -> Measured:
    """Train v2 and a transformer; loss and accuracy by kind of word, of v2 without its long level too."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for arm in PAIR:
        recipe = settings.recipe(arm)
        model = trained(out, recipe, seed, settings.device).model.eval()
        figures |= {f"{arm}_parameters": float(count(model))} | _by_kind(arm, model, settings)
        series |= validation_curve(run_folder(out, recipe.name, seed), arm)
        if arm == "v2":
            assert isinstance(model, Stack)
            figures |= _by_kind("removed", without_long_level(model), settings) | exponents(model)
            series |= bandwidths(model, settings.length)
    for kind in KINDS:
        figures[f"fall_{kind}"] = figures[f"v2_{kind}_accuracy"] - figures[f"removed_{kind}_accuracy"]
    figures["gain"] = figures["rotary_loss"] - figures["v2_loss"]
    return Measured(figures=figures, series=series)


@torch.no_grad()
def _by_kind(name: str, model: Model, settings: LevelsStudy) -> dict[str, float]:
    """Loss over all words, and loss and accuracy by kind, on windows of the test split."""
    batch = build_task(settings.task).batch(task_rng(0, "test", 0), settings.n_test, "test")
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    device, nats, right = input_device(model), list[torch.Tensor](), list[torch.Tensor]()
    for x, y in zip(inputs.to(device).split(CHUNK), targets.to(device).split(CHUNK), strict=True):
        logits = model(x)
        nats.append(F.cross_entropy(logits.transpose(1, 2), y, reduction="none"))
        right.append(logits.argmax(-1) == y)
    losses, hits = torch.cat(nats).double().cpu().numpy(), torch.cat(right).cpu().numpy()
    figures = {f"{name}_loss": float(losses.mean())}
    for kind, chosen in kinds_of(batch.about["distance"], settings).items():
        figures[f"{name}_{kind}_loss"] = float(losses[chosen].mean()) if chosen.any() else float("nan")
        figures[f"{name}_{kind}_accuracy"] = float(hits[chosen].mean()) if chosen.any() else float("nan")
    return figures


def kinds_of(distance: np.ndarray, settings: LevelsStudy) -> dict[str, Bool[np.ndarray, "b t"]]:
    """Which words are of each of `KINDS`.

    Args:
        distance: tokens to the last mention of the fact that a target is; -1 where it is none that was told.
        settings: the windows.
    """
    window = settings.short_window
    near = (distance >= 0) & (distance <= window)
    return {"new": distance < 0, "near": near, "far": distance > settings.n_layers * window}


def _claims() -> tuple[Claim, ...]:
    bounded = (
        Claim(figure="fall_new", what=f"fall of the accuracy on {KINDS['new']}", published=".568 - .566", most=0.01),
        Claim(figure="fall_near", what=f"fall of the accuracy on {KINDS['near']}", published=".568 - .566", most=0.01),
        Claim(figure="fall_far", what=f"fall of the accuracy on {KINDS['far']}", published=".421 - .349", least=0.07),
        Claim(
            figure="gain",
            what="loss of the transformer over that of v2 (nats a word)",
            published="about 0 (accuracy .522 and .522)",
            least=-0.03,
        ),
    )
    titles = {"v2": V2_TITLES["v2"], "removed": "v2, long level removed", "rotary": V2_TITLES["rotary"]}
    shown = [
        Claim(figure=f"{name}_{what}", what=f"{title}: {words}")
        for name, title in titles.items()
        for what, words in (
            ("loss", "loss (nats a word)"),
            *((f"{kind}_accuracy", f"accuracy on {of}") for kind, of in KINDS.items()),
            *((f"{kind}_loss", f"loss on {of}") for kind, of in KINDS.items()),
        )
    ]
    sizes = [Claim(figure=f"{arm}_parameters", what=f"{V2_TITLES[arm]}: parameters") for arm in PAIR]
    return (*bounded, *shown, *sizes)


def _plots(settings: LevelsStudy) -> list[Plot]:
    training = Plot(
        title="Validation loss through training",
        caption="Windows of stories, both levels there.",
        y_label="loss (nats a word)",
        lines={V2_TITLES[arm]: f"{arm}: step -> {arm}: validation" for arm in PAIR},
    )
    return [training, *bandwidth_plots(settings.n_layers, settings.n_heads)]


SMALL = LevelsStudy()
PAPER = replace(
    SMALL,
    length=512,
    d_model=768,
    n_layers=4,
    n_heads=12,
    persistent=2048,
    steps=20_000,
    batch_size=64,
    learning_rate=3e-4,
    n_test=1024,
    precision="bf16-mixed",
    device="auto",
)
"""Wider and deeper, for one GPU. Windows stay as they are: the facts of a story are at most 133 words apart, so that no
word would be far with the published ones, and none with twelve blocks."""

MOSAIC_V2_LEVELS = Experiment(
    name="mosaic-v2-levels",
    what="what does Memory Mosaics v2 lose when its long level is removed after training? (stories)",
    source=SOURCE,
    claims=_claims(),
    sizes={"small": SMALL, "paper": PAPER},
    measure_in=levels,
    minutes={"small": 3.0},
    trainings=trainings,
    plots=_plots(SMALL),
    shown={"paper": Shown(claims=_claims(), plots=_plots(PAPER))},
)
