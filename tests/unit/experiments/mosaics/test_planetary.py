from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnemoscope.experiments.mosaics.exchanging import DONORS, donors, exchanged, harms, squared_errors
from mnemoscope.experiments.mosaics.planetary import MOSAIC_PLANETARY, planetary
from mnemoscope.experiments.mosaics.planetary_study import PlanetaryStudy
from mnemoscope.experiments.mosaics.planetary_units import contextual_layers, unit_tables
from mnemoscope.experiments.mosaics.trained import run_folder
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.models import build
from mnemoscope.runs.directory import VERDICTS
from mnemoscope.tasks import task_rng
from mnemoscope.tasks.planetary import Planetary

TINY = PlanetaryStudy(
    depths=(1, 2),
    widths=(48, 32),
    length=40,
    steps=2,
    batch_size=2,
    n_test=4,
    n_examined=16,
    fit_steps=2,
)


def network(depth: int):
    model = TINY.recipe(depth, "new").model
    return build(model, 0).eval()


def systems(n: int = 3):
    task = Planetary(TINY.task("new"))
    return task, task.systems(task_rng(0, "test", 0), n, "test")


def test_a_layer_that_reads_its_own_memory_is_not_harmed_and_one_that_reads_another_is():
    model, (task, skies) = network(2), systems()
    batch = task.observed(skies)
    intact = squared_errors(model, batch)
    memory = contextual_layers(model)[0]
    with exchanged(memory, torch.arange(3)):
        assert torch.equal(squared_errors(model, batch), intact)
    with exchanged(memory, torch.tensor([1, 2, 0])):
        changed = squared_errors(model, batch)
    assert torch.equal(changed[:, 0], intact[:, 0])  # nothing is stored yet
    assert (changed[:, 1:] != intact[:, 1:]).any(1).all()
    assert torch.equal(squared_errors(model, batch), intact)


def test_donors_differ_from_a_system_in_one_thing():
    task, skies = systems()
    of = donors(skies)
    assert np.array_equal(of["later"].periods, skies.periods)
    assert np.array_equal(of["later"].order, skies.order)
    assert not np.allclose(task.observed(of["later"]).inputs, task.observed(skies).inputs)
    assert np.array_equal(of["orbits"].order, skies.order)
    assert not np.isin(of["orbits"].periods[0], skies.periods[0]).all()
    assert np.array_equal(of["order"].periods, skies.periods)
    assert (of["order"].order != skies.order).all()


def test_only_what_reads_the_sky_of_another_is_measured_as_harm():
    model, (task, skies) = network(2), systems()
    found = harms(model, contextual_layers(model), task, skies)
    assert set(found) == set(DONORS)
    by_hand = squared_errors(model, task.observed(skies)).mean(0)
    for harm in found.values():
        assert harm.shape == (2, TINY.length)
        assert np.allclose(harm[:, 0], 0, atol=1e-7)
        assert (harm[:, 1:] != 0).any(1).all()
        assert (harm > -by_hand.numpy() - 1e-6).all()


@pytest.mark.parametrize("change", [{"widths": (48,)}, {"widths": (48, 16)}, {"length": 24}, {"length": 33}])
def test_networks_and_lengths_that_cannot_be_measured_are_refused(change):
    with pytest.raises(ValueError, match=r"PlanetaryStudy\.(widths|length): must be"):
        replace(TINY, **change)


def test_the_published_study_compares_networks_of_one_size():
    small = MOSAIC_PLANETARY.sizes["small"]
    sizes = [sum(p.numel() for p in build(small.recipe(depth, "new").model, 0).parameters()) for depth in small.depths]
    assert max(sizes) / min(sizes) < 1.05


@pytest.mark.long
def test_a_seed_trains_examines_and_exchanges(tmp_path: Path):
    tiny = replace(MOSAIC_PLANETARY, sizes={"small": TINY}, claims=(), plots=())
    (result,) = reproduce(tiny, 1, "small", tmp_path, lambda line: None)
    figures, series = result.figures, result.series
    assert figures["depth_gain_late"] == pytest.approx(figures["new_1_late"] / figures["new_2_late"])
    one = figures["one_1_late"] / figures["one_2_late"]
    assert figures["routing_gain_late"] == pytest.approx(figures["depth_gain_late"] / one)
    assert len(series["new_2: harms"]) == 2 * len(DONORS)
    most = [
        figures[f"harm_2_{i}_order"] / max(figures[f"harm_2_{i}_orbits"], figures["new_2_late"] / 10) for i in (1, 2)
    ]
    assert figures["routes_2"] == pytest.approx(max(most))
    assert series["new_1: ahead"] == [figures["new_1_ahead"]]
    assert series["observations before"] == [8.0]
    units = [line.split("\t")[1] for line in result.texts["units_2"]]
    assert {"layer 2, contextual unit 2", "layer 1, persistent units", "layer 2, all contextual units"} <= set(units)
    assert (run_folder(tmp_path, "planetary-2-new", 0) / VERDICTS).exists()
    (table,) = unit_tables(TINY, [result])
    assert len(table.rows) == len(result.texts["units_1"]) + len(units)
    (heat,) = reproduction_of(tiny, "small", [result], 1, "").heat_maps
    assert heat.rows == ["layer 1 of 1", "layer 1 of 2", "layer 2 of 2"]


def test_claims_name_figures_that_are_measured():
    named = {claim.figure for claim in MOSAIC_PLANETARY.claims}
    assert {"depth_gain_late", "routing_gain_ahead", "least_bearing_3", "routes_2", "one_3_ahead"} <= named
    bounded = {claim.figure for claim in MOSAIC_PLANETARY.claims if claim.bar != "-"}
    assert "routes_1" not in bounded
    assert planetary is MOSAIC_PLANETARY.measure_in
