"""RegBench: a language that was never seen must be learned from its strings, within the sequence.

Networks of as many parameters as a Memory Mosaic are trained on strings of some hundred random automata, and tested on
strings of new ones. What counts is how often the likeliest next letter is one that the automaton allows (accuracy) and
how far the predicted distribution is from the true one (TVD), at every position.

Two sources have published figures, and they disagree for the same model and number of automata: the rows of each are
shown as its own, and nothing is compared across them.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), section 6, figure 11 and Table 4 (100 and 500 automata);
Akyürek, Wang, Kim, Andreas 2024, "In-Context Language Learning" (arXiv 2401.12973), from 1,000 automata on.
Differs: an own generator of the same law; 64 channels, no dropout; one set of hyper-parameters for all. Learning rate
and epochs are of four trainings of the Mosaic on 500 automata at seed 0: twice as many epochs lowered what it reached
on new languages from .91 to .89. What is reported is on new languages of another data set, on which nothing was chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mnemoscope.contracts.devices import Device
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.mosaics.arms import OTHERS, TITLES, Arm, Shape, arm_config, count
from mnemoscope.experiments.mosaics.regbench_published import (
    AUTOMATA,
    COUNTING,
    FIGURE_11,
    TABLE_4,
    on_new_languages,
    tables,
)
from mnemoscope.experiments.mosaics.trained import run_folder, trained, validation_curve
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result, Size
from mnemoscope.models import Model
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import RegBench, RegBenchConfig, build_task, task_rng
from mnemoscope.tasks.regbench_metrics import accuracy, ngram_predictions, tvd, visited
from mnemoscope.training import Recipe, TrainConfig

SOURCE = "Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394), figure 11 and Table 4"
PAIR: tuple[Arm, ...] = ("mosaic", "transformer")
CHUNK = 32
MOST_LINES = 5
TEST_SEED = 1
"""Of the data that new languages are tested on; networks are trained, and were tuned, on those of seed 0."""

LONGER = "regbench-longer"


@dataclass(frozen=True, kw_only=True)
class RegBenchStudy:
    """Which networks, on how many languages.

    Args:
        arms: networks.
        environments: training automata of each training.
        epochs: for each number of automata: times that every training sequence is seen.
        n_held_out: new automata of the test, and of the validation.
        d_model: width.
        n_layers: blocks.
        n_heads: heads.
        batch_size: sequences a step.
        learning_rate: largest.
        weight_decay: of matrices.
        max_string_length: letters of a string at most; 49 is published.
        device: of everything.
    """

    arms: tuple[Arm, ...] = PAIR
    environments: tuple[int, ...] = (100, 500)
    epochs: tuple[int, ...] = (60, 15)
    n_held_out: int = 100
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    max_string_length: int = 49
    device: Device = "cpu"

    def task(self, n_environments: int, held_out: str = "new") -> RegBenchConfig:
        """The data: `held_out` as in `RegBenchConfig`."""
        config = RegBenchConfig(
            n_environments=n_environments, n_held_out=self.n_held_out, max_string_length=self.max_string_length
        )
        return replace(config, held_out=held_out)

    def recipe(self, arm: Arm, n_environments: int) -> Recipe:
        """One training."""
        task = self.task(n_environments)
        shape = Shape(
            vocab_size=20,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            max_tokens=build_task(task).length,
        )
        epochs = dict(zip(self.environments, self.epochs, strict=True))[n_environments]
        steps = -(-epochs * n_environments // self.batch_size)
        train = TrainConfig(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=steps // 10,
            weight_decay=self.weight_decay,
            beta2=0.99,
            eval_every=max(1, steps // 10),
            eval_sequences=min(self.n_held_out, 64),
            checkpoint_every=max(1, steps // 10),
            threads=1,
        )
        return Recipe(name=f"regbench-{n_environments}-{arm}", model=arm_config(arm, shape), task=task, train=train)


def regbench(settings: RegBenchStudy, seed: int, out: Path) -> Measured:
    """Train every network on every number of automata, and test it on new languages and on the trained ones."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for n_environments in settings.environments:
        tests = {
            "ood": _new_languages(settings, n_environments),
            "iid": _test(settings.task(n_environments, "training")),
        }
        for arm in settings.arms:
            recipe = settings.recipe(arm, n_environments)
            model = trained(out, recipe, seed, settings.device).model.eval()
            name = f"{arm}_{n_environments}"
            figures[f"{name}_parameters"] = float(count(model))
            for which, test in tests.items():
                figures |= {f"{name}_{which}_{what}": value for what, value in _scores(model, test).items()}
            series |= validation_curve(run_folder(out, recipe.name, seed), name)
    return Measured(figures=figures | _baselines(settings), series=series | _growth(settings, figures))


