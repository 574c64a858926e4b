"""Arms of the studies of ATLAS on text: each a training that studies share, and what it was worth on the test split.

    OUT/atlas-runs/prose-2-400-base/seed-0/                 the run directory of an arm
    OUT/atlas-arms/prose-2-400-base/arm-0.json             its figures and curves

Figures of an arm, with the memory dropped (reset) and exchanged (wrong) before retrieval, on the same words of the test
split, which neither the training nor the choice of a recipe has seen:

    accuracy, reset, wrong                of masked words
    utility, utility_se, utility_ses      accuracy less that after a reset; its standard error; how many of those it is
    specificity, ..._se, ..._ses          accuracy less that with the memory of another row
    raw_gate, raw_gate_least              mean gate of the memories before any floor, last and least while it trained
    floored_gate, floored_gate_least      as the network used it
    head, embedding (and _least)          effective dimension as a share of the width; of tied weights the same
    cosine                                of gradient and weights, mean over the training
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments.kept_arms import kept_arm
from mnemoscope.experiments.reproducing import Measured
from mnemoscope.experiments.shared_runs import run_folder, trained
from mnemoscope.runs import Row, RunDirectory
from mnemoscope.tasks.episodes import MemoryUse
from mnemoscope.training import Recipe, TrainedRun
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.lessons.lesson import Course

RUNS, ARMS = "atlas-runs", "atlas-arms"

CURVES: Mapping[str, str] = {
    "raw gate": "raw_gate.mean",
    "floored gate": "as_published.gate_mean",
    "head": "effective_dimension.share.head",
    "embedding": "effective_dimension.share.embedding",
    "hidden": "effective_dimension.share.hidden",
    "cosine": "gradient_weight_cosine.before",
}
"""Series of the steps that are observed, by the metric; of tied weights head and embedding are "tied"."""

TIED = "effective_dimension.share.tied"
EVALUATED: Mapping[str, str] = {
    "utility": "validation_utility",
    "held out": "validation_accuracy_memory",
    "trained on": "train_accuracy_memory",
    "reset": "validation_accuracy_reset",
}
"""Series of the evaluations."""


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """Everything that an arm depends on beside the seed.

    Args:
        recipe: as a dict.
        n_words: of the test.
        sha256: of the text.
    """

    recipe: dict[str, Any]
    n_words: int
    sha256: str


def measured_arm(out: Path, recipe: Recipe, n_words: int, sha256: str, seed: int, device: Device = "cpu") -> Measured:
    """Train an arm, or take what is there, and measure it on at least `n_words` masked words of the test split.

    Args:
        out: folder of all experiments.
        recipe: of the arm; its name is that of its folders.
        n_words: of the test.
        sha256: of the text.
        seed: of the training.
        device: where it is trained and tested, if that is not done yet; figures that are kept do not depend on it.

    Raises:
        ValueError: the folders hold another recipe, a text too short, or no such device is here.
        KeyboardInterrupt: a signal stopped the training; it goes on next time.
    """
    settings = ArmSettings(recipe=asdict(recipe), n_words=n_words, sha256=sha256)
    found = kept_arm(out / ARMS, recipe.name, settings, seed, lambda: _measure(out, recipe, n_words, seed, device))
    return Measured(figures=found.figures, series=found.series)


def _measure(out: Path, recipe: Recipe, n_words: int, seed: int, device: Device) -> Measured:
    run = trained(out, RUNS, recipe, seed, device)
    rows = RunDirectory(run_folder(out, RUNS, recipe.name, seed)).read_metrics()
    use = tested(run, n_words)
    series = curves(rows)
    return Measured(figures=worth(use) | gates_and_dimensions(series), series=series)


def tested(run: TrainedRun, n_words: int) -> MemoryUse:
    """What the memory of a trained model is worth on the test split; the same words for every model of a task."""
    lesson = Episodic(eval_words=n_words)
    place = next(run.model.parameters()).device
    course = Course(model=run.model, task=run.task, config=run.recipe.train, device=place)
    return lesson.begin(course).memory_use("test")


def worth(use: MemoryUse) -> dict[str, float]:
    """The first three rows of figures."""
    found = {"accuracy": use.memory.mean, "reset": use.reset.mean, "wrong": use.wrong.mean}
    for name, estimate in (("utility", use.utility), ("specificity", use.specificity)):
        errors = estimate.mean / estimate.se if estimate.se else 0.0
        found |= {name: estimate.mean, f"{name}_se": estimate.se, f"{name}_ses": errors}
    return found | {"words": float(use.utility.n_scored)}


def curves(rows: Sequence[Row]) -> dict[str, Sequence[float]]:
    """What was measured while it trained."""
    observed = [row for row in rows if CURVES["raw gate"] in row]
    evaluated = [row for row in rows if EVALUATED["utility"] in row]
    found: dict[str, Sequence[float]] = {"step": _column(observed, "step"), "evaluated": _column(evaluated, "step")}
    for name, metric in CURVES.items():
        found[name] = [float(row[metric] if metric in row else row[TIED]) for row in observed]
    return found | {name: _column(evaluated, figure) for name, figure in EVALUATED.items()}


def onset(run: RunDirectory) -> float:
    """The first evaluation whose utility is above two standard errors; infinite without any, NaN of a run not here."""
    if not run.manifest_path.exists():
        return math.nan
    utility = EVALUATED["utility"]
    rows = [row for row in run.read_metrics() if utility in row]
    used = (float(row["step"]) for row in rows if float(row[utility]) > 2 * float(row[f"{utility}_se"]))
    return next(used, math.inf)


def gates_and_dimensions(series: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The last rows of figures."""
    found = {"cosine": fmean(series["cosine"])}
    for name in ("raw gate", "floored gate", "head", "embedding"):
        figure = name.replace(" ", "_")
        found |= {figure: series[name][-1], f"{figure}_least": min(series[name])}
    return found


def named(name: str, measured: Measured) -> tuple[dict[str, float], dict[str, Sequence[float]]]:
    """Figures and series of an arm under its name: "NAME: utility"."""
    return (
        {f"{name}: {figure}": value for figure, value in measured.figures.items()},
        {f"{name}: {each}": values for each, values in measured.series.items()},
    )


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
