"""ATLAS on text: does the memory recall masked words of held-out text, as we wire it and as it was published?

    atlas-text         the differentiable write beside the public code's computation, at the same sizes and steps (E8)
    atlas-languages    the same recipe on two texts, English and French (`text_languages`)
    atlas-floors       floors of the gate in four ways, the write with a gradient and without (E9)
    atlas-trials       the guide's own trials, options A and B, its configurations for language and mathematics

What counts is the utility: accuracy on masked words of the test split with the memory of storage, less accuracy after a
reset, on the same words. A memory is used where that is above two standard errors (atlas specification, 1.7).

The public code floors its gates in validation too (1.4), so of the published arms the utility with the floors decides;
that without stands beside it, and of all arms with floors both are shown (`text_floors`). After 400 steps the published
computation has hardly learned the words around a gap either, so that "does not use its memory" and "is not trained" are
one there: what tells them apart is "none-detached" of `atlas-floors`, the base whose write alone has no gradient.

Standard errors are over words. Seeds differ by more, mainly by the step at which the memory begins to be used, which is
shown ("onset"); what an arm gains is therefore judged over seeds, by the interval of the mean.

Source: the Atlas tuning guide, docs/MEMORY_TUNING_GUIDE.md of r3d91ll/Todd_Atlas; E8 and E9 of the atlas
specification, 6.1. Differs: sizes for two CPU cores; the guide's own figures are of the texts that it trained on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnemoscope.contracts.devices import Device
from mnemoscope.experiments.atlas.text_arms import FLOORS, SLOW, recipe_of
from mnemoscope.experiments.atlas.text_floors import FLOORED, settings_of, with_floors
from mnemoscope.experiments.atlas.text_paper import PAPER, STEPS
from mnemoscope.experiments.atlas.text_recipe import ONE_LAYER_TEXT, TextRecipe
from mnemoscope.experiments.atlas.text_runs import RUNS, measured_arm, named, onset
from mnemoscope.experiments.atlas.text_tables import arms_table, floors_tables, seeds_table, texts_table
from mnemoscope.experiments.atlas.trials import PRESETS
from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.planning.targets import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result
from mnemoscope.experiments.shared_runs import run_folder
from mnemoscope.runs import RunDirectory
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import build_task

SOURCE = "the Atlas tuning guide (r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md); E8 and E9, atlas specification 6.1"
USED = 2.0
"""Standard errors."""

WORDS = 2000.0
LETTERS = "AB"
PUBLISHED = ("compat", SLOW)
CONTROLS: Mapping[str, str] = {"gentle": "carry", "gentle-option-b": "gentle", "longer-phase1": "phases"}
"""What an arm is held against where that is in the study: a reset against a memory that is carried on, a longer phase
against another; all others against the first arm."""


@dataclass(frozen=True, kw_only=True)
class TextStudy:
    """Arms on one or two texts.

    Args:
        text: the recipe that all share.
        corpora: "prose", "code", "stories" or paths; see `MaskedWordsConfig`.
        steps: of each training.
        arms: names of `text_arms.ARMS`.
        n_words: masked words of the test, at least.
        device: where arms that are not there yet are trained, and all are tested.
    """

    text: TextRecipe = field(default_factory=TextRecipe)
    corpora: tuple[str, ...] = ("prose",)
    steps: int = 400
    arms: tuple[str, ...] = ("base", *PUBLISHED)
    n_words: int = 2000
    device: Device = "cpu"

    def on(self, corpora: Sequence[str]) -> "TextStudy":
        """The same study of other texts.

        Raises:
            ValueError: another number of texts.
        """
        if len(corpora) != len(self.corpora):
            raise ValueError(f"reproduce: needs {len(self.corpora)} of --text, got {len(corpora)}")
        return replace(self, corpora=tuple(corpora))

    def labels(self) -> list[str]:
        """What stands before the names of arms, text by text: "A, " and "B, ", or nothing where there is one."""
        return [f"{letter}, " for letter in LETTERS[: len(self.corpora)]] if len(self.corpora) > 1 else [""]


def study(settings: TextStudy, seed: int, out: Path) -> Measured:
    """Train every arm on every text, and measure what its memory is worth."""
    figures, series, texts = dict[str, float](), dict[str, Sequence[float]](), dict[str, Sequence[str]]()
    for label, corpus in zip(settings.labels(), settings.corpora, strict=True):
        recipes = {name: recipe_of(settings.text, corpus, name, settings.steps) for name in settings.arms}
        manifest = build_task(recipes[settings.arms[0]].task).manifest()
        texts[f"{label}text"] = [str(manifest[what]) for what in ("name", "bytes", "sha256")]
        for name, recipe in recipes.items():
            sha256 = str(manifest["sha256"])
            measured = measured_arm(out, recipe, settings.n_words, sha256, seed, settings.device)
            ours, curves = named(label + name, measured)
            asked = settings_of(recipe, settings.n_words, sha256)
            more = with_floors(out, recipe, asked, seed, measured.figures, settings.device)
            more |= {"onset": onset(RunDirectory(run_folder(out, RUNS, recipe.name, seed)))}
            figures |= ours | {f"{label}{name}: {figure}": value for figure, value in more.items()}
            series |= curves
    return Measured(figures=figures | _gains(figures, settings), series=series, texts=texts)


def trainings(settings: TextStudy) -> list[Target]:
    """Those of a seed, for an estimate; of arms that train the same network, one for the steps of all."""
    return [each for corpus in settings.corpora for each in _trainings(settings, corpus)]


def _trainings(settings: TextStudy, corpus: str) -> Iterator[Target]:
    recipes = [recipe_of(settings.text, corpus, name, settings.steps) for name in settings.arms]
    alike = [[each for each in recipes if each.model == model] for model in dict.fromkeys(one.model for one in recipes)]
    for first, *others in alike:
        target, steps = planned(first), (1 + len(others)) * settings.steps
        name = ", ".join([first.name, *(each.name.rpartition(f"-{settings.steps}-")[2] for each in others)])
        yield replace(target, name=name, train=replace(target.train, steps=steps))


def _gains(figures: dict[str, float], settings: TextStudy) -> dict[str, float]:
    """What each arm gains on its control: utility, in units of the standard error of the difference too."""
    found = dict[str, float]()
    for label in settings.labels():
        for name in settings.arms:
            one, base = (f"{label}{each}: utility" for each in (name, control_of(name, settings)))
            error = (figures[f"{one}_se"] ** 2 + figures[f"{base}_se"] ** 2) ** 0.5
            found[f"{label}{name}: gain"] = gain = figures[one] - figures[base]
            found[f"{label}{name}: gain_ses"] = gain / error if error else 0.0
    return found


def control_of(name: str, settings: TextStudy) -> str:
    """What an arm is held against."""
    control = CONTROLS.get(name, settings.arms[0])
    return control if control in settings.arms else settings.arms[0]


def tables(settings: TextStudy, found: Sequence[Result]) -> list[TextTable]:
    """Which texts, every arm with its seeds, with its floors and without, and against its control."""
    names = [(label, name) for label in settings.labels() for name in settings.arms]
    controls = {name: control_of(name, settings) for name in settings.arms}
    return [
        texts_table(settings.labels(), found),
        arms_table(names, found),
        *floors_tables(names, found),
        seeds_table(names, controls, found),
    ]


def used(name: str, published: str, *, least: float | None = None, most: float | None = None) -> Claim:
    """A claim about the utility of an arm."""
    what = f"{name}: utility over its standard error"
    return Claim(figure=f"{name}: utility_ses", what=what, published=published, least=least, most=most)


def used_floored(name: str, published: str, *, least: float | None = None, most: float | None = None) -> Claim:
    """The same with the floors of its training, as the public code validates."""
    what = f"{name}: utility over its standard error, with its floors"
    return Claim(figure=f"{name}: {FLOORED}_utility_ses", what=what, published=published, least=least, most=most)


def plain(
    name: str, figure: str, what: str, published: str = "-", *, least: float | None = None, most: float | None = None
) -> Claim:
    """A claim about another figure of an arm."""
    return Claim(figure=f"{name}: {figure}", what=f"{name}: {what}", published=published, least=least, most=most)


def gained(name: str, published: str) -> Claim:
    """A claim that an arm gains on its control: the seed is the unit, since seeds differ by more than words do."""
    what = f"{name}: utility less that of its control"
    return Claim(figure=f"{name}: gain", what=what, published=published, least=0.0, by_interval=True)


def utility_plot(names: Iterable[str]) -> Plot:
    """Through the training, on validation words."""
    return Plot(
        title="Utility through training",
        caption="Of masked words of the validation split, those of every evaluation.",
        y_label="accuracy less that after a reset",
        lines={name: f"{name}: evaluated -> {name}: utility" for name in names},
    )


def accuracy_plot(names: Iterable[str]) -> Plot:
    """Through the training, on rows that are trained on and on held-out ones."""
    both = ("trained on", "held out")
    return Plot(
        title="Accuracy on the training's own words, and on held-out words",
        caption="With the memory of storage. The guide's figures are of the training's own.",
        y_label="accuracy (masked words)",
        lines={f"{name}, {what}": f"{name}: evaluated -> {name}: {what}" for name in names for what in both},
    )


def gate_plots(names: Sequence[str]) -> tuple[Plot, Plot]:
    """Before and after the floor."""
    raw, floored = (
        Plot(
            title=title,
            caption=caption,
            y_label="gate (mean)",
            lines={name: f"{name}: step -> {name}: {series}" for name in names},
        )
        for title, caption, series in (
            ("Gate of the memory, before its floor", "What the network would use without a floor.", "raw gate"),
            (
                "Gate of the memory, as it is used",
                "The guide's gate_mean: it cannot fall below a floor.",
                "floored gate",
            ),
        )
    )
    return raw, floored


ONSET = "step at which validation utility passes two standard errors"
_NINETY = "90.5 % of the training words (guide)"
TEXT = TextStudy()
SMALLER = TextStudy(text=ONE_LAYER_TEXT)
"""Of many arms."""


ATLAS_TEXT = Experiment(
    name="atlas-text",
    what="E8: is the memory used on held-out text, with a differentiable write and as published?",
    source=SOURCE,
    claims=(
        used("base", "asked", least=USED),
        plain("base", "specificity_ses", "specificity over its standard error", "asked", least=USED),
        *(used_floored(arm, "|U| < 2 (pilot)", most=USED) for arm in PUBLISHED),
        *(used(arm, "-") for arm in PUBLISHED),
        *(plain(arm, "words", "masked words of the test", "2,000", least=WORDS) for arm in TEXT.arms),
        *(plain(arm, "raw_gate_least", "least gate before its floor", "0.13 (pilot)", most=0.3) for arm in PUBLISHED),
        *(
            plain(arm, figure, what, published)
            for arm in PUBLISHED
            for figure, what, published in (
                ("retrieval_gate", "gate of retrieval in the test, before its floor", "0.13 (pilot)"),
                ("used_gate", "the same as it is used, at least 0.3 by construction", "0.38 (pilot)"),
                (f"{FLOORED}_accuracy", "accuracy with its floors", _NINETY),
                (f"{FLOORED}_utility", "utility with its floors", "-"),
                (f"{FLOORED}_specificity_ses", "specificity over its standard error, with its floors", "-"),
            )
        ),
        plain("base", "raw_gate_least", "least gate before its floor"),
        *(plain(arm, "onset", ONSET) for arm in TEXT.arms),
        *(
            plain(arm, figure, what, published)
            for arm in TEXT.arms
            for figure, what, published in (
                ("accuracy", "accuracy", _NINETY),
                ("reset", "accuracy after a reset", "-"),
                ("wrong", "accuracy with the memory of another row", "-"),
                ("utility", "utility", "-"),
                ("utility_se", "its standard error", "-"),
            )
        ),
    ),
    sizes={"small": TEXT, "paper": replace(TEXT, text=PAPER, steps=STEPS, device="auto")},
    minutes={"small": 7},
    measure_in=study,
    plots=(utility_plot(TEXT.arms), *accuracy_plot(TEXT.arms).split(), *gate_plots(TEXT.arms)),
    tables=tables,
    trainings=trainings,
)

FLOOR_ARMS = tuple(f"{floor}{end}" for floor in FLOORS for end in ("", "-detached"))

ATLAS_FLOORS = Experiment(
    name="atlas-floors",
    what="E9: which floor of the gate makes the memory useful, with a differentiable write and with a detached one?",
    source=f"{SOURCE} (a proposal that had not been run)",
    claims=(
        *(used(floor, "U > 0", least=USED) for floor in FLOORS),
        *(used(f"{floor}-detached", "no use", most=USED) for floor in FLOORS),
        *(used_floored(arm, "-") for arm in FLOOR_ARMS if not arm.startswith("none")),
        *(plain(arm, "raw_gate", "gate before its floor, at the end") for arm in FLOOR_ARMS),
        *(plain(arm, "utility", "utility") for arm in FLOOR_ARMS),
        *(plain(arm, f"{FLOORED}_utility", "utility with its floors") for arm in FLOOR_ARMS),
        *(plain(arm, "onset", ONSET) for arm in FLOOR_ARMS),
    ),
    sizes={"small": replace(SMALLER, arms=FLOOR_ARMS)},
    minutes={"small": 10},
    measure_in=study,
    plots=tuple(part for plot in (utility_plot(FLOOR_ARMS), *gate_plots(FLOOR_ARMS)) for part in plot.split()),
    tables=tables,
)

CONTROL = "affine"
"""The base with the guide's floors, which the trials change; it resets, as the base does."""

