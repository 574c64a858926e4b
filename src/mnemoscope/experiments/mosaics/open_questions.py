"""Questions that the paper leaves open, asked of small Mosaics that read the stories of a grammar.

    mosaic-timescales        Could memories operate independently on different time scales? Leaks of all keys are fixed:
                             short (a key is the present word), long (about the last ten), or mixed over the heads.
    mosaic-persistent-bias   Can the persistent knowledge be reduced to a compact bias? Persistent units of 1, 4, 16, 64
                             pairs, or as many as give a Mosaic the parameters of a transformer; of a single pair
                             nothing can be read but one vector, whatever is asked.

The third question, of a middle tier, is in `middle_tier`. Losses are in nats a word; a word is told before where it is
a fact of its story that recurs.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 6, where these are asked and not answered. The
bars are what a yes would be; equal is within 0.03 nats, as in `language`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments.mosaics.arms import count
from mnemoscope.experiments.mosaics.language import losses
from mnemoscope.experiments.mosaics.schedule import schedule
from mnemoscope.experiments.mosaics.trained import run_folder, trained, validation_curve
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.memories.contextual import ContextualConfig
from mnemoscope.memories.key_extractors import GAIN
from mnemoscope.memories.persistent import PersistentConfig, matched_slots
from mnemoscope.models import Mosaic, MosaicConfig
from mnemoscope.tasks import StoriesConfig, build_task, task_rng
from mnemoscope.training import Recipe

SOURCE = "Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394), section 6 (open questions, no figures)"
EQUAL = 0.03
"""Nats a word."""

Scale = Literal["learned", "short", "long", "mixed"]
SHORT, LONG = 0.02, 0.9
"""What a head keeps of its average from word to word."""


@dataclass(frozen=True, kw_only=True)
class StoryMosaic:
    """A Mosaic that reads stories.

    Args:
        length: words of a window.
        d_model: width.
        n_layers: blocks.
        n_heads: heads, an even number.
        steps: of the optimiser.
        batch_size: windows a step.
        learning_rate: largest.
        n_test: windows of the test.
        device: of everything.
    """

    length: int = 128
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 3e-3
    n_test: int = 128
    device: Device = "cpu"

    def recipe(self, scale: Scale = "learned", n_slots: int | None = None) -> Recipe:
        """One training; without more words, of the Mosaic as it is published."""
        kept = retentions(scale, self.n_heads)
        model = MosaicConfig(
            vocab_size=build_task(StoriesConfig()).vocab_size,
            d_model=self.d_model,
            n_layers=self.n_layers,
            contextual=ContextualConfig(n_heads=self.n_heads, retentions=kept),
            persistent=PersistentConfig(n_heads=self.n_heads, n_slots=n_slots, retentions=kept),
        )
        train = schedule(self, evaluations=10)
        slots = "all" if n_slots is None else n_slots
        name = f"open-{scale}-{slots}"
        return Recipe(name=name, model=model, task=StoriesConfig(length=self.length), train=train)

    def trained(self, out: Path, recipe: Recipe, seed: int) -> Mosaic:
        """In evaluation mode; shared by the experiments of one folder."""
        model = trained(out, recipe, seed, self.device).model.eval()
        assert isinstance(model, Mosaic)
        return model


@dataclass(frozen=True, kw_only=True)
class PersistentBiasStudy:
    """Mosaics whose persistent units hold fewer and fewer pairs.

    Args:
        mosaic: what is trained.
        slots: pairs of a head; as many as match a transformer are added.
    """

    mosaic: StoryMosaic = field(default_factory=StoryMosaic)
    slots: tuple[int, ...] = (1, 4, 16, 64)


def retentions(scale: Scale, n_heads: int) -> tuple[float, ...] | None:
    """What each head keeps of its average from word to word; None where it is learned."""
    match scale:
        case "learned":
            return None
        case "short":
            return (SHORT,) * n_heads
        case "long":
            return (LONG,) * n_heads
        case "mixed":
            # Evenly spread in the logarithm of how far back an average reaches.
            return tuple((1 - np.geomspace(1 - SHORT, 1 - LONG, n_heads)).tolist())


def losses_on_test(model: Mosaic, settings: StoryMosaic) -> dict[str, float]:
    """Losses on the test windows: `loss` of all words, `told` of those that are told before."""
    batch = build_task(StoriesConfig(length=settings.length)).batch(task_rng(0, "test", 0), settings.n_test, "test")
    nats = losses(model, torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets))
    return {"loss": float(nats.mean()), "told": float(nats[batch.about["distance"] >= 0].mean())}


def timescales(settings: StoryMosaic, seed: int, out: Path) -> Measured:
    """Train a Mosaic at each scale and compare the mixed one with the better of the two others."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for scale in get_args(Scale):
        recipe = settings.recipe(scale)
        model = settings.trained(out, recipe, seed)
        figures |= {f"{scale}_{what}": nats for what, nats in losses_on_test(model, settings).items()}
        series |= validation_curve(run_folder(out, recipe.name, seed), scale)
        if scale == "learned":
            series["learned retentions"] = np.sort(kept_by(model), axis=1).mean(0).tolist()
    figures["mixed_gain"] = min(figures["short_loss"], figures["long_loss"]) - figures["mixed_loss"]
    figures["learning_gain"] = figures["mixed_loss"] - figures["learned_loss"]
    figures["learned_least"], figures["learned_most"] = (f(series["learned retentions"]) for f in (min, max))
    return Measured(figures=figures, series=series)