def regbench_longer(settings: RegBenchStudy, seed: int, out: Path) -> Measured:
    """The same in run directories of its own, since its recipes have the names of the shorter ones."""
    return regbench(settings, seed, out / LONGER)


def trainings(settings: RegBenchStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.recipe(arm, n)) for n in settings.environments for arm in settings.arms]


@dataclass(frozen=True)
class _Test:
    inputs: Int[np.ndarray, "b t"]
    truth: Float[np.ndarray, "b t v"]


def _new_languages(settings: RegBenchStudy, n_environments: int) -> _Test:
    """Of another data set than that of the training: nothing was chosen by these automata.

    An automaton decides by itself which split owns it, so those of any test split are in no training split. Rows end
    where the longest of the training's data ends: learned positions reach no farther.
    """
    config = settings.task(n_environments)
    found, length = _test(replace(config, data_seed=TEST_SEED)), build_task(config).length
    return _Test(found.inputs[:, :length], found.truth[:, :length])


def _test(config: RegBenchConfig) -> _Test:
    task = build_task(config)
    assert isinstance(task, RegBench)
    batch, truth = task.draw(task_rng(0, "test", 0), config.n_held_out, "test")
    return _Test(batch.inputs, truth)


def _scores(model: Model, test: _Test) -> dict[str, float]:
    predicted = _predictions(model, torch.from_numpy(test.inputs))
    at = visited(test.truth)
    return {"accuracy": accuracy(predicted, test.truth, at), "tvd": tvd(predicted, test.truth, at)}


@torch.no_grad()
def _predictions(model: Model, inputs: Int[Tensor, "b t"]) -> NDArray[np.float64]:
    device = input_device(model)
    found = [model(part.to(device)).double().softmax(-1).cpu() for part in inputs.split(CHUNK)]
    return torch.cat(found).numpy()


def _baselines(settings: RegBenchStudy) -> dict[str, float]:
    """What counting within the sequence reaches, on the same new languages."""
    test = _new_languages(settings, settings.environments[0])
    at = visited(test.truth)
    found = {order: ngram_predictions(test.inputs, order) for order in (2, 3)}
    return {
        f"{order}gram_{what}": measure(predicted, test.truth, at)
        for order, predicted in found.items()
        for what, measure in (("accuracy", accuracy), ("tvd", tvd))
    }


def _claims(arms: Sequence[Arm], environments: Sequence[int]) -> tuple[Claim, ...]:
    return tuple(
        claim for n_environments in environments for arm in arms for claim in _claims_of(arm, n_environments)
    ) + tuple(
        Claim(figure=f"{order}gram_{what}", what=f"{order}-gram counting, {what}", published=_shown(pair, which))
        for order, pair in COUNTING.items()
        for which, what in enumerate(("accuracy", "tvd"))
    )


def _claims_of(arm: Arm, n_environments: int) -> list[Claim]:
    title, name = f"{TITLES[arm]}, {n_environments} automata", f"{arm}_{n_environments}"
    ood = on_new_languages(arm, n_environments)
    iid = TABLE_4.get(arm) if n_environments == 100 else None
    least = 0.9 if arm == "mosaic" and n_environments == 500 else None
    most = 0.7 if arm == "transformer" and n_environments == 500 else None
    return [
        Claim(
            figure=f"{name}_ood_accuracy",
            what=f"{title}: accuracy on new languages",
            published=_shown(ood, 0),
            least=least,
            most=most,
        ),
        Claim(figure=f"{name}_ood_tvd", what=f"{title}: TVD on new languages", published=_shown(ood, 1)),
        Claim(figure=f"{name}_iid_accuracy", what=f"{title}: accuracy on trained ones", published=_shown(iid, 0)),
        Claim(figure=f"{name}_iid_tvd", what=f"{title}: TVD on trained ones", published=_shown(iid, 1)),
        Claim(figure=f"{name}_parameters", what=f"{title}: parameters"),
    ]


