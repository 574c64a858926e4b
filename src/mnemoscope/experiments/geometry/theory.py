"""Why Node2Vec becomes geometric: directions of the graph are filtered out, the lowest first, until the rest stands.

With V the table, P the softmax of each row of V V^T, W = D^-1 A and C = (W - P) + (W - P)^T, a step adds step_size C V.
At a large start P is near the identity, C near W + W^T - 2 I, and every direction shrinks, those of low eigenvalue
fastest; P flattens as rows come closer, and C e vanishes on the top directions first. On a cycle the end is known in
closed form. Elsewhere the directions of V and of W + W^T part a little, and ||C e|| stays small rather than 0.

An associative memory needs none of this: with a frozen table, two full batches recall every edge. Under the same
optimiser a table that learns as well first loses the edges again, and has them for good only after a hundred or so.

Source: Noroozizadeh et al. 2025 (arXiv 2510.26745), sections on Node2Vec, lemma 5 and observation 8, and figures on
how soon either memory is found; the stationary state on the cycle is derived in `closed_forms`. Values off the cycle
are those that two independent replications agree on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from mnemoscope.examination.geometry.closed_forms import cycle_stationary
from mnemoscope.examination.geometry.node2vec import Node2Vec, Node2VecConfig, node2vec
from mnemoscope.experiments.geometry.measuring import graph_of, metrics_of, shuffled, strongest
from mnemoscope.experiments.geometry.memorising import EdgeTraining, memorise_network
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.tasks.graphs import GraphName
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

SOURCE = "Noroozizadeh et al. 2025, arXiv 2510.26745, lemma 5, observation 8 and figures 7 to 9"
WAVES = (2, 3, 4)
TIE = 1e-6
"""Eigenvalues that are nearer than this are equal."""


@dataclass(frozen=True, kw_only=True)
class DynamicsStudy:
    """Node2Vec on tiny graphs, and how soon networks know what.

    Args:
        graphs: names of tiny graphs; the cycle must be among them.
        width: of the tables of Node2Vec.
        steps: of plain gradient descent.
        step_size: its learning rate.
        every: steps between records; must divide `steps`.
        network: training of two bilinear networks that are alike, but that the table of one is frozen.
        n_shuffles: of the null of each look at it.
    """

    graphs: tuple[GraphName, ...] = ("cycle", "path_star", "grid", "irregular")
    width: int = 100
    steps: int = 10_000
    step_size: float = 0.01
    every: int = 100
    network: EdgeTraining
    n_shuffles: int = 200

    def __post_init__(self) -> None:
        if "cycle" not in self.graphs:
            raise ValueError(f"DynamicsStudy.graphs: the cycle must be among them, got {', '.join(self.graphs)}")
        if self.steps % self.every:
            raise ValueError(f"DynamicsStudy.every: must divide steps = {self.steps}, got {self.every}")


def node2vec_dynamics(settings: DynamicsStudy, seed: int) -> Measured:
    """Projections and dynamics on every graph, and the steps until edges and geometry are there."""
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for graph in settings.graphs:
        task = TinyGraphs(TinyGraphsConfig(graph=graph))
        found = _embedded(task, settings, seed)
        figures |= of_cycle(found) if graph == "cycle" else of_others(found, graph, graph_of(task).n_components)
        figures[f"{graph} eigenvectors"] = eigenvector_residual(found.source)
        series |= _series(found, graph)
        figures |= soonness(task, settings, seed)
    return Measured(figures=figures, series=series)


def of_cycle(found: Node2Vec) -> dict[str, float]:
    """What is left at the end on a cycle, beside the closed form; waves of one frequency are averaged."""
    assert found.trajectory is not None
    n = len(found.source)
    exact = cycle_stationary(n)
    projections, dynamics = found.trajectory.projections[-1], found.trajectory.dynamics[-1]
    waves = {k: float(dynamics[2 * k - 1 : 2 * k + 1].mean()) for k in WAVES}
    measured = np.array([projections[1:3].mean(), found.loss[-1], *waves.values()])
    derived = np.array([exact.projection, exact.loss, *(-exact.rates[k] for k in WAVES)])
    return {
        "cycle projection": float(measured[0]),
        "cycle loss": float(measured[1]),
        **{f"cycle wave {k}": value for k, value in waves.items()},
        "cycle beyond": float(projections[3:].max()),
        "cycle difference": float(np.abs(measured - derived).max()),
    }


def of_others(found: Node2Vec, graph: GraphName, n_components: int) -> dict[str, float]:
    """||C e|| on the slowest directions that are not trivial, ties included, and on the three lowest."""
    assert found.trajectory is not None
    dynamics = found.trajectory.dynamics[-1]
    slow = slowest(found.trajectory.eigenvalues, n_components)
    return {
        f"{graph} slow": float(dynamics[slow].max()),
        f"{graph} low": float(dynamics[-3:].min()),
        f"{graph} early low": float(found.trajectory.dynamics[0][-3:].min()),
    }


def slowest(eigenvalues: Float[NDArray[np.float64], "n"], n_components: int) -> Int[NDArray[np.int64], "k"]:
    """Places of the largest eigenvalue that belongs to no component's trivial direction, with its ties."""
    return np.flatnonzero(np.abs(eigenvalues - eigenvalues[n_components]) < TIE)


def eigenvector_residual(table: Float[NDArray[np.float64], "n m"]) -> float:
    """How far P + P^T is from having the eigenvectors of V V^T: ||[A, B]|| / (||A|| ||B||), 0 if it has all of them.

    A commutator, so that equal eigenvalues, whose eigenvectors are arbitrary, do no harm.
    """
    gram = table @ table.T
    weights = np.exp(gram - gram.max(axis=1, keepdims=True))
    law = weights / weights.sum(axis=1, keepdims=True)
    both = law + law.T
    commutator = gram @ both - both @ gram
    return float(np.linalg.norm(commutator) / (np.linalg.norm(gram) * np.linalg.norm(both)))


