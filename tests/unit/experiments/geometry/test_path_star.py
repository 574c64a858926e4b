"""Every experiment on path-stars: two steps of each arm give a figure for every claim."""

from dataclasses import replace
from typing import Any

import pytest

from mnemoscope.experiments.geometry.capacity import CAPACITY, Capacity
from mnemoscope.experiments.geometry.editing import EDITING, Editing
from mnemoscope.experiments.geometry.path_star import (
    LEARNED,
    OFFICIAL,
    PATH_STAR,
    PUBLISHED,
    SMALL,
    Arm,
    Arms,
    compare,
    edges_only,
)
from mnemoscope.experiments.geometry.path_star_variants import (
    DIRECTIONS,
    MAMBA,
    PAUSED,
    REMEMBERED,
    STAGED,
    TREE,
    Staged,
)
from mnemoscope.experiments.geometry.steering import STEERING
from mnemoscope.experiments.published import find_experiment
from mnemoscope.experiments.reproducing import Experiment, Size
from tests.unit.experiments.geometry.small_path_stars import TASK, TINY, shrunk

EVERY: list[Experiment[Any]] = [
    *(PATH_STAR, PAUSED, STAGED, DIRECTIONS, TREE, MAMBA, REMEMBERED, STEERING, EDITING, CAPACITY)
]


def tiny(settings: Any) -> Any:
    """Settings of an experiment with every training shrunk."""
    match settings:
        case Arms():
            return Arms(arms=tuple(replace(arm, config=shrunk(arm.config)) for arm in settings.arms))
        case Staged():
            return Staged(edges=shrunk(settings.edges), paths=shrunk(settings.paths))
        case Editing():
            kinds = (shrunk(settings.geometric), shrunk(settings.associative))
            return replace(settings, geometric=kinds[0], associative=kinds[1], n_edits=1, most_steps=2)
        case Capacity():
            return replace(settings, base=shrunk(settings.base))
        case _:
            raise AssertionError(settings)


@pytest.mark.parametrize("experiment", EVERY, ids=[experiment.name for experiment in EVERY])
def test_every_claim_is_measured(experiment: Experiment[Any]):
    assert find_experiment(experiment.name) is experiment
    for size in experiment.sizes:
        settings = tiny(experiment.sizes[size])
        measured = experiment.measure(settings, 0)
        assert {claim.figure for claim in experiment.claims} <= measured.figures.keys()
        assert all(len(values) > 0 for values in measured.series.values())


@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_arms_of_path_star_differ_in_one_setting(size: Size):
    arms = {arm.name: arm.config for arm in PATH_STAR.sizes[size].arms}
    full = replace(arms["full path"], stop_at=None)
    of_task = {"hardest": {"target": "hardest"}, "forward only": {"directions": "forward"}}
    of_task |= {"backward only": {"directions": "backward"}, "edges only": {"stage": "edges"}}
    for name, options in of_task.items():
        changed = replace(full, task=replace(full.task, **options), path_share=arms[name].path_share)
        assert replace(arms[name], stop_at=None) == changed
    frozen = replace(full, network=replace(full.network, freeze=True))
    assert arms["frozen"] == frozen
    assert arms["transplant"] == replace(frozen, network=replace(frozen.network, transplant="node2vec"))
    assert [name for name, config in arms.items() if config.stop_at == LEARNED] == ["full path", "hardest"]


def test_published_settings():
    assert (PUBLISHED.task.n_nodes, PUBLISHED.task.n_pauses) == (20_001, 5)
    assert (PUBLISHED.network.layers, PUBLISHED.network.width, PUBLISHED.learning_rate) == (12, 384, 5e-5)
    assert (PUBLISHED.edge_loss, PUBLISHED.weight_decay) == ("sampled", 0.01)
    assert (OFFICIAL.network.positions, OFFICIAL.learning_rate, OFFICIAL.task.n_pauses) == ("learned", 5e-4, 1)
    assert SMALL.task.n_nodes == 801


def test_arms_share_a_graph_that_the_seed_decides():
    settings = Arms(arms=(Arm(name="all", config=TINY), Arm(name="edges", config=edges_only(TINY))))
    found, again, other = (compare(settings, seed) for seed in (0, 0, 1))
    assert found == again
    assert found.figures != other.figures
    assert found.series["all: step"] == [2, 4]
    assert "edges: path" not in found.figures
    with pytest.raises(ValueError, match="must have a name of their own each, got all, all"):
        Arms(arms=(settings.arms[0], settings.arms[0]))


def test_stages_must_be_in_order():
    edges = replace(TINY, task=replace(TASK, stage="edges"))
    with pytest.raises(ValueError, match=r"must have the stages 'edges' and 'paths', got \('edges', 'mixed'\)"):
        Staged(edges=edges, paths=TINY)
    with pytest.raises(ValueError, match="must be of stage 'edges', got 'mixed'"):
        Capacity(base=TINY)
