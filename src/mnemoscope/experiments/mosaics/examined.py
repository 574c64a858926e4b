"""Which units of a trained Memory Mosaic bear load, how far back its contextual memories look, what the persistent do.

Those of `mosaic-stories` and `regbench` and the network of three heads of `three-moons` are examined as they were
trained (their run directories are shared, and get verdicts and a report each). Units are the memories of every block;
in a network of one block, the heads of its memories.

    effect     loss gained when a unit, or all of a level together, say the best constant (nats a token; of the moons,
               squared error over the variance)
    horizon    the fewest tokens of history, of those that were tried, with which no contextual unit loses the margin

A Memory Mosaic has no attention beside its memories: what a contextual memory does not do, other memories do. No source
has published verdicts, so these are questions; but that the contextual level as a whole bears load is what the source
says of it.

Source: Zhang et al. 2024, "Memory Mosaics" (arXiv 2405.06394), asks what the units learn; the verdicts are ours.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.contracts.devices import Device, chosen_device
from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import Choice, examine_subject, keep
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.held_out import Data, of_task
from mnemoscope.experiments.mosaics.language import MOSAIC_STORIES, LanguageStudy
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining, moons_run, planned_moons, trained_moons
from mnemoscope.experiments.mosaics.regbench import REGBENCH, RegBenchStudy
from mnemoscope.experiments.mosaics.trained import run_folder, trained
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result, Shown
from mnemoscope.experiments.subjects import Subject, of_run
from mnemoscope.models import MosaicConfig
from mnemoscope.runs.examination import Examination, SiteRecord
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import RegBenchConfig
from mnemoscope.tasks.three_moons import ThreeMoons, ThreeMoonsConfig
from mnemoscope.training import Recipe

LEVELS = ("contextual", "persistent")
GROUPS = {level: [f"blocks.*.{level}*"] for level in LEVELS}
N_MOON_HEADS = 3
MOONS, MOONS_RUN, MOONS_GROUP = "moons", moons_run(N_MOON_HEADS), "heads of memory"
MOONS_CHOICE = Choice(heads=True)
BEARS = "load-bearing"
SOURCE = "verdicts are this project's; the networks, Zhang et al. 2024, Memory Mosaics (arXiv 2405.06394)"
BATCH = 16
"""Sequences that are evaluated at once."""


@dataclass(frozen=True, kw_only=True)
class ExaminedStudy:
    """Trained networks, and what their examinations may cost; each is examined on the device that trains it.

    Args:
        language: of "mosaic-stories"; its depths are examined.
        regbench: of "regbench"; its network of the most automata is examined.
        moons: of "three-moons"; its network of three heads is examined.
        n_calibration: sequences that fit constants.
        n_test: sequences that decide.
        windows: tokens of history of the horizon curve.
        moon_windows: observations, for the moons.
        n_moon_sequences: of the moons, either to calibrate and to test.
        fit_steps: of one constant.
    """

    language: LanguageStudy = field(default_factory=LanguageStudy)
    regbench: RegBenchStudy = field(default_factory=RegBenchStudy)
    moons: MoonsTraining = field(default_factory=MoonsTraining)
    n_calibration: int = 64
    n_test: int = 128
    windows: tuple[int, ...] = (1, 4, 16, 64)
    moon_windows: tuple[int, ...] = (4, 16, 64, 160)
    n_moon_sequences: int = 16
    fit_steps: int = 100

    def budget(self, *, moons: bool = False) -> Budget:
        """Of one examination."""
        return Budget(
            n_calibration=self.n_moon_sequences if moons else self.n_calibration,
            n_test=self.n_moon_sequences if moons else self.n_test,
            windows=self.moon_windows if moons else self.windows,
            fit_steps=self.fit_steps,
            joint_fit_steps=max(1, self.fit_steps // 3),
            n_resamples=2000,
        )


def names_of(settings: ExaminedStudy) -> list[str]:
    """What the networks that other experiments train are called here."""
    deep = [f"{settings.language.corpus}-{depth}" for depth in settings.language.depths]
    return [*deep, f"regbench-{max(settings.regbench.environments)}"]


def recipes(settings: ExaminedStudy) -> dict[str, Recipe]:
    """Of those networks, by their names."""
    found = [settings.language.recipe("mosaic", depth) for depth in settings.language.depths]
    found.append(settings.regbench.recipe("mosaic", max(settings.regbench.environments)))
    return dict(zip(names_of(settings), found, strict=True))


def examined(settings: ExaminedStudy, seed: int, out: Path) -> Measured:
    """Train what is not trained yet, and examine all."""
    figures, series, texts = dict[str, float](), dict[str, Sequence[float]](), dict[str, Sequence[str]]()
    for name, examination in _examinations(settings, seed, out):
        figures |= {f"{name}: {what}": value for what, value in figures_of(examination).items()}
        curve = curve_of([site for site in examination.sites if level_of(site) == "contextual"])
        series |= {f"{name}: window": list(curve), f"{name}: loss": list(curve.values())}
        texts |= {f"{name}: {column}": words for column, words in _units(examination).items()}
    return Measured(figures=figures, series=series, texts=texts)


def _examinations(settings: ExaminedStudy, seed: int, out: Path) -> Iterator[tuple[str, Examination]]:
    for name, recipe in recipes(settings).items():
        assert isinstance(recipe.model, MosaicConfig)
        device = _device(settings, recipe)
        trained(out, recipe, seed, device)
        folder, budget = run_folder(out, recipe.name, seed), settings.budget()
        choice = Choice(groups=GROUPS, heads=recipe.model.n_layers == 1)
        subject = of_run(folder, Data(batch=BATCH), budget)
        subject.model.to(chosen_device(device))
        yield name, _kept(subject, budget, choice)
    budget = settings.budget(moons=True)
    yield MOONS, _kept(_moons(settings, seed, out), budget, MOONS_CHOICE)


def _device(settings: ExaminedStudy, recipe: Recipe) -> Device:
    return (settings.regbench if isinstance(recipe.task, RegBenchConfig) else settings.language).device


def _kept(subject: Subject, budget: Budget, choice: Choice) -> Examination:
    """The examination, left beside what was examined."""
    examination = examine_subject(subject, budget, choice)
    keep(subject, examination, subject.folder, f"mnemoscope reproduce {NAME}")
    return examination


def _moons(settings: ExaminedStudy, seed: int, out: Path) -> Subject:
    network = trained_moons(out, settings.moons, N_MOON_HEADS, seed).network.eval()
    task = ThreeMoons(ThreeMoonsConfig(length=settings.moons.length))
    held_out = of_task(task, Data(batch=BATCH, seed=seed), settings.budget(moons=True))
    n_calibration, n_test = (sum(batch.size for batch in part) for part in held_out[:2])
    return Subject(
        name=MOONS_RUN,
        model=network,
        batches=held_out.calibration + held_out.test,
        sizes=(n_calibration, n_test),
        loss=held_out.loss,
        folder=run_folder(out, MOONS_RUN, seed),
        threads=1,
    )


def level_of(site: SiteRecord) -> str:
    """Which of `LEVELS` a unit belongs to."""
    return "persistent" if "persistent" in site.module.lower() else "contextual"


def figures_of(examination: Examination) -> dict[str, float]:
    """Effects and verdicts of the levels, how many units bear load, and the horizon."""
    contextual = [site for site in examination.sites if level_of(site) == "contextual"]
    levels = {group.name: group for group in examination.groups}
    figures = {"units": float(len(examination.sites)), "bearing": float(sum(map(_bears, examination.sites)))}
    for level in LEVELS:
        group = levels.get(level) or levels.get(MOONS_GROUP)
        if level == "contextual" or level in levels:
            assert group is not None
            figures[f"{level} effect"] = group.effects["read"]["optimal_constant"].value
            figures[f"{level} bears"] = float(_bears(group))
    return figures | {"horizon": horizon_of(contextual, examination.margin)}


def horizon_of(units: Sequence[SiteRecord], margin: float) -> float:
    """Tokens of history with which no unit loses more than the margin; infinite where all of the tried are too few."""
    curve = curve_of(units)
    return min((window for window, effect in curve.items() if effect <= margin), default=math.inf)


def curve_of(units: Sequence[SiteRecord]) -> dict[float, float]:
    """By tokens of history, the largest loss of a unit that has no more of it."""
    found = dict[float, float]()
    for unit in units:
        for point in unit.horizon:
            found[float(point.window)] = max(point.effect.value, found.get(float(point.window), -math.inf))
    return dict(sorted(found.items()))


def _bears(site: SiteRecord) -> bool:
    return (site.verdict or "").startswith(BEARS)


def _units(examination: Examination) -> dict[str, list[str]]:
    """Columns of the table."""
    units = [*examination.sites, *(group for group in examination.groups if group.name in (*LEVELS, MOONS_GROUP))]
    return {
        "unit": [unit.name for unit in units],
        "verdict": [unit.verdict or "-" for unit in units],
        "effect": [str(unit.effects["read"]["optimal_constant"]) for unit in units],
        "share": ["-" if unit.share is None else f"{unit.share.value:.0%}" for unit in units],
    }


def trainings(settings: ExaminedStudy) -> list[Target]:
    """Of one seed, for the planner; those of other experiments are theirs too."""
    shared = [planned(recipe) for recipe in recipes(settings).values()]
    return [*shared, planned_moons(settings.moons, N_MOON_HEADS, MOONS_RUN)]


def verdicts(settings: ExaminedStudy, found: Sequence[Result]) -> list[TextTable]:
    """Of every network: each unit with its verdict in every seed, and the effect and share of the first."""
    return [_table(name, found) for name in (*names_of(settings), MOONS)]


def _table(name: str, found: Sequence[Result]) -> TextTable:
    first = found[0].texts
    columns = [first[f"{name}: {column}"] for column in ("unit", "effect", "share")]
    by_seed = [result.texts[f"{name}: verdict"] for result in found]
    return TextTable(
        title=f"Units of {name}",
        caption="Effect: loss without what the unit says, beyond the best constant, and its interval; share: of what "
        f"all memories are worth. Both of seed {found[0].seed}. The last rows are whole levels.",
        columns=["Unit", "Effect", "Share", *(f"Verdict, seed {result.seed}" for result in found)],
        rows=[list(row) for row in zip(*columns, *by_seed, strict=True)],
    )


def claims_of(settings: ExaminedStudy) -> tuple[Claim, ...]:
    """Questions, and what the source says of the contextual level."""
    return tuple(claim for name in (*names_of(settings), MOONS) for claim in _claims_about(name))


def _claims_about(name: str) -> list[Claim]:
    contextual = Claim(
        figure=f"{name}: contextual bears",
        what=f"{name}: is the contextual level load-bearing? (1: yes)",
        published="it does what is in context",
        least=1.0,
    )
    asked = {
        "contextual effect": "loss without the contextual level",
        "horizon": "how much history do contextual units need? (tokens)",
        "bearing": "how many units are load-bearing by themselves?",
        "units": "units",
    }
    if name != MOONS:
        asked |= {
            "persistent bears": "is the persistent level load-bearing? (1: yes)",
            "persistent effect": "loss without the persistent level",
        }
    return [contextual, *(Claim(figure=f"{name}: {figure}", what=f"{name}: {what}") for figure, what in asked.items())]


def plots_of(settings: ExaminedStudy) -> tuple[Plot, ...]:
    """Curves of the horizon."""
    return (
        _plot("Horizon of contextual memories", names_of(settings), "loss (nats a token)", "history (tokens)"),
        _plot("Horizon over the moons", [MOONS], "squared error over the variance", "history (observations)"),
    )


def _plot(title: str, names: Sequence[str], unit: str, x_label: str) -> Plot:
    return Plot(
        title=title,
        caption="The largest loss of a contextual unit that sees only so much of what came before.",
        y_label=unit,
        x_label=x_label,
        log_x=True,
        lines={name: f"{name}: window -> {name}: loss" for name in names},
    )


NAME = "mosaic-examined"
SMALL = ExaminedStudy()
PAPER = ExaminedStudy(
    language=MOSAIC_STORIES.sizes["paper"],
    regbench=REGBENCH.sizes["paper"],
    moons=MoonsTraining(batch_size=64, device="auto"),
    n_calibration=256,
    n_test=512,
    windows=(1, 4, 16, 64, 256),
    n_moon_sequences=64,
    fit_steps=300,
)

MOSAIC_EXAMINED = Experiment(
    name=NAME,
    what="which units of a trained Memory Mosaic bear load, how far back do they look, how do its levels share it?",
    source=SOURCE,
    claims=claims_of(SMALL),
    sizes={"small": SMALL, "paper": PAPER},
    measure_in=examined,
    trainings=trainings,
    plots=plots_of(SMALL),
    shown={"paper": Shown(claims=claims_of(PAPER), plots=plots_of(PAPER))},
    tables=verdicts,
    minutes={"small": 27.0},
)
