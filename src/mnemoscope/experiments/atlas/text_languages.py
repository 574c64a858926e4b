"""`atlas-languages`: does the same recipe serve two languages, and are their learning curves alike?

    A, base    B, base       the recipe of `atlas-text` on each text
    A less B                 utility and accuracy, with the error over words; the mean distance of the learning curves

The guide trained on English and on French, and reports 90.5 and 90.8 % after 42,500 and 45,500 steps: "similar
trajectories despite different corpora". How alike two curves are means nothing alone. So the distance between the
texts, seed by seed, stands in a table beside the distance between seeds of one text: where texts differ by no more than
seeds do, one cannot tell the languages apart by their curves.

Texts that are in one language, or code, are refused before anything is trained (`languages`): the published French
corpus held English translations (D8 of the atlas specification), and the two embedded texts are English and code.

Source: the Atlas tuning guide. Differs: held-out words, controls; a small size.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from mnemoscope.experiments.atlas.languages import require_two_languages
from mnemoscope.experiments.atlas.text_studies import (
    LETTERS,
    SOURCE,
    TEXT,
    USED,
    TextStudy,
    gate_plots,
    plain,
    study,
    tables,
    used,
    utility_plot,
)
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Result, Series
from mnemoscope.runs.reproduction import TextTable

ARM, CURVE = "base", "held out"
NAMES = tuple(f"{letter}, {ARM}" for letter in LETTERS)


def compared(settings: TextStudy, seed: int, out: Path) -> Measured:
    """Both texts, and what they differ by.

    Raises:
        ValueError: texts in one language, or code.
    """
    languages = require_two_languages(settings.corpora)
    measured = study(settings, seed, out)
    said = {f"{letter}, language": [str(each)] for letter, each in zip(LETTERS, languages, strict=True)}
    figures = {**measured.figures, **_differences(measured)}
    return replace(measured, figures=figures, texts={**measured.texts, **said})


def _differences(measured: Measured) -> dict[str, float]:
    figures, found = measured.figures, dict[str, float]()
    for what in ("accuracy", "utility"):
        one, other = (figures[f"{name}: {what}"] for name in NAMES)
        found[f"A less B: {what}"] = one - other
    error = sum(figures[f"{name}: utility_se"] ** 2 for name in NAMES) ** 0.5
    found["A less B: utility_ses"] = found["A less B: utility"] / error if error else 0.0
    one, other = (measured.series[f"{name}: {CURVE}"] for name in NAMES)
    return found | {"A and B: curve": distance(one, other)}


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Between two learning curves of equal evaluations: the mean of what they lie apart."""
    return fmean(abs(a - b) for a, b in zip(one, other, strict=True))


def language_tables(settings: TextStudy, found: Sequence[Result]) -> list[TextTable]:
    """Those of every study, the languages, and the distances."""
    languages = TextTable(
        title="Languages",
        caption="By the share of words that are among the commonest of a language, in the first megabyte.",
        columns=["Text", "Language"],
        rows=[[found[0].texts[f"{each}, text"][0], found[0].texts[f"{each}, language"][0]] for each in LETTERS],
    )
    return [*tables(settings, found), languages, _distances([result.series for result in found])]


def _distances(seeds: Sequence[Series]) -> TextTable:
    """Texts against seeds."""
    between = [distance(*(series[f"{name}: {CURVE}"] for name in NAMES)) for series in seeds]
    rows = [["A and B, the same seed", _shown(between)]]
    for name in NAMES:
        curves = [series[f"{name}: {CURVE}"] for series in seeds]
        rows.append(
            [f"two seeds of {name[0]}", _shown([distance(*pair) for pair in itertools.combinations(curves, 2)])]
        )
    return TextTable(
        title="How far apart the learning curves are",
        caption="Held-out accuracy, mean over the evaluations of a training; the mean of all pairs, and the least and "
        "most. Where texts lie no farther apart than seeds of one text, their curves are alike.",
        columns=["Pairs", "Distance"],
        rows=rows,
    )


def _shown(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "needs two seeds"


def _claims() -> tuple[Claim, ...]:
    nineties = ("90.5 % (guide, English)", "90.8 % (guide, French)")
    shown = (("accuracy", "accuracy"), ("utility", "utility"), ("raw_gate", "gate before its floor"))
    return (
        *(used(name, "both grok", least=USED) for name in NAMES),
        *(
            plain(name, figure, what, published)
            for name, published in zip(NAMES, nineties, strict=True)
            for figure, what in shown
        ),
        plain("A less B", "accuracy", "accuracy", "-0.3 points (guide)"),
        plain("A less B", "utility", "utility"),
        plain("A less B", "utility_ses", "utility over its standard error (of words)"),
        plain("A and B", "curve", "mean distance of their held-out accuracies through training", "similar (guide)"),
    )


ATLAS_LANGUAGES = Experiment(
    name="atlas-languages",
    what="does the same recipe serve two languages? give them as --text FIRST --text SECOND",
    source=SOURCE,
    claims=_claims(),
    sizes={"small": replace(TEXT, corpora=("prose", "code"), arms=(ARM,))},
    measure_in=compared,
    plots=(utility_plot(NAMES), gate_plots(NAMES)[0]),
    tables=language_tables,
)
