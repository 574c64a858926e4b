"""One memory of five heads, each of which has another verdict by construction."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

from mnemoscope.contracts import IGNORE
from mnemoscope.experiments.planted.heads import EXPECTED, N_HEADS, PlantedHeads, examine_heads
from mnemoscope.experiments.planted.world import World, recall


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """In a process whose shapes are not checked: an examination makes thousands of hooks, each checked anew."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (1,)) as pool:
        yield pool


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_every_head_gets_its_verdict(seed: int, pool: ProcessPoolExecutor):
    examination = pool.submit(examine_heads, seed).result()
    got = {site.name: site.verdict for site in (*examination.sites, *examination.groups)}
    assert got == EXPECTED, examination.sites
    unheard = examination.sites[2]
    assert any(flag.startswith("disconnected") for flag in unheard.flags)
    assert [site.part for site in examination.sites] == [f"head {i} of {N_HEADS}" for i in range(N_HEADS)]
    assert {site.horizon_method for site in examination.sites} == {"unfolded"}
    assert examination.replay.startswith("from a record")
    assert not [control for control in examination.controls if not control.passed]


def test_the_heads_answer_where_the_labels_are():
    world = World.draw(5)
    model, batch = PlantedHeads(world), recall(world, np.random.default_rng(0), 64)
    asked = torch.from_numpy(batch.targets) != IGNORE
    with torch.no_grad():
        answers = model(torch.from_numpy(batch.inputs)).argmax(-1)
    assert torch.equal(answers[asked], torch.from_numpy(batch.targets)[asked])
