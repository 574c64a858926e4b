"""Who groks: AdamW, weight decay, PerpGrad and StableMax on modular addition and on sparse parity.

A training has found the rule once held-out accuracy reaches 0.9. It has grokked, in the strict sense, if it knew the
training part (0.99) for five times as long before as it took to learn it. AdamW alone learns both tables by heart.

Source: Power et al. 2022 (arXiv 2201.02177) for weight decay; Prieto et al. 2025 (arXiv 2501.04697) for the others and
for both tables. What the Atlas tuning guide recommends for mathematics (weight decay .1, StableMax, PerpGrad .5) is
trained on both too. What differs: epochs, p = 59, 1,000 strings, weight decay 1 on parity too, and the trainings of
addition by AdamW and StableMax are those of `stablemax-grokking`. The sources say nothing of parity at this size: there
only AdamW, which they have learn by heart, has a bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.grokking.full_batches import PRIETO, Curve, Training
from mnemoscope.experiments.grokking.shared import (
    ADDITION,
    GUIDE,
    PARITY,
    AdditionTable,
    ArmSettings,
    ParityTable,
    curve_series,
    folder_name,
    kept_curve,
)
from mnemoscope.experiments.grokking.stablemax import MARKS
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Result
from mnemoscope.runs.reproduction import TextTable
from mnemoscope.training.metrics.grokking_phase import CROSSED

SHARED = ("AdamW", "StableMax")
"""Trainings of addition that are those of `stablemax-grokking`."""
TABLES = ("addition", "parity")
TITLES: Mapping[str, str] = {"addition": "Modular addition", "parity": "Sparse parity"}
PUBLISHED: Mapping[str, str] = {
    "AdamW": "does not generalise",
    "weight decay 1": "generalises late",
    "PerpGrad": "generalises early",
    "StableMax": "generalises late",
    GUIDE: "may help (guide)",
}

ASKED: Mapping[tuple[str, str], str] = {
    ("addition", "StableMax"): "generalises after 80,000 epochs, p = 113",
    ("addition", GUIDE): "may help (guide); PerpGrad at .5 alone: not in 300 epochs (pilot)",
    ("parity", "weight decay 1"): "asked",
    ("parity", "PerpGrad"): "generalises early, at 2,000 strings",
    ("parity", "StableMax"): "generalises late, at 2,000 strings",
    ("parity", GUIDE): "may help (guide)",
}
"""Trainings of which the sources say nothing at this size: they are shown without a bound."""


@dataclass(frozen=True, kw_only=True)
class GrokkingTasks:
    """Both tables and all trainings.

    Args:
        addition: the table of modular addition.
        parity: the strings of sparse parity.
        on_addition: trainings by name.
        on_parity: the same.
        width: of both hidden layers.
        marks: epochs of addition that are tested in any case, as in `stablemax-grokking`, which shares two trainings.
    """

    addition: AdditionTable = field(default_factory=AdditionTable)
    parity: ParityTable = field(default_factory=ParityTable)
    on_addition: Mapping[str, Training] = field(default_factory=lambda: dict(ADDITION))
    on_parity: Mapping[str, Training] = field(default_factory=lambda: dict(PARITY))
    width: int = 200
    marks: tuple[int, ...] = MARKS

    def arms(self) -> dict[tuple[str, str], ArmSettings]:
        """All trainings, by table and name."""
        of_addition = {
            ("addition", way): ArmSettings(
                data=self.addition, width=self.width, training=training, marks=self.marks if way in SHARED else ()
            )
            for way, training in self.on_addition.items()
        }
        of_parity = {
            ("parity", way): ArmSettings(data=self.parity, width=self.width, training=training)
            for way, training in self.on_parity.items()
        }
        return of_addition | of_parity


def grokking_tasks(settings: GrokkingTasks, seed: int, out: Path) -> Measured:
    """Which trainings find the rule, when, and whether that is grokking in the strict sense."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for (table, way), arm in settings.arms().items():
        name, curve = f"{table} {way}", kept_curve(out, folder_name(table, way), arm, seed)
        figures |= {f"{name} {key}": value for key, value in _told(curve).items()}
        series |= curve_series(name, curve)
    return Measured(figures=figures, series=series)


