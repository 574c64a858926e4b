"""Memory collapse is a feature, a note says: is it? A bank on real text, the fixes of its collapse, and constants.

The note: after about 1.12M tokens all 128 slots were within a cosine of 0.94, addresses were nearly uniform, and
deleting slots cost nothing; every fix kept the bank diverse and made the model worse, since a moving read left the
manifold of the cortex's states and the gate could not follow. What is tested here, of every seed:

    look         slots, reads and addresses of the trained banks; the line below which a collapse is stable
    deletion     10, 50 and 90 % of the slots taken out of the trained bank
    fixes        loss of every arm, and whether arms with more diverse slots are worth more over the cortex alone
    story        distance of what is said from the cortex's states; gates exchanged between the bank and a spread one
    constants    one slot with and without a gate, and the verdict and the fold of the trained bank itself

The decisive arm is the constant: if one slot does as well, the bank was a bias.

Source: the Parallax notes, note 004; sizes and equations are not public, so the model is a reconstruction
(`models.banked_cortex`). Bounds: cosine 0.94 is the note's; 0.01 nats for "negligible" and "as well" is the margin of
an examination; 0.95 for "nearly uniform" is ours.
Chosen after a look at the bank of seed 0: batches of 4 windows in place of 16. 1.15M tokens in 560 steps of 16
left the slots nearly where they had been drawn (mean cosine 0.03): the optimiser moves a number by a learning rate a
step, so that it is steps that bring slots together, not tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import Choice, examine_subject, keep
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.parallax.arms import (
    ARMS,
    TITLES,
    TOP_K,
    Arm,
    CortexStudy,
    run_folder,
    text_of,
    trained,
)
from mnemoscope.experiments.parallax.changed import (
    CHUNK,
    Windows,
    best_slots,
    folded_difference,
    losses,
    with_gate_of,
    without_slots,
)
from mnemoscope.experiments.parallax.collapse_claims import CLAIMS, CONSTANT_BIAS, DELETED, DIVERSE, PLOTS
from mnemoscope.experiments.parallax.watched import PREFIX, Looked, bank_of, look
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Experiment, Measured, Result
from mnemoscope.experiments.subjects import of_run
from mnemoscope.models import Stack
from mnemoscope.runs import Examination, RunDirectory
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import task_rng

SOURCE = "Parallax notes, note 004, 'Memory collapse is a feature'"
NAME = "parallax-collapse"
N_LOOKED = 16
COLUMNS: Mapping[str, str] = {
    "perplexity": "Perplexity",
    "over_A0": "Loss over A0",
    "cosine": "Cosine",
    "rank": "Rank of slots",
    "read_rank": "Rank of reads",
    "entropy": "Entropy",
    "sharpness": "Sharpness",
    "distance": "Distance",
    "gate": "Gate",
}
"""Of the table of arms, by the figure."""

N_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class CollapseStudy:
    """Which arms, on what, and what the examination of the bank may cost.

    Args:
        cortex: text, model and training.
        arms: that are trained.
        n_calibration: windows that fit constants.
        fit_steps: of one constant.
    """

    cortex: CortexStudy = field(default_factory=CortexStudy)
    arms: tuple[Arm, ...] = ARMS
    n_calibration: int = 64
    fit_steps: int = 100

    @property
    def budget(self) -> Budget:
        """Of the examination and of the fold."""
        return Budget(
            n_calibration=self.n_calibration,
            n_test=self.cortex.n_test,
            fit_steps=self.fit_steps,
            joint_fit_steps=max(1, self.fit_steps // 3),
            untrained_copy=False,
            n_resamples=2000,
        )


def collapse(settings: CollapseStudy, seed: int, out: Path) -> Measured:
    """Train every arm, and ask all that is asked."""
    cortex, figures, series = settings.cortex, dict[str, float](), dict[str, Sequence[float]]()
    windows, models = _test(cortex), dict[Arm, Stack]()
    found = dict[Arm, Float[Tensor, "b"]]()
    for arm in settings.arms:
        recipe = cortex.recipe(arm)
        model = trained(out, cortex, recipe, seed).model.cpu().eval()
        assert isinstance(model, Stack)
        models[arm] = model
        with best_slots(model, TOP_K.get(arm)):
            found[arm] = losses(model, windows)
            if bank_of(model) is not None:
                figures |= _named(arm, look(model, windows[0][:N_LOOKED]))
        figures |= {f"{arm}_loss": float(found[arm].mean()), f"{arm}_perplexity": float(found[arm].mean().exp())}
        series |= curves(run_folder(out, recipe, seed), arm)
    figures |= {"tokens": float(cortex.tokens)} | _compared(found, figures) | _deleted(models["A0"], windows, seed)
    if "A1" in models:
        figures |= _exchanged(models, found, windows)
    verdict, judged = _judged(run_folder(out, cortex.recipe("A0"), seed), settings)
    return Measured(figures=figures | judged, series=series, texts={"verdict": [verdict]})


def trainings(settings: CollapseStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.cortex.recipe(arm)) for arm in settings.arms]


def curves(run: Path, arm: str) -> dict[str, Sequence[float]]:
    """What the bank of a run looked like while it was trained, by "ARM: NAME", with its steps."""
    rows = [row for row in RunDirectory(run).read_metrics() if f"{PREFIX}cosine" in row]
    if not rows:
        return {}
    named: dict[str, Sequence[float]] = {
        f"{arm}: {name}": [float(row[f"{PREFIX}{name}"]) for row in rows] for name in Looked._fields
    }
    return named | {f"{arm}: step": [float(row["step"]) for row in rows]}


def _test(cortex: CortexStudy) -> Windows:
    text = text_of(cortex)
    n = min(cortex.n_test, text.n_sequences("test") or cortex.n_test)
    batch = text.batch(task_rng(0, "test", 0), n, "test")
    return torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)


def _named(arm: Arm, looked: Looked) -> dict[str, float]:
    return {f"{arm}_{name}": value for name, value in looked._asdict().items()}


def _compared(found: Mapping[Arm, Float[Tensor, "b"]], figures: Mapping[str, float]) -> dict[str, float]:
    """Losses over that of the bank, and whether diversity goes with benefit over the arms."""
    over = {arm: float((losses - found["A0"]).mean()) for arm, losses in found.items()}
    compared = {f"{arm}_over_A0": value for arm, value in over.items()}
    if {"A5", "A6"} <= found.keys():
        compared["gate_worth"] = over["A6"] - over["A5"]
    if "bare" in found:
        compared["bank_worth"] = over["bare"]
    arms = [arm for arm in DIVERSE if arm in found]
    if len(arms) > 2 and "bare" in found:
        diversity = [1 - figures[f"{arm}_cosine"] for arm in arms]
        compared["correlation"] = correlation(diversity, [over["bare"] - over[arm] for arm in arms])
    return compared


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's; 0 where either does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.std(x) > 0 and np.std(y) > 0 else 0.0


def _deleted(model: Stack, windows: Windows, seed: int) -> dict[str, float]:
    """What deleting shares of the slots costs."""
    generator, whole = torch.Generator().manual_seed(seed), losses(model, windows)
    return {
        f"deleted_{share:.0%}": float((losses(without_slots(model, share, generator), windows) - whole).mean())
        for share in DELETED
    }


def _exchanged(
    models: Mapping[Arm, Stack], found: Mapping[Arm, Float[Tensor, "b"]], windows: Windows
) -> dict[str, float]:
    """What it costs the bank and the spread bank to have the gate of the other."""
    pairs: tuple[tuple[Arm, Arm], ...] = (("A0", "A1"), ("A1", "A0"))
    return {
        f"{arm}_with_gate_of_{other}": float(
            (losses(with_gate_of(models[arm], models[other]), windows) - found[arm]).mean()
        )
        for arm, other in pairs
    } | {"distance_gained": look_distance(models, windows)}


def look_distance(models: Mapping[Arm, Stack], windows: Windows) -> float:
    """How much farther from the cortex's states the spread bank speaks than the bank."""
    return look(models["A1"], windows[0][:N_LOOKED]).distance - look(models["A0"], windows[0][:N_LOOKED]).distance


