"""The examination applied to ATLAS on text: is the memory load-bearing, how far back, and does a remedy change it?

The runs are those of `atlas-floors` and `atlas-trials` (their run directories get `verdicts.json` and a report): the
base, the public code's computation, the guide's floors, these in small steps, reset and carried on, and options A and
B, the latter from either step. All memories together:

    verdict     of the examination, on the words that are asked for
    effect      loss gained when they say the best constant instead (nats a masked word)
    share       of what all memories and attentions are worth
    horizon     fewest tokens of history, of those tried, with which no memory loses the margin
    change      effect less that of the control: of options A and B the floors alone, of small steps the same carried on

A word that is asked for stands 32, 64 or 96 tokens back, and windows end between these. The interval of a change adds
the variances of two examinations of the same sequences, as if they were apart; over seeds it is that of their mean. The
gate is examined without its floors, as it is after the training: of "compat" too, whose utility with them is in
`atlas-text`.

No source has verdicts of these; they are questions. That a memory is used at all is the guide's claim.

Source: the verdicts are this project's; the training, the Atlas tuning guide.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnemoscope.examination import Budget
from mnemoscope.experiments.atlas.text_arms import ARMS, recipe_of
from mnemoscope.experiments.atlas.text_runs import RUNS
from mnemoscope.experiments.atlas.text_studies import SMALLER, TextStudy
from mnemoscope.experiments.atlas.trials import PRESETS
from mnemoscope.experiments.examining import Choice, examine_subject, keep
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.mosaics.examined import BEARS, curve_of, horizon_of
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result
from mnemoscope.experiments.shared_runs import run_folder, trained
from mnemoscope.experiments.subjects import of_run
from mnemoscope.experiments.trained.truth import all_memories
from mnemoscope.runs.examination import Examination
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.training import Recipe

NAME = "atlas-examined"
NAMES = ("base", "compat", "affine", "gentle", "carry", "option-a", "option-b", "gentle-option-b")
CONTROLLED: Mapping[str, str] = {
    "option-a": "affine",
    "option-b": "affine",
    "gentle-option-b": "gentle",
    "gentle": "carry",
}
"""Remedies, and what they are held against."""
_ASKS: Mapping[str, str] = {"gentle": "reset-episodes", "gentle-option-b": "option-b"}
"""Trials of the guide that arms of another name ask."""
BATCH = 16
"""Sequences that are evaluated at once."""


@dataclass(frozen=True, kw_only=True)
class AtlasExamined:
    """Trained arms, and what their examinations may cost.

    Args:
        study: which arms, on which text.
        n_calibration: sequences that fit constants.
        n_test: sequences that decide.
        windows: tokens of history of the horizon curve.
        fit_steps: of one constant.
    """

    study: TextStudy = field(default_factory=lambda: replace(SMALLER, arms=NAMES))
    n_calibration: int = 48
    n_test: int = 48
    windows: tuple[int, ...] = (16, 48, 80, 112)
    fit_steps: int = 60

    def on(self, corpora: Sequence[str]) -> "AtlasExamined":
        """The same of another text; see `TextStudy.on`."""
        return AtlasExamined(
            study=self.study.on(corpora),
            n_calibration=self.n_calibration,
            n_test=self.n_test,
            windows=self.windows,
            fit_steps=self.fit_steps,
        )

    @property
    def budget(self) -> Budget:
        """Of one examination."""
        return Budget(
            n_calibration=self.n_calibration,
            n_test=self.n_test,
            windows=self.windows,
            fit_steps=self.fit_steps,
            joint_fit_steps=max(1, self.fit_steps // 2),
            untrained_copy=False,
            n_resamples=2000,
        )


def examined(settings: AtlasExamined, seed: int, out: Path) -> Measured:
    """Train what is not trained yet, and examine every arm."""
    figures, series, texts = dict[str, float](), dict[str, Sequence[float]](), dict[str, Sequence[str]]()
    study = settings.study
    for name in study.arms:
        recipe = recipe_of(study.text, study.corpora[0], name, study.steps)
        examination = _examination(settings, recipe, seed, out)
        curve = curve_of(examination.sites)
        figures |= {f"{name}: {what}": value for what, value in figures_of(examination).items()}
        series |= {f"{name}: window": list(curve), f"{name}: loss": list(curve.values())}
        texts |= {f"{name}: {column}": words for column, words in _units(examination).items()}
    figures |= {
        f"{name}: {what}": value
        for name, control in CONTROLLED.items()
        if {name, control} <= {*study.arms}
        for what, value in change(figures, name, control).items()
    }
    return Measured(figures=figures, series=series, texts=texts)


def _examination(settings: AtlasExamined, recipe: Recipe, seed: int, out: Path) -> Examination:
    """The examination, left beside what was examined."""
    trained(out, RUNS, recipe, seed)
    subject = of_run(run_folder(out, RUNS, recipe.name, seed), Data(batch=BATCH), settings.budget)
    examination = examine_subject(subject, settings.budget, Choice())
    keep(subject, examination, subject.folder, f"mnemoscope reproduce {NAME}")
    return examination


def figures_of(examination: Examination) -> dict[str, float]:
    """Of all memories together, and how far back the one looks that looks farthest."""
    together = all_memories(examination)
    share, effect = examination.memories_share, together.effects["read"]["optimal_constant"]
    return {
        "bears": float((together.verdict or "").startswith(BEARS)),
        "effect": effect.value,
        "effect_half": (effect.high - effect.low) / 2,
        "share": float("nan") if share is None else share.value,
        "horizon": horizon_of(examination.sites, examination.margin),
        "loss": examination.base_loss.value,
        "margin": examination.margin,
    }


def change(figures: Mapping[str, float], name: str, control: str) -> dict[str, float]:
    """What a remedy adds to the effect of the memories, and half of its interval."""
    halves = [figures[f"{each}: effect_half"] for each in (name, control)]
    added = figures[f"{name}: effect"] - figures[f"{control}: effect"]
    return {"change": added, "change_half": math.hypot(*halves)}


def _units(examination: Examination) -> dict[str, list[str]]:
    """Columns of the table; of several memories all together too."""
    sites = examination.sites
    units = [*sites, all_memories(examination)] if len(sites) > 1 else sites
    return {
        "unit": [unit.name for unit in units],
        "verdict": [unit.verdict or "-" for unit in units],
        "effect": [str(unit.effects["read"]["optimal_constant"]) for unit in units],
    }


def verdicts(settings: AtlasExamined, found: Sequence[Result]) -> list[TextTable]:
    """What the remedies change, then every memory of every arm, with its verdict in each seed."""
    changed = [name for name in CONTROLLED if f"{name}: change" in found[0].figures]
    rows = [[name, CONTROLLED[name], *(_interval(name, each) for each in found)] for name in changed]
    changes = TextTable(
        title="What the remedies change",
        caption="Effect of all memories together less that of the control with the same seed (nats a masked word), "
        "with its interval over the test sequences.",
        columns=["Remedy", "Control", *(f"Change, seed {each.seed}" for each in found)],
        rows=rows,
    )
    return [*([changes] if rows else []), *(_table(name, found) for name in settings.study.arms)]


def _interval(name: str, result: Result) -> str:
    value, half = (result.figures[f"{name}: {what}"] for what in ("change", "change_half"))
    return f"{value:+.3f} [{value - half:+.3f}, {value + half:+.3f}]"


def _table(name: str, found: Sequence[Result]) -> TextTable:
    columns = [found[0].texts[f"{name}: {column}"] for column in ("unit", "effect")]
    by_seed = [result.texts[f"{name}: verdict"] for result in found]
    return TextTable(
        title=f"Memories of {ARMS[name].title}",
        caption=f"Effect: loss without what the memory says, beyond the best constant, of seed {found[0].seed}; the "
        "last row is of all together where there are several.",
        columns=["Memory", "Effect", *(f"Verdict, seed {result.seed}" for result in found)],
        rows=[list(row) for row in zip(*columns, *by_seed, strict=True)],
    )


_ASKED = {
    "bears": "is the memory load-bearing? (1: yes)",
    "effect": "loss without the memory (nats a masked word)",
    "share": "share of what memories and attentions are worth",
    "horizon": "how much history do the memories need? (tokens)",
}


def _claims() -> tuple[Claim, ...]:
    def asked(name: str, figure: str) -> Claim:
        bar = 1.0 if (name, figure) == ("base", "bears") else None
        published = "the memory is used" if figure == "bears" else "-"
        return Claim(figure=f"{name}: {figure}", what=f"{name}: {_ASKED[figure]}", published=published, least=bar)

    changes = (
        Claim(
            figure=f"{name}: change",
            what=f"{name}: change in effect (nats a masked word)",
            published=PRESETS[_ASKS.get(name, name)].why,
            least=0.0,
            by_interval=True,
        )
        for name in CONTROLLED
    )
    return (*changes, *(asked(name, figure) for name in NAMES for figure in _ASKED))


ATLAS_EXAMINED = Experiment(
    name=NAME,
    what="is the ATLAS memory of a text model load-bearing, at which horizon, do the guide's remedies change it?",
    source="verdicts are this project's; the training, the Atlas tuning guide",
    claims=_claims(),
    sizes={"small": AtlasExamined()},
    minutes={"small": 22},
    measure_in=examined,
    plots=(
        *Plot(
            title="Horizon",
            caption="The largest loss of a memory that sees only so much of what came before.",
            y_label="loss (nats a masked word)",
            x="window",
            x_label="history (tokens)",
            log_x=True,
            lines={name: f"{name}: window -> {name}: loss" for name in NAMES},
        ).split(),
    ),
    tables=verdicts,
)