def kept_by(model: Mosaic) -> Float[np.ndarray, "layers h"]:
    """What each contextual head keeps of its average from word to word."""
    leaks = [block.contextual.keys.get_parameter("leak").detach() for block in model.blocks]
    return (-GAIN * torch.stack(leaks).abs()).exp().double().cpu().numpy()


def persistent_bias(settings: PersistentBiasStudy, seed: int, out: Path) -> Measured:
    """Train a Mosaic with each number of pairs; what fewer cost."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    mosaic, found = settings.mosaic, list[dict[str, float]]()
    for n_slots in (*settings.slots, None):
        recipe, name = mosaic.recipe(n_slots=n_slots), "all" if n_slots is None else str(n_slots)
        model = mosaic.trained(out, recipe, seed)
        found.append(losses_on_test(model, mosaic))
        figures |= {f"{what}_{name}": nats for what, nats in found[-1].items()}
        figures[f"parameters_{name}"] = float(count(model))
        series |= validation_curve(run_folder(out, recipe.name, seed), name)
    for n_slots in settings.slots:
        for what in ("loss", "told"):
            figures[f"{what}_cost_{n_slots}"] = figures[f"{what}_{n_slots}"] - figures[f"{what}_all"]
    series["pairs"] = [float(n) for n in (*settings.slots, matched_slots(mosaic.d_model))]
    series |= {what: [each[what] for each in found] for what in ("loss", "told")}
    return Measured(figures=figures, series=series)


TIMESCALE_CLAIMS = (
    Claim(
        figure="mixed_gain",
        what="loss of the better single time scale over that of mixed ones (nats a word)",
        published="asked",
        least=EQUAL,
    ),
    Claim(figure="learning_gain", what="loss of mixed time scales over that of learned ones (nats a word)"),
    *(
        Claim(figure=f"{scale}_{what}", what=f"{scale}: {words}")
        for scale in get_args(Scale)
        for what, words in (("loss", "loss (nats a word)"), ("told", "of words told before"))
    ),
    Claim(figure="learned_least", what="least that a contextual head learned to keep"),
    Claim(figure="learned_most", what="most that a contextual head learned to keep"),
)


def _bias_claims(settings: PersistentBiasStudy) -> tuple[Claim, ...]:
    fewest = min(settings.slots)
    asked = [
        Claim(
            figure=f"loss_cost_{fewest}",
            what="what persistent units of one vector cost (nats a word)",
            published="asked",
            most=EQUAL,
        )
    ]
    shown = [
        Claim(figure=f"loss_cost_{n}", what=f"what {n} pairs cost (nats a word)") for n in settings.slots if n > fewest
    ]
    told = [
        Claim(figure=f"told_cost_{n}", what=f"what {n} {_pairs(n)} cost on words told before") for n in settings.slots
    ]
    of_all = [
        Claim(figure="loss_all", what="loss with as many pairs as match a transformer (nats a word)"),
        *(Claim(figure=f"parameters_{n}", what=f"parameters, {n}") for n in (*settings.slots, "all")),
    ]
    return (*asked, *shown, *told, *of_all)


def _pairs(n: int) -> str:
    return "pair" if n == 1 else "pairs"


def training_plot(names: Sequence[str]) -> Plot:
    """Validation losses of trainings."""
    return Plot(
        title="Validation loss through training",
        caption="Alike in everything else.",
        y_label="loss (nats a word)",
        lines={name: f"{name}: step -> {name}: validation" for name in names},
    )


PAIRS_PLOT = Plot(
    title="Losses by the pairs of a persistent unit",
    caption="One pair is one vector, whatever is asked; the last number of pairs gives a Mosaic the parameters of a "
    "transformer.",
    y_label="loss (nats a word)",
    x="pairs",
    x_label="pairs a head",
    log_x=True,
    lines={"all words": "loss", "words told before": "told"},
)

SMALL = StoryMosaic()
BIAS_SMALL = PersistentBiasStudy(mosaic=SMALL)

MOSAIC_TIMESCALES = Experiment(
    name="mosaic-timescales",
    what="are memories on different time scales better than on any single one?",
    source=SOURCE,
    claims=TIMESCALE_CLAIMS,
    sizes={"small": SMALL},
    measure_in=timescales,
    plots=(training_plot(get_args(Scale)),),
    minutes={"small": 11.0},
)
MOSAIC_PERSISTENT_BIAS = Experiment(
    name="mosaic-persistent-bias",
    what="can the persistent knowledge of a Memory Mosaic be reduced to a bias?",
    source=SOURCE,
    claims=_bias_claims(BIAS_SMALL),
    sizes={"small": BIAS_SMALL},
    measure_in=persistent_bias,
    plots=(PAIRS_PLOT, training_plot([*map(str, BIAS_SMALL.slots), "all"])),
    minutes={"small": 9.0},
)
