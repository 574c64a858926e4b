"""Full-batch trainings: tables, curves, and when a training is said to have grokked."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from mnemoscope.experiments.grokking.full_batches import (
    Curve,
    Training,
    addition,
    fit,
    geometric,
    network,
    parity,
)
from mnemoscope.ops.stablemax import stablemax_negative_log_likelihood

TINY = Training(epochs=6, learning_rate=0.05)


def test_addition_is_split_without_overlap():
    table = addition(11, 0.6, 3)
    rows = torch.cat([table.inputs, table.held_inputs])
    assert (len(table.inputs), len(rows)) == (72, 121)
    assert len(rows.unique(dim=0)) == 121
    a, b = rows.view(-1, 2, 11).argmax(-1).T
    assert torch.equal((a + b) % 11, torch.cat([table.targets, table.held_targets]))
    assert torch.equal(rows.sum(1), torch.full((121,), 2.0))
    assert not torch.equal(table.inputs, addition(11, 0.6, 4).inputs)


def test_parity_is_that_of_few_bits():
    table = parity(12, 3, 60, 100, seed=1)
    assert (table.inputs.shape, table.held_inputs.shape) == ((60, 12), (100, 12))
    assert set(table.inputs.unique().tolist()) == {0.0, 1.0}
    # Over the field of two elements the answer is a sum of three of the bits: flipping one of the others changes
    # nothing, so a linear fit in products of signs finds exactly three of them.
    signs, answers = 1 - 2 * table.held_inputs, 1 - 2 * table.held_targets.float()
    triples = torch.combinations(torch.arange(12), 3)
    agree = (signs[:, triples].prod(-1) == answers[:, None]).all(0)
    assert int(agree.sum()) == 1
    chosen = triples[agree][0]
    assert torch.equal((1 - 2 * table.inputs)[:, chosen].prod(-1), 1 - 2 * table.targets.float())


def test_a_geometric_row():
    found = geometric(100, 50, 77, 500)
    assert found[:4] == [1, 2, 3, 4]
    assert {50, 77, 100} <= set(found)
    assert 500 not in found
    without = [epoch for epoch in geometric(1000) if 20 < epoch < 1000]
    assert all(after <= before * 1.06 for before, after in pairwise(without))
    assert geometric(1) == [1]


def test_a_stablemax_training_is_one_on_its_loss():
    table = addition(11, 0.6, 0)
    model, mine = network(22, 8, 11, 5), network(22, 8, 11, 5)
    curve = fit(model, table, replace(TINY, loss="stablemax"), [2, 6])
    optimiser = torch.optim.AdamW(
        mine.parameters(), lr=0.05, betas=(0.9, 0.99), eps=1e-25, weight_decay=0.0, fused=True
    )
    for _ in range(6):
        optimiser.zero_grad()
        stablemax_negative_log_likelihood(mine(table.inputs), table.targets).mean().backward()
        optimiser.step()
    for weight, expected in zip(model.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(weight, expected)
    assert curve.epochs == [2, 6]
    assert all(map(math.isnan, curve.collapsed))


def test_collapse_is_seen_in_float32():
    """Logits of a network whose head is scaled up leave nothing to learn from."""
    table, model, nothing = addition(11, 0.6, 0), network(22, 64, 11, 0), replace(TINY, epochs=1, learning_rate=0.0)
    before = fit(model, table, nothing, [1])
    with torch.no_grad():
        model[4].weight *= 1e6
    after = fit(model, table, nothing, [1])
    assert before.collapsed == [0.0]
    assert after.collapsed[0] > 0.5


def test_when_a_training_is_fitted_and_grokked():
    late = Curve(epochs=[10, 20, 60, 70], train=[1.0, 1.0, 1.0, 1.0], test=[0.1, 0.2, 0.95, 1.0])
    assert (late.fitted_at, late.since(0.9, late.test), late.is_strict) == (10.0, 60.0, True)
    early = replace(late, epochs=[10, 20, 40, 70])
    assert not early.is_strict
    lost = replace(late, train=[1.0, 0.5, 1.0, 0.5])
    assert (lost.fitted_at, lost.is_strict) == (60.0, False)
    never = replace(late, test=[0.1] * 4)
    assert (never.since(0.9, never.test), never.is_strict) == (math.inf, False)


def test_no_training_without_epochs():
    with pytest.raises(ValueError, match=r"Training\.epochs: must be at least 1, got 0"):
        replace(TINY, epochs=0)


def test_a_collapsed_training_ends_at_the_next_test():
    """With so large a rate the softmax of most rows soon rounds to one; else it goes on to its last epoch."""
    table = addition(11, 0.8, 0)
    steep = Training(epochs=60, learning_rate=0.1, until_collapsed=0.5)
    tested = range(1, 61)
    short, whole = (
        fit(network(22, 64, 11, 0), table, training, tested)
        for training in (steep, replace(steep, until_collapsed=None))
    )
    assert max(whole.collapsed) >= 0.5
    n = len(short.epochs)
    assert n < len(whole.epochs) == 60
    assert short.collapsed[-1] >= 0.5 > max(short.collapsed[:-1], default=0.0)
    assert (short.train, short.test) == (whole.train[:n], whole.test[:n])
    assert whole.since(0.5, whole.collapsed) == short.epochs[-1]
    with pytest.raises(ValueError, match="until_collapsed: is of cross-entropy, got stablemax"):
        replace(steep, loss="stablemax")


def test_the_dimension_is_that_of_the_first_layers_inputs():
    model = network(22, 6, 11, 0)
    with torch.no_grad():
        model[0].weight.copy_(torch.outer(torch.arange(6.0), torch.arange(22.0)))
    curve = fit(model, addition(11, 0.5, 0), Training(epochs=1, learning_rate=1e-12), [1])
    assert list(curve.dimension) == pytest.approx([1 / 6])