NO_CHANGE: Mapping[str, str] = {
    "keep-phase3-floor": "beside floors of storage and retrieval no phase acts; asked of the phases alone",
    "reset-episodes": "the control resets, and overflows if it is carried on; asked of small steps, reset and carried",
}
"""Trials whose training would be the control's."""

TRIAL_ARMS = (
    CONTROL,
    "gentle",
    "gentle-option-b",
    "carry",
    "phases",
    *(name for name in PRESETS if name not in NO_CHANGE),
)
_OPTIONS = (CONTROL, "option-a", "option-b")
_GAIN = "utility less that of its control"
HEALTHY = 0.1
"""Below that, a gate has collapsed (guide)."""


def trial_tables(settings: TextStudy, found: Sequence[Result]) -> list[TextTable]:
    """Those of every study, and which of the guide's trials change nothing here."""
    idle = TextTable(
        title="Trials that change nothing here",
        caption="Their training would be the control's, step for step, and is not made again.",
        columns=["Trial", "The guide", "Here"],
        rows=[[name, PRESETS[name].says, f"no change here: {why}"] for name, why in NO_CHANGE.items()],
    )
    return [*tables(settings, found), idle]


ATLAS_TRIALS = Experiment(
    name="atlas-trials",
    what="what do the guide's own trials, its options A and B and its configurations do to the memory's utility?",
    source=SOURCE,
    claims=(
        *(gained(name, PRESETS[name].why) for name in ("option-a", "option-b")),
        gained("gentle-option-b", PRESETS["option-b"].why),
        gained("gentle", PRESETS["reset-episodes"].why),
        plain("phases", "raw_gate", "gate before its floor, at the end", "stays healthy? (guide)", least=HEALTHY),
        plain("higher-retrieval-floor", "raw_gate", "gate before its floor, at the end", "force more influence"),
        used("lighter-retrieval", "uses memory without pressure?", least=USED),
        *(plain(name, "gain", _GAIN, PRESETS[name].why) for name in TRIAL_ARMS if name in PRESETS.keys() - _OPTIONS),
        *(plain(name, "onset", ONSET) for name in TRIAL_ARMS),
        plain(CONTROL, "utility", "utility"),
        plain(CONTROL, "utility_se", "standard error of the utility"),
    ),
    sizes={"small": replace(SMALLER, arms=TRIAL_ARMS)},
    minutes={"small": 40},
    measure_in=study,
    plots=(*utility_plot((*_OPTIONS, "gentle", "gentle-option-b", "carry")).split(), gate_plots(_OPTIONS)[0]),
    tables=trial_tables,
)
