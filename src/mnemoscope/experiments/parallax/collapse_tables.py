"""Tables of the arms over all seeds: what each bank is and costs, and whether diversity goes with benefit."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mnemoscope.experiments.parallax.arms import TITLES, Arm
from mnemoscope.experiments.parallax.collapse_claims import DIVERSE
from mnemoscope.experiments.reproducing import LEAST_FOR_INTERVAL, Result
from mnemoscope.experiments.trials.acceptance import over_seeds
from mnemoscope.runs.reproduction import TextTable

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


def arms_table(arms: Sequence[Arm], found: Sequence[Result]) -> TextTable:
    """Every arm, its means over the seeds."""
    rows = [
        [
            f"{arm}: {TITLES[arm]}",
            *(_mean([result.figures.get(f"{arm}_{name}") for result in found]) for name in COLUMNS),
        ]
        for arm in arms
    ]
    of = "one seed" if len(found) == 1 else f"{len(found)} seeds, means"
    return TextTable(
        title="Arms",
        caption=f"Of {of}, after the training. Loss over that of A0 in nats a byte; ranks are centred; a bank that is "
        "one vector stays so where its sharpness is below 1; the distance of a random vector from the cortex's states "
        "is 1.",
        columns=["Arm", *COLUMNS.values()],
        rows=rows,
    )


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return f"{np.mean(known):.4g}" if known else "-"


def over_seeds_table(arms: Sequence[Arm], found: Sequence[Result]) -> TextTable:
    """The correlation over arms, its mean over seeds with its interval; verdicts."""
    arms = [arm for arm in DIVERSE if arm in arms]
    correlations = [result.figures["correlation"] for result in found if "correlation" in result.figures]
    verdicts = ", ".join(f"{result.texts['verdict'][0]} (seed {result.seed})" for result in found)
    return TextTable(
        title="Diversity against benefit, and the verdict",
        caption=f"Correlation over the arms {', '.join(arms)} within each seed; the mean over seeds with Student's t "
        "interval (95 %), which decides.",
        columns=["What", "Value"],
        rows=[
            ["correlation of diversity (1 - cosine) with benefit", _with_interval(correlations)],
            ["verdict of the bank of A0", verdicts],
        ],
    )


def _with_interval(values: Sequence[float]) -> str:
    if len(values) < LEAST_FOR_INTERVAL:
        return ", ".join(f"{value:.3f}" for value in values) or "-"
    mean = over_seeds(values)
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's; 0 where either does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.std(x) > 0 and np.std(y) > 0 else 0.0
