"""The models that learn a tiny graph by heart, and how each is trained.

    TinyGPT    EDGE u -> one block of causal attention and a feed-forward part -> logits; learned positions, tied
    TinySSM    EDGE u -> one Mamba mixer -> logits; tied, with the residual stream or without
    TinyNN     E W E^T, both learn                  frozen, frozen fast    E W E^T, W alone learns
    Node2Vec   V V^T by plain gradient descent, the mean over the neighbours of each node, summed over nodes

Source: Noroozizadeh et al. 2025 (arXiv 2510.26745) and the notebooks of Shahriarnz14/Geometric_Memory, whose settings
`RELEASED` holds as far as they are known: no weight decay, no dropout, full batches, no warm-up. What differs: norms
are RMS norms, projections of attention have no bias, positions are drawn as the other weights are, and the state space
layer, which the notebooks have not, is trained as TinyGPT is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mnemoscope.examination.geometry.node2vec import Node2VecConfig, node2vec
from mnemoscope.experiments.geometry.memorising import (
    EdgeTraining,
    Look,
    Memorised,
    draw_small,
    look_of,
    looked_at,
    memorise_network,
    memorise_stack,
)
from mnemoscope.memories import AttentionConfig, MambaConfig
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks.graphs import Directions, GraphName
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

ModelName = Literal["Node2Vec", "TinyNN", "frozen", "frozen fast", "TinyGPT", "TinySSM", "TinySSM bare"]

FROZEN: tuple[ModelName, ...] = ("frozen", "frozen fast")
GRAPHS: tuple[GraphName, ...] = ("path_star", "grid", "cycle", "irregular")


class Arm(NamedTuple):
    """A model, and what it is asked.

    `self_edges` asks every node for itself as well; "TinySSM bare" has no residual stream.
    """

    model: ModelName
    self_edges: bool = False
    directions: Directions = "both"

    @property
    def name(self) -> str:
        """For instance "TinyGPT +self"."""
        way = "" if self.directions == "both" else f" {self.directions}"
        return f"{self.model}{way}{' +self' if self.self_edges else ''}"

    @property
    def is_frozen(self) -> bool:
        """Whether the table stays as it was drawn."""
        return self.model in FROZEN


ARMS: tuple[Arm, ...] = (
    Arm("Node2Vec"),
    Arm("Node2Vec", self_edges=True),
    Arm("TinyNN"),
    Arm("TinyNN", self_edges=True),
    Arm("TinyGPT"),
    Arm("TinyGPT", self_edges=True),
    Arm("TinyGPT", directions="forward"),
    Arm("TinySSM"),
    Arm("TinySSM", self_edges=True),
    Arm("TinySSM bare"),
    Arm("TinySSM bare", self_edges=True),
    Arm("frozen"),
    Arm("frozen fast"),
)


@dataclass(frozen=True, kw_only=True)
class TinyModels:
    """How each model is trained, by graph.

    Args:
        network: TinyNN.
        frozen: the associative memory.
        fast: the wide associative memory, on every graph.
        transformer: TinyGPT, and TinySSM too.
        n_heads: of TinyGPT.
        n_layers: blocks of TinyGPT, by graph; 1 for those that are not there.
        mlp_ratio: width of the feed-forward part of TinyGPT over that of the stream.
        n_states: entries of the state of each channel of TinySSM.
        node2vec_width: m.
        node2vec_steps: of plain gradient descent.
        node2vec_step_size: its learning rate.
    """

    network: Mapping[GraphName, EdgeTraining]
    frozen: Mapping[GraphName, EdgeTraining]
    fast: EdgeTraining
    transformer: Mapping[GraphName, EdgeTraining]
    n_heads: int = 1
    n_layers: Mapping[GraphName, int] = field(default_factory=dict)
    mlp_ratio: float = 4.0
    n_states: int = 8
    node2vec_width: int = 100
    node2vec_steps: int = 10_000
    node2vec_step_size: float = 0.01


_ASSOCIATIVE: dict[GraphName, EdgeTraining] = {
    "path_star": EdgeTraining(learning_rate=0.2),
    "grid": EdgeTraining(learning_rate=0.2),
    "cycle": EdgeTraining(width=15, learning_rate=10, steps=5000),
    "irregular": EdgeTraining(width=16, learning_rate=2),
}
_FAST = EdgeTraining(width=512, learning_rate=0.1, steps=10, schedule="constant")

RELEASED = TinyModels(
    network={
        "path_star": EdgeTraining(),
        "grid": EdgeTraining(),
        "cycle": EdgeTraining(width=512, steps=10_000, schedule="constant"),
        "irregular": EdgeTraining(width=16, learning_rate=0.005, steps=1000),
    },
    frozen=_ASSOCIATIVE,
    fast=_FAST,
    transformer={
        "path_star": EdgeTraining(),
        "grid": EdgeTraining(),
        "cycle": EdgeTraining(steps=700),
        "irregular": EdgeTraining(steps=2500),
    },
)
"""The settings of the notebooks."""

PUBLISHED = TinyModels(
    network={graph: EdgeTraining(width=512, steps=10_000, schedule="constant") for graph in GRAPHS},
    frozen=_ASSOCIATIVE,
    fast=_FAST,
    transformer={
        **{graph: EdgeTraining(steps=10_000) for graph in GRAPHS},
        "irregular": EdgeTraining(width=256, steps=10_000, learning_rate=1e-3),
    },
    n_heads=8,
    n_layers={"irregular": 3},
)
"""Sizes of the paper's first version, and width 512 for TinyNN as in its second; steps and rates are chosen here."""