def _told(curve: Curve) -> dict[str, float]:
    crossed = curve.since(CROSSED, curve.test)
    return {
        "found": float(max(curve.test) >= CROSSED),
        "strict": float(curve.is_strict),
        "fitted": curve.fitted_at,
        "crossed": crossed,
        "test": curve.test[-1],
        "dimension": curve.dimension[-1],
    }


_COLUMNS = ("fitted", "crossed", "test", "dimension")


def timetable(settings: GrokkingTasks, found: Sequence[Result]) -> list[TextTable]:
    """When each training knew the table, and when the rule, in every seed."""
    return [_timetable(settings, table, found) for table in TABLES]


def _timetable(settings: GrokkingTasks, table: str, found: Sequence[Result]) -> TextTable:
    rows = list[list[str]]()
    for (of, way), arm in settings.arms().items():
        if of != table:
            continue
        values = [{key: each.figures[f"{of} {way} {key}"] for key in _COLUMNS} for each in found]
        columns = [", ".join(f"{value[key]:.4g}" for value in values) for key in _COLUMNS]
        rows.append([way, f"{arm.training.epochs:,}", *columns])
    return TextTable(
        title=f"{TITLES[table]}: when",
        caption="Epoch from which on the training part is known (0.99), and at which held-out accuracy reaches 0.9 "
        "(inf: never), within a twentieth; effective dimension of the first layer at the end, as a share of its width; "
        "one figure for each seed. AdamW on addition ends once half of its rows have collapsed.",
        columns=["Training", "Epochs", "Known", "Rule found", "Test accuracy at the end", "Dimension at the end"],
        rows=rows,
    )


def _claims(settings: GrokkingTasks) -> tuple[Claim, ...]:
    found = list[Claim]()
    for (table, way), arm in settings.arms().items():
        name, epochs = f"{table}, {way}", f"{arm.training.epochs:,}"
        asked = ASKED.get((table, way))
        found.append(
            Claim(
                figure=f"{table} {way} found",
                what=f"{name}: held-out accuracy of 0.9 within {epochs} epochs (1: yes)",
                published=asked or PUBLISHED[way],
                least=None if way == "AdamW" or asked else 1.0,
                most=0.0 if way == "AdamW" else None,
            )
        )
        found.append(Claim(figure=f"{table} {way} strict", what=f"{name}: grokked in the strict sense (1: yes)"))
    return tuple(found)


def _plot(table: str, ways: Sequence[str], split: str) -> Plot:
    what = {"test": "held out", "train": "trained on"}[split]
    return Plot(
        title=f"{TITLES[table]}: accuracy on what was {what}",
        caption="Over epochs; 0.99 on what was trained on counts as known, 0.9 on what was held out as found.",
        y_label="accuracy (fraction)",
        lines={way: f"{table} {way}: epoch -> {table} {way}: {split}" for way in ways},
        x=f"{table} {ways[0]}: epoch",
        x_label="epoch",
        log_x=True,
    )


def _dimensions(table: str, ways: Sequence[str]) -> Plot:
    return Plot(
        title=f"{TITLES[table]}: effective dimension of the first layer",
        caption="Directions that hold 95 % of the variance of the inputs' vectors, as a share of the width.",
        y_label="share of directions",
        lines={way: f"{table} {way}: epoch -> {table} {way}: dimension" for way in ways},
        x=f"{table} {ways[0]}: epoch",
        x_label="epoch",
        log_x=True,
    )


SMALL = GrokkingTasks()
GROKKING_TASKS = Experiment(
    name="grokking-tasks",
    what="who groks, in the strict sense: AdamW, weight decay, PerpGrad or StableMax, on addition and on parity?",
    source=f"{PRIETO}; Power et al. 2022, arXiv 2201.02177 (weight decay, the strict sense)",
    claims=_claims(SMALL),
    sizes={"small": SMALL},
    minutes={"small": 15},
    measure_in=grokking_tasks,
    tables=timetable,
    plots=(
        *(_plot(table, tuple(ADDITION), split) for table in TABLES for split in ("test", "train")),
        *(_dimensions(table, tuple(ADDITION)) for table in TABLES),
    ),
)
