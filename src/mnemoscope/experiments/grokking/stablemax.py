"""Grokking by StableMax alone, without weight decay, where cross-entropy comes to rest or apart (E3).

    a, b -> 200 -> 200 -> a + b modulo 59       60 % of the table, full batches, AdamW, no weight decay

Cross-entropy fits the table in tens of epochs; from then on its gradient only scales the logits, until in float32 the
right class has all of the probability and nothing is left to learn from ("softmax collapse"). StableMax needs ever
larger logits and never rounds to one: it goes on, and finds the rule slowly.

Source: Prieto et al. 2025 (arXiv 2501.04697), which trains p = 113 for 80,000 epochs; the figures for p = 59, a pilot
of this project. What differs: the smaller table, 20,000 epochs, StableMax in float32 in a form that does not round, and
cross-entropy that ends once half of the rows have collapsed.
"""

from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.grokking.full_batches import PRIETO, Training
from mnemoscope.experiments.grokking.shared import (
    ADDITION,
    COLLAPSED,
    AdditionTable,
    ArmSettings,
    curve_series,
    folder_name,
    kept_curve,
)
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot

MARKS = (2_000, 4_000, 8_000, 12_000, 16_000, 20_000)
FOUND, RISING, NOT_FOUND = 0.40, 0.01, 0.02


@dataclass(frozen=True, kw_only=True)
class StableMaxGrokking:
    """The table and both trainings.

    Args:
        data: the table.
        width: of both hidden layers.
        stablemax: its training.
        control: the same on cross-entropy.
        marks: epochs that are tested in any case; of StableMax the last two tell whether it rises.
    """

    data: AdditionTable = field(default_factory=AdditionTable)
    width: int = 200
    stablemax: Training = ADDITION["StableMax"]
    control: Training = ADDITION["AdamW"]
    marks: tuple[int, ...] = MARKS

    def __post_init__(self) -> None:
        if len(self.marks) < 2 or max(self.marks) > self.stablemax.epochs:
            raise ValueError(
                f"StableMaxGrokking.marks: must be at least two, at most {self.stablemax.epochs}, the epochs of "
                f"StableMax, got {self.marks}; use {MARKS}"
            )

    def arm(self, training: Training) -> ArmSettings:
        """One of the trainings."""
        return ArmSettings(data=self.data, width=self.width, training=training, marks=self.marks)


def stablemax_grokking(settings: StableMaxGrokking, seed: int, out: Path) -> Measured:
    """E3: held-out accuracy of both, and what is left of the control's gradient."""
    stablemax, control = (
        kept_curve(out, folder_name("addition", way), settings.arm(training), seed)
        for way, training in (("StableMax", settings.stablemax), ("AdamW", settings.control))
    )
    *_, late, last = settings.marks
    figures = {
        "stablemax train": stablemax.train[-1],
        "stablemax": stablemax.at(last, stablemax.test),
        "rise": stablemax.at(last, stablemax.test) - stablemax.at(late, stablemax.test),
        "control train": max(control.train),
        "control": max(control.test),
        "collapsed": max(control.collapsed),
        "collapsed since": control.since(COLLAPSED, control.collapsed),
    }
    return Measured(figures=figures, series=curve_series("StableMax", stablemax) | curve_series("control", control))


STABLEMAX_GROKKING = Experiment(
    name="stablemax-grokking",
    what="E3: StableMax generalises modular addition slowly where cross-entropy collapses in float32",
    source=f"{PRIETO} (StableMax, softmax collapse); a pilot of this project (p = 59 and its figures)",
    claims=(
        Claim(
            figure="stablemax",
            what="StableMax: test accuracy at epoch 20,000",
            published="0.60 (pilot)",
            least=FOUND,
        ),
        Claim(
            figure="rise",
            what="StableMax: what the last 4,000 epochs add to it",
            published="0.20 (pilot)",
            least=RISING,
        ),
        Claim(figure="stablemax train", what="StableMax: train accuracy at epoch 20,000"),
        Claim(
            figure="control",
            what="cross-entropy: largest test accuracy until half of the rows have collapsed, or in 12,000 epochs",
            published="0.003 (pilot)",
            most=NOT_FOUND,
        ),
        Claim(figure="control train", what="cross-entropy: largest train accuracy", published="fits"),
        Claim(
            figure="collapsed",
            what="cross-entropy: largest share of training rows whose softmax has collapsed",
            published="0.61 at epoch 12,000 (pilot)",
            least=COLLAPSED,
        ),
        Claim(figure="collapsed since", what="cross-entropy: epoch at which half of them have"),
    ),
    sizes={"small": StableMaxGrokking()},
    minutes={"small": 12},
    measure_in=stablemax_grokking,
    plots=(
        Plot(
            title="Accuracy on pairs that were held out",
            caption="How much of them is right over epochs; chance is 1 / 59.",
            y_label="accuracy (fraction)",
            lines={
                "StableMax": "StableMax: epoch -> StableMax: test",
                "cross-entropy": "control: epoch -> control: test",
            },
            x="StableMax: epoch",
            x_label="epoch",
            log_x=True,
        ),
        Plot(
            title="Softmax collapse under cross-entropy",
            caption="Training pairs of which the right class has all of the probability in float32, and no gradient.",
            y_label="share of training pairs",
            lines={"cross-entropy": "control: epoch -> control: collapsed"},
            x="control: epoch",
            x_label="epoch",
            log_x=True,
        ),
    ),
)
