import math

import numpy as np
import pytest
import torch

from mnemoscope.experiments.geometry.memorising import (
    EdgeTraining,
    Look,
    Memorised,
    cross_entropy,
    draw_small,
    learning_rate_at,
    look_of,
    looked_at,
    memorise_network,
    memorise_stack,
)
from mnemoscope.memories import AttentionConfig
from mnemoscope.models import StackConfig, build
from mnemoscope.models.edge_network import EdgeNetworkConfig, build_edge_network
from mnemoscope.tasks.graphs import GraphName
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig


def task_of(graph: GraphName = "cycle", self_edges: bool = False) -> TinyGraphs:
    return TinyGraphs(TinyGraphsConfig(graph=graph, self_edges=self_edges))


def a_look(step: int, recall: float) -> Look:
    return Look(step=step, table=np.ones((2, 1)), scores=np.ones((2, 2)), loss=1.0, recall=recall)


def test_when_models_are_looked_at():
    assert looked_at(10) == [0, 1, 2, 5, 10]
    assert looked_at(700) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 700]
    assert looked_at(1) == [0, 1]


def test_learning_rates():
    cosine = EdgeTraining(steps=100, learning_rate=2.0)
    rates = [learning_rate_at(cosine, step) for step in (0, 50, 100)]
    assert rates == pytest.approx([2.0, 2.0 * (0.1 + 0.9 / 2), 0.2])
    constant = EdgeTraining(steps=100, learning_rate=2.0, schedule="constant")
    assert {learning_rate_at(constant, step) for step in (0, 50, 99)} == {2.0}


def test_a_graph_is_known_since_it_was_known_for_good():
    task = task_of()
    recalls = [0.2, 1.0, 0.5, 0.99, 1.0]
    looks = [a_look(step, recall) for step, recall in zip((0, 1, 2, 5, 10), recalls, strict=True)]
    assert Memorised(task=task, looks=looks).known_since == 5.0
    assert Memorised(task=task, looks=[*looks, a_look(20, 0.98)]).known_since == math.inf
    assert Memorised(task=task, looks=[*looks, a_look(20, math.nan)]).known_since == math.inf


@pytest.mark.parametrize("graph", ["path_star", "grid", "cycle", "irregular"])
@pytest.mark.parametrize("self_edges", [False, True])
def test_loss_ends_at_the_entropy_of_the_targets(graph: GraphName, self_edges: bool):
    task = task_of(graph, self_edges)
    found = memorise_network(task, EdgeTraining(), seed=0)
    assert found.end.recall == 1.0
    assert -1e-6 < found.end.loss - task.floor_loss < 4e-3
    assert found.looks[0].loss == pytest.approx(task.chance_loss, abs=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_training_is_that_of_autograd_pair_by_pair(schedule: str):
    """Against a loop of AdamW over every pair as a case of its own."""
    task = task_of("irregular", self_edges=True)
    training = EdgeTraining(
        width=6,
        steps=20,
        learning_rate=0.05,
        schedule="cosine" if schedule == "cosine" else "constant",
        weight_decay=0.3,
        initial_std=0.5,
    )
    found = memorise_network(task, training, seed=4)
    config = EdgeNetworkConfig(n_nodes=16, width=6, initial_std=0.5)
    model = build_edge_network(config, seed=4).double()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.3)
    sources, targets = torch.from_numpy(task.pairs).T
    for step in range(20):
        optimiser.param_groups[0]["lr"] = learning_rate_at(training, step)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(sources), targets).backward()
        optimiser.step()
    np.testing.assert_allclose(found.end.table, model.embedding.weight.detach().numpy(), atol=2e-4)
    np.testing.assert_allclose(found.end.scores, model.scores().detach().numpy(), atol=2e-3)
    assert found.matrix is not None
    np.testing.assert_allclose(found.matrix, model.matrix.detach().numpy(), atol=2e-4)


def test_a_frozen_table_stays():
    found = memorise_network(task_of(), EdgeTraining(width=512, steps=10, learning_rate=0.1), seed=0, frozen=True)
    np.testing.assert_array_equal(found.looks[0].table, found.end.table)
    assert found.known_since <= 2
    moved = memorise_network(task_of(), EdgeTraining(steps=5), seed=0)
    assert np.abs(moved.end.table - moved.looks[0].table).min() > 0


def test_a_training_that_diverges_ends_where_it_does():
    training = EdgeTraining(steps=500, learning_rate=1e30, schedule="constant")
    found = memorise_network(task_of(), training, seed=0)
    assert not found.end.is_finite
    assert found.end.step < 500
    assert all(look.is_finite for look in found.looks[:-1])
    assert found.known_since == math.inf


def test_a_stack_is_asked_as_its_task_asks():
    """One soft question for each source is every pair asked once, as a batch of the task."""
    task = task_of("path_star")
    config = StackConfig(
        vocab_size=task.vocab_size,
        d_model=8,
        mixers=(AttentionConfig(n_heads=1, positions="none"),),
        positions="learned",
        max_tokens=2,
    )
    model = build(config, seed=0)
    found = memorise_stack(task, EdgeTraining(width=8, steps=3), build(config, seed=0))
    assert [look.step for look in found.looks] == [0, 1, 2, 3]
    batch = task.batch(np.random.default_rng(0), len(task.pairs), "validation")
    logits = model(torch.from_numpy(batch.inputs))[:, -1].detach()
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.targets[:, -1]))
    assert found.looks[0].loss == pytest.approx(loss.item(), abs=1e-5)
    rows = torch.from_numpy(batch.inputs[:, -1])
    np.testing.assert_allclose(found.looks[0].scores[rows], logits.double()[:, :17], atol=1e-5)
    assert found.end.table.shape == (17, 8)
    assert found.end.loss < found.looks[0].loss


def test_cross_entropy_by_hand():
    """A token that is no node takes probability and is never right."""
    law = torch.tensor([[0.0, 0.5], [0.25, 0.25]])
    logits = torch.zeros(2, 3)
    assert cross_entropy(logits, law).item() == pytest.approx(math.log(3))
    logits[0, 1] = math.log(2.0)
    assert cross_entropy(logits, law).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(3))


def test_a_look_by_hand():
    task = task_of()
    adjacency = torch.from_numpy(task.graph.adjacency())
    look = look_of(7, torch.eye(15), 100 * adjacency, task)
    assert (look.step, look.recall, look.loss) == (7, 1.0, pytest.approx(math.log(2)))
    assert look_of(7, torch.full((15, 2), math.nan), adjacency, task).is_finite is False


def test_weights_are_drawn_small():
    config = StackConfig(vocab_size=50, d_model=64, mixers=(AttentionConfig(),), mlp_ratio=4.0)
    model, again = build(config, seed=0), build(config, seed=1)
    for one in (model, again):
        draw_small(one, 0.02, seed=3)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(module, torch.nn.Linear) and module.bias is not None:
            assert module.bias.abs().max().item() == 0
    assert torch.equal(model.embedding.weight, again.embedding.weight)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"width": 0}, {"learning_rate": 0.0}, {"initial_std": -1.0}])
def test_what_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=r"EdgeTraining.*(at least 1|above 0)"):
        EdgeTraining(**wrong)  # pyright: ignore[reportArgumentType]
