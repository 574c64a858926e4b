"""The verdict's test bench: models whose verdict is known by construction."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from mnemoscope.contracts import IGNORE
from mnemoscope.examination.subject.losses import NextTokenLoss, constant_output_scores
from mnemoscope.experiments.planted import KINDS, Kind, World, kinds_named
from mnemoscope.runs import Examination

Property = Callable[[str, object], None]
Examine = Callable[[Kind, int], Examination]
SAME_VERDICT = ("G3", "G4", "G10")
"""Kinds whose verdict another kind gets as well; `make test-all` examines them."""


@pytest.fixture(scope="module")
def examine() -> Iterator[Examine]:
    """In a process whose shapes are not checked: an examination makes thousands of hooks, each checked anew."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (1,)) as pool:
        examined = cache(lambda name, seed: pool.submit(KINDS[name].examine, seed).result())
        yield lambda kind, seed: examined(kind.name, seed)


def check(kind: Kind, seed: int, examine: Examine, record_property: Property) -> None:
    examination = examine(kind, seed)
    for site in examination.sites:
        record_property("planted", [f"{kind.name} {kind.what}", str(site.verdict)])
    assert kind.got(examination) == kind.expected(len(examination.sites)), examination.sites
    assert examination.replay.startswith("from a record")
    assert not [control for control in examination.controls if not control.passed]


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in SAME_VERDICT else ()) for name in KINDS]
)
def test_planted_memory_gets_its_verdict(name: str, seed: int, examine: Examine, record_property: Property):
    check(KINDS[name], seed, examine, record_property)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 20))
@pytest.mark.parametrize("name", KINDS)
def test_planted_memory_gets_its_verdict_twenty_times(
    name: str, seed: int, examine: Examine, record_property: Property
):
    check(KINDS[name], seed, examine, record_property)


def test_kinds_are_seventeen_in_order():
    assert list(KINDS) == [f"G{n}" for n in range(1, 18)]


@pytest.mark.parametrize("name", KINDS)
def test_an_instance_is_the_same_every_time_and_another_one_is_not(name: str):
    kind = KINDS[name]

    def drawn(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        world = kind.adapt(World.draw(seed))
        model = kind.build(world)
        batch = world.batches(kind.draw, 1, 8)[0]
        with torch.no_grad():
            return model, batch.inputs, model(batch.inputs)

    (_, inputs, logits), (_, again, same), (_, others, _) = drawn(1), drawn(1), drawn(2)
    assert torch.equal(inputs, again)
    assert torch.equal(logits, same)
    assert inputs.shape != others.shape or not torch.equal(inputs, others)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("G12", "G14")])
def test_a_planted_model_is_right_where_the_labels_are(name: str):
    """All but the saturated and the harmful one solve their task; the label noise is all that is left."""
    kind = KINDS[name]
    world = kind.adapt(World.draw(5))
    model, batch = kind.build(world), kind.draw(world, np.random.default_rng(0), 64)
    asked = batch.targets != IGNORE
    with torch.no_grad():
        answers = model(torch.from_numpy(batch.inputs)).argmax(-1).numpy()
    assert (answers[asked] == batch.targets[asked]).mean() > (0.85 if name in ("G5", "G6") else 0.999)


@pytest.mark.parametrize("name", KINDS)
def test_every_memory_is_causal(name: str):
    kind = KINDS[name]
    world = kind.adapt(World.draw(3))
    model, batch = kind.build(world), world.batches(kind.draw, 1, 4)[0]
    with torch.no_grad():
        whole, part = model(batch.inputs), model(batch.inputs[:, :9])
    torch.testing.assert_close(whole[:, :9], part)


def test_the_pad_of_both_needed_leaves_either_half_worth_nothing():
    """Without its first key, a recalled value is no better a guess than any other."""
    world = World.draw(0)
    batch = KINDS["G9"].draw(world, np.random.default_rng(0), 4000)
    asked = batch.targets != IGNORE
    recalled = KINDS["G1"].draw(world, np.random.default_rng(0), 4000).targets[asked]
    assert (batch.targets[asked] != recalled).all()
    counts = np.bincount((batch.targets[asked] - recalled) % (world.vocab_size - world.first_value))[1:]
    assert counts.min() > 0.9 * counts.mean()


@pytest.mark.long
def test_one_of_twenty_positions_demands_memory(examine: Examine):
    examination = examine(KINDS["G17"], 0)
    (subset,) = examination.subsets
    assert subset.share == pytest.approx(0.05)
    everywhere, there = (of.sites[0].effects["read"]["optimal_constant"].value for of in (examination, subset))
    assert there == pytest.approx(20 * everywhere, rel=0.2)


def test_backup_costs_nothing_alone_and_half_of_everything_by_its_share(examine: Examine):
    examination = examine(KINDS["G8"], 0)
    for site in examination.sites:
        assert site.effects["read"]["optimal_constant"].high < examination.margin
        assert site.share is not None
        assert site.share.value == pytest.approx(0.5, abs=0.05)
    assert examination.memories_off.low > 10 * examination.margin


def test_zero_would_call_the_scale_trap_essential_and_resample_would_not(examine: Examine):
    examination = examine(KINDS["G15"], 0)
    effects = examination.sites[0].effects["read"]
    assert effects["zero"].low > examination.margin
    assert effects["optimal_constant"].high < examination.margin
    assert effects["resample"].high < examination.margin


def test_a_saturated_memory_is_better_than_a_constant_output_and_right_less_and_less(examine: Examine):
    kind = KINDS["G12"]
    world = kind.adapt(World.draw(0))
    batches = world.batches(kind.draw, 4, 50)
    constant = constant_output_scores(batches[:2], batches[2:])
    assert constant is not None
    with torch.no_grad():
        losses = torch.cat([NextTokenLoss()(kind.build(world), batch) for batch in batches[2:]])
    assert losses.mean() < torch.cat([scores.per_sequence for scores in constant]).mean()
    accuracy = [load.accuracy for load in examine(kind, 0).loads]
    assert accuracy[0] > accuracy[-1] + 0.3


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="got 'g7'; nearest valid: G7"):
        kinds_named(["G1", "g7"])
    assert [kind.name for kind in kinds_named(["G7", "G1"])] == ["G1", "G7"]
    assert len(kinds_named([])) == 17
