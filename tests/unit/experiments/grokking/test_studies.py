"""StableMax against collapse, and who groks: at sizes that take seconds."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnemoscope.experiments.grokking.full_batches import Training
from mnemoscope.experiments.grokking.shared import (
    ADDITION,
    FOLDER,
    GUIDE,
    PARITY,
    AdditionTable,
    ParityTable,
    folder_name,
)
from mnemoscope.experiments.grokking.stablemax import STABLEMAX_GROKKING, StableMaxGrokking, stablemax_grokking
from mnemoscope.experiments.grokking.tables import GROKKING_TASKS, GrokkingTasks, grokking_tasks, timetable
from mnemoscope.experiments.reproducing import Experiment, reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of


def shortened(trainings: dict[str, Training], epochs: int) -> dict[str, Training]:
    return {name: replace(training, epochs=epochs) for name, training in trainings.items()}


DATA = AdditionTable(modulus=11)
SHORT = shortened(dict(ADDITION), 8)
STABLEMAX = StableMaxGrokking(data=DATA, width=8, stablemax=SHORT["StableMax"], control=SHORT["AdamW"], marks=(4, 8))
TASKS = GrokkingTasks(
    addition=DATA,
    parity=ParityTable(n_bits=8, n_train=16, n_held_out=32),
    on_addition=SHORT,
    on_parity=shortened(dict(PARITY), 8),
    width=8,
    marks=(4, 8),
)
SMALL = {"stablemax-grokking": (STABLEMAX_GROKKING, STABLEMAX), "grokking-tasks": (GROKKING_TASKS, TASKS)}


@pytest.mark.parametrize("name", SMALL)
def test_every_claim_is_measured_and_every_series_drawn(name: str, tmp_path: Path):
    experiment, settings = SMALL[name]
    tiny: Experiment[object] = replace(experiment, sizes={"small": settings})
    found = reproduce(tiny, 2, "small", tmp_path, print)
    assert {claim.figure for claim in tiny.claims} <= found[0].figures.keys()
    page = reproduction_of(tiny, "small", found, 2, "")
    assert len(page.charts) == len(tiny.plots)
    assert found[0].figures != found[1].figures


def test_trainings_are_shared_and_never_done_again(tmp_path: Path):
    first = stablemax_grokking(STABLEMAX, 0, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / FOLDER).rglob("*.json")}
    assert {path.parent.name for path in kept} == {"addition-stablemax", "addition-adamw"}
    measured = grokking_tasks(TASKS, 0, tmp_path)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert len(list((tmp_path / FOLDER).rglob("*.json"))) == 10
    assert measured.series["addition StableMax: test"] == first.series["StableMax: test"]
    assert grokking_tasks(TASKS, 0, tmp_path).figures == measured.figures


def test_small_sizes_share_too():
    """Their settings of the two trainings are equal, so that one file serves both."""
    arms, settings = GrokkingTasks().arms(), StableMaxGrokking()
    assert arms["addition", "StableMax"] == settings.arm(settings.stablemax)
    assert arms["addition", "AdamW"] == settings.arm(settings.control)
    assert arms["parity", "StableMax"].marks == ()


def test_perpgrad_finds_the_rule_at_once_and_that_is_not_grokking(tmp_path: Path):
    """Chance is 1 / 23."""
    ways = {"PerpGrad": replace(ADDITION["PerpGrad"], epochs=100), "AdamW": Training(epochs=100)}
    settings = replace(TASKS, addition=AdditionTable(modulus=23, train_fraction=0.8), on_addition=ways, width=100)
    figures = grokking_tasks(replace(settings, on_parity={}), 0, tmp_path).figures
    assert figures["addition PerpGrad found"] == 1.0
    assert figures["addition PerpGrad crossed"] <= 100
    assert figures["addition PerpGrad strict"] == 0.0
    assert (figures["addition AdamW found"], figures["addition AdamW strict"]) == (0.0, 0.0)
    assert figures["addition AdamW fitted"] < 100


def test_the_table_of_when(tmp_path: Path):
    tiny = replace(GROKKING_TASKS, sizes={"small": TASKS})
    of_addition, of_parity = timetable(TASKS, reproduce(tiny, 1, "small", tmp_path, print))
    assert [row[0] for row in of_addition.rows] == list(ADDITION)
    assert all(len(row) == len(of_addition.columns) for row in of_addition.rows + of_parity.rows)
    assert of_parity.rows[0][1:4] == ["8", "inf", "inf"]


def test_bounds_are_those_of_the_sources():
    bars = {claim.figure: claim.bar for claim in GROKKING_TASKS.claims}
    assert bars["addition AdamW found"] == bars["parity AdamW found"] == "at most 0"
    assert bars["addition PerpGrad found"] == bars["addition weight decay 1 found"] == "at least 1"
    unbound = {figure for figure, bar in bars.items() if bar == "-" and figure.endswith("found")}
    of_parity = {f"parity {way} found" for way in PARITY if way != "AdamW"}
    assert unbound == of_parity | {"addition StableMax found", f"addition {GUIDE} found"}


def test_the_guides_configuration_for_mathematics():
    """As its preset sets it on language."""
    for trainings in (ADDITION, PARITY):
        training = trainings[GUIDE]
        assert (training.loss, training.weight_decay, training.orthogonal_gradient) == ("stablemax", 0.1, 0.5)
        assert not training.rescale_gradient
    assert folder_name("addition", GUIDE) == "addition-the-guides"


def test_what_cannot_be_asked():
    with pytest.raises(ValueError, match=r"StableMaxGrokking\.marks: must be at least two, at most 8.*got \(4, 9\)"):
        replace(STABLEMAX, marks=(4, 9))