def soonness(task: TinyGraphs, settings: DynamicsStudy, seed: int) -> dict[str, float]:
    """Full batches until every edge is known for good, with a frozen table and with one that learns; and both ends."""
    graph, shuffles, found = graph_of(task), shuffled(task, settings.n_shuffles, seed), dict[str, float]()
    for name, frozen in (("associative", True), ("geometric", False)):
        one = memorise_network(task, settings.network, seed, frozen=frozen)
        found[f"{task.config.graph} {name}"] = one.known_since
        found[f"{task.config.graph} {name} z"] = strongest(metrics_of(one.end, graph, shuffles))
    return found


def _embedded(task: TinyGraphs, settings: DynamicsStudy, seed: int) -> Node2Vec:
    config = Node2VecConfig(width=settings.width, steps=settings.steps, step_size=settings.step_size, seed=seed)
    return node2vec(task.edges, config, task.graph.n_nodes, record_every=settings.every)


def _series(found: Node2Vec, graph: GraphName) -> dict[str, Sequence[float]]:
    assert found.trajectory is not None
    seen = {f"{graph}: step": found.steps, f"{graph}: loss": found.loss}
    seen |= {f"{graph}: eigenvalues": found.trajectory.eigenvalues}
    for at in range(len(found.source)):
        seen[f"{graph}: projection {at}"] = found.trajectory.projections[:, at]
        seen[f"{graph}: dynamics {at}"] = found.trajectory.dynamics[:, at]
    return {name: [float(value) for value in values] for name, values in seen.items()}


def _near(figure: str, what: str, value: float, digits: float = 5e-4) -> Claim:
    """A figure that theory gives."""
    return Claim(figure=figure, what=what, published=f"{value:g}", least=value - digits, most=value + digits)


def _off_the_cycle(graph: GraphName, published: str, most: float, residual: str) -> tuple[Claim, ...]:
    return (
        Claim(
            figure=f"{graph} slow",
            what=f"{graph}: ||C e|| on the slowest directions at the end",
            published=published,
            most=most,
        ),
        Claim(figure=f"{graph} low", what=f"{graph}: least ||C e|| of the three lowest directions", published="1 to 2"),
        Claim(
            figure=f"{graph} eigenvectors",
            what=f"{graph}: commutator of P + P^T and V V^T, relative",
            published=f"not 0 ({residual} by another measure)",
            least=1e-4,
        ),
    )


def _soon(graph: GraphName) -> tuple[Claim, ...]:
    return (
        Claim(
            figure=f"{graph} associative",
            what=f"{graph}, frozen table of width 512: step from which every edge is known",
            published="about 2",
            most=2,
        ),
        Claim(
            figure=f"{graph} geometric",
            what=f"{graph}, the same but that the table learns: step from which every edge is known",
            published="about 100",
            least=20,
            most=500,
        ),
        Claim(figure=f"{graph} associative z", what=f"{graph}, frozen table: larger z of R and R2", most=3.5),
        Claim(figure=f"{graph} geometric z", what=f"{graph}, table that learns: larger z of R and R2", least=3.5),
    )


NODE2VEC_DYNAMICS = Experiment(
    name="node2vec-dynamics",
    what="Node2Vec filters out the low directions of the graph until the slowest ones stand still",
    source=SOURCE,
    claims=(
        _near("cycle projection", "cycle: ||V^T e|| of the two slowest waves", 6.7513),
        _near("cycle loss", "cycle: loss, nats a node", 1.4349),
        _near("cycle wave 2", "cycle: ||C e|| of wave 2", 0.0605),
        _near("cycle wave 3", "cycle: ||C e|| of wave 3", 0.2885),
        _near("cycle wave 4", "cycle: ||C e|| of wave 4", 0.7131),
        Claim(figure="cycle beyond", what="cycle: largest ||V^T e|| of all faster waves", published="0", most=1e-2),
        Claim(figure="cycle difference", what="cycle: largest difference from the closed form", most=1e-3),
        Claim(
            figure="cycle eigenvectors",
            what="cycle: commutator of P + P^T and V V^T, relative",
            published="0 (4.9e-06 by another measure)",
            most=1e-4,
        ),
        *_off_the_cycle("path_star", "0.157", 0.2, "0.42"),
        *_off_the_cycle("grid", "0.06", 0.1, "0.25"),
        *_off_the_cycle("irregular", "0.08 to 0.11", 0.15, "0.22"),
        *(claim for graph in ("cycle", "path_star", "grid", "irregular") for claim in _soon(graph)),
    ),
    sizes={"small": DynamicsStudy(network=EdgeTraining(width=512, steps=500, learning_rate=0.1, schedule="constant"))},
    measure=node2vec_dynamics,
    plots=tuple(
        Plot(
            title=f"{title}, {graph.replace('_', ' ')}",
            caption=caption,
            y_label=label,
            lines={f"eigenvector {at + 1}": f"{graph}: {name} {at}" for at in (0, 1, 3, 5, 7)},
            x=f"{graph}: step",
        )
        for graph in ("cycle", "path_star")
        for title, caption, label, name in (
            (
                "Projections",
                "||V^T e|| on eigenvectors of the graph, slowest first: the faster ones are filtered out.",
                "length of the projection",
                "projection",
            ),
            (
                "Where a step leads",
                "||C e||: 0 where a direction stands still.",
                "length",
                "dynamics",
            ),
        )
    ),
)
