"""One setting of the write at a time: which memories are compared, and a study at a size that takes seconds."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mnemoscope.experiments.recall.capacity import FOLDER
from mnemoscope.experiments.recall.write_sweeps import (
    AGAIN,
    DEFAULT,
    WITH_STEP,
    WRITE_SWEEPS,
    WriteSweeps,
    found_of,
    write_sweeps,
)
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.tasks.cued_recall import CuedRecallConfig

TINY = WriteSweeps(
    task=CuedRecallConfig(n_keys=6, n_values=4, n_pairs=4), width=4, steps=2, batch_size=2, test_sequences=4, every=1
)


def test_one_setting_differs_from_the_default():
    default = asdict(WriteSweeps().default)
    arms = WriteSweeps().arms()
    assert len(arms) == 28
    step = WriteSweeps().default.default_step_size
    for name, memory in arms.items():
        changed = {key for key, value in asdict(memory).items() if default[key] != value}
        if name.endswith(WITH_STEP):
            assert memory.initial_step_size == step
            changed -= {"initial_step_size"}
        assert len(changed) == (name not in (DEFAULT, AGAIN))
    assert len({str(asdict(memory)) for memory in arms.values()}) == len(arms) - 1
    steps = {name: memory.default_step_size for name, memory in arms.items() if memory.initial_step_size is None}
    assert (steps["chunk 1"], steps["window 16"]) == (pytest.approx(8 * step), pytest.approx(step / 16))


def test_the_default_steps_as_far_as_the_guide():
    """init_eta .1 acts as .05, over a chunk of 8; three times that is its .3."""
    settings = WriteSweeps()
    assert settings.default.default_step_size == pytest.approx(0.05 / 8)
    assert settings.arms()["step size 3"].initial_step_size == pytest.approx(0.15 / 8)
    assert settings.arms()["chunk 16"].default_step_size == pytest.approx(0.05 / 16)


def test_the_study(tmp_path: Path):
    tiny = replace(WRITE_SWEEPS, sizes={"small": TINY})
    found = reproduce(tiny, 1, "small", tmp_path, print)
    figures = found[0].figures
    assert {claim.figure for claim in tiny.claims} <= figures.keys()
    assert figures["window 4 gain"] == figures["window 4 recalled"] - figures["default recalled"]
    assert figures["retained"] == figures["default first"] - figures["retention 0.9 first"]
    assert figures["responsive"] == figures["retention 0.9 last"] - figures["default last"]
    (table,) = found_of(TINY, found)
    assert [row[0] for row in table.rows] == list(TINY.arms())
    assert len(reproduction_of(tiny, "small", found, 1, "").charts) == 5
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / FOLDER).rglob("*.json")}
    assert len(kept) == 28
    assert write_sweeps(TINY, 0, tmp_path).figures == figures
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_the_default_again_differs_by_its_draw_alone(tmp_path: Path):
    """Of longer training than the study above, so that accuracies may differ."""
    settings = replace(TINY, steps=4, step_factors=(), retentions=(), momenta=(), windows=(), chunks=())
    measured = write_sweeps(settings, 0, tmp_path)
    assert list(settings.arms()) == [DEFAULT, AGAIN]
    assert measured.series["default: train"] != measured.series["again: train"]
    assert measured.figures["default gain"] == 0
