"""Planted memories get on a device the verdicts that they get on a processor."""

import pytest

from mnemoscope.examination import examine
from mnemoscope.experiments.planted import KINDS, World
from mnemoscope.experiments.planted.kinds import BATCH_SIZE, BUDGET, N_BATCHES
from tests.gpu.devices import on_each

pytestmark = pytest.mark.long


@on_each(list(KINDS), ("G1",))
def test_a_planted_memory_gets_its_verdict(name: str, device: str):
    kind = KINDS[name]
    world = kind.adapt(World.draw(0))
    model = kind.build(world).to(device)
    found = examine(model, world.batches(kind.draw, N_BATCHES, BATCH_SIZE), budget=BUDGET)
    assert kind.got(found) == kind.expected(len(found.sites))
    assert not [control for control in found.controls if not control.passed]
    assert {parameter.device.type for parameter in model.parameters()} == {device}