def _shown(pair: tuple[float, float] | None, which: int) -> str:
    return "-" if pair is None else f"{pair[which]:.3f}"


def _loss_plots(arms: Sequence[Arm], n_environments: int) -> list[Plot]:
    """As many arms in each as can be told apart."""
    groups = [arms[i : i + MOST_LINES] for i in range(0, len(arms), MOST_LINES)]
    return [
        Plot(
            title=f"Validation loss, {n_environments} automata: {', '.join(TITLES[arm] for arm in group)}",
            caption="On languages that were never trained.",
            y_label="loss (nats per letter)",
            lines={TITLES[arm]: f"{arm}_{n_environments}: step -> {arm}_{n_environments}: validation" for arm in group},
        )
        for group in groups
    ]


def _growth_plots(arms: Sequence[Arm]) -> list[Plot]:
    """Figure 11: ours, and what was published of the same."""
    return [
        Plot(
            title=f"{label} on new languages by training automata (figure 11)",
            caption="Ours have 64 channels and one set of hyper-parameters; those of each published point were "
            "searched for.",
            y_label=label,
            x="automata",
            x_label="training automata",
            log_x=True,
            lines={TITLES[arm]: f"{arm}: {what}" for arm in arms}
            | {f"{TITLES[arm]}, published": f"published: automata -> published: {arm}: {what}" for arm in arms},
        )
        for what, label in (("accuracy", "Accuracy"), ("tvd", "TVD"))
    ]


def _growth(settings: RegBenchStudy, figures: Mapping[str, float]) -> dict[str, Sequence[float]]:
    """Its lines."""
    series: dict[str, Sequence[float]] = {"automata": [float(n) for n in settings.environments]}
    series["published: automata"] = [float(n) for n in AUTOMATA]
    for arm in settings.arms:
        for what in ("accuracy", "tvd"):
            series[f"{arm}: {what}"] = [figures[f"{arm}_{n}_ood_{what}"] for n in settings.environments]
        if arm in FIGURE_11:
            series[f"published: {arm}: accuracy"] = FIGURE_11[arm].accuracy
            series[f"published: {arm}: tvd"] = FIGURE_11[arm].tvd
    return series


def both_sources(settings: RegBenchStudy, found: Sequence[Result]) -> list[TextTable]:
    """All that was published, whatever was trained."""
    return tables()


def _experiment(
    name: str,
    what: str,
    small: RegBenchStudy,
    paper: RegBenchStudy,
    minutes: Mapping[Size, float],
    measure: Callable[[RegBenchStudy, int, Path], Measured] = regbench,
) -> Experiment[RegBenchStudy]:
    return Experiment(
        name=name,
        what=what,
        source=SOURCE,
        claims=_claims(small.arms, small.environments),
        sizes={"small": small, "paper": paper},
        measure_in=measure,
        minutes=minutes,
        trainings=trainings,
        plots=[
            *(_growth_plots(small.arms) if len(small.environments) > 1 else ()),
            *(plot for n in small.environments for plot in _loss_plots(small.arms, n)),
        ],
        tables=both_sources,
    )


SMALL = RegBenchStudy()
OTHERS_SMALL = RegBenchStudy(arms=OTHERS, environments=(100,), epochs=(60,))
PAPER = RegBenchStudy(
    epochs=(400, 400), n_held_out=500, d_model=128, n_heads=8, batch_size=32, learning_rate=5e-4, device="auto"
)

REGBENCH = _experiment(
    "regbench",
    "does a Memory Mosaic learn new languages in context from fewer training languages than a transformer?",
    SMALL,
    PAPER,
    {"small": 17.0},
)
REGBENCH_OTHERS = _experiment(
    "regbench-others",
    "what do nine other mechanisms reach on RegBench at 100 training languages?",
    OTHERS_SMALL,
    replace(PAPER, arms=OTHERS, environments=(100,), epochs=(400,)),
    {"small": 30.0},
)
REGBENCH_LONGER = _experiment(
    LONGER,
    "is the transformer's distance on RegBench one of speed? four times the epochs, at a third of the learning rate",
    replace(SMALL, arms=("transformer",), environments=(500,), epochs=(60,), learning_rate=1e-3),
    replace(PAPER, arms=("transformer",), environments=(500,), epochs=(1600,)),
    {"small": 20.0},
    regbench_longer,
)
