"""ATLAS on text: does the memory recall masked words of held-out text, as we wire it and as it was published?

    atlas-text         the differentiable write beside the public code's computation, at the same sizes and steps (E8)
    atlas-languages    the same recipe on two texts, for instance English and French
    atlas-floors       floors of the gate in four ways, the write with a gradient and without (E9)
    atlas-trials       the guide's own trials, options A and B, its configurations for language and mathematics

What counts is the utility: accuracy on masked words of the test split with the memory of storage, less accuracy after a
reset, on the same words. A memory is used where that is above two standard errors (atlas specification, 1.7).

Source: the Atlas tuning guide, docs/MEMORY_TUNING_GUIDE.md of r3d91ll/Todd_Atlas; E8 and E9 of the atlas
specification, 6.1. Differs: sizes for two CPU cores; the guide's own figures are of the texts that it trained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnemoscope.experiments.atlas.text_arms import ARMS, FLOORS, SLOW, recipe_of
from mnemoscope.experiments.atlas.text_recipe import ONE_LAYER, TextRecipe
from mnemoscope.experiments.atlas.text_runs import measured_arm, named
from mnemoscope.experiments.atlas.trials import PRESETS
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.tasks import build_task

SOURCE = "the Atlas tuning guide (r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md); E8 and E9, atlas specification 6.1"
USED = 2.0
"""Standard errors."""

WORDS = 2000.0
LETTERS = "AB"
PUBLISHED = ("compat", SLOW)


@dataclass(frozen=True, kw_only=True)
class TextStudy:
    """Arms on one or two texts.

    Args:
        text: the recipe that all share.
        corpora: "prose", "code", "stories" or paths; see `MaskedWordsConfig`.
        steps: of each training.
        arms: names of `text_arms.ARMS`.
        n_words: masked words of the test, at least.
    """

    text: TextRecipe = field(default_factory=TextRecipe)
    corpora: tuple[str, ...] = ("prose",)
    steps: int = 400
    arms: tuple[str, ...] = ("base", *PUBLISHED)
    n_words: int = 2000

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
            measured = measured_arm(out, recipe, settings.n_words, str(manifest["sha256"]), seed)
            ours, curves = named(label + name, measured)
            figures, series = figures | ours, series | curves
    return Measured(figures=figures | _gains(figures, settings), series=series, texts=texts)


def _gains(figures: dict[str, float], settings: TextStudy) -> dict[str, float]:
    """What each arm gains on the first: utility, in units of the standard error of the difference too."""
    found = dict[str, float]()
    for label in settings.labels():
        for name in settings.arms:
            one, base = (f"{label}{each}: utility" for each in (name, settings.arms[0]))
            error = (figures[f"{one}_se"] ** 2 + figures[f"{base}_se"] ** 2) ** 0.5
            found[f"{label}{name}: gain"] = gain = figures[one] - figures[base]
            found[f"{label}{name}: gain_ses"] = gain / error if error else 0.0
    return found


def tables(settings: TextStudy, found: Sequence[Result]) -> list[TextTable]:
    """Which texts, and every arm with its seeds."""
    names = [(label, name) for label in settings.labels() for name in settings.arms]
    rows = [[f"{label}{ARMS[name].title}", *_cells(label + name, found)] for label, name in names]
    about = TextTable(
        title="Texts",
        caption="Nine tenths were trained on; a twentieth is the test.",
        columns=["Text", "Bytes", "sha256"],
        rows=[found[0].texts[f"{label}text"] for label in settings.labels()],
    )
    arms = TextTable(
        title="What the memory is worth",
        caption="Masked words of the test split, mean over seeds: accuracy with the memory, after a reset, with the "
        "memory of another row; utility of every seed with its standard error; the gate before its floor, at the end.",
        columns=["Arm", "Accuracy", "Reset", "Wrong", "Raw gate", *(f"Utility, seed {one.seed}" for one in found)],
        rows=rows,
    )
    return [about, arms]


def _cells(name: str, found: Sequence[Result]) -> list[str]:
    figures = [result.figures for result in found]
    means = [sum(each[f"{name}: {what}"] for each in figures) / len(figures) for what in _MEANS]
    utilities = [f"{each[f'{name}: utility']:+.3f} ± {each[f'{name}: utility_se']:.3f}" for each in figures]
    return [*(f"{mean:.3f}" for mean in means), *utilities]


_MEANS = ("accuracy", "reset", "wrong", "raw_gate")


def used(name: str, published: str, *, least: float | None = None, most: float | None = None) -> Claim:
    """A claim about the utility of an arm."""
    what = f"{name}: utility over its standard error"
    return Claim(figure=f"{name}: utility_ses", what=what, published=published, least=least, most=most)


def plain(
    name: str, figure: str, what: str, published: str = "-", *, least: float | None = None, most: float | None = None
) -> Claim:
    """A claim about another figure of an arm."""
    return Claim(figure=f"{name}: {figure}", what=f"{name}: {what}", published=published, least=least, most=most)


def utility_plot(names: Iterable[str]) -> Plot:
    """Through the training, on validation words."""
    return Plot(
        title="Utility through training",
        caption="Of masked words of the validation split, those of every evaluation.",
        y_label="accuracy less that after a reset",
        lines={name: f"{name}: evaluated -> {name}: utility" for name in names},
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


_NINETY = "90.5 % of the training words (guide)"
TEXT = TextStudy()
SMALLER = TextStudy(text=TextRecipe(guide=dict(ONE_LAYER)))
"""Of many arms."""


ATLAS_TEXT = Experiment(
    name="atlas-text",
    what="E8: is the memory used on held-out text, with a differentiable write and as published?",
    source=SOURCE,
    claims=(
        used("base", "asked", least=USED),
        plain("base", "specificity_ses", "specificity over its standard error", "asked", least=USED),
        *(used(arm, "|U| < 2 (pilot)", most=USED) for arm in PUBLISHED),
        *(plain(arm, "words", "masked words of the test", "2,000", least=WORDS) for arm in TEXT.arms),
        *(plain(arm, "raw_gate_least", "least gate before its floor", "0.13 (pilot)", most=0.3) for arm in PUBLISHED),
        *(plain(arm, "floored_gate_least", "least gate as it is used", "0.38 (pilot)", least=0.3) for arm in PUBLISHED),
        plain("base", "raw_gate_least", "least gate before its floor"),
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
    sizes={"small": TEXT},
    measure_in=study,
    plots=(utility_plot(TEXT.arms), *gate_plots(TEXT.arms)),
    tables=tables,
)

_LANGUAGES = ("A, base", "B, base")

ATLAS_LANGUAGES = Experiment(
    name="atlas-languages",
    what="does the same recipe serve two languages? give them as --text FIRST --text SECOND",
    source=SOURCE,
    claims=(
        *(used(name, "both grok", least=USED) for name in _LANGUAGES),
        *(
            plain(name, figure, what, published)
            for name, published in zip(_LANGUAGES, ("90.5 % (guide, English)", "90.8 % (guide, French)"), strict=True)
            for figure, what in (
                ("accuracy", "accuracy"),
                ("utility", "utility"),
                ("raw_gate", "gate before its floor"),
            )
        ),
    ),
    sizes={"small": replace(TEXT, corpora=("prose", "code"), arms=("base",))},
    measure_in=study,
    plots=(utility_plot(_LANGUAGES), gate_plots(_LANGUAGES)[0]),
    tables=tables,
)

FLOOR_ARMS = tuple(f"{floor}{end}" for floor in FLOORS for end in ("", "-detached"))

ATLAS_FLOORS = Experiment(
    name="atlas-floors",
    what="E9: which floor of the gate makes the memory useful, with a differentiable write and with a detached one?",
    source=f"{SOURCE} (a proposal that had not been run)",
    claims=(
        *(used(floor, "U > 0", least=USED) for floor in FLOORS),
        *(used(f"{floor}-detached", "no use", most=USED) for floor in FLOORS),
        *(plain(arm, "raw_gate", "gate before its floor, at the end") for arm in FLOOR_ARMS),
        *(plain(arm, "utility", "utility") for arm in FLOOR_ARMS),
    ),
    sizes={"small": replace(SMALLER, arms=FLOOR_ARMS)},
    measure_in=study,
    plots=tuple(part for plot in (utility_plot(FLOOR_ARMS), *gate_plots(FLOOR_ARMS)) for part in plot.split()),
    tables=tables,
)

CONTROL = "affine"
"""The base with the guide's floors, which the trials change."""

