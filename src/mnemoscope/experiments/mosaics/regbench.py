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
on new languages from .91 to .89.
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
            "ood": _test(settings.task(n_environments)),
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
    return Measured(figures=figures | _baselines(settings), series=series)


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
    test = _test(settings.task(settings.environments[0]))
    at = visited(test.truth)
    found = {order: ngram_predictions(test.inputs, order) for order in (2, 3)}
    return {
        f"{order}gram_{what}": measure(predicted, test.truth, at)
        for order, predicted in found.items()
        for what, measure in (("accuracy", accuracy), ("tvd", tvd))
    }


PUBLISHED: Mapping[int, Mapping[Arm, tuple[float, float]]] = {
    100: {
        "mosaic": (0.925, 0.570),
        "transformer": (0.523, 0.682),
        "mamba": (0.377, 0.752),
        "linear_attention": (0.464, 0.74),
        "hyena": (0.499, 0.701),
        "h3": (0.439, 0.738),
        "lstm": (0.424, 0.733),
        "rwkv6": (0.400, 0.768),
        "s4d": (0.498, 0.681),
        "retention": (0.375, 0.768),
        "gla": (0.354, 0.777),
    },
    500: {"mosaic": (0.928, 0.254), "transformer": (0.543, 0.645)},
}
"""Accuracy and TVD on new languages, Memory Mosaics figure 11; digitised, within 0.004."""

PUBLISHED_IID: Mapping[Arm, tuple[float, float]] = {
    "mosaic": (0.959, 0.417),
    "transformer": (0.856, 0.308),
    "mamba": (0.929, 0.268),
    "s4d": (0.846, 0.350),
    "rwkv6": (0.967, 0.183),
    "linear_attention": (0.816, 0.348),
    "h3": (0.794, 0.425),
    "gla": (0.870, 0.284),
    "hyena": (0.953, 0.244),
    "lstm": (0.849, 0.343),
    "retention": (0.876, 0.296),
}
"""Accuracy and TVD on the training languages at 100 automata, Memory Mosaics Table 4."""

OTHER_SOURCE: Mapping[str, Sequence[str]] = {
    "Transformer": (".545 / .622", ".925 / .208", ".958 / .126"),
    "Mamba": (".694 / .510", ".844 / .369", ".917 / .263"),
    "RetNet": (".502 / .665", ".801 / .392", ".919 / .212"),
    "Linear transformer": (".511 / .626", ".541 / .614", ".916 / .211"),
    "Hyena": (".580 / .591", ".701 / .490", ".892 / .253"),
    "H3": (".527 / .624", ".652 / .524", ".834 / .333"),
    "RWKV": (".498 / .661", ".490 / .641", ".829 / .318"),
    "LSTM": (".490 / .634", ".589 / .562", ".814 / .369"),
    "S4D": (".527 / .626", ".533 / .616", ".789 / .402"),
}
"""Accuracy / TVD at 1,000, 2,500 and 40,000 automata in In-Context Language Learning, digitised."""


def _claims(arms: Sequence[Arm], environments: Sequence[int]) -> tuple[Claim, ...]:
    return tuple(
        claim for n_environments in environments for arm in arms for claim in _claims_of(arm, n_environments)
    ) + tuple(
        Claim(figure=f"{order}gram_{what}", what=f"{order}-gram counting, {what}", published=published)
        for order, what, published in (
            (2, "accuracy", ".812"),
            (2, "tvd", ".338"),
            (3, "accuracy", ".933"),
            (3, "tvd", ".257"),
        )
    )


def _claims_of(arm: Arm, n_environments: int) -> list[Claim]:
    title, name = f"{TITLES[arm]}, {n_environments} automata", f"{arm}_{n_environments}"
    ood = PUBLISHED.get(n_environments, {}).get(arm)
    iid = PUBLISHED_IID.get(arm) if n_environments == 100 else None
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


def both_sources(settings: RegBenchStudy, found: Sequence[Result]) -> list[TextTable]:
    """The rows of the other source, which has other numbers of automata."""
    rows = [[name, *values] for name, values in OTHER_SOURCE.items()]
    return [
        TextTable(
            title="The other source",
            caption="Accuracy / TVD on new languages, In-Context Language Learning (arXiv 2401.12973). The two sources "
            "disagree where they overlap, so these rows stand for themselves.",
            columns=["Model", "1,000 automata", "2,500", "40,000"],
            rows=rows,
        )
    ]


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
        plots=[plot for n in small.environments for plot in _loss_plots(small.arms, n)],
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
    {},
)
REGBENCH_LONGER = _experiment(
    LONGER,
    "is the transformer's distance on RegBench one of speed? four times the epochs, at a third of the learning rate",
    replace(SMALL, arms=("transformer",), environments=(500,), epochs=(60,), learning_rate=1e-3),
    replace(PAPER, arms=("transformer",), environments=(500,), epochs=(1600,)),
    {},
    regbench_longer,
)
