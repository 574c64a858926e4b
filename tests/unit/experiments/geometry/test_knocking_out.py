"""What is left of a network without directions of its embeddings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mnemoscope.experiments.geometry.in_weights import InWeightsRun, train_in_weights
from mnemoscope.experiments.geometry.knocking_out import KNOCK_OUTS, KnockingOut, knocked, with_table
from mnemoscope.experiments.geometry.path_star import SMALL
from mnemoscope.tasks.path_star import PathStarConfig

TRAINING = replace(SMALL, task=PathStarConfig(n_arms=8, path_length=4), steps=60, every=60, warmup_steps=10)


@pytest.fixture(scope="module")
def run() -> InWeightsRun:
    return train_in_weights(TRAINING, 0)


def test_its_own_embeddings_change_nothing_and_others_do(run: InWeightsRun):
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    own = with_table(run, run.table)
    assert own["edges"] == pytest.approx(run.end("edge recall"))
    assert own["path"] == pytest.approx(run.end("path"))
    assert with_table(run, np.zeros_like(run.table))["edges"] < own["edges"]
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_every_knock_out_has_its_figures():
    figures = knocked(KnockingOut(training=replace(TRAINING, steps=2, every=2, warmup_steps=1)), 1).figures
    for which in ("intact", *KNOCK_OUTS):
        assert {f"{which}: {name}" for name in ("edges", "v1", "path", "kept", "directions")} <= set(figures)
    assert figures["intact: kept"] == 1
    assert figures["smooth: kept"] + figures["not smooth: kept"] == pytest.approx(1)
    assert figures["smooth: directions"] == 7