def memorised(arm: Arm, graph: GraphName, models: TinyModels, seed: int) -> Memorised:
    """Train one model on one graph."""
    task = TinyGraphs(TinyGraphsConfig(graph=graph, directions=arm.directions, self_edges=arm.self_edges))
    if arm.model == "Node2Vec":
        return _node2vec(task, models, seed)
    if arm.model == "TinyNN":
        return memorise_network(task, models.network[graph], seed)
    if arm.is_frozen:
        training = models.fast if arm.model == "frozen fast" else models.frozen[graph]
        return memorise_network(task, training, seed, frozen=True)
    training = models.transformer[graph]
    return memorise_stack(task, training, _stack(arm, task, models, training, seed))


def _stack(arm: Arm, task: TinyGraphs, models: TinyModels, training: EdgeTraining, seed: int) -> Stack:
    if arm.model == "TinyGPT":
        n_layers = models.n_layers.get(task.config.graph, 1)
        config = StackConfig(
            vocab_size=task.vocab_size,
            d_model=training.width,
            mixers=(AttentionConfig(n_heads=models.n_heads, positions="none"),) * n_layers,
            mlp_ratio=models.mlp_ratio,
            positions="learned",
            max_tokens=task.length,
        )
        model = build(config, seed)
        draw_small(model, training.initial_std, seed)
        return model
    config = StackConfig(
        vocab_size=task.vocab_size,
        d_model=training.width,
        mixers=(MambaConfig(d_state=models.n_states),),
        mlp_ratio=0,
        residual=arm.model == "TinySSM",
    )
    model = build(config, seed)
    # A state space layer starts from a scale of its own; only what all models share is drawn alike.
    draw_small(model.embedding, training.initial_std, seed)
    return model


def _node2vec(task: TinyGraphs, models: TinyModels, seed: int) -> Memorised:
    """Recorded at every step up to 10, and at every tenth from there on: the seed decides both in the same way."""
    due, looks = set(looked_at(models.node2vec_steps)), list[Look]()
    for n_steps, every in ((min(10, models.node2vec_steps), 1), (models.node2vec_steps, 10)):
        config = Node2VecConfig(
            width=models.node2vec_width,
            steps=n_steps,
            step_size=models.node2vec_step_size,
            self_edges=float(task.config.self_edges),
            seed=seed,
        )
        found = node2vec(task.edges, config, task.graph.n_nodes, record_every=every)
        assert found.trajectory is not None
        fresh = [at for at, step in enumerate(found.steps) if step in due and (not looks or step > looks[-1].step)]
        looks += [look_of(int(found.steps[at]), *_tied(found.trajectory.tables[at]), task) for at in fresh]
    return Memorised(task=task, looks=looks)


def _tied(table: Float[NDArray[np.float64], "n m"]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(table), torch.from_numpy(table @ table.T)
