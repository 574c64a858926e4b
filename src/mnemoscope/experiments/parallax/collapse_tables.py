"""Tables of the arms over all seeds: what each bank is and costs, and whether diversity goes with benefit."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mnemoscope.experiments.parallax.arms import TITLES, Arm
from mnemoscope.experiments.parallax.collapse_claims import DIVERSE
from mnemoscope.experiments.reproducing import Result
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

N_RESAMPLES = 10_000


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
    """The correlation over arms and seeds with its interval; verdicts."""
    arms = [arm for arm in DIVERSE if arm in arms]
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


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's; 0 where either does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.std(x) > 0 and np.std(y) > 0 else 0.0


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
