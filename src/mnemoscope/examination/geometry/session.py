"""`examine_geometry`: from a table of embeddings and a graph to a verdict, its measures, and what to draw."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from mnemoscope.examination.geometry.dimension import dimension_metrics
from mnemoscope.examination.geometry.distances import distance_metrics, hop_profile, sampled_sources
from mnemoscope.examination.geometry.eigenspaces import Eigenspaces, eigenspaces
from mnemoscope.examination.geometry.graph import Edges, SparseGraph, as_graph, as_table
from mnemoscope.examination.geometry.paths import arm_distances, arm_gap, first_hop_matrix, path_metrics
from mnemoscope.examination.geometry.pictures import (
    MOST_DRAWN,
    aligned,
    drawn_nodes,
    laplacian_picture,
    picture,
)
from mnemoscope.examination.geometry.probe import probe_metrics
from mnemoscope.examination.geometry.references import reference_metrics
from mnemoscope.examination.geometry.scores import Scores, edge_recall_of, gram_share, margins
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.examination.geometry.smoothness import smoothness
from mnemoscope.examination.geometry.spectrum import spectral_metrics, spectrum
from mnemoscope.examination.geometry.verdict import Behaviour, judge
from mnemoscope.runs.geometry import (
    GeometryExamination,
    GeometryMetric,
    GeometrySnapshot,
    HeatMap,
    NodePicture,
)

MANY_NODES = 5000
"""Above this, fewer shuffles, and no measure that needs all eigenvectors."""
SHUFFLES, FEW_SHUFFLES = 500, 20
SNAPSHOT_SHUFFLES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Paths:
    """Paths from a root to leaves, of which some were not trained.

    Args:
        nodes: shape (paths, l), root first.
        held_out: which of them were not trained; None if nobody knows.
    """

    nodes: Int[np.ndarray, "p l"]
    held_out: Bool[np.ndarray, "p"] | None = None

    @property
    def first_hops(self) -> Int[np.ndarray, "p"]:
        """The node after the root."""
        return self.nodes[:, 1]

    @property
    def leaves(self) -> Int[np.ndarray, "p"]:
        """The last node."""
        return self.nodes[:, -1]


def examine_geometry(
    embeddings: Any,
    edges: Edges,
    *,
    scores: Scores | None = None,
    matrix: Any | None = None,
    paths: Any | None = None,
    held_out: Any | None = None,
    groups: Any | None = None,
    snapshots: Sequence[tuple[int, Any]] = (),
    behaviour: Behaviour | None = None,
    names: Sequence[str] = (),
    subject: str = "embeddings",
    step: int | None = None,
    seed: int = 0,
    n_shuffles: int | None = None,
    thorough: bool = True,
    umap: bool = False,
) -> GeometryExamination:
    """Does a table hold a graph as geometry, or are its edges stored elsewhere?

    Args:
        embeddings: one row for each node, shape (n, m); an array or a tensor.
        edges: shape (e, 2), a SciPy sparse adjacency or a networkx graph; every direction counts as both.
        scores: what the model says of each target (column) for each source (row), (n, n), or a function of rows; with
            them the verdict says first whether the graph is memorised at all.
        matrix: W, shape (m, m), of a model whose scores are E W E^T, for margins; also gives the scores if they are not
            given.
        paths: shape (p, l) from a root to leaves, for measures of leaves and first hops.
        held_out: which paths were not trained, shape (p,), bool.
        groups: of each node, shape (n,), negative for none; by default the arm of its path, else its component.
        snapshots: (step, table) of earlier steps, for pictures and for all measures that need neither scores nor fits.
        behaviour: of the model on held-out paths; part of the verdict where it is given.
        names: of the nodes, for pictures.
        subject: what to call the table.
        step: of the training at which the table was taken.
        seed: of shuffles and samples.
        n_shuffles: for the null of each measure; None for 500, or 20 above 5,000 nodes.
        thorough: also fit probes and compare with Node2Vec and the eigenmap, which takes most of the time.
        umap: also draw UMAP of every step.

    Raises:
        ValueError: tables, edges, paths or groups that do not fit together, or a table that is not finite.

    Source: Noroozizadeh et al. (2025), arXiv 2510.26745, for the question; each file here names its measures' own.
    """
    table = as_table(embeddings)
    graph = as_graph(edges, len(table))
    known = _paths(paths, held_out, graph.n_nodes)
    of_node = _groups(groups, known, graph)
    _check_names(names, graph.n_nodes)
    tables = _snapshots(snapshots, table.shape)
    between = _between(matrix, table)
    if scores is None and between is not None:
        scores = _bilinear(table, between)
    n_shuffles = n_shuffles or (SHUFFLES if graph.n_nodes <= MANY_NODES else FEW_SHUFFLES)
    instrument = _Instrument(graph=graph, spaces=eigenspaces(graph), paths=known, groups=of_node, seed=seed)
    metrics = instrument.all_of(table, orders(graph.n_nodes, n_shuffles, seed), scores, thorough)
    metrics += [] if between is None else margins(table, between, graph)
    few = orders(graph.n_nodes, min(n_shuffles, SNAPSHOT_SHUFFLES), seed)
    drawn = drawn_nodes(graph, MOST_DRAWN, seed)
    return GeometryExamination(
        subject=subject,
        n_nodes=graph.n_nodes,
        n_edges=len(graph.edges),
        n_components=graph.n_components,
        width=table.shape[1],
        step=step,
        seed=seed,
        n_shuffles=n_shuffles,
        verdict=judge(metrics, behaviour),
        metrics=metrics,
        spectrum=spectrum(table, graph, spaces=instrument.spaces),
        hop_profile=hop_profile(table, graph, sampled_sources(graph.n_nodes, seed=seed)),
        edges=_edges_among(graph, drawn),
        node_names=[str(name) for name in names],
        node_groups=[] if of_node is None else of_node.tolist(),
        pictures=_pictures(graph, [*tables, (step, table)], drawn, seed, umap),
        heat_maps=instrument.heat_maps(table),
        snapshots=[instrument.snapshot(at, earlier, few) for at, earlier in tables],
        versions={"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Instrument:
    """What all tables of one graph are measured with."""

    graph: SparseGraph
    spaces: Eigenspaces
    paths: Paths | None
    groups: NDArray[np.int64] | None
    seed: int

    def core(self, table: Float[np.ndarray, "n m"], shuffles: Int[np.ndarray, "s n"]) -> list[GeometryMetric]:
        """What the verdict rests on."""
        found = [*smoothness(table, self.graph, shuffles)]
        found += distance_metrics(table, self.graph, shuffles, seed=self.seed)
        if self.paths is not None:
            found += path_metrics(table, self.paths.first_hops, self.paths.leaves, shuffles, self.paths.held_out)
        return found

    def all_of(
        self,
        table: Float[np.ndarray, "n m"],
        shuffles: Int[np.ndarray, "s n"],
        scores: Scores | None,
        thorough: bool,
    ) -> list[GeometryMetric]:
        """Every measure that there is something for."""
        graph = self.graph
        found = [] if scores is None else [edge_recall_of(scores, graph)]
        found += self.core(table, shuffles)
        found += spectral_metrics(table, graph, shuffles, spaces=self.spaces)
        found += dimension_metrics(table)
        found += distance_metrics(table, graph, shuffles[:SNAPSHOT_SHUFFLES], centred=True, seed=self.seed)
        if self.groups is not None:
            found.append(arm_gap(table, self.groups, shuffles[:SNAPSHOT_SHUFFLES]))
        if scores is not None:
            found += gram_share(scores, table, graph, seed=self.seed)
        if thorough:
            found += probe_metrics(table, graph, self.groups, self.seed)
            found += reference_metrics(table, graph, self.seed, spaces=self.spaces)
        return found

    def snapshot(
        self, step: int, table: Float[np.ndarray, "n m"], shuffles: Int[np.ndarray, "s n"]
    ) -> GeometrySnapshot:
        """An earlier step, without scores and without fits."""
        metrics = self.all_of(table, shuffles, None, thorough=False)
        verdict = judge(metrics)
        return GeometrySnapshot(
            step=step,
            metrics={metric.name: metric.value for metric in metrics},
            z_scores={metric.name: metric.z for metric in metrics if metric.z is not None},
            kind=verdict.kind,
            form=verdict.form,
        )

    def heat_maps(self, table: Float[np.ndarray, "n m"]) -> list[HeatMap]:
        """Of leaves and first hops, and of arms."""
        found = []
        if self.paths is not None:
            found.append(first_hop_matrix(table, self.paths.first_hops, self.paths.leaves))
        if self.groups is not None:
            found.append(arm_distances(table, self.groups))
        return found


def _paths(paths: Any | None, held_out: Any | None, n_nodes: int) -> Paths | None:
    if paths is None:
        if held_out is not None:
            raise ValueError("held_out: says which paths were not trained, and there are no paths; give paths too")
        return None
    nodes = np.asarray(paths)
    if nodes.ndim != 2 or nodes.shape[1] < 3 or not np.issubdtype(nodes.dtype, np.integer):
        raise ValueError(
            f"paths: must be node numbers of shape (paths, l), root first, l at least 3, got {nodes.dtype} of shape "
            f"{nodes.shape}; give one row for each leaf"
        )
    if nodes.min() < 0 or nodes.max() >= n_nodes:
        raise ValueError(f"paths: nodes must be 0 ... {n_nodes - 1}, got {nodes.min()} ... {nodes.max()}")
    if held_out is None:
        return Paths(nodes=nodes)
    mask = np.asarray(held_out)
    if mask.dtype != np.bool_ or mask.shape != (len(nodes),):
        raise ValueError(
            f"held_out: must be True or False for each of {len(nodes)} paths, got {mask.dtype} of shape {mask.shape}"
        )
    return Paths(nodes=nodes, held_out=mask)


def _groups(groups: Any | None, paths: Paths | None, graph: SparseGraph) -> NDArray[np.int64] | None:
    if groups is not None:
        found = np.asarray(groups)
        if found.shape != (graph.n_nodes,) or not np.issubdtype(found.dtype, np.integer):
            raise ValueError(
                f"groups: must be a number for each of {graph.n_nodes} nodes, negative for none, got {found.dtype} of "
                f"shape {found.shape}"
            )
        return found.astype(np.int64)
    if paths is not None:
        arm = np.unique(paths.first_hops, return_inverse=True)[1]
        found = np.full(graph.n_nodes, -1)
        found[paths.nodes[:, 1:]] = arm[:, None]
        return found
    return graph.component if graph.n_components > 1 else None


def _check_names(names: Sequence[str], n_nodes: int) -> None:
    if len(names) not in (0, n_nodes):
        raise ValueError(f"names: must be one for each of {n_nodes} nodes, or none, got {len(names)}")


def _snapshots(snapshots: Sequence[tuple[int, Any]], shape: tuple[int, ...]) -> list[tuple[int, NDArray[np.float64]]]:
    tables = [(step, as_table(table)) for step, table in snapshots]
    steps = [step for step, _ in tables]
    if steps != sorted(set(steps)):
        raise ValueError(f"snapshots: steps must rise, got {steps}; give each step once, in order")
    for step, table in tables:
        if table.shape != shape:
            raise ValueError(f"snapshots: the table of step {step} must have shape {shape}, got {table.shape}")
    return tables


def _between(matrix: Any | None, table: Float[np.ndarray, "n m"]) -> NDArray[np.float64] | None:
    if matrix is None:
        return None
    between, width = as_table(matrix), table.shape[1]
    if between.shape != (width, width):
        raise ValueError(
            f"matrix: must be W of E W E^T, ({width}, {width}) for embeddings of width {width}, got {between.shape}"
        )
    return between


def _bilinear(table: Float[np.ndarray, "n m"], between: Float[np.ndarray, "m m"]) -> Scores:
    after = between @ table.T
    return lambda rows: table[rows] @ after


def _edges_among(graph: SparseGraph, drawn: Int[np.ndarray, "drawn"]) -> list[list[int]]:
    is_drawn = np.zeros(graph.n_nodes, dtype=np.bool_)
    is_drawn[drawn] = True
    return graph.edges[is_drawn[graph.edges].all(axis=1)].tolist()


def _pictures(
    graph: SparseGraph,
    tables: Sequence[tuple[int | None, Float[np.ndarray, "n m"]]],
    drawn: Int[np.ndarray, "drawn"],
    seed: int,
    umap: bool,
) -> list[NodePicture]:
    found = aligned([picture(table, "pca", step, drawn, seed) for step, table in tables])
    if umap:
        found += aligned([picture(table, "umap", step, drawn, seed) for step, table in tables])
    return [*found, laplacian_picture(graph, drawn)]
