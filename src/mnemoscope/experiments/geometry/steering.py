"""Steering a memory towards geometry, at a fixed budget: what speeds path-finding up, and what it costs in edges.

    self-edges        every node is asked for itself too, so that neighbours need not repel
    two hops          an edge asks for where one or two steps lead, as DeepWalk's window does
    transplant        the embedding starts as that of Node2Vec and goes on learning
    one block         a shorter way from embedding to head: less room between them to store edges in

The budget is a number of steps; nothing stops early. Edge recall is that of single edges in all arms.

Source: questions of this project; self-edges, the later versions of Noroozizadeh et al. (2025), arXiv 2510.26745.
"""

from dataclasses import replace

from mnemoscope.experiments.geometry.in_weights import InWeights
from mnemoscope.experiments.geometry.path_star import PAPER, SMALL, Arm, Arms, compare, each
from mnemoscope.experiments.geometry.plots import paths_and_geometry
from mnemoscope.experiments.reproducing import Experiment

STEERED = ("as it is", "self-edges", "two hops", "transplant", "one block")


def _steered(base: InWeights) -> Arms:
    network = base.network
    changed = (
        base,
        replace(base, task=replace(base.task, self_edges=True)),
        replace(base, hops=2),
        replace(base, network=replace(network, transplant="node2vec")),
        replace(base, network=replace(network, layers=1)),
    )
    return Arms(arms=tuple(Arm(name=name, config=config) for name, config in zip(STEERED, changed, strict=True)))


STEERING = Experiment(
    name="path-star-steering",
    what="Self-edges, two hops, a transplanted start and a shorter way: speed of path-finding, and its price in edges",
    source=f"questions of this project; self-edges, {PAPER}, later versions",
    claims=tuple(each(STEERED, "learned at", "path", "v1", "edges", "R", "zigzag")),
    sizes={"small": _steered(replace(SMALL, every=20))},
    measure=compare,
    plots=paths_and_geometry(STEERED),
)
