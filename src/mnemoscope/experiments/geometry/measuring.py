"""What is measured of a model that has learned a tiny graph, and verdicts as numbers, so that they can be drawn."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from mnemoscope.examination.geometry.distances import distance_metrics
from mnemoscope.examination.geometry.eigenspaces import eigenspaces
from mnemoscope.examination.geometry.graph import SparseGraph, as_graph
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.examination.geometry.smoothness import smoothness
from mnemoscope.examination.geometry.spectrum import spectral_metrics
from mnemoscope.examination.geometry.verdict import judge
from mnemoscope.experiments.geometry.memorising import Look
from mnemoscope.runs.geometry import GeometryKind, GeometryMetric
from mnemoscope.tasks.tiny_graphs import TinyGraphs

KINDS: tuple[GeometryKind, ...] = ("not memorised", "associative", "mixed", "geometric")
"""In the order of their codes, from 0."""

DIVERGED = -1
"""The code of a table that is not finite; it has no kind."""

N_BOTTOM = 3
"""Dimensions of the bottom of the spectrum of a tiny graph."""

TRACKED = (
    "smoothness",
    "two_sided_smoothness",
    "smooth_share",
    "top_share",
    "bottom_share",
    "fiedler_alignment",
    "distance_correlation",
    "far_distance_correlation",
    "zigzag",
    "geometric_level",
)
"""The measures that are followed over a training, where they are there."""


def graph_of(task: TinyGraphs) -> SparseGraph:
    """The graph of a task as the examination takes it; self-edges belong to the training, not to it."""
    return as_graph(task.edges, task.graph.n_nodes)


def shuffled(task: TinyGraphs, n_shuffles: int, seed: int) -> Int[np.ndarray, "shuffles n"]:
    """Orders of the nodes of a task, for the null of each measure."""
    return orders(task.graph.n_nodes, n_shuffles, seed)


def metrics_of(look: Look, graph: SparseGraph, shuffles: Int[np.ndarray, "shuffles n"]) -> dict[str, GeometryMetric]:
    """All measures of a table by name, and the edge recall of what was trained.

    Shares are over eigenvectors of D^-1 A + A D^-1, and the bottom is the three lowest, as tiny graphs were published.
    """
    spaces = eigenspaces(graph, operator="laplacian")
    found: Sequence[GeometryMetric] = [
        *smoothness(look.table, graph, shuffles),
        *spectral_metrics(look.table, graph, shuffles, spaces=spaces, n_bottom=N_BOTTOM),
        *distance_metrics(look.table, graph, shuffles),
        GeometryMetric(name="edge_recall", value=look.recall, n=graph.n_nodes, over="sources"),
    ]
    return {metric.name: metric for metric in found}


def kind_of(metrics: Mapping[str, GeometryMetric]) -> int:
    """The code of the verdict on measures: its place in `KINDS`."""
    return KINDS.index(judge(list(metrics.values())).kind)


def strongest(metrics: Mapping[str, GeometryMetric]) -> float:
    """The larger z-score of the two smoothnesses, on which the verdict rests."""
    scores = [metrics[name].z for name in ("smoothness", "two_sided_smoothness")]
    return max(float(z) if z is not None else 0.0 for z in scores)


def values_of(metrics: Mapping[str, GeometryMetric]) -> dict[str, float]:
    """The values of the measures that are followed."""
    return {name: metrics[name].value for name in TRACKED if name in metrics}