TRIAL_ARMS = (CONTROL, *PRESETS)
_OPTIONS = (CONTROL, "option-a", "option-b")
HEALTHY = 0.1
"""Below that, a gate has collapsed (guide)."""

ATLAS_TRIALS = Experiment(
    name="atlas-trials",
    what="what do the guide's own trials, its options A and B and its configurations do to the memory's utility?",
    source=SOURCE,
    claims=(
        *(
            plain(name, "gain_ses", "gain of utility over its standard error", PRESETS[name].why, least=USED)
            for name in ("option-a", "option-b")
        ),
        plain("keep-phase3-floor", "raw_gate", "gate before its floor, at the end", "stays healthy?", least=HEALTHY),
        plain("higher-retrieval-floor", "raw_gate", "gate before its floor, at the end", "force more influence"),
        used("lighter-retrieval", "uses memory without pressure?", least=USED),
        *(plain(name, "gain", "gain of utility", PRESETS[name].why) for name in PRESETS),
        plain(CONTROL, "utility", "utility"),
        plain(CONTROL, "utility_se", "standard error of the utility"),
    ),
    sizes={"small": replace(SMALLER, arms=TRIAL_ARMS)},
    measure_in=study,
    plots=(utility_plot(_OPTIONS), gate_plots(_OPTIONS)[0]),
    tables=tables,
)