def _judged(run: Path, settings: CollapseStudy) -> tuple[str, dict[str, float]]:
    """The verdict of the trained bank, and what folding it into a constant costs."""
    subject = of_run(run, Data(batch=CHUNK), settings.budget)
    examination = examine_subject(subject, settings.budget, Choice())
    keep(subject, examination, run, f"mnemoscope reproduce {NAME}")
    folded = folded_difference(run, settings.budget)
    verdict = _verdict(examination)
    return verdict, {
        CONSTANT_BIAS: float(verdict.startswith(CONSTANT_BIAS)),
        "folded": folded.value,
        "folded_high": folded.high,
        "fold_accepted": float(folded.high < examination.margin),
    }


def _verdict(examination: Examination) -> str:
    """Of the bank, the only memory there is."""
    (site,) = examination.sites
    return site.verdict or "-"


def tables(settings: CollapseStudy, found: Sequence[Result]) -> list[TextTable]:
    """Every arm over the seeds; the correlation over all of them with its interval; verdicts."""
    return [_arms(settings, found), _over_seeds(settings, found)]


def _arms(settings: CollapseStudy, found: Sequence[Result]) -> TextTable:
    rows = [
        [
            f"{arm}: {TITLES[arm]}",
            *(_mean([result.figures.get(f"{arm}_{name}") for result in found]) for name in COLUMNS),
        ]
        for arm in settings.arms
    ]
    return TextTable(
        title="Arms",
        caption=f"Means over {len(found)} seeds, after the training. Loss over that of A0 in nats a byte; ranks are "
        "centred; a bank that is one vector stays so where its sharpness is below 1; the distance of a random vector "
        "from the cortex's states is 1.",
        columns=["Arm", *COLUMNS.values()],
        rows=rows,
    )


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return f"{np.mean(known):.4g}" if known else "-"


