from dataclasses import replace

import numpy as np
import pytest

from mnemoscope.experiments.geometry.measuring import DIVERGED, KINDS
from mnemoscope.experiments.geometry.phase import (
    GEOMETRY_PHASE,
    REFERENCES,
    SEEN,
    Knobs,
    PhaseStudy,
    geometry_phase,
    phase_maps,
    point_seen,
)

SMALL = PhaseStudy(
    width=8,
    steps=2,
    graphs=("cycle",),
    initial_stds=(0.02, 1.0),
    learning_rates=(1e-3, 1e-2, 1e-1),
    weight_decays=(0.0, 1.0),
    reference_width=8,
    reference_steps=2,
    n_shuffles=20,
)
ASSOCIATIVE = KINDS.index("associative")


def test_every_claim_is_measured_and_drawn():
    measured = geometry_phase(SMALL, 0)
    assert {claim.figure for claim in GEOMETRY_PHASE.claims} == measured.figures.keys()
    assert sum(measured.figures[kind] for kind in KINDS) + measured.figures["diverged"] == 12 + len(REFERENCES)
    assert measured.series.keys() == {"initial_std", "learning_rate", "weight_decay", *(f"cycle: {x}" for x in SEEN)}
    maps = phase_maps(SMALL, measured.series, "z")
    assert [one.title for one in maps] == ["cycle, weight decay 0: z", "cycle, weight decay 1: z"]
    for at, knobs in enumerate(SMALL.points):
        assert knobs.initial_std == measured.series["initial_std"][at]
        drawn = maps[SMALL.weight_decays.index(knobs.weight_decay)]
        row, column = (
            drawn.rows.index(f"start {knobs.initial_std:g}"),
            drawn.columns.index(f"rate {knobs.learning_rate:g}"),
        )
        assert drawn.values[row][column] == measured.series["cycle: z"][at]
        assert knobs.learning_rate == measured.series["learning_rate"][at]


def test_a_table_that_diverged_has_no_verdict():
    seen = point_seen(replace(SMALL, steps=50), "cycle", Knobs(initial_std=0.02, learning_rate=1e30), seed=0)
    assert seen["kind"] == DIVERGED
    assert np.isnan(seen["z"])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_start_and_a_small_step_leave_an_association(seed: int):
    """And the same with a small start does not."""
    settings = replace(SMALL, width=64, steps=2000, n_shuffles=200)
    drawn = point_seen(settings, "cycle", Knobs(initial_std=1.0, learning_rate=1e-4), seed)
    small = point_seen(settings, "cycle", Knobs(initial_std=0.02, learning_rate=1e-2), seed)
    assert drawn["kind"] == ASSOCIATIVE
    assert small["kind"] > ASSOCIATIVE
    assert drawn["recall"] == small["recall"] == 1.0
    assert drawn["z"] < 3 < 3.5 < small["z"]
