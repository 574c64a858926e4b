"""E6: cued recall with a write that learns, and with one that is cut off."""

from dataclasses import replace

import pytest

from mnemoscope.experiments.detached_writes import DETACHED_WRITES, Recall
from mnemoscope.tasks.cued_recall import CuedRecallConfig

TINY = Recall(
    task=CuedRecallConfig(n_keys=6, n_values=4, n_pairs=3),
    width=16,
    chunk_tokens=2,
    steps=5,
    learning_rate=1e-2,
    test_sequences=8,
    every=2,
)


def test_every_claim_is_measured_and_a_seed_gives_the_same_figures():
    measured, again = (DETACHED_WRITES.measure(TINY, 1) for _ in range(2))
    assert {claim.figure for claim in DETACHED_WRITES.claims} == measured.figures.keys()
    assert list(measured.series["step"]) == [2, 4, 5]
    assert {len(values) for values in measured.series.values()} == {3}
    assert again.figures == measured.figures
    assert again.series == measured.series
    assert DETACHED_WRITES.measure(TINY, 2).figures != measured.figures


def test_the_arms_differ_in_the_write_alone():
    kept, cut = (TINY.recalling(detach_write=detach) for detach in (False, True))
    assert not kept.memory.detach_write
    assert replace(kept, memory=replace(kept.memory, detach_write=True)) == cut


def test_the_settings_of_the_pilot():
    settings = DETACHED_WRITES.sizes["small"]
    assert (settings.task.n_keys, settings.task.n_values, settings.task.n_pairs) == (64, 64, 16)
    assert (settings.width, settings.chunk_tokens, settings.steps, settings.batch_size) == (32, 8, 400, 32)
    assert settings.learning_rate == pytest.approx(3e-3)