def _over_seeds(settings: CollapseStudy, found: Sequence[Result]) -> TextTable:
    arms = [arm for arm in DIVERSE if arm in settings.arms]
    x = np.array([[1 - result.figures[f"{arm}_cosine"] for arm in arms] for result in found])
    y = np.array([[-result.figures[f"{arm}_over_A0"] for arm in arms] for result in found])
    value, low, high = pooled_correlation(x, y)
    verdicts = ", ".join(f"{result.texts['verdict'][0]} (seed {result.seed})" for result in found)
    return TextTable(
        title="Diversity against benefit, and the verdict",
        caption=f"Correlation over the arms {', '.join(arms)}, each figure less its seed's mean; seeds are drawn with "
        "replacement for the interval (95 %).",
        columns=["What", "Value"],
        rows=[
            ["correlation of diversity (1 - cosine) with benefit", f"{value:.3f} [{low:.3f}, {high:.3f}]"],
            ["verdict of the bank of A0", verdicts],
        ],
    )


def pooled_correlation(x: Float[np.ndarray, "s a"], y: Float[np.ndarray, "s a"]) -> tuple[float, float, float]:
    """Within seeds, over all arms, and its bootstrap interval over seeds (95 %)."""
    x, y = (part - part.mean(1, keepdims=True) for part in (x, y))
    drawn = np.random.default_rng(0).integers(len(x), size=(N_RESAMPLES, len(x)))
    products, squares_x, squares_y = ((a * b).sum(1) for a, b in ((x, y), (x, x), (y, y)))

    def of(rows: np.ndarray) -> np.ndarray:
        scale = np.sqrt(squares_x[rows].sum(-1) * squares_y[rows].sum(-1))
        return products[rows].sum(-1) / np.where(scale > 0, scale, 1.0)

    low, high = np.quantile(of(drawn), [0.025, 0.975])
    return float(of(np.arange(len(x)))), float(low), float(high)


SMALL = CollapseStudy()

PARALLAX_COLLAPSE = Experiment(
    name=NAME,
    what="does a bank trained by its energy collapse on real text, is the collapse the optimum, was it only a bias?",
    source=SOURCE,
    claims=CLAIMS,
    sizes={"small": SMALL},
    measure_in=collapse,
    trainings=trainings,
    plots=PLOTS,
    tables=tables,
)
